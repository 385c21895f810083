"""The socket device: connects ports of a guest with UNIX sockets of this machine.

A connection of the guest to CID 3 (the parent, as Nitro names it) or 2 (the host) leads to the UNIX
socket that its port is mapped to. A UNIX socket of this device leads into the guest. What a socket
of AF_VSOCK would see is kept: half-close both ways, refusal, back pressure, an end without a word.
One thing is lost: UNIX sockets have no reset, so a reset of the guest is an end of stream here.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from latensgate_sim.vhost.vsock_packet import (
    STREAM,
    Operation,
    Packet,
    Shutdown,
    behind_header,
    split,
    write_header,
)
from latensgate_sim.vhost.vsock_stream import BUFFER_BYTES, Due, Key, State, Stream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from latensgate_sim.vhost.reactor import Reactor
    from latensgate_sim.vhost.virtqueue import Chain, Virtqueue
    from latensgate_sim.vhost.vsock_ports import Ports

HOST_CIDS: Final = frozenset({2, 3})
PARENT_CID: Final = 3
STREAMS_MAX_COUNT: Final = 1_024
"""With ``BUFFER_BYTES`` each: at most 256 MiB are held."""
REFUSALS_MAX_COUNT: Final = 1_024
"""Resets that wait for room; one that is dropped costs its caller a time-out, no more."""
CONNECT_TIMEOUT_S: Final = 10.0
"""Linux waits 2 s; an emulated guest beside a busy machine gets more."""
CLOSE_TIMEOUT_S: Final = 8.0
"""VSOCK_CLOSE_TIMEOUT of Linux: how long a close waits for the other side's word."""
LINGER_TIMEOUT_S: Final = 60.0
"""How long data of a connection that the guest has closed wait for a reader."""
_TURN_PACKETS: Final = 256
"""Packets of the guest between two looks at other descriptors."""
_FIRST_PORT: Final = 1 << 20
_PORT_MASK: Final = 0x7FFF_FFFF
_RX: Final = 0
_TX: Final = 1


class VsockDevice:
    """A socket device with one guest.

    Args:
        reactor: Calls back.
        cid: Of the guest.
        ports: What is connected.
    """

    queue_count = 2

    def __init__(self, reactor: Reactor, cid: int, ports: Ports) -> None:
        self.config = struct.pack("<Q", cid)
        self._reactor = reactor
        self._cid = cid
        self._ports = ports
        self._queues: Sequence[Virtqueue] = ()
        self._streams: dict[Key, Stream] = {}
        self._ready: dict[Stream, None] = {}
        self._refusals: deque[Packet] = deque(maxlen=REFUSALS_MAX_COUNT)
        self._lingering: set[Stream] = set()
        self._next_port = _FIRST_PORT
        self._listening = [self._listen(path, port) for path, port in ports.inward.items()]

    # --- life ---

    def attach(self, queues: Sequence[Virtqueue]) -> None:
        """Learn the queues: the guest receives on the first and sends on the second."""
        self._queues = queues

    def reset(self) -> None:
        """Drop every connection: the guest is gone."""
        for stream in self.streams:
            self._close(stream)
        self._ready.clear()
        self._refusals.clear()

    def close(self) -> None:
        """Stop listening, too."""
        self.reset()
        for waiting in self._listening:
            self._reactor.forget(waiting.fileno())
            waiting.close()
        for path in self._ports.inward:
            path.unlink(missing_ok=True)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """All connections, with those that only wait for a reader."""
        return (*self._streams.values(), *self._lingering)

    @property
    def held_bytes(self) -> int:
        """How many bytes wait for readers on this side."""
        return sum(len(stream.waiting) for stream in self.streams)

    @property
    def refusal_count(self) -> int:
        """How many resets wait for room."""
        return len(self._refusals)

    # --- into the guest ---

    def _listen(self, path: Path, port: int) -> socket.socket:
        waiting = socket.socket(socket.AF_UNIX)
        waiting.settimeout(0)
        waiting.bind(str(path))
        path.chmod(0o600)
        waiting.listen(128)
        self._reactor.watch(
            waiting.fileno(), select.EPOLLIN, lambda _: self._entered(waiting, port)
        )
        return waiting

    def _entered(self, waiting: socket.socket, port: int) -> None:
        try:
            peer, _ = waiting.accept()
        except BlockingIOError:
            return
        full = len(self._streams) >= STREAMS_MAX_COUNT
        if full or not self._queues or not self._queues[_RX].usable:
            peer.close()  # no driver yet: nobody listens there
            return
        key = Key(PARENT_CID, self._free_port(port), port)
        stream = Stream(key, peer, State.ASKED, Operation.REQUEST)
        stream.timer = self._reactor.later(CONNECT_TIMEOUT_S, lambda: self._break(stream))
        self._begin(stream)

    def _free_port(self, guest_port: int) -> int:
        while Key(PARENT_CID, self._next_port, guest_port) in self._streams:
            self._step_port()
        found = self._next_port
        self._step_port()
        return found

    def _step_port(self) -> None:
        self._next_port = max(_FIRST_PORT, (self._next_port + 1) & _PORT_MASK)

    def _begin(self, stream: Stream) -> None:
        stream.peer.settimeout(0)
        self._streams[stream.key] = stream
        self._reactor.watch(
            stream.peer.fileno(), stream.events, lambda events: self._host_event(stream, events)
        )
        self._settle(stream)
        self._drain()

    def _host_event(self, stream: Stream, events: int) -> None:
        if events & select.EPOLLOUT:
            stream.flush()
        if events & (select.EPOLLHUP | select.EPOLLERR):
            # Reported without end from now on, while data may still wait for credit.
            stream.hung_up = True
            self._reactor.forget(stream.peer.fileno())
            if stream.waiting:
                stream.flush()  # finds out that nobody reads
        if stream.hung_up or events & select.EPOLLIN:
            stream.readable = True
        self._settle(stream)
        self._drain()

    def _drain(self) -> None:
        """Fill the guest's buffers with whatever is for it, a packet of each connection in turn."""
        if not self._queues or not self._queues[_RX].usable:
            return
        queue = self._queues[_RX]
        filled = False
        while self._refusals or self._ready:
            chain = queue.take()
            if chain is None:
                break
            written = self._fill(chain)
            if not written:
                queue.put_back()
                continue
            queue.finish(chain, written)
            filled = True
        if filled:
            queue.notify()

    def _fill(self, chain: Chain) -> int:
        """Write one packet; 0 when the connection whose turn it was had none after all."""
        if self._refusals:
            packet, count = self._refusals.popleft(), 0
        else:
            stream = next(iter(self._ready))
            del self._ready[stream]
            found = self._next_packet(stream, behind_header(chain.writable))
            self._settle(stream)
            if found is None:
                return 0
            packet, count = found, found.length
        write_header(chain.writable, packet)
        return len(packet.pack()) + count

    def _next_packet(self, stream: Stream, room: Sequence[memoryview]) -> Packet | None:
        if stream.due & Due.OPENING:
            stream.due &= ~Due.OPENING
            return self._packet(stream, stream.opening)
        if stream.readable and stream.may_read and stream.credit:
            packet = self._data_packet(stream, room)
            if packet is not None:
                return packet
        for due, operation in (
            (Due.ASK_CREDIT, Operation.CREDIT_REQUEST),
            (Due.CREDIT, Operation.CREDIT_UPDATE),
            (Due.SHUTDOWN, Operation.SHUTDOWN),
        ):
            if stream.due & due:
                stream.due &= ~due
                flags = stream.host_shut if due is Due.SHUTDOWN else Shutdown.NONE
                return self._packet(stream, operation, flags=flags)
        return None

    def _data_packet(self, stream: Stream, room: Sequence[memoryview]) -> Packet | None:
        try:
            count = stream.read_into(room)
        except OSError:
            self._break(stream)
            return None
        if count == 0:
            stream.host_ends(Shutdown.BOTH if stream.hung_up else Shutdown.SEND)
        return self._packet(stream, Operation.RW, count) if count else None

    def _packet(
        self, stream: Stream, operation: Operation, length: int = 0, flags: int = 0
    ) -> Packet:
        stream.told = stream.forwarded
        stream.due &= ~Due.CREDIT
        key = stream.key
        return Packet(
            key.host_cid,
            self._cid,
            key.host_port,
            key.guest_port,
            length,
            STREAM,
            operation,
            flags,
            BUFFER_BYTES,
            stream.forwarded,
        )

    # --- out of the guest ---

    def kicked(self, index: int) -> None:
        """Serve what the guest has put up.

        Raises:
            VhostError: It is malformed.
        """
        if index == _TX:
            self._receive()
        self._drain()

    def _receive(self) -> None:
        queue = self._queues[_TX]
        for _ in range(_TURN_PACKETS):
            chain = queue.take() if queue.usable else None
            if chain is None:
                break
            packet, data = split(chain.readable)
            self._judge(packet, data)
            queue.finish(chain, 0)
        else:
            self._reactor.later(0, lambda: self.kicked(_TX))
        queue.notify()

    def _judge(self, packet: Packet, data: list[memoryview]) -> None:
        key = Key(packet.destination_cid, packet.destination_port, packet.source_port)
        stream = self._streams.get(key)
        wrong = packet.source_cid != self._cid or packet.kind != STREAM
        if wrong or (stream is None) == (packet.operation != Operation.REQUEST):
            self._refuse(packet)
            if stream is not None:
                self._close(stream)
        elif stream is None:
            self._requested(packet, key)
        else:
            stream.peer_buffer_bytes, stream.peer_forwarded = packet.buffer_bytes, packet.forwarded
            self._serve(stream, packet, data)

    def _refuse(self, packet: Packet) -> None:
        if packet.operation != Operation.RST:
            self._refusals.append(packet.refusal())

    def _requested(self, packet: Packet, key: Key) -> None:
        path = self._ports.outward.get(packet.destination_port)
        known = path is not None and packet.destination_cid in HOST_CIDS
        if path is None or not known or len(self._streams) >= STREAMS_MAX_COUNT:
            self._refuse(packet)
            return
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(0)
        if peer.connect_ex(str(path)) not in {0, errno.EISCONN}:
            peer.close()
            self._refuse(packet)
            return
        stream = Stream(key, peer, State.OPEN, Operation.RESPONSE)
        stream.peer_buffer_bytes, stream.peer_forwarded = packet.buffer_bytes, packet.forwarded
        self._begin(stream)

    def _serve(self, stream: Stream, packet: Packet, data: list[memoryview]) -> None:
        operation = packet.operation
        if operation == Operation.RST:
            self._reset_by_guest(stream)
            return
        if operation == Operation.RESPONSE and stream.state is State.ASKED:
            stream.state = State.OPEN
            self._stop_timer(stream)
        elif stream.state is not State.OPEN or operation not in _WHILE_OPEN:
            self._break(stream)
        elif operation == Operation.RW:
            if stream.over_credit(packet.length) or stream.guest_shut & Shutdown.SEND:
                self._break(stream)
            else:
                stream.accept(data)
        elif operation == Operation.CREDIT_REQUEST:
            stream.due |= Due.CREDIT
        elif operation == Operation.SHUTDOWN:
            stream.guest_ends(Shutdown(packet.flags & Shutdown.BOTH))
        self._settle(stream)

    # --- ends ---

    def _settle(self, stream: Stream) -> None:
        """Do what follows from a stream's state: watch, queue, end."""
        if stream.state is State.CLOSED:
            return
        if stream.guest_shut == Shutdown.BOTH and not stream.waiting:
            self._break(stream)  # what Linux waits for when it has closed a socket
            return
        if stream.timer is None and Shutdown.BOTH in {stream.guest_shut, stream.host_shut}:
            patience_s = LINGER_TIMEOUT_S if stream.waiting else CLOSE_TIMEOUT_S
            stream.timer = self._reactor.later(patience_s, lambda: self._break(stream))
        if not stream.hung_up:
            self._reactor.change(stream.peer.fileno(), stream.events)
        if stream.has_packet and stream not in self._lingering:
            self._ready[stream] = None

    def _stop_timer(self, stream: Stream) -> None:
        if stream.timer is not None:
            stream.timer.cancel()
            stream.timer = None

    def _break(self, stream: Stream) -> None:
        """End a connection and tell the guest, unless the guest has left before."""
        if stream.state is State.CLOSED:
            return
        told = stream not in self._lingering
        self._close(stream)
        if told:
            self._refusals.append(self._packet(stream, Operation.RST))
            self._drain_later()

    def _drain_later(self) -> None:
        self._reactor.later(0, self._drain)

    def _reset_by_guest(self, stream: Stream) -> None:
        """Take a reset: a guest that had closed before has lost patience with a slow reader."""
        if stream.guest_shut & Shutdown.SEND and stream.waiting:
            del self._streams[stream.key]
            self._ready.pop(stream, None)
            stream.guest_shut = Shutdown.BOTH
            stream.due = Due.NOTHING
            self._lingering.add(stream)
            self._stop_timer(stream)
            self._settle(stream)
        else:
            self._close(stream)

    def _close(self, stream: Stream) -> None:
        self._reactor.forget(stream.peer.fileno())
        stream.close()
        self._ready.pop(stream, None)
        self._lingering.discard(stream)
        if self._streams.get(stream.key) is stream:
            del self._streams[stream.key]


_WHILE_OPEN: Final = frozenset(
    {Operation.RW, Operation.SHUTDOWN, Operation.CREDIT_UPDATE, Operation.CREDIT_REQUEST}
)
