from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from latensgate_shared.answer_records import (
    AnswerValues,
    encode_content_record,
    parse_content_record,
)
from latensgate_shared.errors import ErrorCode, MalformedError, TooLargeError
from latensgate_shared.limits import CHUNK_FRAMED_MAX_BYTES, JSON_MAX_VALUES
from latensgate_shared.messages import (
    InferenceAnswer,
    InferenceRequest,
    Outer,
    check_hints,
    encode_inference_answer,
    encode_inference_request,
    encode_stream_chunk,
    parse_inference_answer,
    parse_inference_request,
    parse_stream_chunk,
)
from latensgate_shared.sealed import AnswerInvalidError, padme
from latensgate_shared.sealed_plaintext import (
    KMSEnvelope,
    RequestFields,
    build_plaintext,
    check_body_model,
    parse_plaintext,
)
from latensgate_shared.strict_json import JSONError, parse_json_object
from protocol_examples import DIGEST, REQUEST_ID, TENANT

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject

OUTER = Outer(attestation_hash=DIGEST, model="claude-3.5-sonnet", tenant_id=TENANT)
RECEIPT_ID = "aud_8f9e1a0d56e9bb6a"
VALUES = AnswerValues(RECEIPT_ID, DIGEST, 23, pii_detected=False, usage={"total_tokens": 3})
ANSWER = InferenceAnswer(b"\x01\x02", RECEIPT_ID, DIGEST, 23, pii_detected=False)
ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def dumps(value: object) -> bytes:
    return json.dumps(value).encode()


# --- the visible part ---


def test_outer_is_canonical_with_defaults_filled_in() -> None:
    assert OUTER.canonical() == (
        b'{"attestation_hash":"' + DIGEST.encode() + b'","model":"claude-3.5-sonnet",'
        b'"operation":"chat.completions","stream":false,"tenant_id":"tnt_a3f9c42b"}'
    )


@pytest.mark.parametrize(
    "change",
    [
        {"attestation_hash": "sha256:00"},
        {"model": ""},
        {"model": "m" * 257},
        {"tenant_id": "tnt_A3F9C42B"},
        {"tenant_id": "tnt_a3f9c42b\n"},
        {"operation": "chat.completion"},
        {"operation": 1},
        {"operation": []},
        {"stream": 1},
    ],
)
def test_outer_is_held_to_its_form(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"attestation_hash": DIGEST, "model": "m", "tenant_id": TENANT}
    with pytest.raises(JSONError):
        Outer(**good | change)


def test_a_lone_surrogate_in_the_model_is_no_outer() -> None:
    with pytest.raises(JSONError):
        Outer(DIGEST, "\ud800", TENANT).canonical()


@pytest.mark.parametrize(
    "outer",
    [OUTER, Outer(DIGEST, "m" * 256, TENANT, operation="responses", stream=True)],
)
def test_request_round_trip(outer: Outer) -> None:
    request = InferenceRequest(outer, b"\x00\x01\x02\x03")
    assert parse_inference_request(encode_inference_request(request), DIGEST) == request


def test_defaults_are_left_out_and_filled_in() -> None:
    body = encode_inference_request(InferenceRequest(OUTER, b"abc"))
    assert json.loads(body) == {
        "prompt_ciphertext": "YWJj",
        "model": "claude-3.5-sonnet",
        "tenant_id": TENANT,
    }
    told = dumps(json.loads(body) | {"stream": False, "operation": "chat.completions"})
    assert parse_inference_request(told, DIGEST).outer == OUTER


@pytest.mark.parametrize(
    "change",
    [
        {"prompt_ciphertext": None},
        {"prompt_ciphertext": "YWJ"},
        {"prompt_ciphertext": "YWJj\n"},
        {"model": 1},
        {"tenant_id": None},
        {"stream": None},
        {"stream": "true"},
        {"operation": None},
        {"messages": []},
        {"attestation_hash": DIGEST},
    ],
)
def test_request_body_is_held_to_its_form(change: dict[str, Any]) -> None:
    body = json.loads(encode_inference_request(InferenceRequest(OUTER, b"abc")))
    with pytest.raises(JSONError):
        parse_inference_request(dumps(body | change), DIGEST)


def test_a_plaintext_body_is_no_sealed_request() -> None:
    with pytest.raises(JSONError, match="prompt_ciphertext"):
        parse_inference_request(b'{"model":"m","messages":[]}', DIGEST)


def test_the_attestation_header_is_held_to_its_form() -> None:
    with pytest.raises(JSONError, match="attestation_hash"):
        parse_inference_request(encode_inference_request(InferenceRequest(OUTER, b"abc")), "")


def test_inference_answer_round_trip_and_hints() -> None:
    assert parse_inference_answer(encode_inference_answer(ANSWER)) == ANSWER
    assert check_hints(ANSWER, VALUES) is ANSWER


@pytest.mark.parametrize(
    "change",
    [
        {"audit_receipt_id": "aud_" + "0" * 16},
        {"attestation_hash": "sha384:" + "00" * 48},
        {"latency_ms": 24},
        {"pii_detected": True},
    ],
)
def test_a_forged_hint_is_an_error(change: dict[str, Any]) -> None:
    body = json.loads(encode_inference_answer(ANSWER)) | change
    answer = parse_inference_answer(dumps(body))
    with pytest.raises(AnswerInvalidError, match=next(iter(change))):
        check_hints(answer, VALUES)


@pytest.mark.parametrize(
    "change",
    [
        {"audit_receipt_id": "aud_x"},
        {"attestation_hash": None},
        {"latency_ms": -1},
        {"pii_detected": 0},
        {"response_ciphertext": "x"},
        {"usage": {}},
    ],
)
def test_inference_answer_is_held_to_its_form(change: dict[str, Any]) -> None:
    body = json.loads(encode_inference_answer(ANSWER)) | change
    with pytest.raises(JSONError):
        parse_inference_answer(dumps(body))


def test_stream_chunk_round_trip_and_bounds() -> None:
    for framed in (b"", b"\x00", bytes(CHUNK_FRAMED_MAX_BYTES)):
        assert parse_stream_chunk(encode_stream_chunk(framed)) == framed
    with pytest.raises(JSONError):
        parse_stream_chunk(encode_stream_chunk(bytes(CHUNK_FRAMED_MAX_BYTES + 3)))
    with pytest.raises(TooLargeError):
        parse_stream_chunk(encode_stream_chunk(bytes(2 * CHUNK_FRAMED_MAX_BYTES)))
    for bad in (b'{"chunk":1}', b"[DONE]", b'{"chunk":"","x":1}'):
        with pytest.raises(JSONError):
            parse_stream_chunk(bad)


# --- the sealed plaintext ---

BODY = b'{ "model": "claude-3.5-sonnet", "seed": 12345678901234567890, "t":1.0, "e":"\\u00e4" }'
FULL = RequestFields(
    request_id=REQUEST_ID,
    issued_at_ms=1_780_315_260_123,
    policy={"email": {"request": {"action": "mask", "threshold": 0.5}}},
    tenant_root=bytes(range(32)),
    min_settings_version=0,
    conversation_secret=bytes(range(32, 64)),
)


@pytest.mark.parametrize("fields", [FULL, RequestFields(REQUEST_ID, 0)])
@pytest.mark.parametrize("pad", [True, False])
def test_plaintext_round_trip_keeps_the_bytes_of_the_body(fields: RequestFields, pad: bool) -> None:  # noqa: FBT001 - parametrised
    plaintext = parse_plaintext(build_plaintext(fields, BODY, pad=pad))
    assert plaintext.body == BODY
    assert plaintext.body_object == json.loads(BODY)
    assert plaintext.fields == fields


def test_plaintext_is_padded_to_the_padme_value() -> None:
    bare = build_plaintext(FULL, BODY, pad=False)
    padded = build_plaintext(FULL, BODY)
    assert bare.endswith(b'"pad":""}')
    assert len(padded) == padme(len(bare)) > len(bare)
    assert padded.replace(b"0", b"") == bare.replace(b"0", b"")


def test_a_body_under_a_data_key_stays_closed() -> None:
    fields = RequestFields(REQUEST_ID, 1, kms_envelope=KMSEnvelope(ARN, b"wrapped"))
    plaintext = parse_plaintext(build_plaintext(fields, b"\x00nonce and ciphertext"))
    assert plaintext.body == b"\x00nonce and ciphertext"
    assert plaintext.body_object is None
    assert plaintext.fields.kms_envelope == KMSEnvelope(ARN, b"wrapped")


BARE = RequestFields(REQUEST_ID, 0)


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"[]", b'{},"policy":{}', b'{"a":1,"a":2}', b"{} {}", b"{}\x0b", b"\xef\xbb\xbf{}"],
)
@pytest.mark.parametrize("fields", [FULL, BARE])
def test_a_body_that_is_not_one_object_is_not_embedded(fields: RequestFields, body: bytes) -> None:
    with pytest.raises(JSONError):
        build_plaintext(fields, body)


def test_a_body_cannot_add_a_member_of_its_own() -> None:
    root = b'"' + b"0" * 64 + b'"'
    for smuggled in (b'{},"policy":{}', b'{},"min_settings_version":1,"tenant_root":' + root):
        with pytest.raises(JSONError, match="nothing behind it"):
            build_plaintext(BARE, smuggled)


def test_white_space_around_the_body_is_not_part_of_it() -> None:
    """What the enclave hashes as opened is what the client embedded, byte for byte."""
    built = build_plaintext(BARE, b"\r\n\t " + BODY + b" \n")
    assert built == build_plaintext(BARE, BODY)
    assert parse_plaintext(built).body == BODY
    inner = b'{ "model" : "m" }'
    assert parse_plaintext(build_plaintext(BARE, inner)).body == inner


def test_what_is_built_can_be_read_also_at_the_limits() -> None:
    """The plaintext is one level deeper than the body, and has values of its own."""
    nested = b'{"a":' * 63 + b"{}" + b"}" * 63
    assert parse_plaintext(build_plaintext(BARE, b'{"a":' * 62 + b"{}" + b"}" * 62)).body
    with pytest.raises(JSONError, match="deeper"):
        build_plaintext(BARE, nested)
    many = b'{"a":[' + b"0," * (JSON_MAX_VALUES - 3) + b"0]}"
    parse_json_object(many, max_bytes=len(many))
    with pytest.raises(TooLargeError):
        build_plaintext(BARE, many)


@pytest.mark.parametrize(
    "change",
    [
        {"request_id": "01890a5d-ac96-474b-bcce-b302099a8057"},
        {"request_id": None},
        {"issued_at": -1},
        {"issued_at": 1.0},
        {"issued_at": True},
        {"body": []},
        {"body": "YWJj"},
        {"policy": None},
        {"policy": []},
        {"tenant_root": "AB" * 32},
        {"tenant_root": "ab" * 31},
        {"tenant_root": None},
        {"min_settings_version": -1},
        {"min_settings_version": "1"},
        {"conversation_secret": "ab" * 33},
        {"kms_envelope": None},
        {"kms_envelope": {"key_arn": ARN}},
        {"kms_envelope": {"key_arn": "", "wrapped_data_key": "YWJj"}},
        {"kms_envelope": {"key_arn": ARN, "wrapped_data_key": ""}},
        {"kms_envelope": {"key_arn": ARN, "wrapped_data_key": "YWJj"}},  # with a plain body
        {"kms_envelope": {"key_arn": ARN, "wrapped_data_key": "YWJj", "x": 1}},
        {"pad": "00x"},
        {"pad": 0},
        {"pad": "0 "},
        {"unknown": 1},
    ],
)
def test_plaintext_is_held_to_its_form(change: dict[str, Any]) -> None:
    whole = json.loads(build_plaintext(FULL, b'{"model":"m"}')) | change
    with pytest.raises(JSONError):
        parse_plaintext(dumps(whole))


@pytest.mark.parametrize("name", ["request_id", "issued_at", "body", "pad"])
def test_required_members_of_the_plaintext(name: str) -> None:
    whole = json.loads(build_plaintext(FULL, BODY))
    del whole[name]
    with pytest.raises(JSONError, match=f"missing: {name}"):
        parse_plaintext(dumps(whole))


def test_settings_version_needs_the_root_that_signs_it() -> None:
    with pytest.raises(JSONError, match="only with tenant_root"):
        RequestFields(REQUEST_ID, 1, min_settings_version=1)
    whole = json.loads(build_plaintext(FULL, BODY))
    del whole["tenant_root"]
    with pytest.raises(JSONError, match="only with tenant_root"):
        parse_plaintext(dumps(whole))


def test_lengths_of_secrets_are_held_when_built() -> None:
    with pytest.raises(JSONError, match="32 bytes"):
        RequestFields(REQUEST_ID, 1, conversation_secret=b"short")
    with pytest.raises(JSONError, match="1 to 6144"):
        KMSEnvelope(ARN, bytes(6_145))


def test_nothing_secret_is_printed() -> None:
    plaintext = parse_plaintext(build_plaintext(FULL, BODY))
    record = parse_content_record(encode_content_record(b'{"a":"secret"}', pad=False))
    for value in (plaintext, plaintext.fields, record):
        assert "secret" not in repr(value).replace("conversation_secret", "")
        assert "claude" not in repr(value)


@pytest.mark.parametrize("body", [{"model": "other"}, {}, {"model": None}, {"model": ["m"]}])
def test_the_model_inside_must_be_the_model_outside(body: JSONObject) -> None:
    with pytest.raises(MalformedError) as caught:
        check_body_model(body, OUTER)
    assert caught.value.code is ErrorCode.ERR_OUTER_MISMATCH


def test_the_same_model_passes() -> None:
    body: JSONObject = {"model": "claude-3.5-sonnet"}
    assert check_body_model(body, OUTER) is body
