"""The security module as a device, driven as Linux's driver does it."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from latensgate_shared import cbor
from latensgate_sim.measure import Measurements
from latensgate_sim.vhost.errors import VhostError
from latensgate_sim.vhost.nsm import ANSWER_MAX_BYTES, NSMDevice, over_socket
from latensgate_sim.vhost.reactor import Reactor
from latensgate_sim.vhost.wire import Request
from latensgate_sim.world import World
from vhost_guest import GUEST_BASE, FrontEnd

AT = 0x20000
ROOM = 0x30000


def measured() -> Measurements:
    return Measurements(b"\1" * 48, b"\2" * 48, b"\3" * 48)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[FrontEnd]:
    _ = tmp_path
    made = FrontEnd(NSMDevice(lambda request: b"<" + request + b">"), Reactor())
    made.begin()
    yield made
    made.close()


def ask(front: FrontEnd, request: bytes, room: int = ANSWER_MAX_BYTES) -> bytes:
    ring = front.rings[0]
    front.memory[AT : AT + len(request)] = request
    first = ring.put([(GUEST_BASE + AT, len(request))], [])
    second = ring.put([], [(GUEST_BASE + ROOM, room)])
    front.kick(0)
    done = dict(ring.finished())
    for head in done:
        ring.recycle(head)
    assert done[first] == 0
    return bytes(front.memory[ROOM : ROOM + done[second]])


def test_a_call(front: FrontEnd) -> None:
    assert ask(front, b"one") == b"<one>"
    assert ask(front, b"two") == b"<two>"


def test_the_two_halves_may_come_apart(front: FrontEnd) -> None:
    ring = front.rings[0]
    front.memory[AT : AT + 3] = b"abc"
    ring.put([(GUEST_BASE + AT, 3)], [])
    front.kick(0)
    assert ring.finished() == []
    head = ring.put([], [(GUEST_BASE + ROOM, 3), (GUEST_BASE + ROOM + 3, 100)])
    front.kick(0)
    assert (head, 5) in ring.finished()
    assert bytes(front.memory[ROOM : ROOM + 5]) == b"<abc>"


def put(front: FrontEnd, *places: tuple[int, bool]) -> str:
    for length, writable in places:
        place = [(GUEST_BASE + AT, length)]
        front.rings[0].put([] if writable else place, place if writable else [])
    front.kick(0)
    (reason,) = front.ended
    return str(reason)


def test_what_the_driver_never_does(front: FrontEnd) -> None:
    assert "a request, then room" in put(front, (10, True), (10, False))


def test_a_request_that_is_too_long(front: FrontEnd) -> None:
    assert "a request, then room" in put(front, (0x1001, False), (100, True))


def test_an_answer_without_room(front: FrontEnd) -> None:
    assert "no room" in put(front, (10, False), (11, True))


def test_the_simulated_module_answers() -> None:
    with World() as world:
        enclave = world.add_enclave("one", measured())
        front = FrontEnd(NSMDevice(over_socket(enclave.socket)), Reactor())
        front.begin()
        answer = cbor.decode(ask(front, cbor.encode("DescribeNSM")), max_bytes=ANSWER_MAX_BYTES)
        assert isinstance(answer, dict)
        facts = answer["DescribeNSM"]
        assert isinstance(facts, dict)
        assert facts["module_id"] == enclave.nsm.module_id
        asked = b"\xa1\x6bDescribePCR\xa1\x65index\x02"
        told = cbor.decode(ask(front, asked), max_bytes=ANSWER_MAX_BYTES)
        assert told == {"DescribePCR": {"lock": True, "data": b"\3" * 48}}
        front.close()


def test_a_module_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(VhostError, match="no answer"):
        over_socket(tmp_path / "nobody")(b"x")


def test_a_module_that_cuts_its_answer(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "module"))
    listener.listen(1)

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(100)
            peer.sendall(b"\0\0\0\5abc")

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(VhostError, match="cut short"):
        over_socket(tmp_path / "module")(b"x")
    thread.join()
    listener.close()


def test_a_reset_forgets_half_a_call(front: FrontEnd) -> None:
    ring = front.rings[0]
    ring.put([(GUEST_BASE + AT, 3)], [])
    front.kick(0)
    front.ask(Request.GET_VRING_BASE, struct.pack("<II", 0, 0))
    front.set_up(0)
    front.send(Request.SET_VRING_BASE, struct.pack("<II", 0, 1))
    front.enable(0)
    front.kicks.reverse()
    assert ask(front, b"whole") == b"<whole>"
