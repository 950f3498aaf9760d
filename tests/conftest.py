"""What many tests need: a simulator that the clients reach like the real service, and no clock over examples."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

import support.faults  # noqa: F401 - their names are known to every simulator of a test
from enrichkit.gemini.simulator import Simulator

# How long an example takes, or to think of one, says something of the machine only.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def simulator(monkeypatch):
    """A simulator that the clients reach like the real service."""
    with Simulator() as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_API_KEY", "a-key-for-nothing")
        yield server
