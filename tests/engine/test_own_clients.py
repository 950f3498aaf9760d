"""Clients of one's own: what they return and raise, as what it is, at its price, and never paid for in vain."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import http
import http.client
import io
import json
import socket
import subprocess
import sys
import threading
import time
import types
import urllib.error
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pydantic
import pytest

import enrichkit
from enrichkit import Answer, Stage, errors
from enrichkit.gemini.client import text_of
from enrichkit.gemini.refusals import failure_of
from enrichkit.gemini.wire import encode, read_stored
from enrichkit.messages import Failure, Reply, Usage
from enrichkit.store.index import Index
from support.tables import numbered
from support.waiting import wait_for


class Port(Answer):
    crew: int | None = None
    town: str | None = None


PORT = Stage("port", prompt="Research {name}.", answer=Port, search=False)
GOOD = '{"crew": 14, "town": "Marl"}'


def run(rows, out, client, **settings):
    given = {"stages": [PORT], "key": "name", "model": "m", "progress": False, "workers": 4}
    return enrichkit.run(numbered(rows, "Port "), out=out, client=client, **given | settings)


@dataclasses.dataclass
class Plain:
    crew: int
    town: str


class Sort(enum.Enum):
    SEA = "sea port"


RETURNED = {
    "a text": GOOD,
    "bytes": GOOD.encode(),
    "a dict": {"crew": 14, "town": "Marl"},
    "a read-only mapping": types.MappingProxyType({"crew": 14, "town": "Marl", "of no concern": {1, 2}}),
    "the answer": Port(crew=14, town="Marl"),
    "a dataclass": Plain(14, "Marl"),
    "a reply": Reply(text=GOOD),
}


def test_what_is_plainly_an_answer_is_taken(tmp_path):
    """As many calls as rows, whichever shape the answers have; what they used is unknown, and never 0."""
    asked, shapes = [], list(RETURNED.values())
    table = run(11, tmp_path / "out", lambda request: asked.append(request) or shapes[len(asked) % 7], workers=1)
    assert (len(asked), table["port.crew"].tolist()) == (11, [14] * 11)
    assert table["port.town"].tolist() == ["Marl"] * 11
    assert enrichkit.report(tmp_path / "out").cost.total.unpriced == 11


def test_a_coroutine_is_awaited_as_many_at_once_as_workers(tmp_path):
    """Fifty of 0.2 s each, ten at once, in one loop; also of an object that is called."""
    loops, at_once, under_way = set(), [], set()

    class Client:
        async def __call__(self, request):
            loops.add(asyncio.get_running_loop())
            under_way.add(request.question)
            at_once.append(len(under_way))
            await asyncio.sleep(0.02)
            under_way.remove(request.question)
            return {"crew": 14}

    client = Client()
    started = time.monotonic()
    assert run(50, tmp_path / "out", client, workers=10)["port.crew"].tolist() == [14] * 50
    assert time.monotonic() - started < 3
    assert 8 <= max(at_once) <= 10
    # The same loop serves the next run: an SDK's open connections belong to it.
    run(5, tmp_path / "again", lambda request: client(request))
    assert len(loops) == 1


def test_a_coroutine_that_hangs_is_cancelled_at_its_deadline(tmp_path):
    """It may have been charged for: its worst case stays reserved; the others go on."""
    cancelled = []

    async def client(request):
        if "⟦Port 3⟧" in request.text:
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.append(request.question)
        return GOOD

    job = enrichkit.start(
        numbered(6, "Port "),
        stages=[PORT],
        key="name",
        model="gpt-5-mini",
        prices={"gpt-5-mini": enrichkit.Price(input_usd=1, output_usd=1)},
        client=client,
        budget_usd=1,
        workers=2,
        progress=False,
        out=tmp_path / "out",
        deadline_seconds=0.2,
    )
    assert sorted(job.result()["_status"]) == ["done"] * 5 + ["failed"]
    assert cancelled
    assert job.status.money.possibly_usd > 0


def test_a_stop_keeps_what_is_awaited(tmp_path):
    """What is in flight is waited for and stored."""

    async def client(request):
        await asyncio.sleep(0.1)
        return GOOD

    settings = {"stages": [PORT], "key": "name", "model": "m", "client": client, "workers": 3, "progress": False}
    job = enrichkit.start(numbered(100, "Port "), out=tmp_path / "out", **settings)
    wait_for(lambda: job.status.traffic.in_flight == 3)
    table = job.stop()
    assert (table["_status"] == "done").sum() == job.status.traffic.requests


class Thing:
    """An SDK's response object."""

    choices = ()


class Completion(pydantic.BaseModel):
    id: str = "r"
    model: str | None = None
    choices: list[dict[str, str]] = []


USELESS = {
    "nothing": (None, "None"),
    "an object": (Thing(), "an object of type Thing"),
    "a number": (14, "an object of type int"),
    "an object of type list": ([GOOD], "an object of type list"),
    "a service's reply": (
        Completion(model="m", choices=[{"text": GOOD}]),
        "an object of type Completion with 'choices'",
    ),
    "its message": ({"role": "assistant", "content": GOOD}, "an object of type dict with 'content'"),
    "a raw body": ({"output": GOOD, "usage": {"total_tokens": 3}}, "an object of type dict with 'usage'"),
}


def test_what_is_no_answer_ends_the_run_and_is_kept(tmp_path):
    """After the first; what was paid for meanwhile is stored as it came, and the same call asks those questions."""
    asked, out = [], tmp_path / "out"
    with pytest.raises(
        errors.Stopped, match=r"the client returned an object of type dict with 'content', no answer.*docs/clients"
    ) as told:
        run(50, out, lambda request: asked.append(request) or USELESS["its message"][0])
    assert told.value.reason == "no_answer"
    assert len(asked) <= 4
    assert stored(out) == [repr(USELESS["its message"][0])] * len(asked)
    assert enrichkit.report(out).cost.total.replies == len(asked)
    assert set(run(50, out, lambda request: asked.append(request) or GOOD)["_status"]) == {"done"}
    assert len(asked) <= 54


@pytest.mark.parametrize("kind", USELESS)
def test_what_is_no_answer_is_named(kind):
    """By its class, and by what gives a service's own reply away."""
    came, said = USELESS[kind]
    with pytest.raises(TypeError, match=f"the client returned {said}, no answer"):
        text_of(came, ["crew", "model", "role"])


def stored(out):
    """The replies of a store as they came."""
    return [read_stored(entry.payload)[0].raw for entry in Index(out, columns=(), checked=()).entries]


def test_who_has_answered_once_fails_one_question_only(tmp_path):
    """A model that says nothing now and then, and no text at all: paid, asked once more, failed."""
    asked = []

    def client(request):
        asked.append(request.text)
        return None if "⟦Port 7⟧" in request.text else "" if "⟦Port 8⟧" in request.text else GOOD

    assert (
        run(12, tmp_path / "out", client, workers=1)["_status"].tolist() == ["done"] * 7 + ["failed"] * 2 + ["done"] * 3
    )
    assert len(asked) == 14
    said = enrichkit.read(tmp_path / "out")["port._error"].dropna().tolist()
    assert said == [
        "empty: the client returned None, no answer; return its text, the fields asked for, or a Reply",
        "empty: no text",
    ]


def test_what_json_does_not_know_becomes_what_it_does():
    """Objects in objects, sets, dates, numbers of numpy."""
    came = {
        "port": Plain(1, "Marl"),
        "crew": np.int64(14),
        "towns": {"Marl"},
        "since": date(2026, 1, 2),
        3: np.arange(2),
        "none": [pd.NA, pd.NaT, np.datetime64("NaT"), np.float32("nan"), Decimal("nan")],
        "times": [pd.Timestamp("2026-01-02"), np.datetime64("2026-01-02"), Decimal("1.50")],
        "words": [Sort.SEA, np.str_("Osk"), np.bool_(True)],
        "lists": [pd.Series([1, 2]), range(2), iter([1]), pd.Index(["a"])],
    }
    assert json.loads(text_of(came, ())) == {
        "port": {"crew": 1, "town": "Marl"},
        "crew": 14,
        "towns": ["Marl"],
        "since": "2026-01-02",
        "3": [0, 1],
        "none": [None] * 5,
        "times": ["2026-01-02 00:00:00", "2026-01-02", "1.50"],
        "words": ["sea port", "Osk", True],
        "lists": [[1, 2], [0, 1], [1], ["a"]],
    }
    assert text_of(Port(crew=14), ()) == '{"crew": 14}'  # a default is no finding
    assert text_of({"usage": "tugs"}, ["usage"]) == '{"usage": "tugs"}'  # asked for


class Http(Exception):
    """An error as SDKs and HTTP libraries raise them: a status, headers and a text, wherever they have them."""

    def __init__(self, said="", **facts):
        super().__init__(said)
        vars(self).update(facts)


def response(status, text="", **headers):
    return types.SimpleNamespace(status_code=status, text=text, headers=headers)


def behind(error, cause):
    error.__cause__ = cause
    return error


class ConnectError(Exception):
    """As httpx names it."""


class APIConnectionError(Exception):
    """As two SDKs name it."""


class ReadTimeout(Exception):
    """As httpx names it."""


class UnsupportedProtocol(Exception):
    """As httpx names it."""


class MissingSchema(OSError, ValueError):
    """As requests has it."""


MEANS = [
    (Http("odd", status_code=429, response=response(429, **{"retry-after": "2"})), "rate", 2.0),
    (Http("odd", status=http.HTTPStatus.TOO_MANY_REQUESTS, headers={"RETRY-AFTER": "1.5"}), "rate", 1.5),
    (Http("odd", code="insufficient_quota", status_code=429, body={}), "rate", None),
    (
        Http("odd", status_code=429, response=response(429, '{"error": {"code": "insufficient_quota"}}')),
        "credits",
        None,
    ),
    (Http("odd", response=response(401)), "auth", None),
    (Http("odd", response={"ResponseMetadata": {"HTTPStatusCode": 503}}), "overloaded", None),
    (Http("odd", code=404), "model_not_found", None),
    (Http("odd", status_code=529), "server", None),
    (Http("odd", status=422), "bad_request", None),
    (
        urllib.error.HTTPError("http://x", 404, "Not Found", {}, io.BytesIO(b'{"error": "no such model"}')),
        "model_not_found",
        None,
    ),
    (behind(RuntimeError("mine"), Http("odd", status_code=429)), "rate", None),
    (ExceptionGroup("two at once", [Http("odd", status_code=429)]), "rate", None),
    (UnsupportedProtocol("no scheme"), "not_sent", None),
    (behind(APIConnectionError("Connection error."), UnsupportedProtocol("no scheme")), "not_sent", None),
    (urllib.error.URLError("unknown url type: htp"), "not_sent", None),
    (TimeoutError("late"), "timeout", None),
    (ReadTimeout("late"), "timeout", None),
    (urllib.error.URLError(TimeoutError("late")), "timeout", None),
    (ConnectionResetError("gone"), "network", None),
    (OSError(101, "Network is unreachable"), "network", None),
    (http.client.IncompleteRead(b""), "network", None),
    (behind(APIConnectionError("Connection error."), ConnectError("refused")), "network", None),
    (urllib.error.URLError(ConnectionRefusedError(111, "refused")), "network", None),
]


def test_an_error_means_what_its_status_or_its_name_says():
    """Whatever library raised it; what may have reached the service may have been charged."""
    for error, cause, seconds in MEANS:
        failure = failure_of(error)
        assert (failure.cause, failure.retry_after_seconds) == (cause, seconds), repr(error)
    charged = {repr(error): failure_of(error).may_be_charged for error, *_ in MEANS[-8:]}
    assert list(charged.values()) == [True] * 6 + [False] * 2
    page = urllib.error.HTTPError("http://x", 404, "Not Found", {}, io.BytesIO(b'{"error": "no such model"}'))
    assert failure_of(page).message == "no such model"
    unknown = urllib.error.URLError(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    assert [failure_of(unknown, answered=answered).cause for answered in (False, True)] == ["not_sent", "network"]
    mine = RuntimeError("no answer")
    mine.__context__ = TimeoutError("late")  # as without "from"
    assert failure_of(mine).cause == "timeout"
    for mistake in (KeyError("crew"), FileNotFoundError(2, "no", "key.txt"), MissingSchema("no scheme"), Http(code=7)):
        assert failure_of(mistake) is None


def raising(*errors):
    """A client that raises these, one after the other, and answers then; and what it was asked, when."""
    left, asked, lock = list(errors), [], threading.Lock()

    def client(request):
        with lock:
            asked.append(time.monotonic())
            error = left.pop(0) if left else None
        if error is not None:
            raise error
        return GOOD

    return client, asked


def test_refusals_are_waited_for_as_they_ask(tmp_path):
    """Three, whoever raised them: all twelve are done after fifteen calls, and nobody asks before it is time."""
    slow_down = Http("slow down", status_code=429, response=response(429, **{"retry-after": "0.4"}))
    client, asked = raising(*[slow_down] * 3)
    assert run(12, tmp_path / "out", client, workers=1)["_status"].tolist() == ["done"] * 12
    assert len(asked) == 15
    # Two probes first, since not every delay is true; half way another.
    assert asked[3] - asked[2] > 0.19
    assert asked[3] - asked[0] > 0.4


def test_a_key_that_is_refused_ends_the_run(tmp_path):
    """As of Gemini: nothing failed, and hardly anybody else asked."""
    client, asked = raising(*[Http("Incorrect API key", status_code=401)] * 50)
    with pytest.raises(errors.Stopped, match=r"The service refused the key \(Incorrect API key\)") as told:
        run(50, tmp_path / "out", client)
    assert told.value.reason == "auth"
    assert len(asked) <= 4 + 2
    assert told.value.left == 50


def test_silence_is_asked_again(tmp_path, monkeypatch):
    """Of a library's own kind; a mistake is not, and says where it is, once."""
    monkeypatch.setattr("enrichkit.engine.retry.FIRST_WAIT_SECONDS", 0.001)
    client, asked = raising(ReadTimeout("late"), ConnectionResetError("gone"), TimeoutError())
    assert run(5, tmp_path / "out", client)["_status"].tolist() == ["done"] * 5
    assert len(asked) == 8


def test_a_mistake_in_a_client_is_told_once_with_its_place(tmp_path, caplog):
    """Its questions fail, and count at their worst case: it is unknown whether they were paid for."""
    client, _ = raising(*[KeyError("choices")] * 2)
    job = enrichkit.start(
        numbered(5, "Port "),
        out=tmp_path / "out",
        client=client,
        budget_usd=1,
        workers=1,
        progress=False,
        key="name",
        stages=[PORT],
        **PRICED,
    )
    assert job.result()["_status"].tolist() == ["failed"] * 2 + ["done"] * 3
    assert [record.exc_info[0] for record in caplog.records] == [KeyError]
    assert "in client" in caplog.text
    assert job.status.money.possibly_usd == pytest.approx(2 * WORST, rel=0.1)


@pytest.mark.parametrize("error", [TypeError("bad"), UnsupportedProtocol("Request URL is missing a protocol.")])
def test_a_client_that_always_fails_by_itself_ends_the_run_soon(error, tmp_path, caplog):
    """After three that no other try mends; nothing is failed, and the same call goes on with a mended client."""
    client, asked = raising(*[error] * 50)
    with pytest.raises(errors.Stopped, match=f"Question after question failed.*{error}") as told:
        run(50, tmp_path / "out", lambda request: time.sleep(0.1) or client(request), workers=1)
    assert (told.value.reason, told.value.left) == ("failures", 50)
    assert 3 <= len(asked) < 10
    assert len(caplog.records) == isinstance(error, TypeError)
    assert set(run(50, tmp_path / "out", lambda request: GOOD)["_status"]) == {"done"}
    # Once something was answered it is not the client alone.
    client, _ = raising(None, *[error] * 9)
    assert run(20, tmp_path / "later", client, workers=1)["_status"].tolist().count("failed") == 9


class Unreadable(Exception):
    """An error whose own words cannot be read."""

    def __str__(self):
        raise ZeroDivisionError

    @property
    def response(self):
        return 1 // 0


def test_an_error_that_raises_when_it_is_read_fails_its_question_alone(tmp_path):
    """Its kind is all that is known of it."""
    client, _ = raising(Unreadable())
    settings = {"client": client, "key": "name", "stages": [PORT], "workers": 1, "progress": False}
    table = enrichkit.run(numbered(3, "Port "), out=tmp_path / "out", **settings, **PRICED)
    assert table["_status"].tolist() == ["failed", "done", "done"]
    assert enrichkit.read(tmp_path / "out")["port._error"].dropna().str.contains("Unreadable").all()


WORST = 8192 / 1e6
PRICED = {"model": "m", "prices": {"m": enrichkit.Price(input_usd=0, output_usd=1)}}


def test_a_charged_failure_is_booked(tmp_path):
    """Overloaded, refused, out of credits: it is in the bill and in the budget, and the question is asked on."""
    usage, failing = Usage(prompt_tokens=1000, output_tokens=1000), []
    causes = iter(["overloaded", "rate", "credits"])

    def client(request):
        if cause := next(causes, None):
            failing.append(cause)
            return Reply(failure=Failure(cause=cause, usage=usage))
        return Reply(text=GOOD, usage=usage)

    settings = {"out": tmp_path / "out", "client": client, "budget_usd": 1, "workers": 1, **PRICED}
    with pytest.raises(errors.Stopped, match="no credits left"):
        run(6, **settings)
    assert failing == ["overloaded", "rate", "credits"]
    assert float(enrichkit.report(tmp_path / "out", prices=PRICED["prices"]).cost.total.cost_usd) == pytest.approx(
        0.003
    )
    assert sorted(run(6, **settings)["_status"]) == ["done"] * 5 + ["failed"]
    assert float(enrichkit.report(tmp_path / "out", prices=PRICED["prices"]).cost.total.cost_usd) == pytest.approx(
        0.008
    )


def test_a_failure_has_a_cause_that_there_is():
    """Else it would be booked, retried and told as nothing."""
    with pytest.raises(
        ValueError, match=r"There is no cause 'quota'; it is one of no_quota, credits, .*, rate, .*client"
    ):
        Failure(cause="quota")
    charged = Reply(failure=Failure(cause="rate", usage=Usage(prompt_tokens=3)))
    assert read_stored(encode(charged, search=False))[0].usage == dataclasses.replace(charged.usage, searches=0)
    assert read_stored(encode(charged))[0].paid


LEAVES = """
import asyncio, sys, threading, time
import pandas as pd
import enrichkit

class Port(enrichkit.Answer):
    crew: int | None = None

async def ask(request):
    await asyncio.sleep(float(sys.argv[2]))
    return {"crew": 14}

stage = enrichkit.Stage("port", prompt="Research {name}.", answer=Port, search=False)
frame = pd.DataFrame({"name": ["a", "b", "c", "d"]})
job = enrichkit.start(frame, stages=[stage], key="name", model="m", client=ask, progress=False, out=sys.argv[1])
while not job.done and not job.status.traffic.in_flight:
    time.sleep(0.01)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.01, 60])
def test_an_interpreter_leaves_an_async_client_without_a_word(seconds, tmp_path):
    """Whether its requests are done or in flight: no thread holds it, and no task or loop is complained about."""
    command = [sys.executable, "-Wdefault", "-c", LEAVES, tmp_path / "out", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout + done.stderr == ""
