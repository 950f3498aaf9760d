"""The notice at a run's end: real HTTP and SMTP servers on loopback, each ending, and addresses that stay secret."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import email
import email.policy
import json
import logging
import os
import pickle
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pandas as pd
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

import enrichkit
from enrichkit import Price, Stage, errors
from enrichkit.messages import Failure, Reply, Usage
from enrichkit.runs.options import Options
from enrichkit.store.store import Files
from support import programs
from support.calls import enrich
from support.tables import Company
from support.waiting import wait_for

SECRET = "canarysecret0123456789abcd"
HOSTILE = "@everyone <!channel> <b>Ünïcode</b> %s {0} \r\nBcc: eve@example.org"
pytestmark = pytest.mark.usefixtures("quick_sender")
PRICES = {"m": Price(input_usd=1, output_usd=1, search_usd=0)}


COMPANY = Stage("company", prompt="Research {name}.", answer=Company, search=False)


class Listener(ThreadingHTTPServer):
    """A web server that keeps what it is sent; ``answer`` is a status, or a callable that takes the request over."""

    daemon_threads = True

    def __init__(self, answer=200):
        self.answer, self.got = answer, []
        super().__init__(("127.0.0.1", 0), _Taker)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def place(self):
        return f"127.0.0.1:{self.server_port}"

    @property
    def notices(self):
        return [json.loads(body) for _, _, body in self.got]

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _Taker(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.server.got.append((self.path, dict(self.headers), body))
        if callable(self.server.answer):
            self.server.answer(self)
            return
        self.send_response(self.server.answer)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(b"{}")

    do_CONNECT = do_PUT = do_GET = do_POST

    def log_message(self, *_):
        pass


@pytest.fixture
def web():
    with Listener() as server:
        yield server


@pytest.fixture
def mail():
    """A mail server that looks at the password; what it takes is in ``.taken``."""

    class Taken:
        async def handle_DATA(self, server, session, envelope):
            controller.taken.append((envelope, session.auth_data))
            return "250 OK"

    def let_in(server, session, envelope, mechanism, auth_data):
        right = auth_data.password == SECRET.encode()
        return AuthResult(success=right, handled=right, auth_data=auth_data)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(Taken(), hostname="127.0.0.1", port=port, authenticator=let_in, auth_require_tls=False)
    controller.taken = []
    controller.start()
    yield controller
    controller.stop()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "nightly"


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch):
    """No proxy, and a key that must not travel."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("ENRICHKIT_NOTIFY", raising=False)
    monkeypatch.setenv("GOOGLE_API_KEY", f"key-{SECRET}")


def table(*names):
    return pd.DataFrame({"name": names or ("Acme", "Bolt", "Cask")})


def answers(failing=(), cause="blocked"):
    """A client that answers each question, but those that hold one of the words."""

    def client(request):
        if any(word in request.text for word in failing):
            return Reply(failure=Failure(cause=cause, message=HOSTILE))
        return Reply(text=json.dumps({"industry": HOSTILE}), usage=Usage(prompt_tokens=1000, output_tokens=500))

    return client


def settings(out, notify, **more):
    return {
        "out": out,
        "stages": [COMPANY],
        "key": "name",
        "model": "m",
        "prices": PRICES,
        "progress": False,
        "workers": 2,
        "client": answers(),
        "notify": notify,
    } | more


def run(frame, out, notify, **more):
    return enrichkit.run(frame, **settings(out, notify, **more))


def hook(server, more=""):
    return f"json://{server.place}/{SECRET}{more}"


def warnings_of(caplog):
    return [one.getMessage() for one in caplog.records if one.name == "enrichkit"]


# What arrives, where.


@pytest.mark.usefixtures("real_sender")
def test_a_webhook_hears_of_the_end(web, out):
    """Counts, cost, where, what next: once, and of the kind that services colour green."""
    run(table(), out, hook(web))
    (notice,) = web.notices
    assert notice["title"] == "enrichkit: nightly: done"
    assert notice["type"] == "success"
    facts, where, what_next = notice["message"].splitlines()
    assert facts.startswith("3 of 3 records · ")
    assert re.search(r" · 0\.0045 USD · .* · priced by genai-prices [\d.]+, and your own for m", facts)
    assert where.startswith(f"Store: {out} on ")
    assert what_next == f"Next: enrichkit.report('{out}')"


def test_mail_arrives(mail, out):
    """By SMTP with a password, as text that any mail program shows."""
    address = (
        f"mailto://nightly:{SECRET}@127.0.0.1:{mail.port}"
        "?from=nightly@example.org&to=ana@example.org&smtp=127.0.0.1&mode=insecure&format=text"
    )
    run(table(), out, address)
    ((envelope, login),) = mail.taken
    assert login.login == b"nightly"
    assert envelope.rcpt_tos == ["ana@example.org"]
    message = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert message["Subject"] == "enrichkit: nightly: done"
    text = message.get_body(("plain",)).get_content()
    assert "3 of 3 records" in text
    assert SECRET not in envelope.content.decode()


def test_chats_on_servers_of_ones_own_hear_of_it(web, out):
    """Mattermost (which takes what Slack takes), ntfy, Gotify, XML and a form: several addresses, one notice each."""
    run(
        table(),
        out,
        [
            f"mmost://{web.place}/{SECRET}",
            f"ntfy://{web.place}/topic",
            f"gotify://{web.place}/{SECRET}",
            f"xml://{web.place}/xml",
            f"form://{web.place}/form",
        ],
    )
    bodies = [body for _, _, body in web.got]
    assert len(bodies) == 5
    assert {path.split("/")[1].partition("?")[0] for path, _, _ in web.got} >= {"hooks", "message", "xml", "form"}
    for path, _, body in web.got:
        shown = str(parse_qs(body)) if path == "/form" else body
        assert "3 of 3 records" in shown


def test_slack_and_discord_are_gone_to(out, monkeypatch, caplog):
    """As far as loopback lets it: their addresses are understood, and their servers are called; the proxy says no."""
    with Listener(answer=502) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.place}")
        run(
            table(),
            out,
            [
                f"https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/{SECRET[:24]}",
                f"discord://174674786974697864/{SECRET * 3}",
            ],
        )
    assert {path for path, _, _ in proxy.got} == {"hooks.slack.com:443", "discord.com:443"}
    assert len(warnings_of(caplog)) == 2


def test_the_background_tells_too_when_nobody_waits(web, out):
    """Once, however often the result is asked for."""
    job = enrichkit.start(table(), **settings(out, hook(web)))
    wait_for(lambda: job.done)
    assert len(web.notices) == 1
    job.result()
    job.stop()
    job.result()
    assert len(web.notices) == 1


def test_a_run_is_over_while_its_notice_is_sent(out):
    """What shows it says so, and an interrupt or a stop that comes then changes nothing of how it ended."""
    go = threading.Event()

    def slow(request):
        go.wait(60)
        request.send_response(200)
        request.end_headers()

    with Listener(answer=slow) as server:
        job = enrichkit.start(table(), **settings(out, hook(server, "?rto=60")))
        wait_for(lambda: server.got)
        assert repr(job).startswith("<enrichkit.Run, done: 3 of 3 records")
        assert not job.done
        seconds = job.status.seconds
        threading.Timer(0.3, go.set).start()
        assert len(job.stop()) == 3
    assert (job.done, job.status.seconds, job.status.stopping) == (True, seconds, None)


# Each ending.


def test_failures_are_counted(web, out):
    """With the call that asks them again."""
    run(table(), out, hook(web), client=answers(failing=["Bolt"]))
    (notice,) = web.notices
    assert notice["title"] == "enrichkit: nightly: done, 1 failed"
    assert notice["type"] == "warning"
    assert "3 of 3 records" in notice["message"]
    assert (
        f"Next: enrichkit.report('{out}') says why some failed. The same call with retry_failed=True"
        in notice["message"]
    )


def test_what_a_limit_left_out_is_told(web, out):
    """Done is not all there is: how many wait, and the call that goes on with them."""
    run(table(), out, hook(web), limit=2)
    (notice,) = web.notices
    assert re.search(r"2 of 2 records · \d+ s · .*1 more is left for a later call", notice["message"])
    assert notice["message"].endswith("The same call goes on with those that are left.")


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("auth", "The service refused the key. Check it, its project and its rights. "),
        ("daily_quota", "The daily quota is used up; it opens again at "),
        ("spend_limit", "The account's spend limit is reached. "),
        ("model_not_found", "The service does not know the model. "),
        ("failures", "Question after question failed. "),
    ],
)
def test_a_run_that_ends_early_says_why(reason, says, web, out):
    """And the next call; what the service said is left out, for it may quote a record or a key."""
    cause = "bad_request" if reason == "failures" else reason
    names = [f"n{number}" for number in range(30)]
    with pytest.raises(errors.Stopped) as caught:
        run(table(*names), out, hook(web), client=answers(failing=["n"], cause=cause))
    assert caught.value.reason == reason
    (notice,) = web.notices
    assert notice["title"] == f"enrichkit: nightly: stopped ({reason})"
    assert notice["type"] == "warning"
    assert says in notice["message"]
    assert "The same call goes on from here." in notice["message"]
    assert "everyone" not in str(notice)


def test_a_budget_that_is_used_up_is_told_with_the_rest(web, out):
    """What is spent, of how much, and about what is missing."""
    small = Stage("company", prompt="Research {name}.", answer=Company, search=False, max_output_tokens=600)
    with pytest.raises(errors.Stopped):
        run(table(*[f"n{n}" for n in range(40)]), out, hook(web), stages=[small], budget_usd=0.03)
    (notice,) = web.notices
    assert notice["title"] == "enrichkit: nightly: stopped (budget)"
    assert "The same call with a higher budget_usd goes on from here." in notice["message"]
    rest = r"0\.0\d+ of a budget of 0\.0300 USD spent; \d+ % of the budget is spent · 0\.0\d+ USD of about 0\.0\d+"
    assert re.search(rest, notice["message"])


def test_stop_is_an_end_like_others(web, out):
    """Somebody else may be waiting for that message."""
    going = threading.Event()

    def slow(request):
        going.set()
        time.sleep(0.2)
        return answers()(request)

    job = enrichkit.start(table(*[f"n{number}" for number in range(500)]), **settings(out, hook(web), client=slow))
    going.wait(60)
    job.stop()
    (notice,) = web.notices
    assert notice["title"] == "enrichkit: nightly: stopped (stop)"
    assert "Stopped. The same call goes on from here." in notice["message"]


def test_a_stop_that_came_too_late_is_no_early_end(web, out):
    """What was in flight was the last, and all is done, as the view says too."""
    going, go = threading.Event(), threading.Event()

    def held(request):
        going.set()
        go.wait(60)
        return answers()(request)

    job = enrichkit.start(table("n0"), **settings(out, hook(web), client=held))
    going.wait(60)
    threading.Timer(0.2, go.set).start()
    job.stop()
    (notice,) = web.notices
    assert notice["title"] == "enrichkit: nightly: done"
    assert "goes on" not in notice["message"]
    assert repr(job).startswith("<enrichkit.Run, done:")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupt_is_told(sign, web, out):
    """From a process that a scheduler ends: what is in flight is kept, the notice goes out, then the process ends."""
    call = f"""
import json, time, pandas as pd, enrichkit
class Company(enrichkit.Answer):
    industry: str | None = None
def client(request):
    print("asked", flush=True)
    time.sleep(0.05)
    return enrichkit.messages.Reply(text='{{"industry": "Tea"}}')
stage = enrichkit.Stage("company", prompt="Research {{name}}.", answer=Company, search=False)
enrichkit.run(pd.DataFrame({{"name": [f"n{{n}}" for n in range(2000)]}}), stages=[stage], key="name", model="m",
              client=client, out={str(out)!r}, progress=False, notify={hook(web)!r})
"""
    process = programs.Program([sys.executable, "-c", call], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for _ in range(50):
        process.stdout.readline()
    os.kill(process.pid, sign)
    told = process.communicate(timeout=60)[1].decode()
    assert "Interrupted: Interrupted." in told
    assert SECRET not in told.replace(call, "")
    (notice,) = web.notices
    assert notice["title"] == "enrichkit: nightly: stopped (interrupt)"
    assert "Interrupted. The same call goes on from here." in notice["message"]


def test_a_defect_is_told_by_its_kind_only(web, out, monkeypatch):
    """Its message may quote a record; it is raised where the call was made."""

    def broken(prompt, values):
        raise ZeroDivisionError(HOSTILE)

    monkeypatch.setattr("enrichkit.stages.stage.render", broken)
    with pytest.raises(ZeroDivisionError):
        run(table(), out, hook(web))
    (notice,) = web.notices
    assert notice["title"] == "enrichkit: nightly: failed"
    assert notice["type"] == "failure"
    assert "ZeroDivisionError ended it." in notice["message"]
    assert "everyone" not in str(notice)


def test_a_store_that_fails_is_told(web, out, monkeypatch):
    """With the replies that could not be saved."""

    def full(self, path, data):
        raise OSError(28, "No space left on device")

    def filling(request):
        monkeypatch.setattr(Files, "_write", full)
        return answers()(request)

    monkeypatch.setattr("enrichkit.engine.driver.SAVE_AGAIN_SECONDS", 0.01)
    job = enrichkit.start(table(), **settings(out, hook(web), client=filling))
    wait_for(lambda: "cannot be written" in job.status.waiting)
    with pytest.raises(errors.StoreError):
        job.stop()
    (notice,) = web.notices
    assert notice["title"] == "enrichkit: nightly: failed"
    lost = r"\d repl(y|ies) could not be saved, and will be asked, and paid for, again"
    assert re.search(lost, notice["message"])
    assert "StoreError ended it." in notice["message"]


def test_a_store_that_another_run_took_over_is_told(web, out):
    """The other run goes on; this one says that it ended."""
    asked = []

    def client(request):
        asked.append(request)
        if len(asked) >= 5:
            (out.parent / "nightly.work" / "lock").unlink(missing_ok=True)
        return answers()(request)

    with pytest.raises(errors.LockedError):
        run(table(*[f"n{number}" for number in range(200)]), out, hook(web), client=client)
    (notice,) = web.notices
    assert notice["title"] == "enrichkit: nightly: failed"
    assert "LockedError ended it." in notice["message"]


def test_a_call_that_found_nothing_to_do_keeps_quiet(web, out):
    """Else a nightly job trains its people to look away; what was added since is told again."""
    run(table(), out, hook(web))
    run(table(), out, hook(web))
    run(table(), out, hook(web), limit=0)
    assert len(web.notices) == 1
    run(table("Acme", "Bolt", "Cask", "Dune"), out, hook(web))
    assert "1 of 1 record " in web.notices[1]["message"]


def test_the_command_line_is_told_of_in_its_own_words(web, tmp_path, simulator):
    """What to do next is a command, not a call of the library."""
    simulator.script = ["safety"]
    (tmp_path / "it's.csv").write_text("fund.title\nAcme\n")
    enrich("run", "--input", tmp_path / "it's.csv", "--stages", "fund", "--notify", f"json://{web.place}", code=1)
    simulator.faults = {"bad_key": 1.0}
    (tmp_path / "it's.csv").write_text("fund.title\nAcme\nBolt\n")
    enrich("run", "--input", tmp_path / "it's.csv", "--stages", "fund", "--notify", f"json://{web.place}", code=3)
    failed, early = [notice["message"].splitlines()[-1] for notice in web.notices]
    store = shlex.quote(str(tmp_path / "it's_enriched"))
    hint = "The same command with --retry-failed asks the failed ones again."
    assert failed == f"Next: enrichkit report {store} says why some failed. {hint}"
    assert early.endswith("The same command goes on from here.")


def test_simulated_money_is_called_so(web, out):
    """Nobody should start at a bill that nobody gets."""
    run(table(), out, hook(web), model="simulator", client="google-genai")
    assert "USD (simulated, nothing is charged)" in web.notices[0]["message"]


def test_money_is_called_simulated_by_who_answers(web, out):
    """Not by the model's name alone: a simulator may stand behind any endpoint."""

    def simulated(request):
        return Reply(text="{}", usage=Usage(prompt_tokens=10, output_tokens=5), model_version="simulator-1")

    run(table(), out, hook(web), client=simulated)
    assert "USD (simulated, nothing is charged)" in web.notices[0]["message"]


def test_unknown_prices_are_told(web, out):
    """And never taken for nothing."""
    run(table(), out, hook(web), prices={}, model="nobody-knows")
    assert "3 replies of unknown price" in web.notices[0]["message"]


# When it fails.


@pytest.mark.parametrize("how", ["refuses", "500", "401", "silent", "breaks"])
def test_a_notice_that_fails_is_a_warning(how, out, caplog):
    """The run has succeeded, and says so; one line of the log names the address's place and kind, no more."""

    def silent(request):
        time.sleep(3)

    answer = {"silent": silent, "breaks": lambda request: request.connection.close()}.get(how)
    with Listener(answer=answer or (int(how) if how.isdigit() else 200)) as web:
        address = hook(web, "?rto=0.5")
        if how == "refuses":
            web.server_close()
        assert run(table(), out, address)["_status"].eq("done").all()
    assert warnings_of(caplog) == [
        "The notification of the run's end did not reach address 1 of 1 (json://): it was refused or not answered."
    ]


def test_a_mail_server_that_refuses_is_a_warning(mail, out, caplog):
    """A wrong password, which is not repeated."""
    run(
        table(),
        out,
        f"mailto://nightly:no{SECRET}@127.0.0.1:{mail.port}?from=n@example.org&to=a@example.org&mode=insecure",
    )
    (told,) = warnings_of(caplog)
    assert "did not reach address 1 of 1 (mailto://): it was refused" in told


@pytest.mark.slow
def test_a_notice_that_hangs_holds_up_the_end_for_ten_seconds(web, out, caplog):
    """Even one that drips, which no timeout of a socket ends; the others arrive, and all answers are stored before."""

    def drip(request):
        request.send_response(200)
        request.end_headers()
        with contextlib.suppress(OSError):
            while True:
                request.wfile.write(b" ")
                time.sleep(0.2)

    with Listener(answer=drip) as dripping:
        since = time.monotonic()
        job = enrichkit.start(table(), **settings(out, [hook(dripping), hook(web)]))
        wait_for(lambda: dripping.got)
        assert len(enrichkit.read(out)) == 3
        assert not job.done
        assert len(job.result()) == 3
        assert 10 < time.monotonic() - since < 40  # it would go on for ever
    assert len(web.notices) == 1
    assert warnings_of(caplog) == [
        "The notification of the run's end did not reach address 1 of 2 (json://): no answer in 10 s."
    ]


@pytest.mark.slow
def test_a_mail_server_that_says_nothing_holds_up_the_end_for_ten_seconds(out, caplog):
    """It takes the connection, and that is all."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        since = time.monotonic()
        run(
            table(),
            out,
            f"mailto://u:{SECRET}@127.0.0.1:{mute.getsockname()[1]}?from=n@example.org&to=a@example.org&mode=insecure",
        )
        assert time.monotonic() - since < 40
    (told,) = warnings_of(caplog)
    assert SECRET not in told


def test_a_handler_that_raises_ends_no_run(out):
    """Whoever listens to the log, the table comes back."""

    class Raising(logging.Handler):
        def emit(self, record):
            raise RuntimeError("no disk for logs")

    handler = Raising()
    logging.getLogger("enrichkit").addHandler(handler)
    try:
        with Listener(answer=500) as web:
            assert len(run(table(), out, hook(web))) == 3
    finally:
        logging.getLogger("enrichkit").removeHandler(handler)


# Before anything is asked.


@pytest.mark.parametrize(
    "address",
    [
        f"slakc://{SECRET}",
        SECRET,
        f"{SECRET}://host",
        f"json:/{SECRET}",
        f"slack://{SECRET}",
        f"mailto://u:{SECRET}@",
        f"ftp://u:{SECRET}@host",
    ],
)
def test_an_address_that_nobody_understands_is_refused_before_anything_is_asked(address, web, out):
    """By its place and scheme; nothing is asked, written or sent, and the secret is not repeated."""

    def never(request):
        raise AssertionError("asked")

    with pytest.raises(errors.InputError, match=r"address 2 of 2 .*is not an address that apprise supports") as caught:
        run(table(), out, [hook(web), address], client=never)
    assert SECRET not in "".join(traceback.format_exception(caught.value)).replace(address, "")
    assert SECRET not in str(caught.value)
    assert list(out.parent.iterdir()) == []
    assert web.got == []


@pytest.mark.parametrize("wrong", ["", " ", 3, b"json://h", {"json://h": 1}, ["json://h", None], [""]])
def test_what_is_no_address_at_all_is_refused(wrong, out):
    """Also by the plan, which sends nothing."""
    with pytest.raises(errors.InputError, match=r"^notify must be an address such as json://host/path, or a list"):
        enrichkit.plan(table(), **settings(out, wrong))


def test_where_the_call_names_none_the_environment_does(web, out, monkeypatch):
    """Several with blanks between; what the call names counts alone, and an empty list means none."""
    monkeypatch.setenv("ENRICHKIT_NOTIFY", f" {hook(web)}  {hook(web)}\n")
    run(table("a"), out, None)
    assert len(web.notices) == 2
    run(table("b"), out, hook(web))
    assert len(web.notices) == 3
    run(table("c"), out, [])
    assert len(web.notices) == 3
    assert Options().addresses == (hook(web),) * 2
    assert SECRET not in repr(Options()) + repr(dataclasses.asdict(Options()))
    assert pickle.loads(pickle.dumps(Options())).addresses == ()


def test_the_environments_address_is_checked_like_any(out, monkeypatch):
    """Before anything is asked; the sentence names the variable, not what it holds."""
    monkeypatch.setenv("ENRICHKIT_NOTIFY", f"slakc://{SECRET}")
    with pytest.raises(errors.InputError, match=r"ENRICHKIT_NOTIFY\): address 1 of 1 .*is not an address") as caught:
        run(table(), out, None)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert list(out.parent.iterdir()) == []


@pytest.mark.usefixtures("real_sender")
def test_without_apprise_the_package_to_install_is_named(out, monkeypatch):
    """Before anything is asked; and a run without notices does not need it."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(errors.SetupError, match=r"pip install 'enrichkit\[notify\]'"):
        run(table(), out, f"json://127.0.0.1/{SECRET}")
    assert list(out.parent.iterdir()) == []
    assert len(run(table(), out, None)) == 3


def test_the_package_is_never_loaded_here(web, out):
    """Nor anything that it would load: their loggers and threads stay in the messenger."""
    call = f"import sys, enrichkit, runpy; {CHECK}\nassert not {{'apprise', 'requests', 'smtplib'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", call, hook(web), str(out)], check=True, timeout=60)
    assert len(web.notices) == 1


CHECK = """
import pandas as pd
class Company(enrichkit.Answer):
    industry: str | None = None
stage = enrichkit.Stage("company", prompt="Research {name}.", answer=Company, search=False)
enrichkit.run(pd.DataFrame({"name": ["Acme"]}), stages=[stage], key="name", progress=False, model="m", out=sys.argv[2],
              client=lambda request: enrichkit.messages.Reply(text='{"industry": "Tea"}'), notify=sys.argv[1])
"""


def test_the_plan_sends_nothing(web, out):
    """It takes the same arguments."""
    enrichkit.plan(table(), **settings(out, hook(web)))
    assert web.got == []


# The secrets.


@pytest.fixture
def loud(caplog, capfd, monkeypatch, recwarn):
    """Everything at its noisiest: a function that returns all that was logged, warned of and printed."""
    caplog.set_level(1)
    for name in ("apprise", "urllib3", "urllib3.connectionpool", "requests", "enrichkit"):
        caplog.set_level(1, logger=name)
    monkeypatch.setenv("PYTHONWARNINGS", "always")
    return lambda: [caplog.text, *(str(one.message) for one in recwarn), *capfd.readouterr()]


@pytest.mark.parametrize("answer", [200, 500])
@pytest.mark.usefixtures("real_sender")
def test_address_and_key_appear_nowhere(answer, tmp_path, loud):
    """Not in a log at its noisiest, a warning, what is printed, a file or the notice itself."""
    with Listener(answer=answer) as web:
        job = enrichkit.start(
            table("Acme", HOSTILE),
            **settings(tmp_path / "nightly", [hook(web), f"json://u:{SECRET}@{web.place}"], progress="text"),
        )
        job.result()
        seen = [repr(job), repr(job.status), *loud()]
    assert len(web.got) == 2
    for _, headers, body in web.got:
        assert SECRET not in body
        assert f"key-{SECRET}" not in str(headers)
        assert "everyone" not in body
        assert "Bcc" not in body
    assert SECRET not in "".join(seen)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.usefixtures("real_sender")
def test_the_key_does_not_travel_to_the_messenger(web, out, tmp_path, monkeypatch):
    """Its environment has no key; a package that lies in the way of apprise tells what it saw."""
    (tmp_path / "apprise.py").write_text(
        f"import json, os, sys; json.dump([dict(os.environ), sys.argv], open({str(tmp_path / 'seen')!r}, 'w'))"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(errors.SetupError, match="which does not start with") as caught:
        run(table(), out, hook(web))
    assert SECRET not in str(caught.value)
    assert "PATH" in (seen := (tmp_path / "seen").read_text())
    assert SECRET not in seen


def test_options_keep_their_addresses_to_themselves():
    """Not shown, not pickled, not copied; kept by `replace`."""
    options = Options(notify=[f"json://host/{SECRET}", f" mailto://{SECRET} "])
    assert options.addresses[1] == f"mailto://{SECRET}"
    told = [repr(options), str(options.notify), f"{options.notify}", repr(dataclasses.asdict(options))]
    told += [pickle.dumps(options, protocol).decode("latin-1") for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    assert SECRET not in "".join(told)
    assert pickle.loads(pickle.dumps(options)).addresses == ()
    assert copy.deepcopy(options).addresses == ()
    assert dataclasses.replace(options, workers=3).addresses == options.addresses


def test_a_folders_name_gives_no_orders(web, tmp_path):
    """A line break in it starts no header and no line."""
    run(table(), tmp_path / "a\nBcc: eve@example.org", hook(web))
    (notice,) = web.notices
    assert notice["title"] == "enrichkit: a?Bcc: eve@example.org: done"
    assert len(notice["message"].splitlines()) == 3
