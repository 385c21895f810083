"""Reads server-sent events, without I/O (WHATWG HTML, section 9.2), strictly and within bounds.

Lines end in LF or CRLF; a carriage return anywhere else, a byte order mark and an event above the
limit are refused. Only data is handed out: names, ids and retry times mean nothing to us.
"""

from __future__ import annotations

from typing import Final

from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import SSE_EVENT_MAX_BYTES

_DATA: Final = b"data"
_BOM: Final = b"\xef\xbb\xbf"


class SSEError(LatensgateError):
    """Bytes that are not an event stream, one above our limits, or one cut short."""

    code = ErrorCode.ERR_UPSTREAM


class SSEReader:
    """Cuts events out of bytes that come in any pieces."""

    __slots__ = ("_begun", "_buffer", "_data", "_searched", "_size")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # of the buffer: no line ends in there
        self._data: list[bytes] = []
        self._size = 0
        self._begun = False

    def receive(self, piece: bytes) -> list[bytes]:
        """Take bytes as they came and return the data of the events that they complete.

        Raises:
            SSEError: Malformed, or above a limit. Give the stream up.
        """
        self._buffer += piece
        events: list[bytes] = []
        start = 0
        while (end := self._buffer.find(b"\n", max(start, self._searched))) >= 0:
            self._take(bytes(self._buffer[start:end]).removesuffix(b"\r"), events)
            start = end + 1
        del self._buffer[:start]
        self._searched = len(self._buffer)
        self._bound(len(self._buffer))
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if b"\r" in line or (not self._begun and line.startswith(_BOM)):
            raise SSEError("SSE: a line of another form than the strict one")
        self._begun = True
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
            self._data, self._size = [], 0
            return
        name, _, value = line.partition(b":")
        if name == _DATA:
            self._data.append(value.removeprefix(b" "))
            self._size += len(value) + 1
        self._bound(0)

    def _bound(self, unread: int) -> None:
        if self._size + unread > SSE_EVENT_MAX_BYTES:
            raise SSEError(f"SSE: an event of more than {SSE_EVENT_MAX_BYTES} bytes")

    def close(self) -> None:
        """Say that the stream ended.

        Raises:
            SSEError: Within an event: it is cut short.
        """
        if self._data or self._buffer:
            raise SSEError("SSE: the stream ended within an event")
