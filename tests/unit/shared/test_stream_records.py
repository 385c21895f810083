"""Events of a stream as content records: whole, or in pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_shared.answer_records import encode_content_record, encode_error_record
from latensgate_shared.error_answers import WireError
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import CHUNK_MAX_BYTES, STREAM_PIECE_MAX_CHARS
from latensgate_shared.sealed import AnswerInvalidError
from latensgate_shared.stream_records import StreamRecords, encode_stream_records
from latensgate_shared.strict_json import JSONValue

ERROR = encode_error_record(WireError(ErrorCode.ERR_UPSTREAM, "gone"), pad=True)


def written(text: str, *, pad: bool = True) -> list[bytes]:
    body = json.dumps({"more": text}, ensure_ascii=False).encode()
    return list(encode_stream_records(body, pad=pad))


def piece(**changed: object) -> bytes:
    return json.dumps({"code": None, "more": True, "body": '{"a":', "pad": ""} | changed).encode()


@settings(max_examples=60)
@given(
    st.lists(st.text(st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=4),
    st.sampled_from((1, 900, 5_000)),
    st.booleans(),
)
def test_what_is_written_is_read(texts: list[str], times: int, pad: bool) -> None:  # noqa: FBT001 -- drawn
    reader = StreamRecords()
    found: list[JSONValue] = []
    for text in texts:
        records = written(text * times, pad=pad)
        assert all(len(record) <= CHUNK_MAX_BYTES for record in records)
        *begun, whole = [reader.read(record) for record in records]
        assert not any(begun)
        assert whole is not None
        found.append(whole.body_object["more"])
        assert json.loads(whole.body) == whole.body_object
    reader.finish()
    assert found == [text * times for text in texts]


@pytest.mark.parametrize("character", ["x", '"', "\\", "é", "€", "𝄞", "\n"])
def test_the_worst_characters_fit_into_chunks(character: str) -> None:
    records = written(character * 5 * STREAM_PIECE_MAX_CHARS)
    assert len(records) > 2
    assert max(map(len, records)) <= CHUNK_MAX_BYTES


def test_short_events_are_one_record() -> None:
    body = b'{"more":1}'
    assert list(encode_stream_records(body, pad=True)) == [encode_content_record(body, pad=True)]
    record = StreamRecords().read(encode_content_record(body, pad=False))
    assert record is not None
    assert record.body == body


def test_an_error_ends_an_event_that_is_not_complete() -> None:
    reader = StreamRecords()
    assert reader.read(piece()) is None
    record = reader.read(ERROR)
    assert record is not None
    assert record.error is not None
    reader.finish()


def test_an_event_has_to_be_complete() -> None:
    reader = StreamRecords()
    reader.read(piece())
    with pytest.raises(AnswerInvalidError, match="ends within an event"):
        reader.finish()
    with pytest.raises(AnswerInvalidError, match="next piece"):
        reader.read(encode_content_record(b"{}", pad=True))


@pytest.mark.parametrize(
    "content",
    [
        piece(code="ERR_UPSTREAM"),
        piece(body={}),
        piece(more=1),
        piece(more=None),
        piece(pad="1"),
        piece(other=1),
        piece(more=False),
        piece(more=False, body="[]"),
        piece()[:-1],
        b'{"code":null,"more":true,"body":""}',
        b'"more"',
        b"",
    ],
)
def test_what_is_no_piece_is_refused(content: bytes) -> None:
    with pytest.raises(AnswerInvalidError):
        StreamRecords().read(content)


def test_an_event_is_no_longer_than_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latensgate_shared.stream_records.SEALED_ANSWER_MAX_BYTES", 8)
    reader = StreamRecords()
    reader.read(piece())
    with pytest.raises(AnswerInvalidError, match="at most 8"):
        reader.read(piece())
