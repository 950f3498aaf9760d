"""What the docs say of the package, and what the package says of itself."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import textwrap
import typing

import docstring_parser
import pytest

import enrichkit
from support.paths import ROOT

API, COLUMNS, STAGES = (
    (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in ("api", "columns", "stages")
)
PRINTED = [
    pytest.param(code, id=page.stem)
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    if re.search(r"# .*: [\d.]+ to [\d.]+ USD", code)
]
"""The examples whose comments say which prices they print."""
WINGS = ("planning", "reporting", "status")
"""Where a user finds the types that are not at the top, such as ``enrichkit.status.Money``."""
UNITS = {"seconds": "second", "usd": "USD", "tokens": "token", "rows": "row", "rpm": "minute"}
"""What a description says where a name ends so."""


def public(thing):
    """Return the public names of a module and what they stand for."""
    return {name: getattr(thing, name) for name in thing.__all__}


def public_callables():
    """Yield every public function and class, and the methods of classes, with the path that a user writes."""
    for name, thing in public(enrichkit).items():
        inside = {f"{name}.{inner}": value for inner, value in public(thing).items()} if inspect.ismodule(thing) else {}
        for path, value in (inside or {name: thing}).items():
            if callable(value):
                yield path, value
            if inspect.isclass(value):
                methods = {member: method for member, method in vars(value).items() if inspect.isfunction(method)}
                yield from ((f"{path}.{member}", method) for member, method in methods.items() if member[0] != "_")


CALLABLES = dict(public_callables())
FUNCTIONS = {path: value for path, value in CALLABLES.items() if inspect.isfunction(value)}
EXPLAINED = [path for path, value in CALLABLES.items() if not (inspect.isclass(value) and issubclass(value, Exception))]
VALUES = {path: value for path, value in CALLABLES.items() if dataclasses.is_dataclass(value)}


def documented(value):
    """Return a docstring's sections."""
    return docstring_parser.parse(inspect.getdoc(value) or "", style=docstring_parser.DocstringStyle.NUMPYDOC)


def described(value):
    """Return what a docstring says of each parameter or attribute: its type and its description.

    What a class inherits, its parent describes.
    """
    return {
        name.strip().lstrip("*"): (param.type_name or "", param.description or "")
        for source in ([*reversed(value.__mro__[:-1])] if inspect.isclass(value) else [value])
        for param in documented(source).params
        for name in param.arg_name.split(",")
    }


def test_the_public_names_are_few():
    """Twenty-eight names, and no more without a reason."""
    assert len(enrichkit.__all__) <= 28


@pytest.mark.parametrize("name", enrichkit.__all__)
def test_every_public_name_is_in_the_docs_and_has_a_docstring(name):
    """What is public is documented in both places."""
    assert re.search(rf"`[^`]*\b{name}\b[^`]*`", API)
    assert inspect.getdoc(getattr(enrichkit, name))


@pytest.mark.parametrize("path", FUNCTIONS)
def test_every_parameter_is_documented_with_its_type_and_unit(path):
    """And none that there is not."""
    value = FUNCTIONS[path]
    names = [name for name in inspect.signature(value).parameters if name != "self"]
    texts = described(value)
    assert list(texts) == names
    for name, (kind, text) in texts.items():
        assert kind, (path, name)
        assert text, (path, name)
        if (unit := UNITS.get(name.rpartition("_")[2])) is not None:
            assert unit.lower() in text.lower(), (path, name)


@pytest.mark.parametrize("path", FUNCTIONS)
def test_every_result_is_documented(path):
    """What comes back, with its type; and what is raised, where the function itself raises."""
    value, sections = FUNCTIONS[path], documented(FUNCTIONS[path])
    if inspect.signature(value).return_annotation not in (None, "None"):
        assert sections.many_returns, path
        assert all(result.type_name and result.description for result in sections.many_returns), path
    source = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(value))))
    if any(isinstance(node, ast.Raise) for node in ast.walk(source)) or path in enrichkit.__all__:
        assert sections.raises, path


@pytest.mark.parametrize("path", EXPLAINED)
def test_everything_has_an_example_that_runs(path):
    """One each; doctest runs them, so none is skipped."""
    text = inspect.getdoc(CALLABLES[path]) or ""
    assert ">>> " in text
    assert "+SKIP" not in text


@pytest.mark.parametrize("path", VALUES)
def test_every_field_of_a_value_is_documented(path):
    """Under Attributes or Parameters, each with its type."""
    texts = described(VALUES[path])
    for field in dataclasses.fields(VALUES[path]):
        assert all(texts[field.name]), (path, field.name)


def classes_in(hint):
    """Yield our own classes in a type hint."""
    if inspect.isclass(hint) and hint.__module__.startswith("enrichkit."):
        yield hint
    for inner in typing.get_args(hint):
        yield from classes_in(inner)


def test_every_type_that_a_user_receives_can_be_named():
    """The types of public values' fields, and of theirs in turn, stand in a public place and document their fields."""
    modules = [enrichkit, *(importlib.import_module(f"enrichkit.{name}") for name in WINGS)]
    modules += [thing for thing in public(enrichkit).values() if inspect.ismodule(thing)]
    reachable = {value for module in modules for value in public(module).values() if inspect.isclass(value)}
    waiting, seen = list(VALUES.values()), set()
    while waiting:
        value = waiting.pop()
        seen.add(value)
        assert value in reachable, value
        if dataclasses.is_dataclass(value):
            texts = described(value)
            for field in dataclasses.fields(value):
                assert field.name.startswith("_") or all(texts[field.name]), (value, field.name)
            hints = typing.get_type_hints(value)
            waiting += [inner for hint in hints.values() for inner in classes_in(hint) if inner not in seen]


@pytest.mark.parametrize("code", PRINTED)
def test_examples_print_the_prices_of_their_comments(code, tmp_path, monkeypatch, capsys):
    """For whoever pastes them, with nothing but the sample tables beside."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    exec(code, {"__name__": "__main__"})
    told = capsys.readouterr().out
    for figures in re.findall(r"# .*: ([\d.]+ to [\d.]+) USD", code):
        assert figures in told


def test_the_docs_list_what_each_built_in_stage_needs_reads_and_fills():
    """Column by column, as the stages have it."""
    for name, stage in enrichkit.funds.STAGES.items():
        cells = [cell for line in COLUMNS.splitlines() if line.startswith(f"| `{name}` |") for cell in line.split("|")]
        needs, reads, fills = (re.findall(r"`([^`]+)`", cell) for cell in cells[3:6])
        named = {*(stage.per or ()), *stage.reads, *stage.requires}
        assert set(needs) == (named - stage.optional) | set(stage.requires)
        assert set(reads) == named - set(needs)
        assert fills == list(stage.answers)


def test_a_stage_of_ones_own_takes_under_ten_lines():
    """The docs' first example of one, without imports, table, check and export."""
    own = next(code for code in re.findall(r"```python\n(.*?)```", STAGES, re.DOTALL) if "enrichkit.Stage(" in code)
    tree = ast.parse(own)
    parts = [part for part in tree.body if isinstance(part, ast.ClassDef | ast.Assign)]
    assert sum((part.end_lineno or 0) - part.lineno + 1 for part in parts) < 10


def test_the_targets_of_the_readme_exist():
    """`make enrich` and `make test` are targets, and `make` alone lists them."""
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("enrich", "test", "check", "notebooks"):
        assert re.search(rf"make {target} +\S", listed)
