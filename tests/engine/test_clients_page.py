"""The clients of docs/clients.md, each against a stand-in of its service, which refuses, keeps silent and charges."""

from __future__ import annotations

import importlib.util
import os
import re
import sys

import pytest

import enrichkit
from enrichkit import Answer, Stage, errors
from support import providers
from support.paths import ROOT
from support.tables import numbered


class Port(Answer):
    crew: int | None = None
    town: str | None = None


PORT = Stage("port", prompt="Research {name}.", answer=Port, search=False)
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "clients.md").read_text("utf-8"), re.DOTALL)
MODELS = ["openai:gpt-5-mini", "anthropic:claude-haiku-4-5", "llama3.2:3b"]
CALLED = dict(zip(MODELS, ["gpt-5-mini", "claude-haiku-4-5", "llama3.2:3b"], strict=True))
BILLED = {MODELS[0]: 0.00045, MODELS[1]: 0.00141, MODELS[2]: 0.0}
FREE = {MODELS[2]: enrichkit.Price(input_usd=0, output_usd=0)}


@pytest.fixture
def provider(monkeypatch):
    """A service; the SDKs are the real ones where they are installed."""
    server = providers.Provider()
    addresses = {"OPENAI_BASE_URL": f"{server.url}/v1", "ANTHROPIC_BASE_URL": server.url, "OLLAMA_HOST": server.url}
    for name, value in (addresses | dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY"), "for-nothing")).items():
        monkeypatch.setitem(os.environ, name, value)
    for name in ("openai", "anthropic"):
        if importlib.util.find_spec(name) is None:
            monkeypatch.setitem(sys.modules, name, getattr(providers, name)())
    yield server
    server.shutdown()
    server.server_close()


def defined(block):
    """What a block of the page defines."""
    names: dict[str, object] = {}
    exec(compile(block, "docs/clients.md", "exec"), names)
    return names["ask"]


@pytest.mark.parametrize(("model", "block"), [*zip(MODELS, BLOCKS, strict=True)], ids=["openai", "anthropic", "local"])
def test_a_client_of_the_page_answers_waits_and_ends(model, block, provider, tmp_path, monkeypatch):
    """Answers at the service's price; a 429 holds all back as long as it says; silence and a 5xx are tried again."""
    monkeypatch.setattr("enrichkit.engine.retry.FIRST_WAIT_SECONDS", 0.001)
    call = {"stages": [PORT], "key": "name", "model": model, "progress": False, "workers": 4, "prices": FREE}
    call |= {"client": defined(block), "budget_usd": 5}
    slow_down = (429, {"Retry-After": "0.3"})
    provider.script = [slow_down, slow_down, slow_down, 0.5, (503, {}), (500, {})]
    table = enrichkit.run(numbered(12, "Port "), out=tmp_path / "out", deadline_seconds=0.8, **call)
    assert table["port.crew"].tolist() == [14] * 12
    assert len(provider.asked) == 18
    assert {body["model"] for _, body in provider.asked} == {
        model.partition(":")[2] if ":g" in model or ":c" in model else model
    }
    bill = enrichkit.report(tmp_path / "out", prices=FREE).cost
    assert float(bill.total.cost_usd) == pytest.approx(12 * BILLED[model])
    assert bill.by_model.keys() == {model}

    provider.asked.clear()
    provider.script = [(401, {})] * 50
    with pytest.raises(errors.Stopped, match=r"The service refused the key.*said 401") as told:
        enrichkit.run(numbered(50, "Port "), out=tmp_path / "refused", **call)
    assert told.value.reason == "auth"
    assert len(provider.asked) <= 4 + 2
