"""How long to wait travels inside the seal, and what OpenAI's clients are shown follows from it."""

from __future__ import annotations

import json

import pytest

from latensgate.exchange_failure import Failure
from latensgate.transport_routes import failed_response
from latensgate_shared.answer_records import encode_error_record, parse_content_record
from latensgate_shared.error_answers import WireError, error_object, parse_error_object
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import RETRY_AFTER_MAX_MS
from latensgate_shared.strict_json import JSONError

THROTTLED = ErrorCode.ERR_UPSTREAM_THROTTLED


@pytest.mark.parametrize("wait_ms", [None, 0, 1_500, RETRY_AFTER_MAX_MS])
def test_a_wait_comes_through_the_seal(wait_ms: int | None) -> None:
    error = WireError(THROTTLED, "wait", retry_after_ms=wait_ms)
    assert parse_error_object(error_object(error)) == error
    assert parse_content_record(encode_error_record(error, pad=True)).error == error
    assert ("retry_after_ms" in json.dumps(error_object(error))) == (wait_ms is not None)


@pytest.mark.parametrize("wait_ms", [-1, RETRY_AFTER_MAX_MS + 1, 1.5, "1", True, None])
def test_no_other_wait_is_read(wait_ms: object) -> None:
    told = error_object(WireError(THROTTLED, "wait", retry_after_ms=1))
    told["error"]["retry_after_ms"] = wait_ms  # type: ignore[index,call-overload,assignment]  # wrong on purpose
    with pytest.raises(JSONError):
        parse_error_object(told)


def test_the_official_client_is_shown_the_wait_of_the_enclave() -> None:
    failure = Failure(
        code=THROTTLED, message="m", status=429, retry=True, retry_after="9", retry_after_ms=1_500
    )
    shown = failed_response(failure)
    assert shown.headers["retry-after-ms"] == "1500"
    assert shown.headers["retry-after"] == "2"
    assert shown.headers["x-should-retry"] == "true"
    assert shown.json()["error"]["code"] == "rate_limit_exceeded"
    unsaid = failed_response(Failure(code=THROTTLED, message="m", status=429, retry=True))
    assert not {"retry-after", "retry-after-ms"} & set(unsaid.headers)


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (ErrorCode.ERR_CONTEXT_LENGTH, "context_length_exceeded"),
        (ErrorCode.ERR_MODEL_UNKNOWN, "model_not_found"),
        (ErrorCode.ERR_RATE_LIMITED, "rate_limit_exceeded"),
        (ErrorCode.ERR_UPSTREAM_QUOTA, "insufficient_quota"),
        (ErrorCode.ERR_UNSUPPORTED, "ERR_UNSUPPORTED"),
    ],
)
def test_openais_own_codes_where_it_has_one(code: ErrorCode, shown: str) -> None:
    assert code.openai_code == shown
