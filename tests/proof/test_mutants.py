"""The mutants have their places; `make mutants` shows the test that catches each."""

from __future__ import annotations

import pytest

from proof import mutants


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_has_one_place(mutant):
    """A change to the package that moves a line moves its mutant, too."""
    assert mutants.place(mutant).count(mutant.line) == 1
