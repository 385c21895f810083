"""In what shape a streamed answer leaves: its document, its join, and records of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_shared.answer_records import encode_error_record
from latensgate_shared.error_answers import WireError
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import (
    CHUNK_MAX_BYTES,
    STREAM_COALESCE_MAX_MS,
    STREAM_FIXED_STEP_BYTES,
)
from latensgate_shared.sealed_plaintext import RequestFields, build_plaintext, parse_plaintext
from latensgate_shared.stream_records import StreamRecords, encode_stream_records
from latensgate_shared.stream_shape import PADS, StreamShape, parse_stream_shape
from latensgate_shared.strict_json import JSONError, JSONValue

REQUEST_ID = "0192d3c4-0000-7000-8000-000000000001"
SHAPES = st.builds(StreamShape, st.sampled_from(PADS), st.integers(0, STREAM_COALESCE_MAX_MS))


@given(SHAPES)
def test_what_is_written_is_read(shape: StreamShape) -> None:
    assert parse_stream_shape(shape.document()) == shape
    plaintext = build_plaintext(RequestFields(REQUEST_ID, 1, stream=shape), b"{}")
    assert parse_plaintext(plaintext).fields.stream == shape


def test_what_is_left_out_asks_for_nothing() -> None:
    assert parse_stream_shape({}) == StreamShape("padme", 0)
    assert parse_stream_shape({"pad": "fixed"}) == StreamShape("fixed", 0)
    assert parse_stream_shape({"coalesce_ms": 7}) == StreamShape("padme", 7)
    assert (
        parse_plaintext(build_plaintext(RequestFields(REQUEST_ID, 1), b"{}")).fields.stream is None
    )


WRONG: list[JSONValue] = [
    None,
    "fixed",
    [],
    {"pad": None},
    {"pad": "none"},
    {"pad": ["fixed"]},
    {"pad": {}},
    {"coalesce_ms": -1},
    {"coalesce_ms": STREAM_COALESCE_MAX_MS + 1},
    {"coalesce_ms": True},
    {"coalesce_ms": 1.0},
    {"coalesce_ms": "1"},
    {"coalesce_ms": None},
    {"pad": "fixed", "step_bytes": 1},
]


@pytest.mark.parametrize("value", WRONG)
def test_anything_else_is_refused(value: JSONValue) -> None:
    with pytest.raises(JSONError, match="stream"):
        parse_stream_shape(value)


@given(SHAPES, SHAPES, SHAPES)
def test_a_join_is_never_looser_than_its_parts(
    one: StreamShape, two: StreamShape, three: StreamShape
) -> None:
    both = one.joined(two)
    for part in (one, two):
        assert PADS.index(both.pad) >= PADS.index(part.pad)
        assert both.coalesce_ms >= part.coalesce_ms
    assert both == two.joined(one)
    assert both.joined(three) == one.joined(two.joined(three))
    assert one.joined(one) == one.joined(None) == one


def test_neither_part_of_a_join_loosens_the_other() -> None:
    strict, loose = StreamShape("fixed", 300), StreamShape("padme", 0)
    assert strict.joined(loose) == loose.joined(strict) == strict
    assert StreamShape("fixed").joined(StreamShape("padme", 300)) == strict


@settings(max_examples=60)
@given(st.integers(0, 70_000))
def test_records_of_a_fixed_shape_have_lengths_of_a_fixed_class(size: int) -> None:
    body = b'{"a":"' + b"x" * size + b'"}'
    step = StreamShape("fixed").step_bytes
    assert step == STREAM_FIXED_STEP_BYTES
    reader = StreamRecords()
    records = list(encode_stream_records(body, pad=True, step_bytes=step))
    assert all(len(each) % step == 0 and len(each) <= CHUNK_MAX_BYTES for each in records)
    found = [reader.read(each) for each in records]
    assert found[-1] is not None
    assert found[-1].body == body
    if size < step // 2:
        assert [len(each) for each in records] == [step]


def test_an_error_has_a_length_of_that_class_too() -> None:
    for text in ("x", "x" * 300):
        error = WireError(ErrorCode.ERR_UPSTREAM, text)
        assert len(encode_error_record(error, pad=True, step_bytes=1_024)) == 1_024
    assert StreamShape().step_bytes == 0
