"""Operations of the sealed protocol: requests, answers, padding."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from latensgate.conformance.primitives import base64_text, kem_of
from latensgate_shared import hpke, sealed
from latensgate_shared.answer_records import (
    AnswerValues,
    parse_content_record,
    parse_final_record,
)
from latensgate_shared.jcs import canonicalize
from latensgate_shared.messages import (
    Outer,
    check_hints,
    parse_inference_answer,
    parse_inference_request,
    parse_stream_chunk,
)
from latensgate_shared.sealed_plaintext import check_body_model, parse_plaintext

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate.conformance.case import Arguments
    from latensgate_shared.strict_json import JSONObject

_PROBE_NONCE: Final = bytes(32)


def _padme(arguments: Arguments) -> JSONObject:
    return {"padded": sealed.padme(arguments.integer("length"))}


def _outer(arguments: Arguments) -> JSONObject:
    canonical = _read_outer(arguments).canonical()
    return {
        "canonical_base64": base64_text(canonical),
        "sha256": hashlib.sha256(canonical).hexdigest(),
    }


def _read_outer(arguments: Arguments) -> Outer:
    return Outer(
        attestation_hash=arguments.text("attestation_hash"),
        model=arguments.text("model"),
        tenant_id=arguments.text("tenant_id"),
        operation=arguments.text("operation"),
        stream=arguments.boolean("stream"),
    )


def _opening_key(arguments: Arguments) -> sealed.OpeningKey:
    suite = sealed.SUITE_XWING if kem_of(arguments) is hpke.XWING else sealed.SUITE_X25519
    return sealed.OpeningKey(suite, arguments.hex("private_key_hex"))


def _key_id(arguments: Arguments) -> JSONObject:
    key = _opening_key(arguments)
    public = key.sealing_key.public_key.raw
    return {
        "key_id": key.key_id.hex(),
        "public_key_sha256": hashlib.sha256(public).hexdigest(),
    }


def _keys(arguments: Arguments) -> dict[bytes, sealed.OpeningKey]:
    keys = [_opening_key(entry) for entry in arguments.objects("keys")]
    return {key.key_id: key for key in keys}


def _open_request(arguments: Arguments) -> JSONObject:
    wire = arguments.base64("request_base64")
    if arguments.has("append_zero_bytes"):
        wire += bytes(arguments.integer("append_zero_bytes"))
    outer = canonicalize(arguments.object("outer").members())
    opened = sealed.open_request(_keys(arguments), outer, wire)
    probe = opened.answer_secret.messages(_PROBE_NONCE).seal(b"", b"")
    return {
        "key_id": opened.key_id.hex(),
        "plaintext_length": len(opened.plaintext),
        "plaintext_sha256": hashlib.sha256(opened.plaintext).hexdigest(),
        "request_hash": sealed.request_hash(wire),
        "response_probe_hex": probe.hex(),
    }


def _parse_plaintext(arguments: Arguments) -> JSONObject:
    plaintext = parse_plaintext(arguments.base64("plaintext_base64"))
    if plaintext.body_object is not None:
        check_body_model(plaintext.body_object, _read_outer(arguments.object("outer")))
    return {
        "request_id": plaintext.fields.request_id,
        "issued_at": plaintext.fields.issued_at_ms,
        "body_sha256": hashlib.sha256(plaintext.body).hexdigest(),
        "enveloped": plaintext.fields.kms_envelope is not None,
    }


def _parse_content(arguments: Arguments) -> JSONObject:
    record = parse_content_record(arguments.base64("content_base64"))
    return {
        "body_sha256": hashlib.sha256(record.body).hexdigest(),
        "code": None if record.error is None else record.error.code.name,
    }


def _parse_final(arguments: Arguments) -> JSONObject:
    values = parse_final_record(arguments.base64("final_base64")).values
    return {"audit_receipt_id": values.audit_receipt_id, "pii_detected": values.pii_detected}


def _open_answer(arguments: Arguments) -> JSONObject:
    secret = sealed.AnswerSecret(arguments.hex("secret_hex"), arguments.base64("enc_base64"))
    data_key = arguments.optional_hex("data_key_hex")
    if data_key is not None:
        secret = secret.with_data_key(data_key)
    opener = sealed.AnswerOpener(secret)
    contents = opener.feed(arguments.base64("answer_base64"))
    final = opener.finish()
    return {
        "content_lengths": [len(content) for content in contents],
        "content_sha256": hashlib.sha256(b"".join(contents)).hexdigest(),
        "final_sha256": hashlib.sha256(final).hexdigest(),
        "response_hash": opener.response_hash,
    }


def _parse_inference_request(arguments: Arguments) -> JSONObject:
    request = parse_inference_request(
        arguments.base64("body_base64"), arguments.text("attestation_header")
    )
    return {
        "outer_sha256": hashlib.sha256(request.outer.canonical()).hexdigest(),
        "request_hash": sealed.request_hash(request.sealed_request),
    }


def _parse_stream_chunk(arguments: Arguments) -> JSONObject:
    return {"chunk_hex": parse_stream_chunk(arguments.base64("data_base64")).hex()}


def _check_inference_answer(arguments: Arguments) -> JSONObject:
    answer = parse_inference_answer(arguments.base64("body_base64"))
    told = arguments.object("values")
    values = AnswerValues(
        audit_receipt_id=told.text("audit_receipt_id"),
        attestation_hash=told.text("attestation_hash"),
        latency_ms=told.integer("latency_ms"),
        pii_detected=told.boolean("pii_detected"),
        usage=None,
    )
    checked = check_hints(answer, values)
    return {"answer_sha256": hashlib.sha256(checked.sealed_answer).hexdigest()}


OPERATIONS: Final[dict[str, Callable[[Arguments], JSONObject]]] = {
    "check_inference_answer": _check_inference_answer,
    "key_id": _key_id,
    "open_answer": _open_answer,
    "open_request": _open_request,
    "outer": _outer,
    "padme": _padme,
    "parse_content": _parse_content,
    "parse_final": _parse_final,
    "parse_inference_request": _parse_inference_request,
    "parse_plaintext": _parse_plaintext,
    "parse_stream_chunk": _parse_stream_chunk,
}
