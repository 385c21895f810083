"""The content records of a stream: one a chunk, and events that are longer than a chunk in pieces.

Most events are a token long. The last ones of a Responses stream repeat the whole answer, so they
may be longer than any chunk; such an event is cut into pieces of its JSON text, one a record
(docs/spec/wire.md section 6).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from latensgate_shared import formats
from latensgate_shared.answer_records import (
    ContentRecord,
    encode_content_record,
    parse_content_record,
)
from latensgate_shared.errors import MalformedError
from latensgate_shared.limits import (
    CHUNK_MAX_BYTES,
    SEALED_ANSWER_MAX_BYTES,
    STREAM_PIECE_MAX_CHARS,
)
from latensgate_shared.padding import append_pad, check_pad
from latensgate_shared.sealed import AnswerInvalidError
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE: Final = frozenset({"body", "code", "more", "pad"})
_MORE: Final = b'"more"'
"""Pieces alone have this member; within texts its quotation marks are escaped."""


def encode_stream_records(body: bytes, *, pad: bool, step_bytes: int = 0) -> Iterator[bytes]:
    """Yield the content records of one event: one, or as many as it needs.

    Args:
        body: JSON text of one object, made by the caller; it is not looked at.
        pad: Whether to fill up to the Padmé length.
        step_bytes: Fill up to a multiple of it in place of the Padmé length; 0 for Padmé.
    """
    record = encode_content_record(body, pad=pad, step_bytes=step_bytes)
    if len(record) <= CHUNK_MAX_BYTES:
        yield record
        return
    text = body.decode()
    for place in range(0, len(text), STREAM_PIECE_MAX_CHARS):
        end = place + STREAM_PIECE_MAX_CHARS
        piece = json.dumps(text[place:end], ensure_ascii=False).encode()
        more = b"true" if end < len(text) else b"false"
        record = b'{"code":null,"more":' + more + b',"body":' + piece
        yield append_pad(record, pad=pad, step_bytes=step_bytes)


class StreamRecords:
    """Reads the content chunks of a stream in their order, and puts pieces together."""

    __slots__ = ("_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._size = 0

    def read(self, content: bytes) -> ContentRecord | None:
        """Read one content chunk; None while an event is not complete.

        An error ends the stream wherever it is: what an event has by then is left out.

        Raises:
            AnswerInvalidError: Not docs/spec/wire.md section 6.
        """
        if not self._pieces and _MORE not in content:
            return parse_content_record(content)
        try:
            return self._read(content)
        except MalformedError as error:
            raise AnswerInvalidError(error.detail) from error

    def finish(self) -> None:
        """Say that no content follows.

        Raises:
            AnswerInvalidError: An event is not complete.
        """
        if self._pieces:
            raise AnswerInvalidError("stream: it ends within an event")

    def _read(self, content: bytes) -> ContentRecord | None:
        value = parse_json_object(content, max_bytes=CHUNK_MAX_BYTES)
        if "more" not in value:
            record = parse_content_record(content)
            if self._pieces and record.error is None:
                raise JSONError("content record: the next piece of an event expected")
            self._pieces = []
            return record
        members = formats.members(value, "content record", _PIECE)
        check_pad(members["pad"], "content record.pad")
        piece, more = members["body"], formats.boolean(members["more"], "content record.more")
        if members["code"] is not None or type(piece) is not str:
            raise JSONError("content record: a piece of an event expected")
        self._take(piece)
        return None if more else self._whole()

    def _take(self, piece: str) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > SEALED_ANSWER_MAX_BYTES:
            raise JSONError(f"content record: at most {SEALED_ANSWER_MAX_BYTES} characters")

    def _whole(self) -> ContentRecord:
        body = "".join(self._pieces).encode()
        self._pieces, self._size = [], 0
        return ContentRecord(body, parse_json_object(body, max_bytes=SEALED_ANSWER_MAX_BYTES), None)
