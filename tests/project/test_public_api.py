"""What the README says of the package, and what the package says of itself."""

from __future__ import annotations

import inspect
import operator
import re
import subprocess

import pytest

import enrichkit
from support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("name", enrichkit.__all__)
def test_every_public_name_is_in_the_readme_and_has_a_docstring(name):
    """What is public is documented in both places."""
    assert re.search(rf"`[^`]*\b{name}\b[^`]*`", README)
    assert inspect.getdoc(getattr(enrichkit, name))


@pytest.mark.parametrize(
    "name",
    ["run", "start", "plan", "read", "batches", "report", "costs", "what_if", "Stage", "messages.Reply", "Price"],
)
def test_every_verb_has_an_example(name):
    """One runnable example each; doctest runs them."""
    assert ">>> " in inspect.getdoc(operator.attrgetter(name)(enrichkit))


@pytest.mark.parametrize("verb", [enrichkit.run, enrichkit.start, enrichkit.plan])
def test_every_setting_is_explained(verb):
    """`help(enrichkit.run)` names each argument, and the signature has no **settings."""
    documented = re.findall(r"(?m)^(\w+) : ", inspect.getdoc(verb))
    assert documented == list(inspect.signature(verb).parameters)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_readme_examples_run(number, tmp_path, monkeypatch, capsys):
    """A newcomer can paste them, with nothing but the sample table beside, and gets the prices of their comments."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    exec(EXAMPLES[number], {"__name__": "__main__"})
    told = capsys.readouterr().out
    for figures in re.findall(r"# .*: ([\d.]+ to [\d.]+) USD", EXAMPLES[number]):
        assert figures in told


def test_a_stage_of_ones_own_takes_under_ten_lines():
    """The README's example, imports and table included."""
    own = next(example for example in EXAMPLES if "enrichkit.Stage(" in example)
    assert len([line for line in own.splitlines() if line.strip() and "import" not in line]) < 10


def test_the_targets_of_the_readme_exist():
    """`make enrich` and `make test` are targets, and `make` alone lists them."""
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("enrich", "test", "check", "notebooks"):
        assert re.search(rf"make {target} +\S", listed)
