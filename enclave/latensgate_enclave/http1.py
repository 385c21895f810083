"""HTTP/1.1 as a client, without I/O: a request as bytes, an answer out of bytes (RFC 9112).

Two peers who frame the same bytes differently are how one answer is smuggled into another. So only
one framing of every answer is accepted: ``Content-Length`` or ``Transfer-Encoding: chunked``, never
both and never neither (an answer that ends with the connection cannot be told from a cut one), no
bare LF, no folded fields, no chunk extensions, no trailers, nothing after the end. AWS sends none
of these. Interim and bodiless answers (1xx, 204, 304) are refused too: no call of ours has one.
"""

from __future__ import annotations

import re
from copy import copy
from typing import TYPE_CHECKING, Final, TypeAlias

from msgspec.structs import force_setattr

from latensgate_enclave.values import Value
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import (
    HTTP_CHUNK_SIZE_MAX_DIGITS,
    HTTP_FIELDS_MAX_COUNT,
    HTTP_HEAD_MAX_BYTES,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class HTTPError(LatensgateError):
    """An answer that is not the one strict form of HTTP/1.1, or a request that has no such form."""

    code = ErrorCode.ERR_UPSTREAM


_METHOD: Final = re.compile(r"[A-Z]{1,16}")
_HOST: Final = re.compile(r"[a-z0-9.-]{1,253}(:[0-9]{1,5})?")
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)+")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[!-~](?:[ \t!-~]*[!-~])?")


class HttpRequest(Value, frozen=True):
    """One request.

    Attributes:
        method: Upper case.
        host: Host name, with the port if it is not 443; the value of the ``host`` field.
        path: As on the wire, percent-encoded, without a query.
        headers: Fields besides ``host`` and ``content-length``, which are made here.
        body: The whole body; never in ``repr``, because it is a prompt.

    Raises:
        HTTPError: A part that could end a line or a field early.
    """

    method: str
    host: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __post_init__(self) -> None:
        if not (
            _METHOD.fullmatch(self.method)
            and _HOST.fullmatch(self.host)
            and _PATH.fullmatch(self.path)
        ):
            raise HTTPError("HTTP request: method, host or path is outside its character set")
        _check_fields(self.headers)

    def with_fields(self, *added: tuple[str, str]) -> HttpRequest:
        """Return the request with more fields; what it has already is not judged again.

        Raises:
            HTTPError: As for a new one.
        """
        _check_fields(added)
        request = copy(self)
        force_setattr(request, "headers", self.headers + added)
        return request

    def to_bytes(self) -> bytes:
        """Serialise, with ``host`` first and ``content-length`` last."""
        lines = [f"{self.method} {self.path} HTTP/1.1", f"host: {self.host}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines.append(f"content-length: {len(self.body)}\r\n\r\n")
        return "\r\n".join(lines).encode("ascii") + self.body


def _check_fields(fields: tuple[tuple[str, str], ...]) -> None:
    for name, value in fields:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise HTTPError("HTTP request: a field is outside its character set")


class ResponseHead(Value, frozen=True):
    """Status and fields of an answer.

    Attributes:
        status: 200 to 599.
        headers: By lower-case name; values of repeated fields are joined with ``", "``.
    """

    status: int
    headers: Mapping[str, str]


class ResponseEnd(Value, frozen=True):
    """The whole body has been seen.

    Attributes:
        reusable: Whether the server keeps the connection open for another request.
    """

    reusable: bool


class HttpResponse(Value, frozen=True):
    """A whole answer; ``body`` is never in ``repr``."""

    status: int
    headers: Mapping[str, str]
    body: bytes


ResponseEvent: TypeAlias = "ResponseHead | bytes | ResponseEnd"

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2})(?: [\t -~\x80-\xff]*)?")
_FIELD: Final = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++):[ \t]*+"
    rb"((?:[!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)?)[ \t]*+"
)
_LENGTH: Final = re.compile(r"[0-9]{1,15}")
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,%d}" % HTTP_CHUNK_SIZE_MAX_DIGITS)
_CHUNK_HEAD: Final = re.compile(rb"([0-9A-Fa-f]{1,%d})\r\n" % HTTP_CHUNK_SIZE_MAX_DIGITS)
_SINGLE: Final = frozenset({"content-length", "transfer-encoding", "connection"})
_BODILESS: Final = frozenset({204, 304})


class ResponseReader:
    """Reads the one answer to one request, in whatever pieces it comes.

    Args:
        max_body_bytes: Largest body admitted, in bytes.
    """

    __slots__ = ("_body_left", "_buffer", "_ended", "_remaining", "_reusable", "_step")

    def __init__(self, *, max_body_bytes: int) -> None:
        self._buffer = bytearray()
        self._body_left = max_body_bytes
        self._remaining = 0
        self._reusable = True
        self._ended = False
        self._step: Callable[[list[ResponseEvent]], bool] = self._read_head

    @property
    def ended(self) -> bool:
        """Whether the whole answer has been seen."""
        return self._ended

    def receive(self, data: bytes) -> list[ResponseEvent]:
        """Take bytes as they came from the socket and return what they complete.

        Returns:
            One ``ResponseHead``, then body pieces as ``bytes`` (never empty), then ``ResponseEnd``.

        Raises:
            HTTPError: The answer is not strict HTTP/1.1, or above a limit. Close the connection.
        """
        self._buffer += data
        events: list[ResponseEvent] = []
        while self._step(events):
            pass
        return events

    def close(self) -> None:
        """Say that the server closed the connection.

        Raises:
            HTTPError: The answer has not ended: what came so far is cut short.
        """
        if not self._ended:
            raise HTTPError("HTTP answer: the connection ended before the answer did")

    def _read_head(self, events: list[ResponseEvent]) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, HTTP_HEAD_MAX_BYTES)
        if end < 0:
            if len(self._buffer) >= HTTP_HEAD_MAX_BYTES:
                raise HTTPError(f"HTTP answer: no end of head within {HTTP_HEAD_MAX_BYTES} bytes")
            return False
        status_line, *fields = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        head = ResponseHead(_parse_status(status_line), _parse_fields(fields))
        self._begin_body(head.headers)
        events.append(head)
        return True

    def _begin_body(self, headers: Mapping[str, str]) -> None:
        self._reusable = headers.get("connection", "keep-alive").lower() == "keep-alive"
        length, coding = headers.get("content-length"), headers.get("transfer-encoding")
        if (length is None) == (coding is None):
            raise HTTPError("HTTP answer: exactly one of content-length and chunked expected")
        if length is None:
            if coding != "chunked":
                raise HTTPError("HTTP answer: the only transfer coding admitted is chunked")
            self._step = self._read_chunk_size
            return
        if not _LENGTH.fullmatch(length):
            raise HTTPError("HTTP answer: content-length is not a decimal number")
        self._admit(int(length))
        self._step = self._read_sized_body

    def _admit(self, size: int) -> None:
        if size > self._body_left:
            raise HTTPError("HTTP answer: the body is longer than this call admits")
        self._body_left -= size
        self._remaining = size

    def _take_body(self, events: list[ResponseEvent]) -> bool:
        """Move body bytes out of the buffer; return whether all that were announced are out."""
        if self._remaining and self._buffer:
            piece = bytes(self._buffer[: self._remaining])
            del self._buffer[: len(piece)]
            self._remaining -= len(piece)
            events.append(piece)
        return not self._remaining

    def _read_sized_body(self, events: list[ResponseEvent]) -> bool:
        return self._take_body(events) and self._end(events)

    def _read_chunk_size(self, events: list[ResponseEvent]) -> bool:
        self._read_whole_chunks(events)
        line = self._line(HTTP_CHUNK_SIZE_MAX_DIGITS)
        if line is None:
            return False
        if not _CHUNK_SIZE.fullmatch(line):
            raise HTTPError("HTTP answer: a chunk size is not a plain hexadecimal number")
        self._admit(int(line, 16))
        self._step = self._read_chunk if self._remaining else self._read_last_line
        return True

    def _read_whole_chunks(self, events: list[ResponseEvent]) -> None:
        """Take the chunks that are here from end to end; the steps judge everything else.

        They become one piece: where chunks end means nothing, and tokens come in bursts.
        """
        at, pieces = 0, list[bytes]()
        while head := _CHUNK_HEAD.match(self._buffer, at):
            size = int(head[1], 16)
            end = head.end() + size
            if not size or size > self._body_left or not self._buffer.startswith(b"\r\n", end):
                break
            self._body_left -= size
            pieces.append(bytes(self._buffer[head.end() : end]))
            at = end + 2
        if pieces:
            del self._buffer[:at]
            events.append(b"".join(pieces))

    def _read_chunk(self, events: list[ResponseEvent]) -> bool:
        if not self._take_body(events) or self._line(0) is None:
            return False
        self._step = self._read_chunk_size
        return True

    def _read_last_line(self, events: list[ResponseEvent]) -> bool:
        return self._line(0) is not None and self._end(events)

    def _line(self, max_bytes: int) -> bytes | None:
        """Take a line of at most ``max_bytes`` without its CRLF, or nothing if it is not there."""
        end = self._buffer.find(b"\r\n", 0, max_bytes + 2)
        if end < 0:
            if len(self._buffer) >= max_bytes + 2:
                raise HTTPError(f"HTTP answer: a line of at most {max_bytes} bytes expected")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _end(self, events: list[ResponseEvent]) -> bool:
        events.append(ResponseEnd(self._reusable))
        self._ended = True
        self._step = self._refuse_more
        return True

    def _refuse_more(self, _events: list[ResponseEvent]) -> bool:
        if self._buffer:
            raise HTTPError("HTTP answer: bytes after the end")
        return False


def _parse_status(line: bytes) -> int:
    match = _STATUS_LINE.fullmatch(line)
    if not match or int(match[1]) in _BODILESS:
        raise HTTPError("HTTP answer: the status line is not HTTP/1.1 with a status that we expect")
    return int(match[1])


def _parse_fields(lines: list[bytes]) -> dict[str, str]:
    if len(lines) > HTTP_FIELDS_MAX_COUNT:
        raise HTTPError(f"HTTP answer: more than {HTTP_FIELDS_MAX_COUNT} fields")
    fields: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if not match:
            raise HTTPError("HTTP answer: a field line is malformed")
        name, value = match[1].decode("ascii").lower(), match[2].decode("latin-1")
        if name in fields:
            if name in _SINGLE:
                raise HTTPError(f"HTTP answer: {name} stands twice")
            value = f"{fields[name]}, {value}"
        fields[name] = value
    return fields
