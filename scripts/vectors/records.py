"""tests/vectors/plaintext and record: the JSON inside the seals, wire.md sections 5, 6 and 8."""

# ruff: noqa: E501 -- a table of cases reads best one row a line

from __future__ import annotations

import hashlib
import json

from vectors.case import Case, Json, base64_text, fixed
from vectors.primitives import padme
from vectors.receipts import private_part, public_part, receipt
from vectors.sealed import ATTESTATION_HASH, MODEL, OUTER

SPEC = "wire.md section 5"
RECORD_SPEC = "wire.md section 6"
REQUEST_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
BODY = (
    '{"model":"claude-3.5-sonnet","messages":[{"role":"user","content":"hi"}],"temperature":0.50}'
)
DEEP = '{"model":"claude-3.5-sonnet","a":' + "[" * 62 + "]" * 62 + "}"
ENVELOPE: Json = {
    "key_arn": "arn:aws:kms:us-east-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "wrapped_data_key": base64_text(fixed("wrapped", 184)),
}
UNAUTHENTIC = "ERR_ANSWER_INVALID"


def _members(**changes: Json) -> dict[str, Json]:
    members: dict[str, Json] = {"request_id": REQUEST_ID, "issued_at": 1_780_316_999_250, "pad": ""}
    return members | changes


def _text(members: dict[str, Json], body: str | None = BODY) -> bytes:
    """The body is put in as it is written, so that its own spelling survives."""
    head = json.dumps(members, separators=(",", ":"), ensure_ascii=False)[:-1]
    return (head + ("}" if body is None else f',"body":{body}}}')).encode()


def _padded(members: dict[str, Json]) -> bytes:
    short = len(_text(members))
    return _text(members | {"pad": "0" * (padme(short) - short)})


def _good(name: str, why: str, text: bytes, body: bytes, *, enveloped: bool = False) -> Case:
    output: dict[str, Json] = {
        "request_id": REQUEST_ID,
        "issued_at": 1_780_316_999_250,
        "body_sha256": hashlib.sha256(body).hexdigest(),
        "enveloped": enveloped,
    }
    return Case(name, "parse_plaintext", why, SPEC, _input(text), output)


def _bad(name: str, why: str, text: bytes, kind: str = "ERR_MALFORMED") -> Case:
    return Case(name, "parse_plaintext", why, SPEC, _input(text), error=kind)


def _input(text: bytes) -> dict[str, Json]:
    return {"plaintext_base64": base64_text(text), "outer": OUTER}


def _accepted() -> list[Case]:
    sealed_body = fixed("sealed body", 60)
    spaced = '{ "model" : "claude-3.5-sonnet", "n": 1.0 }'
    return [
        _good("plain", "The body's own bytes are kept: 0.50 stays 0.50.", _text(_members()), BODY.encode()),
        _good("padded", "Filled with zeros to the Padmé length.", _padded(_members()), BODY.encode()),
        _good("padded-more", "An opener accepts any amount of padding.", _text(_members(pad="0" * 1000)), BODY.encode()),
        _good("white-space-in-body", "White space inside the body is the application's.", _text(_members(), spaced), spaced.encode()),
        _good("white-space-around-body", "White space around the body is no part of it, so no hash is over it.", _text(_members(), f" \n{BODY}\r\n\t"), BODY.encode()),
        _good("deepest-body", "63 levels in the body: the plaintext around it is the 64th.", _text(_members(), DEEP), DEEP.encode()),
        _bad("too-deep-body", "64 levels in the body are one too many.", _text(_members(), f'{{"model":"claude-3.5-sonnet","a":{DEEP}}}')),
        _good("all-members", "Every optional member.", _text(_members(policy={}, tenant_root="ab" * 32, min_settings_version=3, conversation_secret="cd" * 32)), BODY.encode()),
        _good("kms-envelope", "With an envelope the body is text: base64 of nonce and ciphertext.", _text(_members(kms_envelope=ENVELOPE), f'"{base64_text(sealed_body)}"'), sealed_body, enveloped=True),
    ]  # fmt: skip


def _refused() -> list[Case]:
    without = _members()
    del without["issued_at"]
    rows: tuple[tuple[str, str, dict[str, Json]], ...] = (
        ("uuid-4", "A UUID of version 4.", _members(request_id="01890a5d-ac96-474b-bcce-b302099a8057")),
        ("uuid-variant", "A UUID of another variant.", _members(request_id="01890a5d-ac96-774b-ccce-b302099a8057")),
        ("uuid-upper-case", "Hexadecimal digits are lower case.", _members(request_id=REQUEST_ID.upper())),
        ("issued-at-text", "A text is no integer.", _members(issued_at="1780316999250")),
        ("issued-at-float", "A fraction is no integer.", _members(issued_at=1780316999.25)),
        ("issued-at-true", "A boolean is no integer.", _members(issued_at=True)),
        ("issued-at-missing", "issued_at is missing.", without),
        ("pad-ones", "Padding is zeros only.", _members(pad="0001")),
        ("pad-number", "Padding is text.", _members(pad=0)),
        ("unknown-member", "An unknown member.", _members(note="")),
        ("policy-null", "A policy that is there is an object.", _members(policy=None)),
        ("tenant-root-short", "31 bytes.", _members(tenant_root="ab" * 31)),
        ("settings-without-root", "min_settings_version only with tenant_root.", _members(min_settings_version=1)),
        ("conversation-secret-short", "31 bytes.", _members(conversation_secret="cd" * 31)),
    )  # fmt: skip
    return [
        *(_bad(name, why, _text(members)) for name, why, members in rows),
        _bad("body-missing", "body is missing.", _text(_members(), None)),
        _bad("body-text", "Without an envelope the body is an object.", _text(_members(), '"e30="')),
        _bad("body-object-in-envelope", "With an envelope the body is text.", _text(_members(kms_envelope=ENVELOPE))),
        _bad("body-twice", "body stands twice.", _text(_members())[:-1] + b',"body":{}}'),
        _bad("array", "Not an object.", b"[]"),
        _bad("model-other", "body.model is not the outer model.", _text(_members(), '{"model":"another"}'), "ERR_OUTER_MISMATCH"),
        _bad("model-missing", "body.model is missing.", _text(_members(), "{}"), "ERR_OUTER_MISMATCH"),
        _bad("model-escaped-twice", "A model that only looks like the outer one.", _text(_members(), '{"model":"claude-3.5-sonnet\\u0000"}'), "ERR_OUTER_MISMATCH"),
    ]  # fmt: skip


def plaintexts() -> list[Case]:
    """Every case of plaintext/."""
    return [*_accepted(), *_refused()]


def _record(name: str, why: str, text: str, code: str | None, body: str) -> Case:
    output: dict[str, Json] = {
        "body_sha256": hashlib.sha256(body.encode()).hexdigest(),
        "code": code,
    }
    return Case("content-" + name, "parse_content", why, RECORD_SPEC, {"content_base64": base64_text(text.encode())}, output)  # fmt: skip


def _record_bad(name: str, why: str, text: str) -> Case:
    given: dict[str, Json] = {"content_base64": base64_text(text.encode())}
    return Case("content-" + name, "parse_content", why, RECORD_SPEC, given, error=UNAUTHENTIC)


def records() -> list[Case]:
    """Content records and final records."""
    error = '{"error":{"message":"m","type":"invalid_request_error","param":null,"code":"ERR_PII_HARD_FAIL"}}'
    answer = '{"choices": [ ]}'
    content = [
        _record("answer", "An answer: code is null, the body's own bytes are kept.", f'{{"body":{answer},"code":null,"pad":"00"}}', None, answer),
        _record("error", "An error: its code stands beside its body.", f'{{"body":{error},"code":"ERR_PII_HARD_FAIL","pad":""}}', "ERR_PII_HARD_FAIL", error),
        _record_bad("code-unknown", "A code outside the closed set.", f'{{"body":{error},"code":"ERR_WHATEVER","pad":""}}'),
        _record_bad("code-differs", "Code and body name two errors.", f'{{"body":{error},"code":"ERR_UPSTREAM","pad":""}}'),
        _record_bad("code-missing", "code is missing.", '{"body":{},"pad":""}'),
        _record_bad("body-array", "The body is an object.", '{"body":[],"code":null,"pad":""}'),
        _record_bad("member-extra", "An unknown member.", '{"body":{},"code":null,"pad":"","note":""}'),
        _record_bad("pad-spaces", "Padding is zeros only.", '{"body":{},"code":null,"pad":"  "}'),
        _record_bad("two-objects", "Two records in one.", '{"body":{},"code":null,"pad":""}{"body":{},"code":null,"pad":""}'),
    ]  # fmt: skip
    return [*content, *_finals()]


def _finals() -> list[Case]:
    private = private_part()
    whole: dict[str, Json] = {
        "pad": "000",
        "receipt": receipt(public_part(private), private),
        "values": {
            "audit_receipt_id": "aud_8f9e1a0d56e9bb6a",
            "attestation_hash": ATTESTATION_HASH,
            "latency_ms": 23,
            "pii_detected": False,
            "usage": {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3},
        },
    }
    good: dict[str, Json] = {"audit_receipt_id": "aud_8f9e1a0d56e9bb6a", "pii_detected": False}
    bad: tuple[tuple[str, str, Json], ...] = (
        ("values-missing", "values are missing.", {"pad": "", "receipt": whole["receipt"]}),
        ("receipt-null", "The receipt is an object.", whole | {"receipt": None}),
        ("values-short", "pii_detected is missing.", whole | {"values": {"latency_ms": 23}}),
        ("member-extra", "An unknown member.", whole | {"note": MODEL}),
        ("array", "Not an object.", [whole]),
    )  # fmt: skip
    return [
        Case("final-good", "parse_final", "Receipt, values and padding.", RECORD_SPEC, _final_input(whole), good),
        *(Case("final-" + name, "parse_final", why, RECORD_SPEC, _final_input(value), error=UNAUTHENTIC) for name, why, value in bad),
    ]  # fmt: skip


def _final_input(value: Json) -> dict[str, Json]:
    return {"final_base64": base64_text(json.dumps(value).encode())}
