"""tests/vectors/exchange and usage: what a client compares once an answer is open, receipts.md."""

# ruff: noqa: E501 -- a table of cases reads best one row a line

from __future__ import annotations

import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vectors.binding import MANIFEST, RECEIPT_KEY
from vectors.case import Case, Json, base64_text, fixed, sha384_text
from vectors.primitives import jcs
from vectors.receipts import (
    KIND,
    REQUEST_HASH,
    RESPONSE_HASH,
    private_part,
    public_part,
    receipt,
    signed_bytes,
)
from vectors.sealed import ATTESTATION_HASH, X25519_KEY, outer_members

SPEC = "receipts.md"
USAGE: Json = {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
NO_USAGE: dict[str, Json] = {"usage": {}}
NO_TENANTS: dict[str, Json] = {"tenants": {}}
OTHER = sha384_text(b"other")


def _values(**changes: Json) -> dict[str, Json]:
    values: dict[str, Json] = {
        "audit_receipt_id": "aud_8f9e1a0d56e9bb6a",
        "attestation_hash": ATTESTATION_HASH,
        "latency_ms": 23,
        "pii_detected": False,
        "usage": USAGE,
    }
    return values | changes


def _request(**changes: Json) -> dict[str, Json]:
    request: dict[str, Json] = {
        "outer": outer_members(),
        "request_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "key_id": X25519_KEY.key_id.hex(),
        "request_hash": REQUEST_HASH,
    }
    return request | changes


def _final(values: Json, body: Json) -> str:
    return base64_text(json.dumps({"pad": "", "receipt": body, "values": values}).encode())


def _input(final: str, request: Json, response_hash: str = RESPONSE_HASH) -> dict[str, Json]:
    return {
        "final_base64": final,
        "request": request,
        "response_hash": response_hash,
        "manifest_base64": base64_text(MANIFEST),
        "attestation_hash": ATTESTATION_HASH,
    }


def _body(private: dict[str, Json], **changes: Json) -> dict[str, Json]:
    return receipt(public_part(private, **changes), private)


def _good(name: str, why: str, values: Json, private: dict[str, Json], outcome: str) -> Case:
    public = public_part(private, outcome=outcome)
    output: dict[str, Json] = {
        "receipt_id": public["receipt_id"],
        "sequence": 0,
        "outcome": outcome,
        "receipt_hash": sha384_text(signed_bytes(public)),
    }
    given = _input(_final(values, receipt(public, private)), _request())
    if outcome != "answered":
        given["code"] = "ERR_PII_HARD_FAIL"
    return Case(name, "verify_answer", why, SPEC, given, output)


def _bad(name: str, why: str, given: dict[str, Json], kind: str = KIND) -> Case:
    return Case(name, "verify_answer", why, SPEC, given, error=kind)


def exchanges() -> list[Case]:
    """Answers with their requests, of one exchange and of two."""
    private = private_part()
    body, values, request = _body(private), _values(), _request()
    whole = _final(values, body)
    no_model = private | NO_USAGE
    other_model = _request(outer=outer_members(model="another"))
    other_tenant = _request(outer=outer_members(tenant_id="tnt_00000000"))
    other_document = _request(outer=outer_members(attestation_hash=OTHER))
    pii = {**_members(private["pii"]), "detected": 0}
    true_count = {**_members(USAGE), "completion_tokens": False}
    return [
        _good("good", "Everything agrees.", values, private, "answered"),
        _good("no-usage", "No model ran: null in the values, an empty object in the receipt.", _values(usage=None), no_model, "refused"),
        _bad("final-without-values", "No final record at all.", _input(base64_text(b"{}"), request), "ERR_ANSWER_INVALID"),
        _bad("sealed-under-other-document", "Step 2: the request was sealed under another document than the one verified.", _input(whole, other_document)),
        _bad("receipt-of-other-document", "Step 2: the receipt names another document.", _input(_final(values, _body(private, attestation_hash=OTHER)), request)),
        _bad("private-changed", "Step 4: the private part is not the one committed to.", _input(_final(values, receipt(public_part(private), no_model)), request)),
        _bad("other-tenant", "Step 5: the receipt is another tenant's.", _input(whole, other_tenant)),
        _bad("other-request-hash", "Step 5: the receipt of other bytes.", _input(whole, _request(request_hash=OTHER))),
        _bad("other-response-hash", "Step 5: the receipt of another answer.", _input(whole, request, OTHER)),
        _bad("other-key", "Step 8: sealed to another key than the receipt says.", _input(whole, _request(key_id="00" * 8))),
        _bad("other-request-id", "Step 8: the receipt of another request id.", _input(whole, _request(request_id="01890a5d-ac96-774b-bcce-b302099a8058"))),
        _bad("other-model", "Step 8: the receipt of a request for another model.", _input(whole, other_model)),
        _bad("other-receipt-id", "Step 9: the values name another receipt.", _input(_final(_values(audit_receipt_id="aud_0000000000000000"), body), request)),
        _bad("values-of-other-document", "Step 9: the values name another document.", _input(_final(_values(attestation_hash=OTHER), body), request)),
        _bad("pii-differs", "Step 10: personal data found says one, none the other.", _input(_final(_values(pii_detected=True), body), request)),
        _bad("pii-number", "Step 10: 0 is not false.", _input(_final(values, _body(private | {"pii": pii})), request)),
        _bad("usage-differs", "Step 10: other counts.", _input(_final(_values(usage={"total_tokens": 3}), body), request)),
        _bad("usage-null", "Step 10: no usage beside a receipt with usage.", _input(_final(_values(usage=None), body), request)),
        _bad("outcome-answered", "Step 10: the content tells an error, the receipt an answer.", _input(whole, request) | {"code": "ERR_UPSTREAM"}),
        _bad("outcome-refused", "Step 10: the content is an answer, the receipt of a refusal.", _input(_final(values, _body(private, outcome="refused")), request)),
        _bad("usage-boolean", "Step 10: false is not 0.", _input(_final(_values(usage=true_count), body), request)),
    ]  # fmt: skip


def _members(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise TypeError("an object expected")
    return value


def usage() -> list[Case]:
    """Usage totals and their signature."""
    used: dict[str, Json] = {"requests": 2, "prompt_tokens": 13, "completion_tokens": 24}
    totals: dict[str, Json] = {"version": 1, "issued_at": 1_780_316_999, "tenants": {"tnt_a3f9c42b": used, "tnt_00000000": used}}  # fmt: skip
    text = jcs(totals)
    label = b"latensgate/1 usage\x00"
    other = Ed25519PrivateKey.from_private_bytes(fixed("another receipt key", 32))

    def case(name: str, why: str, body: bytes, signature: bytes | None = None, *, ok: bool = False) -> Case:  # fmt: skip
        made = RECEIPT_KEY.sign(label + body) if signature is None else signature
        given: dict[str, Json] = {
            "totals_base64": base64_text(body),
            "signature_hex": made.hex(),
            "manifest_base64": base64_text(MANIFEST),
        }
        output = json.loads(body) if ok else None
        return Case(name, "verify_usage", why, SPEC, given, output, None if ok else KIND)

    def bad(name: str, why: str, **changes: Json) -> Case:
        return case(name, why, jcs(totals | changes))

    return [
        case("two-tenants", "What an enclave has counted since its start.", text, ok=True),
        case("no-tenant", "An enclave that has served nobody.", jcs(totals | NO_TENANTS), ok=True),
        case("label-of-receipts", "Signed as if it were a receipt.", text, RECEIPT_KEY.sign(b"latensgate/1 receipt\x00" + text)),
        case("label-missing", "Signed without a label.", text, RECEIPT_KEY.sign(text)),
        case("other-key", "Signed by another enclave.", text, other.sign(label + text)),
        case("signature-short", "63 bytes.", text, RECEIPT_KEY.sign(label + text)[:-1]),
        case("changed", "One count was raised after signing.", text.replace(b":24", b":25", 1), RECEIPT_KEY.sign(label + text)),
        case("white-space", "Signed, but not canonical.", text + b"\n"),
        bad("version-2", "Another version.", version=2),
        bad("issued-at-text", "A time is an integer.", issued_at="1780316999"),
        bad("count-negative", "Counts are at least 0.", tenants={"tnt_a3f9c42b": used | {"requests": -1}}),
        bad("count-missing", "All three counts, always.", tenants={"tnt_a3f9c42b": {"requests": 1}}),
        bad("tenant-shape", "Not a tenant id.", tenants={"a3f9c42b": used}),
        bad("member-extra", "An unknown member.", note=""),
    ]  # fmt: skip
