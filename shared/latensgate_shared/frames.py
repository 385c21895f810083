"""Frames between parent and enclave: bytes in, typed events out, no socket.

One frame is a u32 big-endian length and that many bytes of one CBOR array (docs/spec/frames.md).
Calls are multiplexed over a connection by a call id which the parent chooses, always larger than
the one before. What a call may do stands in ``frame_rules``; here events become bytes and back, and
a broken rule becomes our fault (``LocalProtocolError``) or the peer's (``RemoteProtocolError``).

Neither side is trusted by the other: no length is believed before it is compared with its limit,
and an error crosses as the name of a code of the closed enumeration, never as text.

Back pressure is the caller's: it stops reading the socket while the events of the last ``receive``
wait; this class holds at most one incomplete frame.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, cast

from latensgate_shared import cbor, limits
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError
from latensgate_shared.frame_rules import (
    CHUNK_DATA_MAX_BYTES,
    TRANSITIONS,
    Accepted,
    CallTable,
    Cancel,
    Chunk,
    End,
    Error,
    Event,
    Head,
    HeadMap,
    IllegalError,
    Kind,
    Ping,
    Pong,
    Request,
    Role,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    _Members = dict[int | str, cbor.CBORValue]

__all__ = [
    "CHUNK_DATA_MAX_BYTES",
    "TRANSITIONS",
    "Accepted",
    "Cancel",
    "Chunk",
    "End",
    "Error",
    "Event",
    "FrameConnection",
    "FrameError",
    "Head",
    "HeadMap",
    "Kind",
    "LocalProtocolError",
    "Ping",
    "Pong",
    "RemoteProtocolError",
    "Request",
    "Role",
    "State",
    "split_body",
]

_PREFIX_BYTES: Final = 4
_REFUSED: Final = State.REFUSED
_CHUNK_HEAD: Final = b"\x83\x03"
"""CBOR: array of 3, then Kind.CHUNK."""
_TEXTS: Final = frozenset({str})
_LONG: Final = 24
"""RFC 8949, section 3: below it the low five bits are the argument, from it on they say where."""
_SHORTEST: Final = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}
_FAST_MIN_BYTES: Final = 2 + 9 + 9
"""Room for the two longest heads, so that the fast reader needs no bounds of its own."""


class FrameError(LatensgateError):
    """Base of the two faults: ours and the peer's."""


class LocalProtocolError(FrameError):
    """This side's own code asked for something illegal; nothing was sent, the connection lives."""


class RemoteProtocolError(FrameError, MalformedError):
    """The peer sent something illegal. Fatal: close the connection, all its calls are lost."""

    code = ErrorCode.ERR_MALFORMED


class FrameConnection:
    """One connection, seen from one role.

    ``send`` turns an event into bytes for the socket, ``receive`` turns bytes from the socket into
    events; both apply the same rules. After a ``RemoteProtocolError`` neither works any more.
    """

    def __init__(self, role: Role) -> None:
        self._role = role
        self._peer = role.peer
        self._calls = CallTable()
        self._buffer = bytearray()
        self._needed_bytes = _PREFIX_BYTES
        self._pings: dict[Role, int] = {}  # unanswered, by who asked
        self._broken = False

    @property
    def buffered_bytes(self) -> int:
        """Bytes of an incomplete frame, at most ``FRAME_MAX_BYTES`` + 3."""
        return len(self._buffer)

    @property
    def open_calls(self) -> int:
        """Calls that have not ended in this side's view."""
        return len(self._calls.open)

    @property
    def next_call_id(self) -> int:
        """The id for the next Request of the parent."""
        return self._calls.last_id + 1

    @property
    def can_request(self) -> bool:
        """Whether one more call may be opened here."""
        return not self._broken and self.open_calls < limits.CALLS_MAX_OPEN

    def state_of(self, call_id: int) -> State:
        """The state of a call in this side's view; ``CLOSED`` also for one never opened."""
        call = self._calls.open.get(call_id)
        return State.CLOSED if call is None else call.state

    def send(self, event: Event) -> bytes:
        """Return the frame for ``event``.

        Raises:
            LocalProtocolError: The event is not legal now, or is too large for a frame.
        """
        if self._broken:
            raise LocalProtocolError("frames: send on a connection that has failed")
        try:
            if type(event) is Chunk:
                self._calls.count_chunk(self._role, event.call_id, len(event.data))
                return _encode_chunk(event)  # what the rules admit fits into a frame
            frame = _prefixed(_encode(event))
            self._apply(self._role, event)
        except (IllegalError, MalformedError) as error:
            raise LocalProtocolError(f"frames: {error.detail}", code=error.code) from None
        return frame

    def receive(self, data: bytes) -> list[Event]:
        """Take what the socket gave, in any pieces; return the events that are complete.

        Raises:
            RemoteProtocolError: The peer broke a rule. Events of the same call are lost with it.
            LocalProtocolError: The connection has failed before.
        """
        if self._broken:
            raise LocalProtocolError("frames: receive on a connection that has failed")
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed_bytes:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        try:
            return self._read(data)
        except (IllegalError, MalformedError) as error:
            self._broken = True
            raise RemoteProtocolError(f"frames: {error.detail}", code=error.code) from None

    def receive_eof(self) -> None:
        """Note that the peer has closed; nothing can be sent or received after it.

        Raises:
            RemoteProtocolError: It closed within a frame or before its calls had ended.
        """
        self._broken = True
        if self._buffer or self.open_calls:
            raise RemoteProtocolError(
                f"frames: closed with {len(self._buffer)} bytes of a frame"
                f" and {self.open_calls} open calls"
            )

    def _read(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        start, size = 0, len(data)
        while True:
            body = end = start + _PREFIX_BYTES
            if body <= size:
                end += _frame_length(data, start)
            if body > size or end > size:
                break
            event = _read_frame(data[body:end])
            if self._deliver(event):
                events.append(event)
            start = end
        self._needed_bytes = end - start
        self._buffer += data[start:]
        return events

    def _deliver(self, event: Event) -> bool:
        """Apply what the peer sent; return whether this side's code is to see it."""
        if type(event) is Chunk:
            size = len(event.data)
            return self._calls.count_chunk(self._peer, event.call_id, size) is not _REFUSED
        if type(event) is Cancel and self._calls.late_cancel(event.call_id):
            return False
        return self._apply(self._peer, event) is not _REFUSED

    def _apply(self, sender: Role, event: Event) -> State:
        """Apply the rules; return the state that the call was in (UPLOADING for a new one)."""
        if isinstance(event, Request):
            self._calls.start(sender, event)
        elif isinstance(event, (Ping, Pong)):
            self._apply_ping(sender, event)
        else:
            if sender is Role.PARENT and isinstance(event, End) and event.head:
                raise IllegalError("an end of a request with fields; it has none")
            return self._calls.move(sender, event.call_id, event.kind)
        return State.UPLOADING

    def _apply_ping(self, sender: Role, event: Ping | Pong) -> None:
        if not 0 <= event.token <= limits.CALL_ID_MAX:
            raise IllegalError("a ping token that is negative or too large")
        if isinstance(event, Ping):
            if sender in self._pings:
                raise IllegalError("a second ping before the first is answered")
            self._pings[sender] = event.token
        elif self._pings.pop(sender.peer, None) != event.token:
            raise IllegalError("a pong that answers no ping")


def split_body(call_id: int, body: bytes) -> Iterable[Chunk]:
    """Cut a body in chunks of at most ``CHUNK_DATA_MAX_BYTES``; an empty body has none."""
    size = CHUNK_DATA_MAX_BYTES
    if 0 < len(body) <= size:
        return (Chunk(call_id, body),)
    return (Chunk(call_id, body[at : at + size]) for at in range(0, len(body), size))


def _read_frame(frame: bytes) -> Event:
    """Try the faster readers where the first two bytes are theirs, then the general one."""
    first = frame[:2]
    if first == _CHUNK_HEAD:
        return _decode_chunk(frame) or _decode(frame)
    make = _FLAT.get(first)
    return (_decode_flat(frame, make) if make else None) or _decode(frame)


def _frame_length(data: bytes, start: int) -> int:
    length = int.from_bytes(data[start : start + _PREFIX_BYTES], "big")
    if not 1 <= length <= limits.FRAME_MAX_BYTES:
        raise IllegalError(
            f"a frame of {length} bytes, 1 to {limits.FRAME_MAX_BYTES} expected",
            ErrorCode.ERR_TOO_LARGE if length else None,
        )
    return length


def _prefixed(body: bytes) -> bytes:
    size, most = len(body), limits.FRAME_MAX_BYTES
    if size > most:
        text = f"a frame of {size} bytes, at most {most} expected"
        raise IllegalError(text, ErrorCode.ERR_TOO_LARGE)
    return size.to_bytes(_PREFIX_BYTES, "big") + body


def _encode_chunk(chunk: Chunk) -> bytes:
    data = chunk.data
    head = _CHUNK_HEAD + cbor.head(0x00, chunk.call_id) + cbor.head(0x40, len(data))
    return (len(head) + len(data)).to_bytes(_PREFIX_BYTES, "big") + head + data


def _encode(event: Event) -> bytes:
    """Return the frame of an event that is not a chunk: its parts one by one, as an array."""
    match event:
        case Head() | End():
            return _start(3, event.kind, event.call_id) + cbor.encode(dict(event.head))
        case Ping() | Pong():
            return _start(2, event.kind, event.token)
        case Request():
            operation, head = cbor.encode(event.operation), cbor.encode(dict(event.head))
            return _start(4, event.kind, event.call_id) + operation + head
        case Error():
            return _start(3, event.kind, event.call_id) + cbor.encode(event.code.name)
        case _:
            return _start(2, event.kind, event.call_id)


def _start(elements: int, kind: Kind, number: int) -> bytes:
    # The rules refuse what is negative; they are asked after this.
    written = cbor.head(0x00, number) if number >= 0 else cbor.encode(number)
    return bytes((0x80 | elements, kind)) + written


def _decode_chunk(frame: bytes) -> Chunk | None:
    """Read a chunk frame without the general reader: one passes per token of a streamed answer.

    Returns:
        None for everything that is not a chunk in its one admitted form. The general reader then
        says what it is, or what is wrong with it.
    """
    if len(frame) < _FAST_MIN_BYTES:
        return None
    call_id, start = _argument(frame, 2, 0x00)
    size, start = _argument(frame, start, 0x40)
    if call_id < 0 or size != len(frame) - start:
        return None
    return Chunk(call_id, frame[start:])


def _decode_flat(frame: bytes, make: type[Head | End]) -> Event | None:
    """Read heads and ends whose fields hold no array or map; None as ``_decode_chunk``."""
    if len(frame) <= len(_CHUNK_HEAD):
        return None
    call_id, start = _argument(frame, 2, 0x00)
    if call_id < 0 or start >= len(frame):
        return None
    if frame[start:] == b"\xa0":  # CBOR's empty map: as every request ends
        return make(call_id, {})
    members = cbor.decode(frame[start:], max_bytes=limits.FRAME_MAX_BYTES)
    if type(members) is not dict or not _SCALARS.issuperset(map(type, members.values())):
        return None
    return make(call_id, _head(members))


def _argument(frame: bytes, at: int, major: int) -> tuple[int, int]:
    """Read a CBOR head of this major type; -1 if it is another or not the shortest."""
    info = frame[at] - major
    if 0 <= info < _LONG:
        return info, at + 1
    minimum = _SHORTEST.get(info)
    if minimum is None:
        return -1, at
    after = at + 1 + (1 << info - _LONG)
    value = int.from_bytes(frame[at + 1 : after], "big")
    return (value if value >= minimum else -1), after


def _decode(frame: bytes) -> Event:
    array = cbor.decode(frame, max_bytes=limits.FRAME_MAX_BYTES)
    types = tuple(map(type, array)) if type(array) is list else ()
    if types[:1] != (int,):
        raise IllegalError("a frame that is no array of the kinds that docs/spec/frames.md lists")
    kind, *fields = cast("list[int]", array)
    form = _FORMS.get(kind)
    if form is None or types[1:] != form[0]:
        raise IllegalError(f"a frame of {len(types)} elements of no kind that is spoken here")
    return form[1](*fields)


def _head(members: _Members) -> dict[str, cbor.CBORValue]:
    if not _TEXTS.issuperset(map(type, members)):
        raise IllegalError("a head with a name that is no text")
    return cast("dict[str, cbor.CBORValue]", members)


def _error_code(name: str) -> ErrorCode:
    code = ErrorCode.__members__.get(name)
    if code is None:
        raise IllegalError("an error code outside the closed enumeration")
    return code


def _request(call_id: int, operation: str, head: _Members) -> Request:
    return Request(call_id, operation, _head(head))


def _with_head(make: type[Head | End], call_id: int, head: _Members) -> Head | End:
    return make(call_id, _head(head))


_SCALARS: Final = frozenset({int, bytes, str, bool, type(None)})
_FLAT: Final = {bytes((0x83, Kind.HEAD)): Head, bytes((0x83, Kind.END)): End}
"""First two bytes of a frame (array of 3, kind) → what it is."""


def _error(call_id: int, name: str) -> Error:
    return Error(call_id, _error_code(name))


_FORMS: Final[Mapping[int, tuple[tuple[type, ...], Callable[..., Event]]]] = {
    Kind.REQUEST: ((int, str, dict), _request),
    Kind.ACCEPTED: ((int,), Accepted),
    Kind.HEAD: ((int, dict), partial(_with_head, Head)),
    Kind.CHUNK: ((int, bytes), Chunk),
    Kind.END: ((int, dict), partial(_with_head, End)),
    Kind.ERROR: ((int, str), _error),
    Kind.CANCEL: ((int,), Cancel),
    Kind.PING: ((int,), Ping),
    Kind.PONG: ((int,), Pong),
}
"""Kind → the types of the other elements, exactly (a bool is no number), and what they make."""
