"""What many tests need: a simulator that the clients reach like the real service, and no clock over examples."""

from __future__ import annotations

import signal
import subprocess
import sys
import types

import certifi
import pytest
from hypothesis import HealthCheck, settings

import support.faults  # noqa: F401 - their names are known to every simulator of a test
from enrichkit.gemini.simulator import Simulator
from support import programs

# A shell lets what it starts in the background ignore Ctrl-C; here, tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# To check a format that no notebook has, jsonschema would build a grammar for more than a second, in each process.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

# How long an example takes, or to think of one, says something of the machine only.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def few_certificates(request, tmp_path_factory):
    """One certificate: a client reads its file three times, and all of the world's would take most of a short run."""
    live = any(item.get_closest_marker("live") for item in request.session.items)
    with pytest.MonkeyPatch.context() as patch:
        if not live:
            end = "-----END CERTIFICATE-----\n"
            path = tmp_path_factory.mktemp("certificates") / "one.pem"
            path.write_text(certifi.contents().partition(end)[0] + end)
            patch.setenv("SSL_CERT_FILE", str(path))
        yield


@pytest.fixture
def simulator(monkeypatch):
    """A simulator that the clients reach like the real service."""
    with Simulator() as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_API_KEY", "a-key-for-nothing")
        yield server


@pytest.fixture
def quick_sender(request, monkeypatch):
    """The process that sends notifications is forked from one that has loaded apprise: a tenth of the time."""
    if "real_sender" not in request.fixturenames:
        quick = types.SimpleNamespace(**vars(subprocess) | {"run": programs.run})
        monkeypatch.setattr("enrichkit.progress.notify.subprocess", quick)


@pytest.fixture
def real_sender():
    """With this, that process starts as it does outside of tests."""


@pytest.fixture(scope="session")
def workers():
    """A client of two worker processes of dask, which have a key in their environment; this one has none."""
    from support.fleet import KEY, fleet

    with fleet(2, GOOGLE_API_KEY=KEY) as client:
        yield client


@pytest.fixture
def served(workers, monkeypatch):
    """Return a function that makes a simulator which the workers ask."""
    from support.fleet import KEY, set_variables

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
