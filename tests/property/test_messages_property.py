from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_shared.answer_records import (
    encode_content_record,
    encode_error_record,
    parse_content_record,
    parse_final_record,
)
from latensgate_shared.error_answers import WireError, parse_error_answer
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.manifest import parse_manifest
from latensgate_shared.messages import (
    OPERATIONS,
    InferenceRequest,
    Outer,
    encode_inference_request,
    encode_stream_chunk,
    parse_inference_answer,
    parse_inference_request,
    parse_stream_chunk,
)
from latensgate_shared.sealed import padme
from latensgate_shared.sealed_plaintext import RequestFields, build_plaintext, parse_plaintext
from protocol_examples import DIGEST

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
BODIES = st.dictionaries(TEXT, TEXT | st.integers() | st.none() | st.lists(TEXT), max_size=5).map(
    lambda value: json.dumps(value).encode()
)
HEX = "0123456789abcdef"
TENANTS = st.text(HEX, min_size=8, max_size=8).map("tnt_".__add__)
OUTERS = st.builds(
    Outer,
    attestation_hash=st.just(DIGEST),
    model=st.text(st.characters(codec="utf-8"), min_size=1, max_size=256),
    tenant_id=TENANTS,
    operation=st.sampled_from(sorted(OPERATIONS)),
    stream=st.booleans(),
)
REQUEST_IDS = (
    st.uuids()
    .map(lambda u: f"{str(u)[:14]}7{str(u)[15:19]}8{str(u)[20:]}")
    .map(lambda text: text[:19] + "8" + text[20:])
)
FIELDS = st.builds(
    RequestFields,
    request_id=REQUEST_IDS,
    issued_at_ms=st.integers(0, 2**53 - 1),
    policy=st.none() | st.dictionaries(TEXT, TEXT, max_size=3),
    tenant_root=st.binary(min_size=32, max_size=32),
    min_settings_version=st.none() | st.integers(0, 2**31),
    conversation_secret=st.none() | st.binary(min_size=32, max_size=32),
)
PARSERS: list[Callable[[bytes], object]] = [
    parse_manifest,
    parse_plaintext,
    parse_content_record,
    parse_final_record,
    parse_error_answer,
    parse_inference_answer,
    parse_stream_chunk,
    lambda data: parse_inference_request(data, DIGEST),
]
NAMES = st.sampled_from(
    ["request_id", "issued_at", "body", "pad", "policy", "tenant_root", "kms_envelope", "code",
     "receipt", "values", "error", "hint", "correlation_id", "chunk", "model", "tenant_id",
     "prompt_ciphertext", "stream", "operation", "manifest_version", "hpke_keys"]
)  # fmt: skip
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(NAMES, JUNK, max_size=8).map(lambda value: json.dumps(value).encode())


@settings(max_examples=300)
@given(st.sampled_from(PARSERS), st.binary(max_size=80) | OBJECTS)
def test_only_typed_errors_leave_a_parser(parse: Callable[[bytes], object], data: bytes) -> None:
    with suppress(LatensgateError):
        parse(data)


@settings(max_examples=100)
@given(OUTERS, st.binary(max_size=100))
def test_requests_survive_http(outer: Outer, sealed: bytes) -> None:
    request = InferenceRequest(outer, sealed)
    assert parse_inference_request(encode_inference_request(request), DIGEST) == request
    assert json.loads(outer.canonical()).keys() == set(Outer.__dataclass_fields__)


@settings(max_examples=100)
@given(FIELDS, BODIES)
def test_plaintexts_survive_and_are_padded(fields: RequestFields, body: bytes) -> None:
    data = build_plaintext(fields, body)
    parsed = parse_plaintext(data)
    assert (parsed.fields, parsed.body) == (fields, body)
    assert len(data) == padme(len(build_plaintext(fields, body, pad=False)))


@settings(max_examples=100)
@given(BODIES, st.booleans())
def test_content_records_survive(body: bytes, pad: bool) -> None:  # noqa: FBT001 - drawn
    record = parse_content_record(encode_content_record(body, pad=pad))
    assert (record.body, record.error) == (body, None)


@settings(max_examples=50)
@given(st.sampled_from(ErrorCode), TEXT.filter(bool), st.none() | TEXT.filter(bool))
def test_error_records_survive(code: ErrorCode, message: str, param: str | None) -> None:
    error = WireError(code, message, param)
    assert parse_content_record(encode_error_record(error, pad=True)).error == error


@settings(max_examples=50)
@given(st.binary(max_size=300))
def test_stream_chunks_survive(framed: bytes) -> None:
    assert parse_stream_chunk(encode_stream_chunk(framed)) == framed


@settings(max_examples=200)
@given(OUTERS)
def test_the_visible_part_is_written_as_jcs_writes_it(outer: Outer) -> None:
    assert outer.canonical() == canonicalize(asdict(outer))
