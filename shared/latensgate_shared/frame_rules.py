"""What a call may do: the events, the states and the one table of legal transitions.

Pure rules, as seen by either side of a connection: this file does not know which side it is on,
only who sends what. ``frames`` turns events into bytes and back and says whose fault a broken rule
is. The page to read beside it is docs/spec/frames.md.

    parent                                        enclave
      Request, Chunk*, End                -->
                                          <--       Accepted, Head, Chunk*, End
      Cancel (any time)                   -->
                                          <--       Error (any time, ends the call)

Frames cross in flight. Of that, exactly this much is tolerated: the rest of a request body that
the enclave has already refused (bounded by the body limit), and one Cancel for a call that the
enclave has just finished (bounded by ``_LATE_CANCELS``). All else is illegal.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

from latensgate_shared import cbor, limits
from latensgate_shared.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Mapping

HeadMap: TypeAlias = "Mapping[str, cbor.CBORValue]"
"""Named fields of a request, of an answer, or of an answer's end; read by ``calls``.

No ``repr`` shows them: a head may hold credentials."""

_CHUNK_OVERHEAD_BYTES: Final = 16
"""Array head, kind, the longest call id (9) and the longest byte string head (5)."""
CHUNK_DATA_MAX_BYTES: Final = limits.FRAME_MAX_BYTES - _CHUNK_OVERHEAD_BYTES
"""Largest ``Chunk.data``."""
_LATE_CANCELS: Final = 2 * limits.CALLS_MAX_OPEN
"""Finished calls that may yet see a Cancel. What the parent cancels is open in its own view, so at
most CALLS_MAX_OPEN endings are on their way to it; as many again may have closed in between because
the end of a refused body arrived."""


class IllegalError(Exception):
    """A broken rule, before it is known whose fault it is."""

    def __init__(self, detail: str, code: ErrorCode | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code


class Role(StrEnum):
    """The two ends of a connection."""

    PARENT = "parent"
    ENCLAVE = "enclave"

    @property
    def peer(self) -> Role:
        """The other end."""
        return Role.ENCLAVE if self is Role.PARENT else Role.PARENT


class Kind(IntEnum):
    """First element of a frame."""

    REQUEST = 0
    ACCEPTED = 1
    HEAD = 2
    CHUNK = 3
    END = 4
    ERROR = 5
    CANCEL = 6
    PING = 7
    PONG = 8


@dataclass(frozen=True, slots=True)
class Request:
    """Parent: opens a call."""

    kind: ClassVar = Kind.REQUEST
    call_id: int
    operation: str
    head: HeadMap = field(repr=False)


@dataclass(frozen=True, slots=True)
class Accepted:
    """Enclave: there is room, the call will be answered. Due within ``ENCLAVE_ACCEPT_MS``."""

    kind: ClassVar = Kind.ACCEPTED
    call_id: int


@dataclass(frozen=True, slots=True)
class Head:
    """Enclave: the answer begins."""

    kind: ClassVar = Kind.HEAD
    call_id: int
    head: HeadMap = field(repr=False)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Either side: part of its body; 1 to ``CHUNK_DATA_MAX_BYTES`` bytes."""

    kind: ClassVar = Kind.CHUNK
    call_id: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class End:
    """Either side: its body is complete. The parent's ``head`` is empty."""

    kind: ClassVar = Kind.END
    call_id: int
    head: HeadMap = field(default_factory=dict[str, cbor.CBORValue], repr=False)


@dataclass(frozen=True, slots=True)
class Error:
    """Enclave: the call failed, and is over. Text never crosses."""

    kind: ClassVar = Kind.ERROR
    call_id: int
    code: ErrorCode


@dataclass(frozen=True, slots=True)
class Cancel:
    """Parent: nobody waits for the answer. The enclave still ends the call, by End or Error."""

    kind: ClassVar = Kind.CANCEL
    call_id: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Either side: are you there? One at a time; answer with ``Pong(token)``."""

    kind: ClassVar = Kind.PING
    token: int


@dataclass(frozen=True, slots=True)
class Pong:
    """Acknowledges the ping of the same token."""

    kind: ClassVar = Kind.PONG
    token: int


CallEvent: TypeAlias = "Request | Accepted | Head | Chunk | End | Error | Cancel"
Event: TypeAlias = "CallEvent | Ping | Pong"


class State(IntEnum):
    """Of one call, as one side sees it."""

    UPLOADING = 0
    UPLOADING_ACCEPTED = 1
    UPLOADED = 2
    ACCEPTED = 3
    ANSWERING = 4
    REFUSED = 5
    ABORTED = 6
    ABORTED_ACCEPTED = 7
    CANCELLED = 8
    CANCELLED_ACCEPTED = 9
    CANCELLED_ANSWERING = 10
    CLOSED = 11


_Moves: TypeAlias = "Mapping[State, Mapping[Kind, State]]"

TRANSITIONS: Final[Mapping[Role, _Moves]] = {
    Role.PARENT: {
        State.UPLOADING: {
            Kind.CHUNK: State.UPLOADING,
            Kind.END: State.UPLOADED,
            Kind.CANCEL: State.ABORTED,
        },
        State.UPLOADING_ACCEPTED: {
            Kind.CHUNK: State.UPLOADING_ACCEPTED,
            Kind.END: State.ACCEPTED,
            Kind.CANCEL: State.ABORTED_ACCEPTED,
        },
        State.UPLOADED: {Kind.CANCEL: State.CANCELLED},
        State.ACCEPTED: {Kind.CANCEL: State.CANCELLED_ACCEPTED},
        State.ANSWERING: {Kind.CANCEL: State.CANCELLED_ANSWERING},
        State.REFUSED: {
            Kind.CHUNK: State.REFUSED,
            Kind.END: State.CLOSED,
            Kind.CANCEL: State.CLOSED,
        },
    },
    Role.ENCLAVE: {
        State.UPLOADING: {Kind.ACCEPTED: State.UPLOADING_ACCEPTED, Kind.ERROR: State.REFUSED},
        State.UPLOADING_ACCEPTED: {Kind.ERROR: State.REFUSED},
        State.UPLOADED: {Kind.ACCEPTED: State.ACCEPTED, Kind.ERROR: State.CLOSED},
        State.ACCEPTED: {Kind.HEAD: State.ANSWERING, Kind.ERROR: State.CLOSED},
        State.ANSWERING: {
            Kind.CHUNK: State.ANSWERING,
            Kind.END: State.CLOSED,
            Kind.ERROR: State.CLOSED,
        },
        State.ABORTED: {Kind.ACCEPTED: State.ABORTED_ACCEPTED, Kind.ERROR: State.CLOSED},
        State.ABORTED_ACCEPTED: {Kind.ERROR: State.CLOSED},
        State.CANCELLED: {Kind.ACCEPTED: State.CANCELLED_ACCEPTED, Kind.ERROR: State.CLOSED},
        State.CANCELLED_ACCEPTED: {
            Kind.HEAD: State.CANCELLED_ANSWERING,
            Kind.ERROR: State.CLOSED,
        },
        State.CANCELLED_ANSWERING: {
            Kind.CHUNK: State.CANCELLED_ANSWERING,
            Kind.END: State.CLOSED,
            Kind.ERROR: State.CLOSED,
        },
    },
}
"""Who may send what in which state, and what follows. What is not here is illegal."""

_NO_MOVES: Final[Mapping[Kind, State]] = {}
_TAKES_CHUNKS: Final = {
    role: frozenset(state for state, kinds in moves.items() if Kind.CHUNK in kinds)
    for role, moves in TRANSITIONS.items()
}
"""The table's column for chunks, which leave every state as it is: asked once for each token."""
_NOT_CANCELLED: Final = frozenset({State.UPLOADED, State.ACCEPTED, State.ANSWERING, State.REFUSED})
"""States that end a call without the parent having cancelled it."""


@dataclass(slots=True)
class _Call:
    state: State = State.UPLOADING
    body_bytes: int = 0
    """Of the body under way: the answer's begins after the request's has ended."""


class CallTable:
    """The calls of one connection, by the rules that hold for both sides."""

    def __init__(self) -> None:
        self.open: dict[int, _Call] = {}
        self.last_id = 0
        # In order of ending. Not a dict: there the way to the oldest grows with those deleted.
        self._finished: OrderedDict[int, None] = OrderedDict()

    def start(self, sender: Role, request: Request) -> None:
        """Open a call."""
        if sender is not Role.PARENT:
            raise IllegalError("a request from the enclave; only the parent calls")
        if not self.last_id < request.call_id <= limits.CALL_ID_MAX:
            raise IllegalError(f"call id {request.call_id} after {self.last_id}; ids only grow")
        if not 1 <= len(request.operation) <= limits.NAME_MAX_CHARS:
            raise IllegalError(f"an operation of {len(request.operation)} characters")
        if len(self.open) >= limits.CALLS_MAX_OPEN:
            raise IllegalError(
                f"a request above {limits.CALLS_MAX_OPEN} open calls", ErrorCode.ERR_OVERLOADED
            )
        self.last_id = request.call_id
        self.open[request.call_id] = _Call()

    def count_chunk(self, sender: Role, call_id: int, size: int) -> State:
        """Admit ``size`` bytes of a body; return the call's state."""
        call = self.open.get(call_id)
        if call is None or call.state not in _TAKES_CHUNKS[sender]:
            raise self._illegal_move(sender, call_id, Kind.CHUNK)
        if not 1 <= size <= CHUNK_DATA_MAX_BYTES:
            raise IllegalError(f"a chunk of {size} bytes, 1 to {CHUNK_DATA_MAX_BYTES} expected")
        total = call.body_bytes + size
        if total > limits.CALL_BODY_MAX_BYTES:
            raise IllegalError(
                f"a body above {limits.CALL_BODY_MAX_BYTES} bytes", ErrorCode.ERR_TOO_LARGE
            )
        call.body_bytes = total
        return call.state

    def move(self, sender: Role, call_id: int, kind: Kind) -> State:
        """Apply the table; return the state that the call was in."""
        call = self.open.get(call_id)
        before = State.CLOSED if call is None else call.state
        after = TRANSITIONS[sender].get(before, _NO_MOVES).get(kind)
        if call is None or after is None:
            raise self._illegal_move(sender, call_id, kind)
        call.state = after
        if kind is Kind.HEAD:
            call.body_bytes = 0
        if after is State.CLOSED:
            del self.open[call_id]
            if kind is not Kind.CANCEL and before in _NOT_CANCELLED:
                self._remember(call_id)
        return before

    def late_cancel(self, call_id: int) -> bool:
        """Whether a Cancel for this call is merely late; it is so once."""
        return self._finished.pop(call_id, self) is None

    def _remember(self, call_id: int) -> None:
        self._finished[call_id] = None
        if len(self._finished) > _LATE_CANCELS:
            self._finished.popitem(last=False)

    def _illegal_move(self, sender: Role, call_id: int, kind: Kind) -> IllegalError:
        call = self.open.get(call_id)
        state = "not open" if call is None else call.state.name
        return IllegalError(
            f"{kind.name} from the {sender.value} for call {call_id}, which is {state}"
        )
