"""The socket device between a guest that a test plays and UNIX sockets."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from latensgate_sim.vhost import vsock
from latensgate_sim.vhost.errors import VhostError
from latensgate_sim.vhost.reactor import Reactor
from latensgate_sim.vhost.vsock import VsockDevice
from latensgate_sim.vhost.vsock_packet import Operation, Packet, Shutdown, shortened, split
from latensgate_sim.vhost.vsock_ports import Ports, parse_port
from latensgate_sim.vhost.vsock_stream import BUFFER_BYTES
from vhost_guest import CID, GUEST_BASE, FrontEnd, Guest, GuestStream

PORT = 8_443
LISTENING = 5_005
BULK = 64 * 1024**2


class Bench:
    """A device, its guest, and a listening UNIX socket behind PORT."""

    def __init__(self, folder: Path) -> None:
        self.host = socket.socket(socket.AF_UNIX)
        self.host.bind(str(folder / "host"))
        self.host.listen(16)
        self.inward = folder / "inward"
        ports = Ports(
            {PORT: folder / "host", PORT + 1: folder / "nobody"}, {self.inward: LISTENING}
        )
        self.reactor = Reactor()
        self.device = VsockDevice(self.reactor, CID, ports)
        self.front = FrontEnd(self.device, self.reactor)
        self.guest = Guest(self.front)
        self.peers: list[socket.socket] = []

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        self.device.close()
        self.front.close()
        self.host.close()

    def out(
        self, port: int = 1_000, buffer_bytes: int = 1 << 18
    ) -> tuple[GuestStream, socket.socket]:
        """Connect from the guest; returns both ends."""
        stream = GuestStream(self.guest, port, PORT, buffer_bytes=buffer_bytes)
        stream.send(Operation.REQUEST)
        self.guest.one(Operation.RESPONSE)
        peer, _ = self.host.accept()
        peer.settimeout(2)
        self.peers.append(peer)
        return stream, peer

    def into(self) -> tuple[GuestStream, socket.socket]:
        """Connect into the guest, which accepts; returns both ends."""
        peer = socket.socket(socket.AF_UNIX)
        self.peers.append(peer)
        peer.settimeout(2)
        peer.connect(str(self.inward))
        asked = self.guest.one(Operation.REQUEST).packet
        assert (asked.source_cid, asked.destination_port) == (3, LISTENING)
        stream = GuestStream(self.guest, LISTENING, asked.source_port)
        stream.send(Operation.RESPONSE)
        return stream, peer


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def is_open(peer: socket.socket) -> bool:
    peer.settimeout(0)
    try:
        return peer.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        peer.settimeout(2)


# --- connections ---


def test_out_of_the_guest_and_back(bench: Bench) -> None:
    stream, peer = bench.out()
    stream.send(Operation.RW, b"question")
    assert peer.recv(100) == b"question"
    peer.sendall(b"answer")
    assert bench.guest.one(Operation.RW).data == b"answer"


def test_into_the_guest_and_back(bench: Bench) -> None:
    stream, peer = bench.into()
    peer.sendall(b"question")
    assert bench.guest.one(Operation.RW).data == b"question"
    stream.send(Operation.RW, b"answer", pieces=1)
    assert peer.recv(100) == b"answer"


@pytest.mark.parametrize("cid", [2, 3])
def test_parent_and_host_are_the_same(bench: Bench, cid: int) -> None:
    GuestStream(bench.guest, 7, PORT, cid).send(Operation.REQUEST)
    assert bench.guest.one(Operation.RESPONSE).packet.source_cid == cid


@pytest.mark.parametrize(("port", "cid"), [(PORT + 1, 3), (PORT + 2, 3), (PORT, 17), (PORT, 1)])
def test_where_nobody_listens_the_guest_is_refused(bench: Bench, port: int, cid: int) -> None:
    GuestStream(bench.guest, 7, port, cid).send(Operation.REQUEST)
    refused = bench.guest.one(Operation.RST).packet
    assert (refused.source_cid, refused.source_port, refused.destination_port) == (cid, port, 7)
    assert not bench.device.streams


def test_where_nobody_listens_in_the_guest_the_socket_is_cut(bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(bench.inward))
        asked = bench.guest.one(Operation.REQUEST).packet
        GuestStream(bench.guest, LISTENING, asked.source_port).send(Operation.RST)
        assert not is_open(peer)


def test_a_guest_that_does_not_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vsock, "CONNECT_TIMEOUT_S", 0.0)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(bench.inward))
        bench.front.turn(4)
        assert not is_open(peer)
        assert [got.packet.operation for got in bench.guest.receive()][-1] == Operation.RST


def test_before_the_driver_is_there_sockets_are_cut(tmp_path: Path) -> None:
    reactor = Reactor()
    device = VsockDevice(reactor, CID, Ports({}, {tmp_path / "in": 1}))
    front = FrontEnd(device, reactor)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(tmp_path / "in"))
        front.turn(2)
        assert not is_open(peer)
    device.close()
    front.close()


def test_many_connections_at_once(bench: Bench) -> None:
    pairs = [bench.out(port) for port in range(2_000, 2_010)]
    for number, (stream, peer) in enumerate(pairs):
        peer.sendall(b"%d" % number)
        stream.send(Operation.RW, b"%d" % number)
    got = bench.guest.receive()
    assert sorted(one.packet.destination_port for one in got) == list(range(2_000, 2_010))
    assert [peer.recv(10) for _, peer in pairs] == [b"%d" % number for number in range(10)]


def test_connections_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vsock, "STREAMS_MAX_COUNT", 2)
    bench.out(1)
    bench.out(2)
    GuestStream(bench.guest, 3, PORT).send(Operation.REQUEST)
    bench.guest.one(Operation.RST)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(bench.inward))
        bench.front.turn(2)
        assert not is_open(peer)


def test_ports_of_this_side_are_not_used_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _one = bench.into()
    monkeypatch.setattr(bench.device, "_next_port", first.host_port)
    second, _two = bench.into()
    assert second.host_port != first.host_port
    monkeypatch.setattr(bench.device, "_next_port", 0x7FFF_FFFF)
    _, _three = bench.into()
    fourth, _four = bench.into()
    assert fourth.host_port >= 1 << 20


# --- credit and bulk ---


def test_no_more_is_sent_than_the_guest_has_room_for(bench: Bench) -> None:
    stream, peer = bench.out(buffer_bytes=5_000)
    peer.sendall(bytes(20_000))
    got = bench.guest.receive()
    assert sum(len(one.data) for one in got) == 5_000
    assert got[-1].packet.operation == Operation.CREDIT_REQUEST
    assert bench.guest.receive() == []
    stream.taken = 3_000
    stream.send(Operation.CREDIT_UPDATE)
    assert sum(len(one.data) for one in bench.guest.receive()) == 3_000


def test_a_guest_that_claims_nonsense_gets_nothing(bench: Bench) -> None:
    stream, peer = bench.out(buffer_bytes=100)
    stream.taken = 5_000  # more than it was ever sent
    stream.send(Operation.CREDIT_UPDATE)
    peer.sendall(b"x")
    assert bench.guest.receive() == []


def test_a_guest_without_buffers_holds_everything_back(bench: Bench) -> None:
    _, peer = bench.out()
    peer.settimeout(0)
    sent = 0
    for _ in range(200):
        try:
            sent += peer.send(bytes(65_536))
        except BlockingIOError:
            break
        bench.guest.receive(repost=False)
    assert sent < 1 << 20
    assert bench.device.held_bytes == 0


def test_the_guest_is_told_what_was_taken(bench: Bench) -> None:
    stream, peer = bench.out()
    stream.send(Operation.RW, bytes(40_000))
    assert bench.guest.receive() == []
    stream.send(Operation.RW, bytes(40_000))
    assert bench.guest.one(Operation.CREDIT_UPDATE).packet.forwarded == 80_000
    assert len(peer.recv(100_000)) == 80_000
    stream.send(Operation.CREDIT_REQUEST)
    assert bench.guest.one(Operation.CREDIT_UPDATE).packet.buffer_bytes == BUFFER_BYTES


def fill(bench: Bench, stream: GuestStream) -> int:
    """Send as much as the device allows while nobody reads."""
    sent = forwarded = 0
    while sent - forwarded + 60_000 <= BUFFER_BYTES:
        stream.send(Operation.RW, bytes(60_000))
        sent += 60_000
        for got in bench.guest.receive():
            forwarded = got.packet.forwarded
    return sent


def test_a_slow_reader_holds_the_guest_back_within_bounds(bench: Bench) -> None:
    stream, peer = bench.out()
    sent = fill(bench, stream)
    assert 0 < bench.device.held_bytes <= BUFFER_BYTES
    peer.settimeout(0)
    received = 0
    while received < sent:
        try:
            received += len(peer.recv(65_536))
        except BlockingIOError:
            bench.front.turn()
    bench.guest.receive()
    assert bench.device.held_bytes == 0


def test_a_guest_that_ignores_credit_is_cut(bench: Bench) -> None:
    stream, peer = bench.out()
    fill(bench, stream)
    stream.send(Operation.RW, bytes(60_000))
    assert bench.guest.receive()[-1].packet.operation == Operation.RST
    assert not bench.device.streams
    assert bench.device.held_bytes == 0
    peer.close()


def test_a_slow_reader_does_not_hold_up_others(bench: Bench) -> None:
    slow, _kept = bench.out(1)
    fill(bench, slow)
    quick, peer = bench.out(2)
    quick.send(Operation.RW, b"through")
    assert peer.recv(100) == b"through"


def test_64_mib_into_the_guest(bench: Bench) -> None:
    stream, peer = bench.out()
    peer.settimeout(0)
    block = os.urandom(1 << 16)
    left, waiting, got = BULK, b"", 0
    while got < BULK:
        while left or waiting:
            waiting = waiting or block[: min(left, len(block))]
            try:
                count = peer.send(waiting)
            except BlockingIOError:
                break
            left, waiting = left - count, waiting[count:]
        for received in bench.guest.receive():
            assert received.data == (block + block)[got % 65_536 :][: len(received.data)]
            got += len(received.data)
            stream.taken = got & 0xFFFF_FFFF
        stream.send(Operation.CREDIT_UPDATE)
    assert bench.device.held_bytes == 0


def test_64_mib_out_of_the_guest(bench: Bench) -> None:
    stream, peer = bench.out()
    peer.settimeout(0)
    block = os.urandom(60_000)
    sent = got = forwarded = 0
    while got < BULK:
        if sent < BULK and sent - forwarded + len(block) <= BUFFER_BYTES:
            stream.send(Operation.RW, block, pieces=1 + sent % 2)
            sent += len(block)
        for received in bench.guest.receive():
            forwarded = received.packet.forwarded
        try:
            data = peer.recv(1 << 18)
        except BlockingIOError:
            continue
        assert data == (block * 6)[got % 60_000 :][: len(data)]
        got += len(data)
    assert bench.device.held_bytes <= BUFFER_BYTES


# --- ends ---


def test_half_close_by_the_guest(bench: Bench) -> None:
    stream, peer = bench.out()
    stream.send(Operation.RW, b"all I have")
    stream.send(Operation.SHUTDOWN, flags=Shutdown.SEND)
    assert peer.recv(100) == b"all I have"
    assert peer.recv(100) == b""
    peer.sendall(b"still talking")
    assert bench.guest.one(Operation.RW).data == b"still talking"
    peer.close()
    assert bench.guest.one(Operation.SHUTDOWN).packet.flags == Shutdown.BOTH


def test_half_close_by_the_host(bench: Bench) -> None:
    stream, peer = bench.out()
    peer.sendall(b"all I have")
    peer.shutdown(socket.SHUT_WR)
    data, end = bench.guest.receive()
    assert data.data == b"all I have"
    assert (end.packet.operation, end.packet.flags) == (Operation.SHUTDOWN, Shutdown.SEND)
    stream.send(Operation.RW, b"still talking")
    assert peer.recv(100) == b"still talking"
    stream.send(Operation.SHUTDOWN, flags=Shutdown.BOTH)
    bench.guest.one(Operation.RST)
    assert peer.recv(100) == b""
    assert not bench.device.streams


def test_the_guest_closes(bench: Bench) -> None:
    stream, peer = bench.out()
    stream.send(Operation.SHUTDOWN, flags=Shutdown.BOTH)
    bench.guest.one(Operation.RST)
    assert peer.recv(100) == b""
    with pytest.raises(OSError, match="pipe"):
        peer.sendall(b"to nobody")


def test_the_guest_closes_while_data_wait_for_a_slow_reader(bench: Bench) -> None:
    stream, peer = bench.out()
    sent = fill(bench, stream)
    stream.send(Operation.SHUTDOWN, flags=Shutdown.BOTH)
    assert bench.guest.receive() == []  # not before all is delivered
    stream.send(Operation.RST)  # Linux loses patience after 8 s
    assert len(bench.device.streams) == 1
    again, other = bench.out()  # its port is free for the guest
    again.send(Operation.RW, b"new")
    assert other.recv(10) == b"new"
    received = b""
    while piece := peer.recv(1 << 18):
        received += piece
        bench.front.turn()
    assert len(received) == sent
    assert len(bench.device.streams) == 1


def test_a_reader_that_never_reads(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vsock, "LINGER_TIMEOUT_S", 0.0)
    stream, peer = bench.out()
    fill(bench, stream)
    stream.send(Operation.SHUTDOWN, flags=Shutdown.BOTH)
    bench.front.turn(3)
    assert not bench.device.streams
    assert bench.device.held_bytes == 0
    assert peer.recv(1) == b"\0"


def test_the_host_closes_while_data_wait_for_credit(bench: Bench) -> None:
    stream, peer = bench.out(buffer_bytes=1_000)
    peer.sendall(bytes(5_000))
    peer.close()
    assert len(stream.read_all(5_000)) == 5_000
    stream.send(Operation.CREDIT_UPDATE)
    assert bench.guest.one(Operation.SHUTDOWN).packet.flags == Shutdown.BOTH
    stream.send(Operation.RST)
    assert not bench.device.streams


def test_the_host_closes_while_the_guest_talks(bench: Bench) -> None:
    stream, peer = bench.out()
    fill(bench, stream)
    peer.close()
    told = bench.guest.receive()
    assert told[-1].packet.operation in {Operation.RST, Operation.SHUTDOWN}
    assert bench.device.held_bytes == 0


def test_writing_to_nobody_tells_the_guest(bench: Bench) -> None:
    stream, peer = bench.out()
    peer.shutdown(socket.SHUT_RD)
    stream.send(Operation.RW, b"to nobody")
    assert bench.guest.one(Operation.SHUTDOWN).packet.flags == Shutdown.RECEIVE
    stream.send(Operation.RW, b"again")
    peer.sendall(b"but I talk")
    assert bench.guest.one(Operation.RW).data == b"but I talk"


def test_a_guest_that_never_answers_a_close(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vsock, "CLOSE_TIMEOUT_S", 0.0)
    _, peer = bench.out()
    peer.close()
    got = bench.guest.receive()
    assert [one.packet.operation for one in got] == [Operation.SHUTDOWN, Operation.RST]
    assert not bench.device.streams


def test_a_reset_by_the_guest(bench: Bench) -> None:
    stream, peer = bench.out()
    stream.send(Operation.RST)
    assert bench.guest.receive() == []
    assert peer.recv(1) == b""
    assert not bench.device.streams


def test_a_reset_by_the_host(bench: Bench) -> None:
    stream, peer = bench.out()
    stream.send(Operation.RW, b"never read")
    peer.close()  # with unread data: a reset, for a UNIX socket, too
    assert bench.guest.receive()[-1].packet.operation == Operation.RST
    assert not bench.device.streams


def test_the_guest_that_takes_no_more_stops_the_host(bench: Bench) -> None:
    stream, peer = bench.out()
    stream.send(Operation.SHUTDOWN, flags=Shutdown.RECEIVE)
    with pytest.raises(OSError, match="pipe"):
        peer.sendall(b"x")
    stream.send(Operation.RW, b"but I talk")
    assert peer.recv(100) == b"but I talk"


# --- what no correct guest does ---


def wrong(stream: GuestStream, **changed: int) -> Packet:
    return dataclasses.replace(stream.packet(Operation.CREDIT_UPDATE), **changed)


def test_packets_of_other_guests_and_kinds_are_refused(bench: Bench) -> None:
    stream, _peer = bench.out()
    bench.guest.send(wrong(stream, source_cid=99))
    bench.guest.one(Operation.RST)
    stream, _peer = bench.out(1_001)
    bench.guest.send(wrong(stream, kind=2))
    bench.guest.one(Operation.RST)
    assert not bench.device.streams


def test_packets_without_a_connection_are_refused(bench: Bench) -> None:
    stray = GuestStream(bench.guest, 77, PORT)
    stray.send(Operation.RW, b"hello")
    bench.guest.one(Operation.RST)
    stray.send(Operation.RST)
    assert bench.guest.receive() == []


def test_asking_twice_ends_the_connection(bench: Bench) -> None:
    stream, peer = bench.out()
    stream.send(Operation.REQUEST)
    bench.guest.one(Operation.RST)
    assert peer.recv(1) == b""


@pytest.mark.parametrize("operation", [0, Operation.RESPONSE, 99])
def test_operations_out_of_turn_end_the_connection(bench: Bench, operation: int) -> None:
    stream, peer = bench.out()
    stream.send(operation)
    bench.guest.one(Operation.RST)
    assert peer.recv(1) == b""


def test_data_after_the_end_of_data(bench: Bench) -> None:
    stream, _peer = bench.out()
    stream.send(Operation.SHUTDOWN, flags=Shutdown.SEND)
    stream.send(Operation.RW, b"more")
    bench.guest.one(Operation.RST)


def test_data_before_the_answer(bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(bench.inward))
        asked = bench.guest.one(Operation.REQUEST).packet
        GuestStream(bench.guest, LISTENING, asked.source_port).send(Operation.RW, b"early")
        bench.guest.one(Operation.RST)


def test_a_length_that_lies_ends_the_session(bench: Bench) -> None:
    stream, peer = bench.out()
    bench.guest.send(wrong(stream, operation=Operation.RW, length=10), b"123")
    (reason,) = bench.front.ended
    assert "10 bytes of data expected, found 3" in str(reason)
    assert peer.recv(1) == b""


def test_a_header_that_is_cut() -> None:
    with pytest.raises(VhostError, match="44 bytes"):
        split([memoryview(bytes(20)), memoryview(bytes(20))])


def test_a_header_in_pieces() -> None:
    whole = Packet(16, 3, 1, 2, 3, 1, Operation.RW).pack() + b"abc"
    packet, data = split([memoryview(whole[:30]), memoryview(whole[30:])])
    assert packet.length == 3
    assert b"".join(data) == b"abc"


def test_shortened() -> None:
    pieces = shortened([memoryview(b"abc"), memoryview(b"def"), memoryview(b"g")], 5)
    assert [bytes(piece) for piece in pieces] == [b"abc", b"de"]


def test_refusals_are_bounded(bench: Bench) -> None:
    stray = GuestStream(bench.guest, 77, PORT)
    for _ in range(vsock.REFUSALS_MAX_COUNT + 100):
        stray.send(Operation.RW)  # and never looks at what comes back
    assert bench.device.refusal_count == vsock.REFUSALS_MAX_COUNT


def test_a_flood_is_served_in_turns(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vsock, "_TURN_PACKETS", 2)
    stream, peer = bench.out()
    at = bench.guest.transmit_at
    whole = stream.packet(Operation.RW, 1).pack() + b"x"
    bench.front.memory[at : at + len(whole)] = whole
    for _ in range(5):
        bench.front.rings[1].put([(GUEST_BASE + at, len(whole))], [])
    bench.front.kick(1)
    served = len(bench.front.rings[1].finished())
    assert 2 <= served < 5
    bench.front.turn(3)
    assert served + len(bench.front.rings[1].finished()) == 5
    assert peer.recv(100) == b"xxxxx"


def test_a_new_start_of_the_guest_drops_everything(bench: Bench) -> None:
    _, peer = bench.out()
    bench.device.reset()
    assert peer.recv(1) == b""
    assert not bench.device.streams


def test_ports() -> None:
    assert parse_port("5005") == 5_005
    for text in ("", "0", "-1", "4294967295", "٣", "5005x"):
        with pytest.raises(VhostError, match="vsock port"):
            parse_port(text)


def test_counters_wrap(bench: Bench) -> None:
    stream, peer = bench.out()
    (held,) = bench.device.streams
    held.sent = held.peer_forwarded = 0xFFFF_FFF0
    held.forwarded = held.told = 0xFFFF_FFF0
    stream.taken = 0xFFFF_FFF0
    stream.send(Operation.RW, b"x" * 70_000)
    assert bench.guest.one(Operation.CREDIT_UPDATE).packet.forwarded == 69_984
    peer.sendall(b"y" * 100)
    assert bench.guest.one(Operation.RW).data == b"y" * 100
    assert held.credit == (1 << 18) - 100
