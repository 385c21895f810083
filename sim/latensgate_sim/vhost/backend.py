"""The back end of one device: one front end after its own protocol, then the device's work.

It serves one front end and ends with it: a machine that is started again gets new devices, as a
new enclave does.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from typing import TYPE_CHECKING, Final, Protocol

from latensgate_sim.vhost.errors import VhostError
from latensgate_sim.vhost.memory import GuestMemory
from latensgate_sim.vhost.virtqueue import Virtqueue
from latensgate_sim.vhost.wire import NEED_REPLY, Message, Request, close_all, receive, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from latensgate_sim.vhost.reactor import Reactor

VERSION_1: Final = 1 << 32
"""VIRTIO_F_VERSION_1."""
PROTOCOL_FEATURES: Final = 1 << 30
"""VHOST_USER_F_PROTOCOL_FEATURES."""
REPLY_ACK: Final = 1 << 3
CONFIG: Final = 1 << 9
CONFIG_MAX_BYTES: Final = 256
_U64: Final = struct.Struct("<Q")
_STATE: Final = struct.Struct("<II")
_ADDRESSES: Final = struct.Struct("<IIQQQQ")
_CONFIG: Final = struct.Struct("<III")
_INDEX_MASK: Final = 0xFF
_NO_DESCRIPTOR: Final = 1 << 8
_REFUSED: Final = 1


class Device(Protocol):
    """What a back end drives."""

    @property
    def queue_count(self) -> int:
        """How many virtqueues the device has here."""
        ...

    @property
    def config(self) -> bytes:
        """Its configuration space."""
        ...

    def attach(self, queues: Sequence[Virtqueue]) -> None:
        """Learn the queues, once."""
        ...

    def kicked(self, index: int) -> None:
        """The guest has put something up, or a queue has become usable."""
        ...

    def reset(self) -> None:
        """The guest is gone or begins again."""
        ...


class Backend:
    """Speaks with one front end for one device.

    Args:
        device: What it is for.
        reactor: Calls back.
        ended: Called once when the front end has gone; with the reason if it broke a rule.
    """

    def __init__(
        self, device: Device, reactor: Reactor, ended: Callable[[VhostError | None], None]
    ) -> None:
        self._device = device
        self._reactor = reactor
        self._ended = ended
        self._queues = [Virtqueue() for _ in range(device.queue_count)]
        self._peer: socket.socket | None = None
        self._handlers: dict[int, Callable[[Message], bytes | None]] = {
            Request.GET_FEATURES: lambda _: _U64.pack(VERSION_1 | PROTOCOL_FEATURES),
            Request.GET_PROTOCOL_FEATURES: lambda _: _U64.pack(
                REPLY_ACK | (CONFIG if device.config else 0)
            ),
            Request.GET_QUEUE_NUM: lambda _: _U64.pack(len(self._queues)),
            Request.SET_FEATURES: self._nothing,
            Request.SET_PROTOCOL_FEATURES: self._nothing,
            Request.SET_OWNER: self._nothing,
            Request.RESET_OWNER: self._nothing,
            Request.SET_CONFIG: self._nothing,
            Request.SET_VRING_ERR: self._nothing,
            Request.SET_MEM_TABLE: self._set_memory,
            Request.SET_VRING_NUM: self._set_size,
            Request.SET_VRING_BASE: self._set_base,
            Request.SET_VRING_ADDR: self._set_addresses,
            Request.GET_VRING_BASE: self._stop_queue,
            Request.SET_VRING_KICK: self._set_kick,
            Request.SET_VRING_CALL: self._set_call,
            Request.SET_VRING_ENABLE: self._enable,
            Request.GET_CONFIG: self._get_config,
        }
        device.attach(self._queues)

    # --- life ---

    def listen(self, path: Path) -> None:
        """Wait for a front end at a path, which appears once it may come."""
        waiting = socket.socket(socket.AF_UNIX)
        scratch = path.with_name(path.name + ".new")
        waiting.bind(str(scratch))
        waiting.listen(1)
        scratch.rename(path)

        def accepted(_events: int) -> None:
            peer, _ = waiting.accept()
            self._reactor.forget(waiting.fileno())
            waiting.close()
            path.unlink(missing_ok=True)
            self.serve(peer)

        self._reactor.watch(waiting.fileno(), select.EPOLLIN, accepted)

    def serve(self, peer: socket.socket) -> None:
        """Serve a front end that is connected."""
        self._peer = peer
        self._reactor.watch(peer.fileno(), select.EPOLLIN, self._readable)

    def _readable(self, _events: int) -> None:
        if self._peer is None:
            return
        try:
            message = receive(self._peer)
            if message is not None:
                self._handle(self._peer, message)
                return
        except VhostError as error:
            self._end(error)
            return
        self._end(None)

    def _end(self, reason: VhostError | None) -> None:
        if self._peer is None:
            return
        self._device.reset()
        for queue in self._queues:
            self._forget_kick(queue)
            queue.close()
        self._reactor.forget(self._peer.fileno())
        self._peer.close()
        self._peer = None
        self._ended(reason)

    def _handle(self, peer: socket.socket, message: Message) -> None:
        handler = self._handlers.get(message.request)
        wants_reply = bool(message.flags & NEED_REPLY)
        if handler is None:
            close_all(message.descriptors)
            if not wants_reply:
                raise VhostError(f"request {message.request} was not offered")
            reply(peer, message.request, _U64.pack(_REFUSED))
            return
        answer = handler(message)
        if answer is None and wants_reply:
            answer = _U64.pack(0)
        if answer is not None:
            reply(peer, message.request, answer)

    # --- requests ---

    def _nothing(self, message: Message) -> None:
        close_all(message.descriptors)

    def _set_memory(self, message: Message) -> None:
        try:
            memory = GuestMemory.map(message)
        finally:
            close_all(message.descriptors)
        for queue in self._queues:
            queue.place(memory)

    def _queue(self, index: int) -> Virtqueue:
        if not 0 <= index < len(self._queues):
            raise VhostError(f"queue {index} of {len(self._queues)}")
        return self._queues[index]

    def _set_size(self, message: Message) -> None:
        index, size = message.unpack(_STATE)
        self._queue(index).set_size(size)

    def _set_base(self, message: Message) -> None:
        index, base = message.unpack(_STATE)
        self._queue(index).next_available = base & 0xFFFF

    def _set_addresses(self, message: Message) -> None:
        index, _, descriptors, used, available, _ = message.unpack(_ADDRESSES)
        self._queue(index).set_addresses(descriptors, used, available)

    def _stop_queue(self, message: Message) -> bytes:
        index, _ = message.unpack(_STATE)
        queue = self._queue(index)
        queue.enabled = False
        self._forget_kick(queue)
        self._device.reset()
        return _STATE.pack(index, queue.next_available)

    def _descriptor(self, message: Message) -> tuple[int, int]:
        (value,) = message.unpack(_U64)
        index = value & _INDEX_MASK
        wanted = 0 if value & _NO_DESCRIPTOR else 1
        if len(message.descriptors) != wanted or index >= len(self._queues):
            close_all(message.descriptors)
            raise VhostError(f"queue {index}: {wanted} descriptors expected")
        return index, message.descriptors[0] if wanted else -1

    def _set_kick(self, message: Message) -> None:
        index, descriptor = self._descriptor(message)
        queue = self._queue(index)
        self._forget_kick(queue)
        if descriptor < 0:
            raise VhostError(f"queue {index}: polling was not offered")
        queue.kick = descriptor
        os.set_blocking(descriptor, False)
        self._reactor.watch(descriptor, select.EPOLLIN, lambda _: self._kicked(index))

    def _set_call(self, message: Message) -> None:
        index, descriptor = self._descriptor(message)
        queue = self._queue(index)
        if queue.call >= 0:
            os.close(queue.call)
        queue.call = descriptor
        queue.notify()  # a call by the replaced descriptor may have been lost

    def _enable(self, message: Message) -> None:
        index, enabled = message.unpack(_STATE)
        self._queue(index).enabled = bool(enabled)
        if enabled:
            self._work(index)  # a driver may put up chains before the device is told to begin

    def _get_config(self, message: Message) -> bytes:
        offset, length, flags = message.unpack(_CONFIG)
        if length > CONFIG_MAX_BYTES or offset > CONFIG_MAX_BYTES:
            raise VhostError(f"configuration: {length} bytes at {offset}")
        part = self._device.config[offset : offset + length]
        return _CONFIG.pack(offset, length, flags) + part.ljust(length, b"\0")

    # --- queues ---

    def _kicked(self, index: int) -> None:
        try:
            os.eventfd_read(self._queues[index].kick)
        except BlockingIOError:
            return
        try:
            self._work(index)
        except VhostError as error:
            self._end(error)

    def _work(self, index: int) -> None:
        if self._queues[index].usable:
            self._device.kicked(index)

    def _forget_kick(self, queue: Virtqueue) -> None:
        if queue.kick >= 0:
            self._reactor.forget(queue.kick)
            os.close(queue.kick)
            queue.kick = -1
