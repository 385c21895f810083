"""One connection of the socket device: a UNIX socket on this side, counters towards the guest.

Credit works both ways: the guest sends at most what is free in ``BUFFER_BYTES`` here, and is sent
at most what it has told to be free there. So nothing else is held, however slow a reader is.
"""

from __future__ import annotations

import select
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, IntFlag, auto
from socket import SHUT_RD, SHUT_WR
from typing import TYPE_CHECKING, Final

from latensgate_sim.vhost.vsock_packet import Operation, Shutdown, shortened

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from latensgate_sim.vhost.reactor import Timer

BUFFER_BYTES: Final = 256 * 1024
"""What Linux gives a vsock socket by default (SO_VM_SOCKETS_BUFFER_SIZE)."""
_TELL_BYTES: Final = BUFFER_BYTES // 4
"""The guest is told of free room when so much has gone since it was told last."""
_COUNTER: Final = 0xFFFF_FFFF


class State(Enum):
    """How far a connection is."""

    ASKED = auto()
    """The guest has been asked and has not answered."""
    OPEN = auto()
    CLOSED = auto()


class Due(IntFlag):
    """What the guest is still to be told."""

    NOTHING = 0
    OPENING = 1
    """REQUEST or RESPONSE: before anything else."""
    CREDIT = 2
    ASK_CREDIT = 4
    SHUTDOWN = 8
    """After all data."""


@dataclass(frozen=True, slots=True)
class Key:
    """By which both sides know a connection."""

    host_cid: int
    host_port: int
    guest_port: int


@dataclass(slots=True, eq=False)
class Stream:
    """State of one connection.

    Attributes:
        key: Its addresses.
        peer: The UNIX socket, not blocking.
        state: How far it is.
        opening: REQUEST where this side asked, RESPONSE where the guest did.
        due: What the guest is to be told.
        waiting: From the guest, not yet taken by the socket; at most ``BUFFER_BYTES``.
        readable: The socket has something, as far as is known.
        hung_up: The socket's other end is closed altogether; it is not watched any more.
        guest_shut: What the guest will not do any more.
        host_shut: What the other end of the socket will not do any more.
        timer: Ends it if nothing happens.
    """

    key: Key
    peer: socket.socket
    state: State
    opening: Operation
    due: Due = Due.OPENING
    waiting: bytearray = field(default_factory=bytearray)
    readable: bool = False
    hung_up: bool = False
    guest_shut: Shutdown = Shutdown.NONE
    host_shut: Shutdown = Shutdown.NONE
    timer: Timer | None = None
    peer_buffer_bytes: int = 0
    peer_forwarded: int = 0
    sent: int = 0
    forwarded: int = 0
    told: int = 0
    _read_shut: bool = False
    _write_shut: bool = False

    # --- towards the guest ---

    @property
    def credit(self) -> int:
        """How many bytes the guest takes now; what it says may be nonsense, so never below 0."""
        in_flight = (self.sent - self.peer_forwarded) & _COUNTER
        return max(0, self.peer_buffer_bytes - in_flight)

    @property
    def may_read(self) -> bool:
        """Whether data of the socket have somewhere to go."""
        wanted = not self.host_shut & Shutdown.SEND and not self.guest_shut & Shutdown.RECEIVE
        return self.state is State.OPEN and wanted

    @property
    def has_packet(self) -> bool:
        """Whether there is something for the guest that it can take now."""
        return bool(self.due) or (self.readable and self.may_read and self.credit > 0)

    def read_into(self, room: Sequence[memoryview]) -> int | None:
        """Read from the socket; 0 at its end, None when there is nothing now.

        Raises:
            OSError: The connection broke.
        """
        buffers = shortened(room, self.credit)
        wanted = sum(len(buffer) for buffer in buffers)
        try:
            count = self.peer.recvmsg_into(buffers)[0]
        except BlockingIOError:
            self.readable = self.hung_up
            return None
        self.sent = (self.sent + count) & _COUNTER
        # Fewer than wanted: most likely all there was. A socket that is not watched any more has
        # something until its end has been read.
        self.readable = self.hung_up or count == wanted
        if self.readable and self.credit == 0:
            self.due |= Due.ASK_CREDIT
        return count

    # --- from the guest ---

    def over_credit(self, length: int) -> bool:
        """Say whether the guest sends more than there is room for."""
        return len(self.waiting) + length > BUFFER_BYTES

    def accept(self, data: Sequence[memoryview]) -> None:
        """Hand data of the guest to the socket, and keep what it does not take now."""
        for piece in data:
            taken = 0 if self.waiting else self._send(piece)
            self.waiting += piece[taken:]
        self.flush()

    def flush(self) -> None:
        """Hand over what waits; end writing once the guest has ended it and nothing waits."""
        while self.waiting and (count := self._send(self.waiting)):
            del self.waiting[:count]
        if (self.forwarded - self.told) & _COUNTER >= _TELL_BYTES:
            self.due |= Due.CREDIT
        if self.guest_shut & Shutdown.SEND and not self.waiting and not self._write_shut:
            self._write_shut = True
            with suppress(OSError):
                self.peer.shutdown(SHUT_WR)

    def _send(self, data: bytearray | memoryview) -> int:
        if self.host_shut & Shutdown.RECEIVE:
            count = len(data)  # to nobody
        else:
            try:
                count = self.peer.send(data)
            except BlockingIOError:
                return 0
            except OSError:
                self.host_ends(Shutdown.RECEIVE)
                count = len(data)
        self.forwarded = (self.forwarded + count) & _COUNTER
        return count

    # --- ends ---

    def host_ends(self, what: Shutdown) -> None:
        """Note that the socket's other end sends or takes nothing more."""
        if what & ~self.host_shut:
            self.host_shut |= what
            self.due |= Due.SHUTDOWN
        if self.host_shut & Shutdown.RECEIVE:
            self.forwarded = (self.forwarded + len(self.waiting)) & _COUNTER
            self.waiting.clear()

    def guest_ends(self, what: Shutdown) -> None:
        """Note that the guest sends or takes nothing more."""
        self.guest_shut |= what
        if self.guest_shut & Shutdown.RECEIVE and not self._read_shut:
            self._read_shut = True
            with suppress(OSError):
                self.peer.shutdown(SHUT_RD)
        self.flush()

    @property
    def events(self) -> int:
        """What to watch the socket for."""
        read = select.EPOLLIN if self.may_read and not self.readable else 0
        return read | (select.EPOLLOUT if self.waiting else 0)

    def close(self) -> None:
        """Close the socket and cancel the timer."""
        self.state = State.CLOSED
        self.peer.close()
        if self.timer is not None:
            self.timer.cancel()
