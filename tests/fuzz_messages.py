"""Fuzz targets for what is JSON: the reader itself, manifest, receipt and the messages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import cast

from fuzz_examples import (
    ATTESTATION,
    DIGEST,
    MANIFEST_MEMBERS,
    RECEIPT,
    RECEIPT_KEY,
    RECEIPT_LABEL,
    REQUEST_ID,
    TENANT,
    text_of,
)
from fuzz_forms import MAX_BYTES, Node, Script, edited
from latensgate.verify.receipt import (
    verify_public_part,
    verify_receipt,
    verify_receipt_chain,
)
from latensgate_shared import answer_records, error_answers, messages
from latensgate_shared.errors import LatensgateError, TooLargeError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.manifest import (
    aci_keyset,
    aci_keyset_digest,
    encode_manifest,
    parse_manifest,
)
from latensgate_shared.sealed_plaintext import build_plaintext, parse_plaintext
from latensgate_shared.strict_json import (
    JSONObject,
    JSONValue,
    parse_json,
    parse_json_members,
    parse_json_object,
)

FIRST = verify_public_part(
    cast("JSONValue", RECEIPT["public"]),
    cast("JSONValue", RECEIPT["signature"]),
    attestation=ATTESTATION,
)


def fuzz_json(data: bytes) -> None:
    """Strict JSON: readers agree with each other, and what they read survives JCS."""
    try:
        value = parse_json(data, max_bytes=MAX_BYTES)
    except LatensgateError:
        _demand_refusal(data)
        return
    if isinstance(value, dict):
        _compare_members(data, value)
    try:
        canonical = canonicalize(value)
    except LatensgateError:
        return
    parse_json(canonical, max_bytes=8 * MAX_BYTES)
    # As doubles: JCS writes a large double with its shortest digits, which are another integer.
    if json.loads(canonical, parse_int=float) != json.loads(data.decode(), parse_int=float):
        raise AssertionError("a value does not survive its canonical form")


def _demand_refusal(data: bytes) -> None:
    for parse in (parse_json_members, parse_json_object):
        try:
            parse(data, max_bytes=MAX_BYTES)
        except LatensgateError:
            continue
        raise AssertionError("one reader takes what another refuses")


def _compare_members(data: bytes, value: JSONObject) -> None:
    try:
        members = parse_json_members(data, max_bytes=MAX_BYTES)
    except TooLargeError:
        return  # more members than are kept
    if {name: member.value for name, member in members.items()} != value:
        raise AssertionError("two readers see two values")
    for member in members.values():
        if parse_json(member.text.encode(), max_bytes=MAX_BYTES) != member.value:
            raise AssertionError("the text of a member says something else")


def fuzz_manifest(data: bytes) -> None:
    """Manifests: whatever parses has these bytes and no others."""
    for text in (data, _canonical(edited(MANIFEST_MEMBERS, Script(data)))):
        try:
            parsed = parse_manifest(text)
        except LatensgateError:
            continue
        if encode_manifest(parsed) != text:
            raise AssertionError("a manifest has a second form")
        aci_keyset_digest(aci_keyset(parsed))


def _canonical(value: Node) -> bytes:
    try:
        return canonicalize(cast("JSONValue", value))
    except LatensgateError:
        return b""


def fuzz_receipt(data: bytes) -> None:
    """Receipts: edited parts, with the digest and the signature made good again, or not."""
    script = Script(data)
    flags = script.byte()
    receipt = edited(RECEIPT, script)
    if isinstance(receipt, dict):
        public = receipt.get("public")
        if flags & 2 and isinstance(public, dict):
            private = _canonical(receipt.get("private"))
            public["private_digest"] = "sha384:" + hashlib.sha384(private).hexdigest()
        if flags & 1:
            receipt["signature"] = RECEIPT_KEY.sign(RECEIPT_LABEL + _canonical(public)).hex()
    value = cast("JSONValue", receipt)
    parts = value if isinstance(value, dict) else {}
    calls: tuple[Callable[[], object], ...] = (
        lambda: verify_receipt(value, attestation=ATTESTATION, tenant_id=TENANT),
        lambda: _verify_pair(parts.get("public"), parts.get("signature")),
    )
    for call in calls:
        try:
            call()
        except LatensgateError:
            continue


def _verify_pair(public: JSONValue, signature: JSONValue) -> None:
    """Verify a public part, and its place behind the good one."""
    verified = verify_public_part(public, signature, attestation=ATTESTATION)
    verify_receipt_chain([FIRST, verified])


PLAINTEXT: Node = {
    "request_id": REQUEST_ID,
    "issued_at": 1_780_315_260_000,
    "policy": {"rules": {"*": {"*": {"action": "mask"}}}},
    "tenant_root": "ab" * 32,
    "min_settings_version": 3,
    "conversation_secret": "cd" * 32,
    "body": {"model": "m", "messages": [{"role": "user", "content": "é"}], "temperature": 0.5},
    "pad": "000",
}
ENVELOPED: Node = {
    "request_id": REQUEST_ID,
    "issued_at": 1,
    "body": "AAAA",
    "kms_envelope": {"key_arn": "arn:aws:kms", "wrapped_data_key": "AA=="},
    "pad": "",
}


def fuzz_plaintext(data: bytes) -> None:
    """What is inside a request: whatever is read can be written again and reads the same."""
    script = Script(data)
    example = ENVELOPED if script.byte() & 1 else PLAINTEXT
    for text in (data, text_of(edited(example, script))):
        try:
            read = parse_plaintext(text)
            written = build_plaintext(read.fields, read.body)  # may refuse a policy's numbers
        except LatensgateError:
            continue
        again = parse_plaintext(written)
        if again.body != read.body or again.fields != read.fields:
            raise AssertionError("a plaintext does not survive being written again")


ERROR: Node = {
    "error": {"message": "m", "type": "api_error", "param": None, "code": "ERR_INTERNAL"}
}
VALUES: Node = {
    "audit_receipt_id": "aud_8f9e1a0d56e9bb6a",
    "attestation_hash": DIGEST,
    "latency_ms": 1,
    "pii_detected": False,
    "usage": None,
}
REQUEST: Node = {
    "prompt_ciphertext": "AAAA",
    "model": "m",
    "tenant_id": TENANT,
    "operation": "embeddings",
    "stream": True,
}
ANSWER: Node = {
    "response_ciphertext": "AAAA",
    "audit_receipt_id": "aud_8f9e1a0d56e9bb6a",
    "attestation_hash": DIGEST,
    "latency_ms": 1,
    "pii_detected": False,
}
REFUSAL: Node = {
    **cast("dict[object, Node]", ERROR),
    "code": "ERR_INTERNAL",
    "correlation_id": "c",
    "hint": "h",
    "response_ciphertext": "AAAA",
    "audit_receipt_id": "aud_8f9e1a0d56e9bb6a",
}


def _request_again(text: bytes) -> None:
    request = messages.parse_inference_request(text, DIGEST)
    request.outer.canonical()
    again = messages.encode_inference_request(request)
    if messages.parse_inference_request(again, DIGEST) != request:
        raise AssertionError("a request does not survive being written again")


def _answer_again(text: bytes) -> None:
    answer = messages.parse_inference_answer(text)
    if messages.parse_inference_answer(messages.encode_inference_answer(answer)) != answer:
        raise AssertionError("an answer does not survive being written again")
    hints = answer_records.AnswerValues(
        audit_receipt_id="aud_8f9e1a0d56e9bb6a",
        attestation_hash=DIGEST,
        latency_ms=1,
        pii_detected=False,
        usage=None,
    )
    messages.check_hints(answer, hints)


MESSAGES: tuple[tuple[Node, Callable[[bytes], object]], ...] = (
    ({"body": {"a": 1}, "code": None, "pad": "0"}, answer_records.parse_content_record),
    ({"body": ERROR, "code": "ERR_INTERNAL", "pad": ""}, answer_records.parse_content_record),
    ({"receipt": {}, "values": VALUES, "pad": ""}, answer_records.parse_final_record),
    (REQUEST, _request_again),
    (ANSWER, _answer_again),
    ({"chunk": "AAAA"}, messages.parse_stream_chunk),
    (
        REFUSAL,
        lambda text: error_answers.encode_error_answer(error_answers.parse_error_answer(text)),
    ),
)


def fuzz_messages(data: bytes) -> None:
    """The other messages, edited and raw; what is read can be written."""
    script = Script(data)
    example, parse = MESSAGES[script.byte() % len(MESSAGES)]
    for text in (data[1:], text_of(edited(example, script))):
        try:
            parse(text)
        except LatensgateError:
            continue


def message_seeds() -> tuple[bytes, ...]:
    """Each message unchanged, and raw."""
    kinds = range(len(MESSAGES))
    raw = [bytes((kind,)) + text_of(MESSAGES[kind][0]) for kind in kinds]
    return (*(bytes((kind, 0)) for kind in kinds), *raw)
