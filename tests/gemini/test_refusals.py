"""The corpus of refusals: shapes and key words as the service, and what stands before it, use them; all invented."""

# ruff: noqa: E501 - a refusal reads best on one line

from __future__ import annotations

import json
from pathlib import Path

import pytest

from enrichkit.gemini.refusals import classify

ADVICE = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "head to: https://ai.google.dev/gemini-api/docs/rate-limits."
)
METRIC = "generativelanguage.googleapis.com/generate_content_free_tier_requests"


def error(message, *details, status="RESOURCE_EXHAUSTED"):
    return json.dumps({"error": {"code": 0, "message": message, "status": status, "details": list(details)}})


def violations(*quotas, value=None):
    """A QuotaFailure of these quotas."""
    more = {} if value is None else {"quotaValue": value}
    failed = [
        {"quotaMetric": METRIC, "quotaId": quota, "quotaDimensions": {"location": "global"}, **more} for quota in quotas
    ]
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": failed}


def info(reason, **metadata):
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "metadata": metadata}


def retry(delay):
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
REFUSALS = [
    # no quota at all
    (429, error(f"{ADVICE} * Quota exceeded for metric: {METRIC}, limit: 0, model: gemini-3.8-flash", retry("36s")), "no_quota"),
    (429, error(ADVICE, violations(MINUTE, value="0"), retry("21.5s")), "no_quota"),
    (429, error(ADVICE, violations(DAY, value="0")), "no_quota"),
    (429, error("Quota exceeded.", info("RATE_LIMIT_EXCEEDED", quota_limit="GenerateRequestsPerMinute", quota_limit_value="0")), "no_quota"),
    (429, error(ADVICE, violations(MINUTE), violations(DAY, value="0")), "no_quota"),
    # money
    (402, error("Payment required.", status="FAILED_PRECONDITION"), "credits"),
    (402, "", "credits"),
    (429, error("The prepaid credits of this account are used up. Top up to go on."), "credits"),
    (429, error("Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing."), "credits"),
    (429, error("Insufficient credits."), "credits"),
    (429, error("Your account has insufficient funds for this request."), "credits"),
    (429, error("Billing is disabled for project 1234, enable it and try again."), "credits"),
    (429, error("The billing account of this project is closed."), "credits"),
    (429, error("Your balance is too low.", retry("30s")), "credits"),
    (403, error("This API method requires billing to be enabled.", info("BILLING_DISABLED"), status="PERMISSION_DENIED"), "credits"),
    (429, error("Your project has exceeded its spend limit."), "spend_limit"),
    (429, error("Your project has exceeded its monthly spending cap. Please go to AI Studio to raise it."), "spend_limit"),
    (429, error("A spend-based limit of your billing account was reached.", retry("600s")), "spend_limit"),
    (429, error("You have reached the spend cap of this account, see your plan and billing details."), "spend_limit"),
    # the day
    (429, error(ADVICE, violations(DAY, value="20"), retry("38.1s")), "daily_quota"),
    (429, error(ADVICE, violations(MINUTE, DAY, value="15"), retry("12s")), "daily_quota"),
    (429, error("Quota exceeded.", info("RATE_LIMIT_EXCEEDED", quota_limit="GenerateRequestsPerDayPerProject", quota_limit_value="250")), "daily_quota"),
    (429, error("Quota exceeded.", info("RATE_LIMIT_EXCEEDED", quota_unit="1/d/{project}/{model}")), "daily_quota"),
    (429, error("Quota exceeded for quota metric 'Requests' and limit 'Requests per day' of service 'example'."), "daily_quota"),
    (429, error("You have used all your requests for today."), "daily_quota"),
    (429, error("Daily limit reached."), "daily_quota"),
    # what passes with time
    (429, error(ADVICE, violations(MINUTE, value="15"), retry("17.2s")), "rate"),
    (429, error(ADVICE + " Please retry in 17.2s.", violations(MINUTE)), "rate"),
    (429, error(ADVICE, retry("1s")), "rate"),
    (429, error("Resource exhausted. Please try again later."), "rate"),
    (429, error("Resource has been exhausted (e.g. check quota)."), "rate"),
    (429, error("No capacity for this request."), "rate"),
    (429, error(ADVICE, violations("GenerateContentInputTokensPerModelPerMinute-FreeTier", value="250000"), retry("44s")), "rate"),
    (429, error("Quota exceeded for limit: 10 requests."), "rate"),
    (429, "<html><head><title>429 Too Many Requests</title></head></html>", "rate"),
    (429, "", "rate"),
    # place, key, name
    (400, error("User location is not supported for the API use.", status="FAILED_PRECONDITION"), "location"),
    (400, error("User location is not supported for the API use without a billing account linked.", status="FAILED_PRECONDITION"), "location"),
    (403, error("The model is not offered at your location.", status="PERMISSION_DENIED"), "location"),
    (403, error("Gemini API is not available in your country.", status="PERMISSION_DENIED"), "location"),
    (400, error("This region is currently not served."), "location"),
    (400, error("API key not valid. Please pass a valid API key.", info("API_KEY_INVALID"), status="INVALID_ARGUMENT"), "auth"),
    (400, error("API key not valid. Please pass a valid API key.", status="INVALID_ARGUMENT"), "auth"),
    (400, error("API key expired. Please renew the API key.", info("API_KEY_INVALID"), status="INVALID_ARGUMENT"), "auth"),
    (401, error("Request had invalid authentication credentials.", status="UNAUTHENTICATED"), "auth"),
    (403, error("Generative Language API has not been used in project 1234 before or it is disabled.", info("SERVICE_DISABLED"), status="PERMISSION_DENIED"), "auth"),
    (403, error("Your API key was reported as leaked. Please use another API key.", status="PERMISSION_DENIED"), "auth"),
    (404, error("models/gemini-0 is not found for API version v1beta.", status="NOT_FOUND"), "model_not_found"),
    # the request, and the rest
    (400, error("Invalid JSON payload received. Unknown name \"tool\".", status="INVALID_ARGUMENT"), "bad_request"),
    (400, error("The input token count exceeds the maximum number of tokens allowed.", status="INVALID_ARGUMENT"), "bad_request"),
    (413, "<html><title>413 Request Entity Too Large</title></html>", "bad_request"),
    (308, "", "redirected"),
    (407, "<html><title>Proxy Authentication Required</title></html>", "not_sent"),
    (408, "", "timeout"),
    (499, error("The operation was cancelled.", status="CANCELLED"), "server"),
    (500, error("An internal error has occurred.", status="INTERNAL"), "server"),
    (502, "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>", "server"),
    (503, json.dumps([{"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}]), "overloaded"),
    (504, error("Deadline expired before operation could complete.", status="DEADLINE_EXCEEDED"), "server"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "cause"), REFUSALS)
def test_each_refusal_has_its_cause(status, body, cause):
    """From status, ids, metadata and words; the usual advice to look at plan and billing decides nothing."""
    assert classify(status, body).cause == cause


REPORTED = json.loads(Path(__file__).with_name("reported.json").read_text("utf-8"))
"""In shapes that users reported: the service, gateways before it, proxies, several languages. They were written before
the table that reads them was looked at."""


@pytest.mark.parametrize("seen", [pytest.param(seen, id=seen["of"]) for seen in REPORTED])
def test_what_users_reported_has_its_cause(seen):
    """An error that a gateway quotes in its own is read, and an id of words counts as words."""
    body = seen["body"]
    assert classify(seen["status"], body if isinstance(body, str) else json.dumps(body)).cause == seen["cause"]


@pytest.mark.parametrize(("status", "body", "cause"), REFUSALS)
def test_the_services_own_sentence_travels_with_it(status, body, cause):
    """On one line, without markup."""
    message = classify(status, body).message
    said = json.loads(body) if body.startswith(("{", "[")) else None
    if said:
        said = said[0] if isinstance(said, list) else said
        assert said["error"]["message"].startswith(message.removesuffix("…")[:100])
    assert not {"<", "\n"} & set(message)
