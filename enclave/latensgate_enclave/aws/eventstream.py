"""Decoder of ``application/vnd.amazon.eventstream``, without I/O.

Format (Smithy, "Amazon Event Stream Specification"): total length u32, length of headers u32,
CRC-32 of these eight bytes, headers, payload, CRC-32 of everything before it; big-endian. The
checksum of the prelude is checked before its lengths are believed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias
from zlib import crc32

from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import EVENT_HEADERS_MAX_BYTES, EVENT_MESSAGE_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HeaderValue: TypeAlias = bool | int | bytes | str

_PRELUDE: Final = struct.Struct(">III")
_CHECKSUM: Final = struct.Struct(">I")
_OVERHEAD: Final = _PRELUDE.size + _CHECKSUM.size
_BOOLEANS: Final = {0: True, 1: False}
_INTEGER_BYTES: Final = {2: 1, 3: 2, 4: 4, 5: 8, 8: 8}
"""byte, short, integer, long, timestamp (milliseconds since 1970)."""
_BYTES, _TEXT, _UUID = 6, 7, 9
_UUID_BYTES: Final = 16


class EventStreamError(LatensgateError):
    """Bytes that are not an AWS event stream, or one above our limits, or one cut short."""

    code = ErrorCode.ERR_UPSTREAM


@dataclass(frozen=True, slots=True)
class EventMessage:
    """One message; the payload is never in ``repr``, because it is an answer."""

    headers: Mapping[str, HeaderValue]
    payload: bytes = field(repr=False)


class EventStreamDecoder:
    """Cuts messages out of bytes that come in any pieces."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> list[EventMessage]:
        """Take bytes as they came and return the messages that they complete.

        Raises:
            EventStreamError: A checksum, a length or a header is wrong. Give the stream up.
        """
        return list(self.messages(data))

    def messages(self, data: bytes) -> Iterator[EventMessage]:
        """As ``receive``, but one by one: those before a fault can still be used."""
        self._buffer += data
        while len(self._buffer) >= _PRELUDE.size:
            total, headers = self._prelude()
            if len(self._buffer) < total:
                break
            message = bytes(self._buffer[:total])
            del self._buffer[:total]
            yield _parse_message(message, headers)

    def close(self) -> None:
        """Say that the stream ended.

        Raises:
            EventStreamError: In the middle of a message.
        """
        if self._buffer:
            raise EventStreamError("event stream: it ended inside a message")

    def _prelude(self) -> tuple[int, int]:
        total, headers, checksum = _PRELUDE.unpack_from(self._buffer)
        if crc32(self._buffer[:8]) != checksum:
            raise EventStreamError("event stream: the checksum of a prelude is wrong")
        if headers > EVENT_HEADERS_MAX_BYTES or total > EVENT_MESSAGE_MAX_BYTES:
            raise EventStreamError("event stream: a message is longer than its limit")
        if total < headers + _OVERHEAD:
            raise EventStreamError("event stream: a message is shorter than its own headers")
        return total, headers


_CACHED_MAX_BYTES: Final = 256
"""Of headers: those of Bedrock's events are half as long, and the same in every message."""


def _parse_message(message: bytes, headers_bytes: int) -> EventMessage:
    payload_end = len(message) - _CHECKSUM.size
    if crc32(message[:payload_end]) != _CHECKSUM.unpack_from(message, payload_end)[0]:
        raise EventStreamError("event stream: the checksum of a message is wrong")
    payload_start = _PRELUDE.size + headers_bytes
    headers = message[_PRELUDE.size : payload_start]
    parse = _parse_headers if headers_bytes > _CACHED_MAX_BYTES else _parse_short_headers
    return EventMessage(parse(headers), message[payload_start:payload_end])


@lru_cache(maxsize=64)  # a stream has one message a token, and some kinds of them
def _parse_short_headers(data: bytes) -> Mapping[str, HeaderValue]:
    return MappingProxyType(_parse_headers(data))


def _parse_headers(data: bytes) -> dict[str, HeaderValue]:
    headers: dict[str, HeaderValue] = {}
    at = 0
    while at < len(data):
        name, at = _sized(data, at, 1)
        kind, at = _take(data, at, 1)
        value, at = _value(data, at, kind[0])
        text = _utf8(name)
        if text in headers:
            raise EventStreamError("event stream: a header stands twice in one message")
        headers[text] = value
    return headers


def _value(data: bytes, at: int, kind: int) -> tuple[HeaderValue, int]:
    if kind in _BOOLEANS:
        return _BOOLEANS[kind], at
    if kind in _INTEGER_BYTES:
        raw, at = _take(data, at, _INTEGER_BYTES[kind])
        return int.from_bytes(raw, "big", signed=True), at
    if kind == _UUID:
        return _take(data, at, _UUID_BYTES)
    if kind not in {_BYTES, _TEXT}:
        raise EventStreamError(f"event stream: header type {kind} is not defined")
    raw, at = _sized(data, at, 2)
    return (_utf8(raw) if kind == _TEXT else raw), at


def _sized(data: bytes, at: int, length_bytes: int) -> tuple[bytes, int]:
    length, at = _take(data, at, length_bytes)
    return _take(data, at, int.from_bytes(length, "big"))


def _take(data: bytes, at: int, count: int) -> tuple[bytes, int]:
    end = at + count
    if end > len(data):
        raise EventStreamError("event stream: a header ends outside the headers")
    return data[at:end], end


def _utf8(raw: bytes) -> str:
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError:
        raise EventStreamError("event stream: a header is not UTF-8") from None
