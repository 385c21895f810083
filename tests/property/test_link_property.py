"""Any interleaving of calls, cancels, pieces of bytes and loss: every call ends exactly once.

Both ends run in one thread over transports in memory; hypothesis chooses what happens next.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_parent.link import open_calls
from latensgate_parent.link.connection import Connection
from latensgate_parent.link.enclave import ConnectedEnclave
from latensgate_parent.link.interfaces import EnclaveError, EnclaveLostError, OpenInference
from latensgate_shared.calls import InferenceEnd, InferenceHead
from latensgate_shared.errors import ErrorCode
from latensgate_shared.frames import (
    TRANSITIONS,
    Accepted,
    Chunk,
    End,
    Error,
    Event,
    FrameConnection,
    Head,
    Kind,
    LocalProtocolError,
    Role,
)
from link_doubles import RECEIPT_ID, inference_call, inference_end

SIZES = [1 << 20, 1 << 20, 100, 1 << 20, 7, 1]
ACTIONS = [
    *("unary", "stream", "stream", "cancel", "cancel stream", "pause", "resume"),
    *("take", "take", "take", "deliver", "deliver"),
    *["advance"] * 10,
]
LARGE = bytes(300_000)


class MemoryTransport(asyncio.Transport):
    """Holds what was written until the test delivers it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.aborted = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


@dataclass
class Outcomes:
    """What became of the calls, and where receipts went."""

    ended: list[str] = field(default_factory=list[str])
    receipts: list[int] = field(default_factory=list[int])

    def receipt(self, end: InferenceEnd) -> None:
        self.receipts.append(end.latency_ms)


@dataclass
class Play:
    """One example."""

    outcomes: Outcomes = field(default_factory=Outcomes)
    tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    streams: list[OpenInference] = field(default_factory=list[OpenInference])
    sent_ends: list[int] = field(default_factory=list[int])
    lost: bool = False

    def __post_init__(self) -> None:
        self.transport = MemoryTransport()
        self.connection = Connection()
        self.connection.connection_made(self.transport)
        self.frames = FrameConnection(Role.ENCLAVE)
        self.to_parent = bytearray()
        self.enclave = ConnectedEnclave("x", self.connection, self.orphan)
        self.opened = 0

    def orphan(self, end: InferenceEnd, receipt_id: str) -> None:
        assert receipt_id == RECEIPT_ID
        self.outcomes.receipt(end)

    # --- callers ---

    def spawn(self, work: Coroutine[None, None, str]) -> None:
        async def watch() -> None:
            try:
                outcome = await work
            except EnclaveError as error:
                outcome = f"error {error.code.name}"
            except EnclaveLostError:
                outcome = "lost"
            except asyncio.CancelledError:
                outcome = "cancelled"
            self.outcomes.ended.append(outcome)

        self.opened += 1
        self.tasks.append(asyncio.create_task(watch()))

    async def unary(self, body: bytes) -> str:
        reply = await self.enclave.infer(inference_call(), body)
        self.outcomes.receipt(reply.end)
        return "answered"

    async def streamed(self, *, reads: bool) -> str:
        stream = await self.enclave.stream(inference_call(stream=True), b"sealed")
        self.streams.append(stream)
        try:
            if reads:
                async for _ in stream.pieces():
                    pass
            self.outcomes.receipt(await stream.end())
        finally:
            await stream.aclose()
        return "answered"

    # --- the enclave ---

    def enclave_sends(self, call_id: int, kind: Kind) -> None:
        """Send if the rules permit it."""
        number = len(self.sent_ends)
        end = inference_end().to_head() | {"latency_ms": number}
        events: dict[Kind, Event] = {
            Kind.ACCEPTED: Accepted(call_id),
            Kind.HEAD: Head(call_id, InferenceHead(RECEIPT_ID).to_head()),
            Kind.CHUNK: Chunk(call_id, bytes(40_000)),
            Kind.END: End(call_id, end),
            Kind.ERROR: Error(call_id, ErrorCode.ERR_CANCELLED),
        }
        try:
            self.to_parent += self.frames.send(events[kind])
        except LocalProtocolError:
            return
        if kind is Kind.END:
            self.sent_ends.append(number)

    def deliver(self, count: int) -> None:
        """Move bytes from the enclave to the parent."""
        if self.to_parent and not self.lost:
            piece = bytes(self.to_parent[:count])
            del self.to_parent[:count]
            self.connection.data_received(piece)

    def take(self, count: int) -> None:
        """Move bytes from the parent to the enclave."""
        piece = bytes(self.transport.written[:count])
        del self.transport.written[:count]
        self.frames.receive(piece)

    def lose(self) -> None:
        if not self.lost:
            self.lost = True
            self.connection.connection_lost(None)

    def advance(self, choice: int) -> None:
        """Have the enclave send something that is legal, for one of its open calls."""
        open_now = self.frames._calls.open
        if not open_now:
            return
        call_id, call = list(open_now.items())[choice % len(open_now)]
        legal = list(TRANSITIONS[Role.ENCLAVE].get(call.state, {}))
        if len(legal) > 1 and choice % 11:
            legal.remove(Kind.ERROR)  # or hardly any call would come to its end
        if legal:
            self.enclave_sends(call_id, legal[choice // 7 % len(legal)])

    def act(self, action: str, choice: int) -> None:
        match action:
            case "unary":
                self.spawn(self.unary([b"", b"x", LARGE][choice % 3]))
            case "stream":
                self.spawn(self.streamed(reads=choice % 2 == 0))
            case "cancel" if self.tasks:
                self.tasks[choice % len(self.tasks)].cancel()
            case "cancel stream" if self.streams:
                self.streams[choice % len(self.streams)].cancel()
            case "pause":
                self.connection.pause_writing()
            case "resume":
                self.connection.resume_writing()
            case "take":
                self.take(SIZES[choice % len(SIZES)])
            case "deliver":
                self.deliver(SIZES[choice % len(SIZES)])
            case _:
                self.advance(choice)

    async def run(self, steps: list[tuple[str, int]], *, whole: bool) -> None:
        for action, choice in steps:
            self.act(action, choice)
            begins = action in {"unary", "stream"}  # before it may be cancelled
            for _ in range(begins + choice % 3):
                await asyncio.sleep(0)
        if whole:
            self.deliver(1 << 30)
            if self.sent_ends and steps[-1][1] % 2:
                for task in self.tasks:  # together with the last answers
                    task.cancel()
        self.lose()
        async with asyncio.timeout(5):
            await asyncio.gather(*self.tasks)
        await asyncio.sleep(0)
        self.check(whole=whole)

    def check(self, *, whole: bool) -> None:
        assert len(self.outcomes.ended) == self.opened, "every call ends once"
        assert set(self.outcomes.ended) <= {
            "answered",
            "lost",
            "cancelled",
            "error ERR_CANCELLED",
            "error ERR_ENCLAVE_UNAVAILABLE",
            "error ERR_OVERLOADED",
        }
        assert len(set(self.outcomes.receipts)) == len(self.outcomes.receipts), "no receipt twice"
        assert set(self.outcomes.receipts) <= set(self.sent_ends)
        if whole:
            assert sorted(self.outcomes.receipts) == self.sent_ends, "no receipt is lost"
        assert self.enclave.open_calls == 0
        assert self.connection.budget.left_bytes == open_calls.Budget(256 << 20).left_bytes


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 5_000)), min_size=1, max_size=70),
    st.booleans(),
)
def test_every_call_ends_once_and_no_receipt_that_came_is_lost(
    steps: list[tuple[str, int]],
    whole: bool,  # noqa: FBT001  # drawn by hypothesis
) -> None:
    async def main() -> None:
        await Play().run(steps, whole=whole)

    asyncio.run(main())


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=12))
def test_whatever_an_enclave_sends_calls_end_with_typed_errors(
    garbage: bytes, cuts: list[int]
) -> None:
    async def main() -> None:
        transport = MemoryTransport()
        connection = Connection()
        connection.connection_made(cast("asyncio.Transport", transport))
        enclave = ConnectedEnclave("x", connection, lambda _end, _receipt_id: None)
        unary = asyncio.create_task(enclave.infer(inference_call(), b"sealed"))
        opening = asyncio.create_task(enclave.stream(inference_call(stream=True), b"sealed"))
        await asyncio.sleep(0)
        rest = garbage
        for cut in cuts:
            connection.data_received(rest[:cut])
            rest = rest[cut:]
            await asyncio.sleep(0)
        connection.data_received(rest)
        connection.connection_lost(None)
        outcomes = await asyncio.gather(unary, opening, return_exceptions=True)
        assert all(isinstance(each, EnclaveError | EnclaveLostError) for each in outcomes)

    asyncio.run(main())
