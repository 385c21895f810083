"""One connection of the parent: real frames over a socket pair, honest and hostile."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from enclave_doubles import in_loop
from latensgate_enclave import session as session_module
from latensgate_enclave.events import EventLog
from latensgate_enclave.session import Handler, Reply, Room, Session
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.frames import (
    Accepted,
    Cancel,
    Chunk,
    End,
    Error,
    Event,
    FrameConnection,
    Head,
    Ping,
    Pong,
    Request,
    Role,
    split_body,
)
from latensgate_shared.limits import CONTROL_CALLS_MAX_OPEN, ENCLAVE_HELD_BODIES_MAX_BYTES


@dataclass
class Peer:
    """The parent's end."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    room: Room
    log: io.StringIO
    serving: asyncio.Task[None]
    frames: FrameConnection = field(default_factory=lambda: FrameConnection(Role.PARENT))
    waiting: list[Event] = field(default_factory=list[Event])

    def send(self, *events: Event) -> None:
        self.writer.write(b"".join(map(self.frames.send, events)))

    def call(self, call_id: int, body: bytes = b"") -> None:
        """Send a whole call in one piece."""
        self.send(Request(call_id, "inference", {}), *split_body(call_id, body), End(call_id))

    async def next(self) -> Event:
        while not self.waiting:
            data = await self.reader.read(1 << 16)
            if not data:
                raise ConnectionError("closed")
            self.waiting += self.frames.receive(data)
        return self.waiting.pop(0)

    async def events(self, count: int) -> list[Event]:
        return [await self.next() for _ in range(count)]

    async def free_calls(self) -> int:
        """Wait until the connection is quiet and count the places of the room."""
        await asyncio.sleep(0.01)
        taken = 0
        try:
            while True:
                self.room.take_call()
                taken += 1
        except LatensgateError:
            for _ in range(taken):
                self.room.give_back(0)
        return taken


async def echo(request: Request, body: bytes, reply: Reply) -> None:
    reply.head({"operation": request.operation})
    reply.body(body)
    reply.end({"length": len(body)})


@asynccontextmanager
async def connected(handler: Handler = echo, *, max_calls: int = 2) -> AsyncGenerator[Peer]:
    near, far = socket.socketpair()
    log, room = io.StringIO(), Room(max_calls)
    reader, writer = await asyncio.open_connection(sock=near)
    session = Session(handler, room, EventLog(log), writer)
    serving = asyncio.create_task(session.run(reader))
    far_reader, far_writer = await asyncio.open_connection(sock=far)
    peer = Peer(far_reader, far_writer, room, log, serving)
    try:
        yield peer
    finally:
        far_writer.transport.abort()
        await asyncio.gather(serving, return_exceptions=True)


class Stuck:
    """A handler that waits until it is cancelled."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cancelled = 0

    async def __call__(self, request: Request, body: bytes, reply: Reply) -> None:
        assert request.operation
        assert body is not None
        assert reply is not None
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@in_loop
async def test_a_call_is_accepted_and_answered() -> None:
    async with connected() as peer:
        body = bytes(range(256)) * 1000  # more than one frame each way
        peer.call(1, body)
        assert await peer.next() == Accepted(1)
        assert await peer.next() == Head(1, {"operation": "inference"})
        answer = b""
        while isinstance(event := await peer.next(), Chunk):
            answer += event.data
        assert answer == body
        assert event == End(1, {"length": len(body)})
        assert await peer.free_calls() == 2
    assert peer.log.getvalue() == "event=CONNECTION_OPENED\nevent=CONNECTION_CLOSED\n"


@in_loop
async def test_calls_are_multiplexed() -> None:
    async with connected() as peer:
        peer.send(Request(1, "a", {}), Request(2, "b", {}))
        peer.send(Chunk(2, b"two"), End(2), Chunk(1, b"one"), End(1))
        events = await peer.events(8)
    assert Chunk(1, b"one") in events
    assert Chunk(2, b"two") in events


@in_loop
async def test_calls_above_the_limit_are_refused_and_the_connection_lives() -> None:
    stuck = Stuck()
    async with connected(stuck, max_calls=1) as peer:
        peer.call(1)
        assert await peer.next() == Accepted(1)
        peer.call(2, b"its body and end were under way")
        assert await peer.next() == Error(2, ErrorCode.ERR_OVERLOADED)
        peer.send(Ping(7), Cancel(1))
        assert await peer.events(2) == [Pong(7), Error(1, ErrorCode.ERR_CANCELLED)]
        peer.call(3)
        assert await peer.next() == Accepted(3)
    assert "event=OVERLOADED code=802" in peer.log.getvalue()


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ("ENCLAVE_HELD_BODIES_MAX_BYTES", ErrorCode.ERR_OVERLOADED),
        ("SEALED_REQUEST_MAX_BYTES", ErrorCode.ERR_TOO_LARGE),
    ],
)
def test_a_body_above_the_limit_is_refused_and_its_room_given_back(
    limit: str, code: ErrorCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, limit, 10)

    @in_loop
    async def scenario() -> None:
        async with connected() as peer:
            peer.send(Request(1, "inference", {}), Chunk(1, b"12345"), Chunk(1, b"123456"))
            assert await peer.events(2) == [Accepted(1), Error(1, code)]
            peer.send(Chunk(1, b"under way"), End(1))  # read and dropped
            peer.call(2, b"1234567890")
            assert await peer.events(4) == [
                Accepted(2),
                Head(2, {"operation": "inference"}),
                Chunk(2, b"1234567890"),
                End(2, {"length": 10}),
            ]
            peer.call(3, b"1234567890")
            assert (await peer.events(4))[-1] == End(3, {"length": 10})
            assert await peer.free_calls() == 2

    scenario()


@in_loop
async def test_a_refused_body_in_the_same_read_is_dropped() -> None:
    async with connected(max_calls=1) as peer:
        peer.send(
            Request(1, "inference", {}),
            Request(2, "inference", {}),
            Chunk(2, b"x"),
            End(2),
            Cancel(2),
            End(1),
        )
        events = await peer.events(4)
        assert events[:2] == [Accepted(1), Error(2, ErrorCode.ERR_OVERLOADED)]
        assert await peer.free_calls() == 1


def test_a_slow_upload_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "CALL_UPLOAD_TIMEOUT_MS", 10)

    @in_loop
    async def scenario() -> None:
        async with connected() as peer:
            peer.send(Request(1, "inference", {}), Chunk(1, b"slow"))
            assert await peer.events(2) == [Accepted(1), Error(1, ErrorCode.ERR_ENCLAVE_TIMEOUT)]
            assert await peer.free_calls() == 2

    scenario()


def test_the_upload_timer_does_not_count_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "CALL_UPLOAD_TIMEOUT_MS", 10)

    async def slow(_request: Request, _body: bytes, reply: Reply) -> None:
        await asyncio.sleep(0.03)
        reply.head({})
        reply.end({})

    @in_loop
    async def scenario() -> None:
        async with connected(slow) as peer:
            peer.call(1)
            assert await peer.events(3) == [Accepted(1), Head(1, {}), End(1, {})]

    scenario()


@in_loop
async def test_cancel_while_uploading() -> None:
    async with connected() as peer:
        peer.send(Request(1, "inference", {}), Chunk(1, b"part"))
        assert await peer.next() == Accepted(1)
        peer.send(Cancel(1))
        assert await peer.next() == Error(1, ErrorCode.ERR_CANCELLED)
        assert await peer.free_calls() == 2


@in_loop
async def test_cancel_while_running() -> None:
    stuck = Stuck()
    async with connected(stuck) as peer:
        peer.call(1)
        await stuck.began.wait()
        peer.send(Cancel(1))
        assert await peer.events(2) == [Accepted(1), Error(1, ErrorCode.ERR_CANCELLED)]
        assert stuck.cancelled == 1
        assert await peer.free_calls() == 2


@in_loop
async def test_cancel_in_the_same_read_as_the_end_still_ends_the_call_and_frees_its_place() -> None:
    async with connected() as peer:
        peer.send(Request(1, "inference", {}), End(1), Cancel(1))
        assert await peer.events(2) == [Accepted(1), Error(1, ErrorCode.ERR_CANCELLED)]
        assert await peer.free_calls() == 2


@in_loop
async def test_cancel_after_the_end_changes_nothing() -> None:
    async with connected() as peer:
        peer.call(1)
        await asyncio.sleep(0.02)
        peer.send(Cancel(1), Ping(1))  # sent before the answer was read
        assert await peer.events(4) == [
            Accepted(1),
            Head(1, {"operation": "inference"}),
            End(1, {"length": 0}),
            Pong(1),
        ]


@in_loop
async def test_a_frame_error_ends_the_connection_and_cancels_what_runs() -> None:
    stuck = Stuck()
    async with connected(stuck) as peer:
        peer.call(1)
        await stuck.began.wait()
        peer.writer.write(b"\xff\xff\xff\xff nonsense")
        with pytest.raises(ConnectionError):
            await peer.events(2)
        await peer.serving
        assert stuck.cancelled == 1
        assert await peer.free_calls() == 2
    assert "event=FRAME_ERROR code=101" in peer.log.getvalue()


@pytest.mark.parametrize("reset", [False, True])
def test_a_lost_connection_cancels_what_runs_and_frees_what_was_held(*, reset: bool) -> None:
    @in_loop
    async def scenario() -> None:
        stuck = Stuck()
        async with connected(stuck) as peer:
            peer.call(1)
            peer.send(Request(2, "inference", {}), Chunk(2, b"half a body"))
            await stuck.began.wait()
            if not reset:  # else: unread data at close, so that the other side sees a reset
                await peer.events(2)
            peer.writer.transport.abort()
            await peer.serving
            assert stuck.cancelled == 1
            assert await peer.free_calls() == 2

    scenario()


@in_loop
async def test_an_unexpected_exception_leaves_as_a_code_only() -> None:
    async def broken(_request: Request, _body: bytes, _reply: Reply) -> None:
        raise KeyError("a secret of the caller")

    async with connected(broken) as peer:
        peer.call(1)
        assert await peer.events(2) == [Accepted(1), Error(1, ErrorCode.ERR_INTERNAL)]
    assert "event=INTERNAL\n" in peer.log.getvalue()
    assert "secret" not in peer.log.getvalue()


@in_loop
async def test_a_typed_error_leaves_as_its_code() -> None:
    async def refusing(_request: Request, _body: bytes, _reply: Reply) -> None:
        raise LatensgateError("text for this side", code=ErrorCode.ERR_REPLAY)

    async with connected(refusing) as peer:
        peer.call(1)
        assert await peer.events(2) == [Accepted(1), Error(1, ErrorCode.ERR_REPLAY)]
    assert "text" not in peer.log.getvalue()
    assert f"event=CALL_REFUSED code={ErrorCode.ERR_REPLAY.number}\n" in peer.log.getvalue()


@in_loop
async def test_a_failure_after_the_end_is_logged_and_not_sent() -> None:
    async def late(request: Request, body: bytes, reply: Reply) -> None:
        await echo(request, body, reply)
        raise LatensgateError("too late")

    async with connected(late) as peer:
        peer.call(1)
        peer.send(Ping(3))
        events = await peer.events(4)
        assert End(1, {"length": 0}) in events
        assert Pong(3) in events
        assert await peer.free_calls() == 2
    assert "event=FRAME_ERROR code=900" in peer.log.getvalue()


@in_loop
async def test_an_answer_to_a_parent_that_is_gone_ends_as_cancelled() -> None:
    seen: list[ErrorCode] = []

    async def stubborn(_request: Request, _body: bytes, reply: Reply) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            try:
                reply.head({})
            except LatensgateError as error:
                seen.append(error.code)
                raise

    async with connected(stubborn) as peer:
        peer.call(1)
        await peer.next()
        peer.writer.transport.abort()
        await peer.serving
        assert await peer.free_calls() == 2
    assert seen == [ErrorCode.ERR_CANCELLED]


@in_loop
async def test_a_delivery_that_waits_for_a_parent_that_goes_ends_as_cancelled() -> None:
    seen: list[ErrorCode] = []
    began = asyncio.Event()

    async def deliver(reply: Reply) -> None:
        reply.head({})
        began.set()
        try:
            reply.body(bytes(1 << 22))
            await reply.drained()
        except LatensgateError as error:
            seen.append(error.code)
            raise

    async def uncancelled(_request: Request, _body: bytes, reply: Reply) -> None:
        delivery = asyncio.create_task(deliver(reply))
        try:
            await asyncio.shield(delivery)
        except asyncio.CancelledError:
            await delivery

    async with connected(uncancelled) as peer:
        peer.call(1)
        await began.wait()
        peer.writer.transport.abort()
        await peer.serving
    assert seen == [ErrorCode.ERR_CANCELLED]


def test_a_parent_that_reads_nothing_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "SESSION_CLOSE_TIMEOUT_MS", 10)

    async def flood(_request: Request, _body: bytes, reply: Reply) -> None:
        reply.head({})
        reply.body(bytes(1 << 22))
        await reply.drained()

    @in_loop
    async def scenario() -> None:
        async with connected(flood) as peer:
            peer.call(1)
            await peer.next()
            await asyncio.sleep(0.02)
            peer.serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(peer.serving, 1)
            assert await peer.free_calls() == 2

    scenario()


@in_loop
async def test_what_was_sent_is_flushed_at_the_end() -> None:
    async with connected() as peer:
        body = bytes(1 << 20)  # far above the buffers of a socket
        peer.call(1, body)
        await asyncio.sleep(0.05)
        peer.serving.cancel()
        with pytest.raises(ConnectionError):
            await peer.events(1000)
        assert peer.frames.buffered_bytes == 0  # no frame was cut


def room_error(act: Callable[[], None]) -> ErrorCode:
    with pytest.raises(LatensgateError) as caught:
        act()
    return caught.value.code


@in_loop
async def test_room_counts_calls_and_bytes() -> None:
    room = Room(1)
    await room.wait_empty()
    room.take_call()
    assert room_error(room.take_call) is ErrorCode.ERR_OVERLOADED
    room.take_bytes(ENCLAVE_HELD_BODIES_MAX_BYTES)
    assert room_error(lambda: room.take_bytes(1)) is ErrorCode.ERR_OVERLOADED
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(room.wait_empty(), 0.01)
    room.give_back(ENCLAVE_HELD_BODIES_MAX_BYTES)
    await room.wait_empty()
    room.take_bytes(1)


@in_loop
async def test_control_calls_get_through_however_many_requests_run() -> None:
    async with connected(Stuck(), max_calls=1) as peer:
        peer.call(1)
        assert await peer.next() == Accepted(1)
        peer.send(Request(2, "health", {}), End(2))
        assert await peer.next() == Accepted(2)
    room = Room(1)
    for _ in range(CONTROL_CALLS_MAX_OPEN):
        room.take_call(control=True)
    assert room_error(lambda: room.take_call(control=True)) is ErrorCode.ERR_OVERLOADED
    room.take_call()
    assert room.drain() == CONTROL_CALLS_MAX_OPEN + 1
    for _ in range(CONTROL_CALLS_MAX_OPEN):
        room.give_back(0, control=True)
    assert room.drain() == 1
    room.give_back(0)
    await room.wait_empty()


@in_loop
async def test_room_drains_requests_and_still_takes_questions() -> None:
    room = Room(3)
    room.take_call()
    room.require_serving()
    assert room.drain() == 1
    assert room.draining
    assert room_error(room.require_serving) is ErrorCode.ERR_ENCLAVE_UNAVAILABLE
    room.take_call()  # health and usage are asked while draining
    assert room.drain() == 2


@in_loop
async def test_what_one_turn_of_the_loop_has_to_send_is_one_write() -> None:
    """Each write wakes the parent up; so acceptance and head wait for tokens, those of one read."""

    async def in_pieces(request: Request, body: bytes, reply: Reply) -> None:
        assert request.operation
        reply.head({})
        await asyncio.sleep(0.01)
        for at in range(len(body)):
            reply.body(body[at : at + 1])
            await reply.drained()
        await asyncio.sleep(0.01)
        reply.end({})

    async with connected(in_pieces) as peer:
        peer.call(1, b"tokens")
        reads: list[int] = []
        while not reads or reads[-1] == 0 or sum(reads) < 9:
            data = await peer.reader.read(1 << 16)
            reads.append(len(peer.frames.receive(data)))
    assert reads == [8, 1]  # accepted, head and all tokens; end


@in_loop
async def test_a_whole_answer_is_one_write() -> None:
    async def later(_request: Request, body: bytes, reply: Reply) -> None:
        reply.head({})
        await asyncio.sleep(0.01)
        reply.end({}, body)

    async with connected(later) as peer:
        for call_id in (1, 2):
            peer.call(call_id, b"tokens")
            events = peer.frames.receive(await peer.reader.read(1 << 16))
            assert [type(event) for event in events] == [Accepted, Head, Chunk, End]


@in_loop
async def test_an_acceptance_does_not_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "ACCEPT_WAIT_MS", 10)
    told = asyncio.Event()

    async def slowly(_request: Request, _body: bytes, reply: Reply) -> None:
        await told.wait()
        reply.head({})
        reply.end({})

    async with connected(slowly) as peer:
        for call_id in (1, 2):
            told.clear()
            peer.call(call_id, b"x")
            assert peer.frames.receive(await peer.reader.read(1 << 16)) == [Accepted(call_id)]
            told.set()
            events = peer.frames.receive(await peer.reader.read(1 << 16))
            assert [type(event) for event in events] == [Head, End]
