"""The mutants have their places; `make mutants` shows the test that catches each."""

from __future__ import annotations

import pytest

from proof import mutants
from support.paths import ROOT


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_has_one_place(mutant):
    """A change to the package that moves a line moves its mutant, too."""
    assert mutants.place(mutant).count(mutant.line) == 1


@pytest.mark.parametrize("name", mutants.TESTS)
def test_the_tests_that_have_to_catch_them_are_there(name):
    assert (ROOT / "tests" / name).is_file()
