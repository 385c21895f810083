"""Sealed streams: from the gateway's events to OpenAI's (docs/spec/http.md section 3, Streams)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from latensgate.exchange_answer import verified_receipt
from latensgate.exchange_failure import GatewayRefusalError, inside_failure
from latensgate_shared.errors import MalformedError
from latensgate_shared.limits import CHUNK_FRAMED_MAX_BYTES
from latensgate_shared.messages import parse_stream_chunk
from latensgate_shared.sealed import AnswerInvalidError, AnswerOpener, AnswerTruncatedError
from latensgate_shared.stream_records import StreamRecords

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate.exchange_seal import SealedCall
    from latensgate.receipts import AnswerReceipt
    from latensgate_shared.answer_records import ContentRecord
    from latensgate_shared.error_answers import WireError
    from latensgate_shared.hold import HoldNotice
    from latensgate_shared.strict_json import JSONObject

_LINE_MAX_BYTES: Final = 2 * CHUNK_FRAMED_MAX_BYTES
"""Base64 of the largest event, and what stands around it."""
_DATA: Final = b"data:"
_DONE: Final = b"data: [DONE]\n\n"
_NAMES_EVENTS: Final = "responses"
"""The operation whose events have names of their own, each repeating its ``type``."""
_EVENT_NAME: Final = re.compile(r"[a-z_.]{1,64}")
_LAST: Final = frozenset({"response.completed", "response.incomplete"})
"""End a stream of Responses, as with OpenAI, whose streams of these have no ``[DONE]``."""


class EventReader:
    """Cuts a body into the values of its ``data:`` lines. Anything unexpected is refused."""

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: bytes | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Return the values of the events that are now complete.

        Raises:
            AnswerInvalidError: A line that has no place here, or is too long.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = [value for line in lines if (value := self._line(line.removesuffix(b"\r")))]
        if len(self._rest) > _LINE_MAX_BYTES:
            raise AnswerInvalidError("stream: a line is longer than any event")
        return found

    def _line(self, line: bytes) -> bytes | None:
        if not line:
            event, self._data = self._data, None
            return event
        if line.startswith(b":"):
            return None
        if not line.startswith(_DATA) or self._data is not None or len(line) > _LINE_MAX_BYTES:
            raise AnswerInvalidError("stream: a line that is no part of this protocol")
        self._data = line.removeprefix(_DATA).removeprefix(b" ")
        return None

    def finish(self) -> None:
        """Say that the body ended.

        Raises:
            AnswerTruncatedError: Within an event.
        """
        if self._rest.strip(b"\r") or self._data is not None:
            raise AnswerTruncatedError("stream: it ends within an event")


def _nobody(_: HoldNotice) -> None:
    """Stand where nobody asks for what is held."""


class StreamOpener:
    """Opens one streamed answer.

    What says that it is whole, ``[DONE]`` or the last event of Responses, is given only after the
    receipt was verified.

    Attributes:
        receipt: After ``finish``; of a stream that ended in a sealed error too.
        on_held: Told if the request waits for an approver.
    """

    __slots__ = (
        "_call",
        "_correlation_id",
        "_error",
        "_events",
        "_last",
        "_opener",
        "_records",
        "_settle",
        "on_held",
        "receipt",
    )

    def __init__(
        self, call: SealedCall, correlation_id: str | None, settle: Callable[[], None]
    ) -> None:
        """Take what was sealed, what the gateway calls it, and what to do at its verified end."""
        self._settle = settle
        self._call = call
        self._correlation_id = correlation_id
        self._events = EventReader()
        self._opener = AnswerOpener(call.secret)
        self._records = StreamRecords()
        self._error: WireError | None = None
        self._last: bytes | None = None
        self.receipt: AnswerReceipt | None = None
        self.on_held: Callable[[HoldNotice], None] = _nobody

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes of the body; return the OpenAI events that they complete.

        Raises:
            AnswerInvalidError: The stream is not the enclave's answer to this request.
        """
        return [
            event
            for value in self._events.feed(data)
            for content in self._opener.feed(_chunk(value))
            for event in self._record(content)
        ]

    def _record(self, content: bytes) -> list[bytes]:
        if self._error is not None or self._last is not None:
            raise AnswerInvalidError("stream: content after its end")
        record = self._records.read(content)
        if record is None:
            return []
        self._error = record.error
        if record.error is not None:
            return []
        event = _event(record, named=self._named)
        if self._named and record.body_object.get("type") in _LAST:
            self._last = event
            return []
        return [event]

    @property
    def _named(self) -> bool:
        return self._call.sent.outer.operation == _NAMES_EVENTS

    def finish(self) -> list[bytes]:
        """Say that the body ended; return the event that tells an OpenAI client that it is whole.

        Raises:
            AnswerTruncatedError: It ended before its final chunk.
            AnswerInvalidError: The final chunk does not open.
            ReceiptInvalid: The receipt does not verify.
            GatewayRefusalError: The enclave ended the stream with an error.
        """
        self._events.finish()
        final = self._opener.finish()
        self._records.finish()
        error = self._error
        code = error.code if error else None
        self.receipt, _ = verified_receipt(self._call, final, self._opener.response_hash, code)
        self._settle()
        if error is not None:
            failure = inside_failure(error, self.receipt, self._correlation_id, None)
            if error.hold is not None:
                self.on_held(error.hold)
            raise GatewayRefusalError(failure)
        if not self._named:
            return [_DONE]
        if self._last is None:
            raise AnswerInvalidError("stream: it has no last event")
        return [self._last]


def _chunk(value: bytes) -> bytes:
    try:
        return parse_stream_chunk(value)
    except MalformedError as error:
        raise AnswerInvalidError(error.detail) from error


def _event(record: ContentRecord, *, named: bool) -> bytes:
    body = record.body
    if b"\n" in body or b"\r" in body:  # white space that would end the line
        body = json.dumps(record.body_object, ensure_ascii=False).encode()
    name = _name(record.body_object) if named else b""
    return name + b"data: " + body + b"\n\n"


def _name(event: JSONObject) -> bytes:
    kind = event.get("type")
    if not isinstance(kind, str) or not _EVENT_NAME.fullmatch(kind):
        raise AnswerInvalidError("stream: an event without a type")
    return b"event: " + kind.encode("ascii") + b"\n"
