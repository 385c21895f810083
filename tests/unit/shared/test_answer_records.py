from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from latensgate_shared.answer_records import (
    AnswerValues,
    encode_content_record,
    encode_error_record,
    encode_final_record,
    parse_content_record,
    parse_final_record,
)
from latensgate_shared.error_answers import (
    ErrorAnswer,
    SealedRefusal,
    WireError,
    encode_error_answer,
    error_object,
    parse_error_answer,
    parse_error_object,
)
from latensgate_shared.errors import ErrorCode, TooLargeError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import SEALED_ANSWER_MAX_BYTES
from latensgate_shared.receipts import PrivatePart, Receipt, parse_public_part, parse_receipt
from latensgate_shared.sealed import AnswerInvalidError, padme
from latensgate_shared.strict_json import JSONError
from protocol_examples import DIGEST, public_members, sign

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject

RECEIPT_ID = "aud_8f9e1a0d56e9bb6a"
VALUES = AnswerValues(RECEIPT_ID, DIGEST, 23, pii_detected=False, usage={"total_tokens": 3})


def dumps(value: object) -> bytes:
    return json.dumps(value).encode()


# --- records of an answer ---


@pytest.mark.parametrize("pad", [True, False])
def test_content_record_keeps_the_bytes_of_the_body(pad: bool) -> None:  # noqa: FBT001 - parametrised
    body = b'{"choices": [1.0, 12345678901234567890]}'
    data = encode_content_record(body, pad=pad)
    record = parse_content_record(data)
    assert (record.body, record.body_object, record.error) == (body, json.loads(body), None)
    assert not pad or len(data) == padme(len(encode_content_record(body, pad=False)))


def test_error_record_round_trip() -> None:
    error = WireError(ErrorCode.ERR_PII_HARD_FAIL, "Found: IBAN", "messages")
    record = parse_content_record(encode_error_record(error, pad=True))
    assert record.error == error
    assert record.body_object == error_object(error)


@pytest.mark.parametrize(
    "change",
    [
        {"body": []},
        {"code": "ERR_NOT_OURS"},
        {"code": 1},
        {"code": "ERR_REPLAY"},  # without an error body
        {"pad": "1"},
        {"more": None},
        {"code": "ERR_REPLAY", "body": error_object(WireError(ErrorCode.ERR_HELD, "x"))},
    ],
)
def test_content_record_is_held_to_its_form(change: dict[str, Any]) -> None:
    whole = json.loads(encode_content_record(b"{}", pad=False)) | change
    with pytest.raises(AnswerInvalidError):
        parse_content_record(dumps(whole))


@pytest.mark.parametrize("usage", [None, {"total_tokens": 3}])
def test_final_record_round_trip(usage: JSONObject | None) -> None:
    receipt = sign(parse_public_part(public_members()))
    values = AnswerValues(RECEIPT_ID, DIGEST, 23, pii_detected=True, usage=usage)
    data = encode_final_record(receipt, values)
    assert encode_final_record(receipt, values, usage=canonicalize(usage)) == data
    record = parse_final_record(data)
    assert record.values == values
    assert parse_receipt(record.receipt) == receipt
    assert len(data) == padme(len(data.rstrip(b'"}0')) + 2)


@pytest.mark.parametrize(
    "change",
    [
        {"receipt": None},
        {"pad": None},
        {"values": None},
        {"values": {}},
        {"values": {"audit_receipt_id": RECEIPT_ID}},
        {"more": 1},
    ],
)
def test_final_record_is_held_to_its_form(change: dict[str, Any]) -> None:
    receipt = sign(parse_public_part(public_members()))
    whole = json.loads(encode_final_record(receipt, VALUES)) | change
    with pytest.raises(AnswerInvalidError):
        parse_final_record(dumps(whole))


@pytest.mark.parametrize(
    "change",
    [
        {"audit_receipt_id": "x"},
        {"attestation_hash": 1},
        {"latency_ms": 1.5},
        {"pii_detected": None},
        {"usage": []},
        {"x": 1},
    ],
)
def test_values_are_held_to_their_form(change: dict[str, Any]) -> None:
    receipt = sign(parse_public_part(public_members()))
    whole = json.loads(encode_final_record(receipt, VALUES))
    whole["values"] |= change
    with pytest.raises(AnswerInvalidError):
        parse_final_record(dumps(whole))


def test_a_final_record_that_fits_no_chunk_is_not_made() -> None:
    public = parse_public_part(public_members())
    receipt = Receipt(public, PrivatePart({"upstream": {"x": "x" * 70_000}}), bytes(64))
    with pytest.raises(TooLargeError, match="final record"):
        encode_final_record(receipt, VALUES)


# --- errors ---


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_crosses_the_wire(code: ErrorCode) -> None:
    answer = ErrorAnswer(WireError(code, code.hint, None), "correlation-1")
    assert parse_error_answer(encode_error_answer(answer)) == answer


def test_envelope_is_that_of_the_design() -> None:
    answer = ErrorAnswer(WireError(ErrorCode.ERR_REPLAY, "Seen before", "request_id"), "c-1")
    assert json.loads(encode_error_answer(answer)) == {
        "error": {
            "message": "Seen before",
            "type": "invalid_request_error",
            "param": "request_id",
            "code": "ERR_REPLAY",
        },
        "code": "ERR_REPLAY",
        "correlation_id": "c-1",
        "hint": ErrorCode.ERR_REPLAY.hint,
    }


def test_refusal_after_opening_carries_the_sealed_answer() -> None:
    refusal = SealedRefusal(b"sealed", RECEIPT_ID)
    answer = ErrorAnswer(WireError(ErrorCode.ERR_PII_HARD_FAIL, "x"), "c", refusal)
    assert parse_error_answer(encode_error_answer(answer)) == answer


@pytest.mark.parametrize(
    "change",
    [
        {"error": None},
        {"error": {"message": "x", "type": "api_error", "param": None, "code": "ERR_REPLAY"}},
        {"error": {"message": "x", "type": "api_error", "param": None, "code": "ERR_NONE"}},
        {"code": "ERR_HELD"},
        {"code": None},
        {"correlation_id": ""},
        {"correlation_id": None},
        {"hint": None},
        {"response_ciphertext": "YWJj"},
        {"audit_receipt_id": RECEIPT_ID},
        {"response_ciphertext": "YWJ", "audit_receipt_id": RECEIPT_ID},
        {"response_ciphertext": "YWJj", "audit_receipt_id": "x"},
        {"more": 1},
    ],
)
def test_error_answer_is_held_to_its_form(change: dict[str, Any]) -> None:
    answer = ErrorAnswer(WireError(ErrorCode.ERR_REPLAY, "x"), "c")
    with pytest.raises(JSONError):
        parse_error_answer(dumps(json.loads(encode_error_answer(answer)) | change))


@pytest.mark.parametrize("change", [{"message": ""}, {"message": "x" * 4097}, {"param": ""}])
def test_error_object_is_held_to_its_form(change: dict[str, Any]) -> None:
    whole: dict[str, Any] = error_object(WireError(ErrorCode.ERR_REPLAY, "x"))
    with pytest.raises(JSONError):
        parse_error_object({"error": whole["error"] | change})


def test_error_answers_are_held_to_their_form_when_made() -> None:
    error = WireError(ErrorCode.ERR_REPLAY, "m")
    with pytest.raises(JSONError, match="audit_receipt_id"):
        SealedRefusal(b"x", "aud_x")
    with pytest.raises(JSONError, match="sealed answer"):
        SealedRefusal("x", "aud_8f9e1a0d56e9bb6a")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(JSONError, match="sealed answer"):
        SealedRefusal(bytes(SEALED_ANSWER_MAX_BYTES + 1), "aud_8f9e1a0d56e9bb6a")
    for correlation_id in ("", "x" * 257):
        with pytest.raises(JSONError, match="correlation_id"):
            ErrorAnswer(error, correlation_id)
