"""Sentences: templates that name settings, and the one way in which errors are raised."""

from __future__ import annotations

import ast
import dataclasses
import pickle
import string
from collections.abc import Iterator

import pytest

from enrichkit import errors
from enrichkit.cli.flags import shell
from enrichkit.errors import EnrichError, InputError, Interrupted, Stopped
from enrichkit.formatting import PYTHON, Sentence, joined, spelled
from enrichkit.runs.options import Options
from support.paths import PACKAGE

RAISED = {name for name in errors.__all__ if issubclass(getattr(errors, name), EnrichError)}
ALWAYS = {"reason", "done", "left"}
"""What a `Stopped` has in any case, whether its message says it or not."""


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield each call that makes a sentence or an error, with its place."""
    for path in {*PACKAGE.rglob("*.py")} - {PACKAGE / "errors.py", PACKAGE / "formatting.py"}:
        makers = RAISED | {"Sentence"}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in makers and node.args:
                yield f"{path.name}:{node.lineno}", node


def facts_of(call: ast.Call) -> set[str]:
    """Return the facts that a call passes."""
    return {str(keyword.arg) for keyword in call.keywords}


def test_every_template_is_a_literal_whose_names_are_spellings_or_facts():
    """A template is no f-string, since a cell may contain braces; each name is a spelling or a fact, never both."""
    for place, call in calls():
        template = call.args[0]
        assert isinstance(template, ast.Constant), place
        names = {name.partition("[")[0] for _, name, *_ in string.Formatter().parse(template.value) if name is not None}
        facts = facts_of(call)
        assert not facts & PYTHON.keys(), (place, "a fact with the name of a setting")
        assert names - PYTHON.keys() == facts - (ALWAYS - names), place


def test_braces_in_facts_stay_as_they_are():
    """A cell with braces is a fact, and no template."""
    assert str(InputError("{column!r} is not in the table.", column="{budget_usd}")) == (
        "'{budget_usd}' is not in the table."
    )


def test_sentences_among_the_facts_get_the_same_spelling():
    """A sentence may hold others."""
    inner = Sentence("raise {budget_usd}")
    outer = Sentence("Next: {step}.", step=joined([inner, "wait"], "; "))
    assert outer == "Next: raise budget_usd; wait."
    assert spelled(outer, PYTHON | {"budget_usd": "--budget"}) == "Next: raise --budget; wait."
    assert spelled(pickle.loads(pickle.dumps(outer)), PYTHON | {"budget_usd": "-b"}) == "Next: raise -b; wait."


@pytest.mark.parametrize("kind", [Stopped, Interrupted])
def test_errors_survive_pickling(kind):
    """Another process gets the same error, and its sentence can still be spelled."""
    error = kind("{how} {call} goes on.", how="{odd}", reason="budget", done=3, left=2)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.reason, copy.done, copy.left) == (kind, "{odd} call goes on.", "budget", 3, 2)
    assert copy.sentence == error.sentence


def test_python_and_the_shell_spell_the_same_names():
    """Both tables have the same keys; each setting is one of them."""
    assert shell().keys() == PYTHON.keys()
    assert {field.name for field in dataclasses.fields(Options)} <= PYTHON.keys()
