"""verify_answer: request, answer, receipt and values are of one exchange, or it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from latensgate.verify.errors import ReceiptInvalid
from latensgate.verify.receipt import VerifiedAnswer, verify_answer
from latensgate.verify.receipt_rules import SentRequest
from latensgate_shared.answer_records import (
    AnswerValues,
    FinalRecord,
    encode_content_record,
    encode_final_record,
    parse_final_record,
)
from latensgate_shared.errors import ErrorCode, MalformedError
from latensgate_shared.limits import RECEIPT_MAX_DELAY_S
from latensgate_shared.manifest import HPKEKey
from latensgate_shared.messages import Outer
from latensgate_shared.receipts import PrivatePart, parse_public_part, sign_receipt
from latensgate_shared.sealed import (
    SUITE_X25519,
    AnswerOpener,
    AnswerSealer,
    OpeningKey,
    SealingKey,
    open_request,
    request_hash,
    seal_request,
)
from latensgate_shared.sealed_plaintext import RequestFields, build_plaintext
from latensgate_shared.strict_json import JSONError
from protocol_examples import (
    DIGEST,
    NOT_BEFORE,
    RECEIPT_KEY,
    REQUEST_ID,
    TENANT,
    XWING_KEY,
    manifest,
    private_part,
    public_members,
)
from verified_examples import attested

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject, JSONValue

ATTESTATION = attested()
OUTER = Outer(attestation_hash=ATTESTATION.attestation_hash, model="claude", tenant_id=TENANT)
REQUEST = SentRequest(
    outer=OUTER, request_id=REQUEST_ID, key_id=XWING_KEY.key_id, request_hash=DIGEST
)
RECEIPT_ID = "aud_8f9e1a0d56e9bb6a"
VALUES = AnswerValues(
    RECEIPT_ID, ATTESTATION.attestation_hash, 23, pii_detected=False, usage={"total_tokens": 3}
)
OTHER = "sha384:" + "00" * 48


def receipt(private: JSONObject | None = None, **changes: JSONValue) -> JSONObject:
    part = PrivatePart(private_part() | (private or {}))
    bound: JSONObject = {
        "attestation_hash": ATTESTATION.attestation_hash,
        "private_digest": part.digest,
    }
    public = parse_public_part(public_members() | bound | changes)
    return sign_receipt(public, part, RECEIPT_KEY.sign).to_json()


def final(values: AnswerValues = VALUES, **members: Any) -> FinalRecord:  # noqa: ANN401 - members of different types
    return FinalRecord(receipt(**members), values)


def check(record: FinalRecord, **changes: Any) -> VerifiedAnswer:  # noqa: ANN401 - arguments of different types
    given: dict[str, Any] = {
        "request": REQUEST,
        "response_hash": DIGEST,
        "code": None,
        "attestation": ATTESTATION,
    }
    return verify_answer(record, **given | changes)


def test_a_good_answer_is_returned() -> None:
    verified = check(final())
    assert verified.values == VALUES
    assert verified.receipt.private == private_part()
    assert verified.receipt.signed.public.receipt_id == RECEIPT_ID
    assert verified.status == verified.receipt.status == "simulated"


def sent(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - members of different types
    return {"request": replace(REQUEST, **changes)}


def told(**changes: Any) -> FinalRecord:  # noqa: ANN401 - members of different types
    return final(replace(VALUES, **changes))


OTHER_PRIVATE: JSONObject = {"private": private_part() | {"x": 1}}
OTHER_OUTER = attested(replace(manifest(), software_version="2")).attestation_hash
LATE = (NOT_BEFORE + 4_500 + RECEIPT_MAX_DELAY_S) // 60 * 60 + 60


@pytest.mark.parametrize(
    ("step", "record", "changes"),
    [
        (1, FinalRecord({}, VALUES), {}),
        (2, final(), sent(outer=replace(OUTER, attestation_hash=OTHER_OUTER))),
        (2, final(attestation_hash=OTHER_OUTER), {}),
        (2, final(key_id="00" * 8), {}),
        (3, FinalRecord(receipt() | {"signature": "00" * 64}, VALUES), {}),
        (4, FinalRecord(receipt() | OTHER_PRIVATE, VALUES), {}),
        (5, final(), sent(outer=replace(OUTER, tenant_id="tnt_00000000"))),
        (5, final(), sent(request_hash=OTHER)),
        (5, final(), {"response_hash": OTHER}),
        (6, final(issued_at=LATE), {}),
        (8, final(), sent(key_id="00" * 8)),
        (8, final(), sent(request_id=REQUEST_ID[:-1] + "0")),
        (8, final(), sent(outer=replace(OUTER, model="other"))),
        (9, told(audit_receipt_id="aud_0000000000000000"), {}),
        (9, told(attestation_hash=OTHER), {}),
        (10, told(pii_detected=True), {}),
        (10, final(private={"pii": {}}), {}),
        (10, final(private={"pii": {"detected": 0}}), {}),
        (10, told(usage=None), {}),
        (10, told(usage={"total_tokens": 4}), {}),
        (10, told(usage={"total_tokens": True}), {}),
        (10, final(private={"usage": {"total_tokens": 1}}), {}),
        (10, told(usage={"total_tokens": 2**60}), {}),
        (10, final(private={"usage": {}}), {}),
        (10, final(), {"code": ErrorCode.ERR_UPSTREAM}),
        (10, final(outcome="refused"), {}),
    ],
)
def test_the_step_that_refuses(step: int, record: FinalRecord, changes: dict[str, Any]) -> None:
    with pytest.raises(ReceiptInvalid) as caught:
        check(record, **changes)
    assert caught.value.step == step
    assert caught.value.code is ErrorCode.ERR_RECEIPT_INVALID


def test_no_model_no_usage() -> None:
    values = replace(VALUES, usage=None)
    refused = final(values, private={"usage": {}}, outcome="refused")
    check(refused, code=ErrorCode.ERR_PII_HARD_FAIL)


def test_what_was_sent_is_read_from_the_sealed_bytes() -> None:
    key = OpeningKey(SUITE_X25519, bytes(range(32)))
    sealing = SealingKey(SUITE_X25519, key.sealing_key.public_key.raw)
    wire = seal_request(sealing, OUTER.canonical(), b"{}").wire
    request = SentRequest.of(wire, outer=OUTER, request_id=REQUEST_ID)
    assert request.key_id == sealing.key_id.hex()
    assert request.request_hash == request_hash(wire)
    with pytest.raises(MalformedError, match="header"):
        SentRequest.of(wire[:14], outer=OUTER, request_id=REQUEST_ID)


@pytest.mark.parametrize(
    "change", [{"request_id": "x"}, {"key_id": "00"}, {"request_hash": "sha256:00"}]
)
def test_what_was_sent_is_held_to_its_form(change: dict[str, str]) -> None:
    with pytest.raises(JSONError):
        sent(**change)


def test_verified_answers_are_made_by_the_verifier_only() -> None:
    verified = check(final())
    for seal in (None, object()):
        with pytest.raises(TypeError, match="nothing else"):
            VerifiedAnswer(receipt=verified.receipt, values=VALUES, seal=seal)
    with pytest.raises(TypeError, match="verify_attestation"):
        check(final(), attestation=ATTESTATION.document)


def test_a_whole_exchange() -> None:
    """Sealed, opened, answered, opened and verified, with no value made by hand in between."""
    key = OpeningKey(SUITE_X25519, bytes(range(1, 33)))
    bound = manifest((HPKEKey(SUITE_X25519, key.sealing_key.public_key.raw),))
    attestation = attested(bound)
    outer = replace(OUTER, attestation_hash=attestation.attestation_hash)
    plaintext = build_plaintext(RequestFields(REQUEST_ID, 0), b'{"model":"claude"}')
    published = attestation.manifest.hpke_keys[0]
    request = seal_request(
        SealingKey(published.suite, published.public_key), outer.canonical(), plaintext
    )

    opened = open_request({key.key_id: key}, outer.canonical(), request.wire)
    sealer = AnswerSealer(opened.answer_secret)
    wire = sealer.whole_content(encode_content_record(b"{}", pad=True))
    part = PrivatePart(private_part())
    public = parse_public_part(
        public_members()
        | {
            "key_id": opened.key_id.hex(),
            "attestation_hash": attestation.attestation_hash,
            "request_hash": request_hash(request.wire),
            "response_hash": sealer.response_hash,
        }
    )
    values = replace(VALUES, attestation_hash=attestation.attestation_hash)
    wire += sealer.final(encode_final_record(sign_receipt(public, part, RECEIPT_KEY.sign), values))

    opener = AnswerOpener(request.answer_secret)
    assert json.loads(b"".join(opener.feed(wire)))["body"] == {}
    verified = verify_answer(
        parse_final_record(opener.finish()),
        request=SentRequest.of(request.wire, outer=outer, request_id=REQUEST_ID),
        response_hash=opener.response_hash,
        code=None,
        attestation=attestation,
    )
    assert verified.values == values
