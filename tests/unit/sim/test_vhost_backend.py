"""The protocol with QEMU and the virtqueues, right and wrong."""

from __future__ import annotations

import platform
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from latensgate_sim.vhost import wire
from latensgate_sim.vhost.backend import Backend
from latensgate_sim.vhost.errors import VhostError
from latensgate_sim.vhost.reactor import Reactor
from latensgate_sim.vhost.virtqueue import SIZE_MAX, Virtqueue, check_machine
from latensgate_sim.vhost.wire import NEED_REPLY, VERSION, Request
from vhost_guest import GUEST_BASE, MEMORY_BYTES, QUEUE_SIZE, USER_BASE, FrontEnd


class Echo:
    """A device that writes what it is told into the room behind it."""

    queue_count = 1
    config = b"configuration"

    def __init__(self) -> None:
        self.resets = 0
        self.queues: Sequence[Virtqueue] = ()

    def attach(self, queues: Sequence[Virtqueue]) -> None:
        self.queues = queues

    def kicked(self, index: int) -> None:
        queue = self.queues[index]
        while (chain := queue.take()) is not None:
            said = b"".join(chain.readable)
            chain.writable[0][: len(said)] = said
            queue.finish(chain, len(said))
        queue.notify()

    def reset(self) -> None:
        self.resets += 1


@pytest.fixture
def device() -> Echo:
    return Echo()


@pytest.fixture
def front(device: Echo) -> Iterator[FrontEnd]:
    made = FrontEnd(device, Reactor())
    yield made
    made.close()


def put(front: FrontEnd, text: bytes) -> int:
    front.memory[0x10000 : 0x10000 + len(text)] = text
    return front.rings[0].put([(GUEST_BASE + 0x10000, len(text))], [(GUEST_BASE + 0x11000, 64)])


def test_features(front: FrontEnd) -> None:
    assert front.ask(Request.GET_FEATURES) == struct.pack("<Q", 1 << 32 | 1 << 30)
    assert front.ask(Request.GET_PROTOCOL_FEATURES) == struct.pack("<Q", 1 << 3 | 1 << 9)
    assert front.ask(Request.GET_QUEUE_NUM) == struct.pack("<Q", 1)


def test_a_device_without_configuration_does_not_offer_one(device: Echo) -> None:
    device.config = b""
    front = FrontEnd(device, Reactor())
    assert front.ask(Request.GET_PROTOCOL_FEATURES) == struct.pack("<Q", 1 << 3)
    front.close()


def test_configuration(front: FrontEnd) -> None:
    asked = struct.pack("<III", 4, 20, 0)
    assert front.ask(Request.GET_CONFIG, asked)[12:] == b"iguration" + bytes(11)


def test_a_chain_goes_through(front: FrontEnd) -> None:
    front.begin()
    assert front.called(0)  # with SET_VRING_CALL, as one may have been lost
    head = put(front, b"hello")
    front.kick(0)
    assert front.rings[0].finished() == [(head, 5)]
    assert bytes(front.memory[0x11000:0x11005]) == b"hello"
    assert front.called(0)


def test_what_was_put_up_before_the_queue_was_enabled_is_served_then(front: FrontEnd) -> None:
    front.share_memory()
    front.set_up(0)
    put(front, b"early")
    front.kick(0)
    assert front.rings[0].finished() == []
    front.enable(0)
    assert len(front.rings[0].finished()) == 1


def test_indexes_wrap(front: FrontEnd) -> None:
    front.begin()
    ring, start = front.rings[0], 65_500
    front.send(Request.SET_VRING_BASE, struct.pack("<II", 0, start))
    struct.pack_into("<H", ring.memory, ring.available + 2, start)
    struct.pack_into("<H", ring.memory, ring.used + 2, start)
    ring.used_seen = start
    for _ in range(100):
        head = put(front, b"x")
        front.kick(0)
        assert front.rings[0].finished() == [(head, 1)]
        front.rings[0].recycle(head)


def test_a_stopped_queue_says_where_it_stands(front: FrontEnd, device: Echo) -> None:
    front.begin()
    put(front, b"one")
    front.kick(0)
    answer = front.ask(Request.GET_VRING_BASE, struct.pack("<II", 0, 0))
    assert struct.unpack("<II", answer) == (0, 1)
    assert device.resets == 1
    put(front, b"two")
    front.kick(0)
    assert len(front.rings[0].finished()) == 1


def test_memory_can_be_replaced(front: FrontEnd) -> None:
    front.begin()
    front.share_memory()
    head = put(front, b"still")
    front.kick(0)
    assert front.rings[0].finished() == [(head, 5)]


def test_an_unknown_request_is_refused(front: FrontEnd) -> None:
    assert front.ask(99, flags=NEED_REPLY) == struct.pack("<Q", 1)
    assert not front.ended


def test_the_front_end_leaves(front: FrontEnd, device: Echo) -> None:
    front.begin()
    front.peer.shutdown(socket.SHUT_WR)
    front.turn()
    assert front.ended == [None]
    assert device.resets == 1


def expect_end(front: FrontEnd, text: str) -> None:
    front.turn()
    (reason,) = front.ended
    assert text in str(reason)


@pytest.mark.parametrize(
    ("request_", "payload", "text"),
    [
        (99, b"", "not offered"),
        (Request.SET_VRING_NUM, struct.pack("<II", 0, 3), "power of two"),
        (Request.SET_VRING_NUM, struct.pack("<II", 0, 2 * SIZE_MAX), "power of two"),
        (Request.SET_VRING_NUM, struct.pack("<II", 0, 0), "power of two"),
        (Request.SET_VRING_NUM, struct.pack("<II", 7, 8), "queue 7"),
        (Request.SET_VRING_NUM, b"1234", "8 bytes of payload"),
        (Request.SET_VRING_KICK, struct.pack("<Q", 0), "1 descriptors"),
        (Request.SET_VRING_KICK, struct.pack("<Q", 0x100), "polling"),
        (Request.SET_MEM_TABLE, struct.pack("<II", 1, 0), "descriptor for each"),
        (Request.SET_MEM_TABLE, struct.pack("<II", 0, 0), "descriptor for each"),
        (Request.GET_CONFIG, struct.pack("<III", 0, 1_000, 0), "configuration"),
    ],
)
def test_requests_out_of_bounds(front: FrontEnd, request_: int, payload: bytes, text: str) -> None:
    front.send(request_, payload)
    expect_end(front, text)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (wire.HEADER.pack(1, 2, 0), "version"),
        (wire.HEADER.pack(1, VERSION, 1 << 20), "at most"),
        (b"short", "middle"),
        (wire.HEADER.pack(1, VERSION, 8) + b"1234", "middle"),
    ],
)
def test_no_messages(front: FrontEnd, raw: bytes, text: str) -> None:
    front.peer.sendall(raw)
    front.peer.shutdown(socket.SHUT_WR)
    expect_end(front, text)


def test_too_many_descriptors(front: FrontEnd) -> None:
    head = wire.HEADER.pack(Request.SET_VRING_CALL, VERSION, 0)
    socket.send_fds(front.peer, [head], [front.file] * 20)
    expect_end(front, "descriptors")


def test_memory_that_cannot_be_mapped(front: FrontEnd) -> None:
    region = struct.pack("<QQQQ", 0, 1 << 40, 0, 0)
    front.send(Request.SET_MEM_TABLE, struct.pack("<II", 1, 0) + region, [front.file])
    expect_end(front, "cannot be mapped")


def test_a_table_that_is_cut(front: FrontEnd) -> None:
    front.send(Request.SET_MEM_TABLE, struct.pack("<II", 1, 0) + bytes(16), [front.file])
    expect_end(front, "1 regions")


def set_rings(front: FrontEnd, *places: int) -> None:
    front.send(Request.SET_VRING_ADDR, struct.pack("<IIQQQQ", 0, 0, *places, 0))


def test_rings_outside_of_memory(front: FrontEnd) -> None:
    front.begin()
    set_rings(front, USER_BASE + MEMORY_BYTES, USER_BASE, USER_BASE)
    front.kick(0)
    expect_end(front, "user address")


def test_rings_that_are_not_aligned(front: FrontEnd) -> None:
    front.begin()
    set_rings(front, USER_BASE, USER_BASE + 2, USER_BASE)
    front.kick(0)
    expect_end(front, "aligned")


@pytest.mark.parametrize(
    ("place", "flags", "after", "text"),
    [
        ((GUEST_BASE + MEMORY_BYTES - 4, 8), 0, 0, "guest address"),
        ((GUEST_BASE - 1, 8), 0, 0, "guest address"),
        ((2**64 - 4, 8), 0, 0, "guest address"),
        ((GUEST_BASE, 8), 1, 5, "ring"),
        ((GUEST_BASE, 8), 1, QUEUE_SIZE, "descriptor 128"),
        ((GUEST_BASE, 8), 4, 0, "flags"),
    ],
)
def test_descriptors_of_a_hostile_guest(
    front: FrontEnd, place: tuple[int, int], flags: int, after: int, text: str
) -> None:
    front.begin()
    ring = front.rings[0]
    ring.describe(5, place, flags, after)
    ring.offer(5)
    front.kick(0)
    expect_end(front, text)


def test_a_head_out_of_bounds(front: FrontEnd) -> None:
    front.begin()
    front.rings[0].offer(QUEUE_SIZE)
    front.kick(0)
    expect_end(front, "descriptor 128")


def test_more_chains_than_the_queue_holds(front: FrontEnd) -> None:
    front.begin()
    ring = front.rings[0]
    struct.pack_into("<H", ring.memory, ring.available + 2, QUEUE_SIZE + 1)
    front.kick(0)
    expect_end(front, "it holds")


def test_a_queue_without_rings_is_not_used(front: FrontEnd, device: Echo) -> None:
    front.enable(0)
    assert not front.ended
    with pytest.raises(VhostError, match="before its size"):
        device.queues[0].take()


def test_listening(tmp_path: Path, device: Echo) -> None:
    reactor = Reactor()
    path = tmp_path / "device"
    ended: list[VhostError | None] = []
    Backend(device, reactor, ended.append).listen(path)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        reactor.turn(1)
        assert not path.exists()
        peer.sendall(wire.HEADER.pack(Request.GET_QUEUE_NUM, VERSION, 0))
        reactor.turn(1)
        assert peer.recv(100)[12:] == struct.pack("<Q", 1)
    reactor.turn(1)
    assert ended == [None]
    reactor.close()


def test_other_processors_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(VhostError, match="x86-64"):
        check_machine()


def test_timers_and_stop() -> None:
    reactor = Reactor()
    called: list[str] = []
    reactor.later(0.01, lambda: called.append("second"))
    reactor.later(0, lambda: called.append("first"))
    reactor.later(0, lambda: called.append("never")).cancel()
    reactor.later(0.02, reactor.stop)
    reactor.run()
    assert called == ["first", "second"]
    reactor.forget(12_345)
    reactor.close()


def test_descriptors_are_not_lost(device: Echo) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    front = FrontEnd(device, Reactor())
    front.begin()
    front.send(Request.SET_VRING_ERR, struct.pack("<Q", 0), [front.file])
    front.ask(99, descriptors=[front.file], flags=NEED_REPLY)
    front.close()
    front.memory.release()
    front.mapped.close()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
