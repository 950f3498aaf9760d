"""Two worker processes for all tests of a session, and a simulator that they ask."""

from __future__ import annotations

import pytest

from enrichkit.gemini.simulator import Simulator
from support.fleet import KEY, fleet, set_variables


@pytest.fixture(scope="session")
def workers():
    """A client of two processes, which have a key in their environment; this one has none."""
    with fleet(2, GOOGLE_API_KEY=KEY) as client:
        yield client


@pytest.fixture
def served(workers, monkeypatch):
    """Return a function that makes a simulator which the workers ask."""
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    made = []

    def serve(**settings):
        simulator = Simulator(**settings).__enter__()
        made.append(simulator)
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", simulator.url)
        workers.run(set_variables, GOOGLE_GEMINI_BASE_URL=simulator.url, GOOGLE_API_KEY=KEY)
        return simulator

    yield serve
    for simulator in made:
        simulator.__exit__(None, None, None)
