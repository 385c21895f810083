"""Stand-ins for enclaves: one end of a socket pair that speaks frames, as a test tells it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from latensgate_parent.link.connection import Connection
from latensgate_parent.link.enclave import ConnectedEnclave
from latensgate_parent.link.sockets import attach
from latensgate_shared import calls
from latensgate_shared.call_forms import Message
from latensgate_shared.errors import ErrorCode
from latensgate_shared.frames import (
    Accepted,
    Cancel,
    Chunk,
    End,
    Error,
    Event,
    FrameConnection,
    Head,
    HeadMap,
    Ping,
    Pong,
    Request,
    Role,
    split_body,
)

RECEIPT_ID = "aud_0123456789abcdef"
CONTENT = b"framed content of an answer"
HEALTHY = calls.HealthAnswer(
    calls.EnclaveState.READY, calls.KMSState.RELEASED, calls.BedrockState.READY
)


def inference_call(*, stream: bool = False) -> calls.InferenceCall:
    """Return a call as the parent makes it of a request."""
    return calls.InferenceCall(
        attestation_hash="sha384:" + "0" * 96,
        model="claude-3.5-sonnet",
        tenant_id="tnt_a3f9c42b",
        operation="chat.completions",
        stream=stream,
    )


def inference_end(final_chunk: bytes = b"\x00final") -> calls.InferenceEnd:
    """Return what ends an answer."""
    return calls.InferenceEnd(
        final_chunk=final_chunk,
        receipt_public=b"{}",
        receipt_signature=bytes(64),
        latency_ms=7,
        pii_detected=False,
    )


@dataclass
class Received:
    """A call as the stand-in got it."""

    request: Request
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False
    cancelled: bool = False


class StandInEnclave(asyncio.Protocol):
    """Keeps what comes; sends what it is told, or what `on_call` does once a body is complete."""

    def __init__(self, on_call: Callable[[StandInEnclave, int], None] | None = None) -> None:
        self.frames = FrameConnection(Role.ENCLAVE)
        self.received: dict[int, Received] = {}
        self.on_call = on_call
        self.accepts = True
        self.pongs = True
        self.pong_tokens: list[int] = []
        self.changed = asyncio.Event()
        self.lost = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # as asyncio calls
        self.lost = True
        self.changed.set()

    def data_received(self, data: bytes) -> None:
        for event in self.frames.receive(data):
            self._take(event)
        self.changed.set()

    def _take(self, event: Event) -> None:
        match event:
            case Request():
                self.received[event.call_id] = Received(event)
                if self.accepts:
                    self.send(Accepted(event.call_id))
            case Chunk():
                self.received[event.call_id].body += event.data
            case End():
                self.received[event.call_id].complete = True
                if self.on_call is not None:
                    self.on_call(self, event.call_id)
            case Cancel():
                self.received[event.call_id].cancelled = True
            case Ping() if self.pongs:
                self.send(Pong(event.token))
            case Pong():
                self.pong_tokens.append(event.token)
            case _:
                pass

    def send(self, *events: Event) -> None:
        self.transport.write(b"".join(self.frames.send(event) for event in events))

    def call(self, call_id: int) -> calls.Call:
        return calls.parse_call(self.received[call_id].request)

    def answer(self, call_id: int, head: Message, body: bytes, end: HeadMap) -> None:
        chunks = split_body(call_id, body)
        self.send(Head(call_id, head.to_head()), *chunks, End(call_id, end))

    def answer_inference(self, call_id: int, content: bytes = CONTENT) -> None:
        end = inference_end().to_head()
        self.answer(call_id, calls.InferenceHead(RECEIPT_ID), content, end)

    def begin_inference(self, call_id: int) -> None:
        self.send(Head(call_id, calls.InferenceHead(RECEIPT_ID).to_head()))

    def end_inference(self, call_id: int) -> None:
        self.send(End(call_id, inference_end().to_head()))

    def refuse(self, call_id: int, code: ErrorCode) -> None:
        self.send(Error(call_id, code))

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something that came makes a condition true."""
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def calls_came(self, count: int) -> list[int]:
        """Wait for so many whole calls; return their ids."""
        await self.until(lambda: sum(call.complete for call in self.received.values()) >= count)
        return [call_id for call_id, call in self.received.items() if call.complete]

    async def cancel_came(self, call_id: int) -> None:
        await self.until(lambda: call_id in self.received and self.received[call_id].cancelled)


@dataclass
class Pair:
    """A connected enclave and its stand-in."""

    enclave: ConnectedEnclave
    connection: Connection
    standin: StandInEnclave
    orphans: list[tuple[calls.InferenceEnd, str]]

    async def close(self) -> None:
        self.enclave.close()
        self.standin.transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def connected(on_call: Callable[[StandInEnclave, int], None] | None = None) -> Pair:
    """Connect the parent's end to a stand-in."""
    ours, theirs = socket.socketpair()
    _, standin = await attach(theirs, lambda: StandInEnclave(on_call))
    _, connection = await attach(ours, Connection)
    orphans: list[tuple[calls.InferenceEnd, str]] = []
    enclave = ConnectedEnclave(
        "unix:/stand-in", connection, lambda end, receipt_id: orphans.append((end, receipt_id))
    )
    return Pair(enclave, connection, standin, orphans)
