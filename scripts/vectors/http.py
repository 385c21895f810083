"""tests/vectors/http: what stands in HTTP bodies around the seal, wire.md sections 3 and 7."""

# ruff: noqa: E501 -- a table of cases reads best one row a line

from __future__ import annotations

import hashlib
import json

from vectors.case import Case, Json, base64_text, fixed, sha384_text
from vectors.primitives import jcs
from vectors.sealed import ATTESTATION_HASH, MODEL, TENANT, outer_members

REQUEST_SPEC = "wire.md section 3"
ANSWER_SPEC = "wire.md section 7"
SEALED = fixed("sealed bytes", 60)


def _body(**changes: Json) -> dict[str, Json]:
    members: dict[str, Json] = {
        "prompt_ciphertext": base64_text(SEALED),
        "model": MODEL,
        "tenant_id": TENANT,
    }
    return members | changes


def _input(body: bytes, header: str = ATTESTATION_HASH) -> dict[str, Json]:
    return {"body_base64": base64_text(body), "attestation_header": header}


def _text(members: Json) -> bytes:
    return json.dumps(members).encode()


def _good(name: str, why: str, body: dict[str, Json], **outer: Json) -> Case:
    output: dict[str, Json] = {
        "outer_sha256": hashlib.sha256(jcs(outer_members(**outer))).hexdigest(),
        "request_hash": sha384_text(SEALED),
    }
    return Case("request-" + name, "parse_inference_request", why, REQUEST_SPEC, _input(_text(body)), output)  # fmt: skip


def _bad(name: str, why: str, body: bytes, header: str = ATTESTATION_HASH) -> Case:
    return Case("request-" + name, "parse_inference_request", why, REQUEST_SPEC, _input(body, header), error="ERR_MALFORMED")  # fmt: skip


def _requests() -> list[Case]:
    no_tenant = _body()
    del no_tenant["tenant_id"]
    sealed = base64_text(SEALED)
    return [
        _good("seed", "The three members of the seed; the rest has defaults.", _body()),
        _good("all", "Every member given.", _body(operation="embeddings", stream=True), operation="embeddings", stream=True),
        _good("defaults-given", "Defaults may be written out and mean the same.", _body(operation="chat.completions", stream=False)),
        _bad("unknown-member", "An unknown member, here a plaintext.", _text(_body(messages=[]))),
        _bad("tenant-missing", "tenant_id is missing.", _text(no_tenant)),
        _bad("stream-number", "stream is a boolean.", _text(_body(stream=1))),
        _bad("operation-null", "operation is text where it is there.", _text(_body(operation=None))),
        _bad("base64-url", "The URL alphabet.", _text(_body(prompt_ciphertext="_-E="))),
        _bad("base64-no-padding", "Padding is part of base64 here.", _text(_body(prompt_ciphertext="AAA"))),
        _bad("base64-line-end", "White space in base64.", _text(_body(prompt_ciphertext=sealed + "\n"))),
        _bad("base64-unused-bits", "Unused bits are zero: one text for one value.", _text(_body(prompt_ciphertext="AAB="))),
        _bad("model-twice", "model stands twice.", _text(_body())[:-1] + b',"model":"x"}'),
        _bad("header-empty", "The attestation header is empty.", _text(_body()), ""),
        _bad("header-upper-case", "Hexadecimal digits are lower case.", _text(_body()), ATTESTATION_HASH.upper()),
    ]  # fmt: skip


def _stream(name: str, why: str, data: bytes, chunk: bytes | None) -> Case:
    given: dict[str, Json] = {"data_base64": base64_text(data)}
    if chunk is None:
        return Case("stream-" + name, "parse_stream_chunk", why, ANSWER_SPEC, given, error="ERR_MALFORMED")  # fmt: skip
    return Case("stream-" + name, "parse_stream_chunk", why, ANSWER_SPEC, given, {"chunk_hex": chunk.hex()})  # fmt: skip


def _streams() -> list[Case]:
    return [
        _stream("chunk", "One data line of a stream.", b'{"chunk":"AAEC"}', b"\x00\x01\x02"),
        _stream("spaces", "White space around JSON tokens does not matter.", b'{ "chunk" : "AAEC" }', b"\x00\x01\x02"),
        _stream("unknown-member", "An unknown member.", b'{"chunk":"AAEC","done":true}', None),
        _stream("done", "OpenAI's end mark is no chunk.", b"[DONE]", None),
    ]  # fmt: skip


def _hints(name: str, why: str, error: str | None, **changes: Json) -> Case:
    values: dict[str, Json] = {
        "audit_receipt_id": "aud_8f9e1a0d56e9bb6a",
        "attestation_hash": ATTESTATION_HASH,
        "latency_ms": 23,
        "pii_detected": False,
    }
    body = values | {"response_ciphertext": base64_text(SEALED)} | changes
    given: dict[str, Json] = {
        "body_base64": base64_text(_text(body)),
        "values": values | {"usage": None},
    }
    output: dict[str, Json] | None = None
    if error is None:
        output = {"answer_sha256": hashlib.sha256(SEALED).hexdigest()}
    return Case("answer-" + name, "check_inference_answer", why, ANSWER_SPEC, given, output, error)


def _answers() -> list[Case]:
    forged = "ERR_ANSWER_INVALID"
    return [
        _hints("agrees", "What stands outside is what stands inside.", None),
        _hints("pii-forged", "pii_detected was changed outside the seal.", forged, pii_detected=True),
        _hints("receipt-forged", "Another receipt id outside the seal.", forged, audit_receipt_id="aud_0000000000000000"),
        _hints("hash-forged", "Another attestation hash outside the seal.", forged, attestation_hash=sha384_text(b"x")),
        _hints("latency-forged", "Another latency outside the seal.", forged, latency_ms=24),
        _hints("unknown-member", "An unknown member.", "ERR_MALFORMED", note=""),
    ]  # fmt: skip


def cases() -> list[Case]:
    """Every case of the folder."""
    return [*_requests(), *_streams(), *_answers()]
