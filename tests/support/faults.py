"""Faults that only tests want: the service's rarer errors, replies of odd shapes, bodies that break off."""

from __future__ import annotations

import contextlib
import json
import re

from enrichkit.gemini.faults import FAULTS, TOO_MANY, Fault, failed, no_model, with_text, without_text


def _blocked(body):
    body["promptFeedback"] = {"blockReason": "SAFETY"}
    usage = body["usageMetadata"]
    usage["totalTokenCount"] = usage["promptTokenCount"]
    del body["candidates"], usage["candidatesTokenCount"]
    usage.pop("thoughtsTokenCount", None)


def _wrong_types(text):
    answer = json.loads(re.sub(r"^```json\n|\n```$", "", text))
    odd = [{"unexpected": ["nest"]}, 2**70, True, ["a", {"b": None}]]
    return json.dumps({name: odd[at % 4] for at, name in enumerate(answer)})


def _thoughts(body):
    body["candidates"][0]["content"]["parts"].insert(0, {"text": "Let me think. {", "thought": True})


def _no_usage(body):
    body["usageMetadata"] = {"promptTokenCount": body["usageMetadata"]["promptTokenCount"]}


def _drip(handler, data):
    handler.head(200, len(data))
    for byte in data[:-1]:
        handler.wfile.write(bytes([byte]))
        if handler.server.simulator.closing.wait(0.01):
            break
    handler.wfile.write(data[-1:])


def _endless(handler, data):
    with contextlib.suppress(OSError):
        handler.head(200, 10**15)
        while not handler.server.simulator.closing.is_set():
            handler.wfile.write(data)


def _huge(body):
    body["usageMetadata"]["totalTokenCount"] = "HUGE"


def _numbered(handler, data, digits):
    handler.send(200, data.replace(b'"HUGE"', digits.encode()))


def _no_utf8(handler, data):
    handler.server.simulator.sent = data.replace(b"Simulated answer", b"Simul\xffated answer")
    handler.send(200, handler.server.simulator.sent)


def _cut_body(handler, data):
    handler.head(200, len(data))
    handler.wfile.write(data[: len(data) // 2])
    handler.close_connection = True


def _damaged(text: str) -> str:
    """Damage a text as models do; which way depends on the text."""
    text = text.removeprefix("```json\n").removesuffix("\n```")
    ways = (
        text[:-1] + ",}",
        text[:-1],
        text.replace("{", "{ // the answer\n", 1),
        f'{{"answer": {text}}}',
        json.dumps(text),
        f'The schema {{"type": "object", "properties": {{"town": {{"type": "string"}}}}}} gives: {text}',
        re.sub(r'"(\w+)": ', r"\1: ", text),
        f"{text[:-1]}, {text[1:-1].partition(', ')[0].partition(': ')[0]}: null}}",
    )
    return ways[sum(text.encode()) % len(ways)]


FAULTS |= {
    "damaged": with_text(_damaged),
    "rate_bare": Fault((429, TOO_MANY)),
    "html": Fault((502, "<html><title>502 Bad Gateway</title><body>Bad Gateway</body></html>")),
    "overloaded_list": Fault(
        (503, [failed(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")]),
    ),
    "gateway_timeout": Fault((504, failed(504, "DEADLINE_EXCEEDED", "The request timed out. Please try again."))),
    "bad_request": Fault((400, failed(400, "INVALID_ARGUMENT", "Request contains an invalid argument."))),
    "unauthorized": Fault((401, failed(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."))),
    "forbidden": Fault((403, failed(403, "PERMISSION_DENIED", "Your project has been denied access."))),
    "rude": Fault((403, failed(403, "PERMISSION_DENIED", "closed \x1b[2J \x07"))),
    "rude_row": Fault((400, failed(400, "INVALID_ARGUMENT", "odd \x1b[2J \x07"))),
    "no_model": Fault((404, no_model("gone"))),
    "cut_json": with_text(lambda text: text[: len(text) // 2]),
    "fenced": with_text(lambda text: text if text.startswith("```") else f"```json\n{text}\n```"),
    "around": with_text(lambda text: f"Here is what I found:\n\n{text}\n\nLet me know if you need more {{details}}."),
    "loops": with_text(lambda text: '{"town": "' + 900 * "quay, ", "MAX_TOKENS"),
    "other_fields": with_text(lambda text: '{"unexpected": 1}'),
    "wrong_types": with_text(_wrong_types),
    "surrogates": with_text(lambda text: re.sub(r"(Simulated answer)", "\ud83d \\1", text)),
    "max_tokens_empty": without_text("MAX_TOKENS"),
    "recitation": without_text("RECITATION"),
    "unknown_finish": with_text(lambda text: text, "A_REASON_FROM_THE_FUTURE"),
    "unknown_finish_empty": without_text("A_REASON_FROM_THE_FUTURE"),
    "blocked": Fault(shape=_blocked),
    "no_candidates": Fault(shape=lambda body: body.pop("candidates")),
    "thoughts": Fault(shape=_thoughts),
    "no_usage": Fault(shape=_no_usage),
    "drip": Fault(delivery=_drip),
    "endless": Fault(delivery=_endless),
    "beyond_a_double": Fault(shape=_huge, delivery=lambda handler, data: _numbered(handler, data, "9007199254740993")),
    "long_number": Fault(shape=_huge, delivery=lambda handler, data: _numbered(handler, data, "9" * 5000)),
    "long_number_in_answer": with_text(lambda text: re.sub(r'(?<="fields_found": )\[.*?\]', "9" * 5000, text)),
    "no_utf8": Fault(delivery=_no_utf8),
    "cut_body": Fault(delivery=_cut_body, charged=False),
    "no_json": Fault(delivery=lambda handler, data: handler.send(200, data[: len(data) // 2])),
}
