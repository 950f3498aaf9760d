"""What many tests need: a simulator that the clients reach like the real service."""

from __future__ import annotations

import pytest

from enrichkit.simulator import Simulator


@pytest.fixture
def simulator(monkeypatch):
    """A simulator that the clients reach like the real service."""
    with Simulator() as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_API_KEY", "a-key-for-nothing")
        yield server
