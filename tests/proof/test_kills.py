"""kill -9 at random moments: nothing counted is lost or asked again, and what is paid again was in flight."""

from __future__ import annotations

import pytest

from proof import kills


def held(toll: kills.Toll) -> bool:
    print(toll)
    return toll.broken == [] and toll.most_by_one_kill <= kills.WORKERS + 2


def test_a_few_kills_lose_nothing():
    """A store that is killed at every turn of its life: filled, widened, retried, read again, redone."""
    toll = kills.torment(5)
    assert held(toll)
    assert toll.kills == 5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_kills_lose_nothing():
    """The same, longer, from another seed."""
    toll = kills.torment(50, seed=7)
    assert held(toll)
    assert toll.paid > 250  # the replies of one store at least, however slow the machine is
