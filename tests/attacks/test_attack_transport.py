"""A parent that breaks the rules of the socket: lengths, frames, speed, cancels.

Each refusal names its line of defence; ``mutants.py`` proves that the test fails without it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest

from attack_tools import wait_for
from e2e_client import Client, Sealed, chat
from e2e_fixtures import NOTHING_HELD, StartStack
from latensgate_shared import calls, cbor
from latensgate_shared.errors import ErrorCode
from latensgate_shared.frames import Chunk, End, Error, Head, Request
from latensgate_shared.limits import FRAME_MAX_BYTES
from latensgate_sim.converse import ConverseRequest
from latensgate_sim.models import Event, Model, TextPiece
from latensgate_sim.world import World
from stack import Answer, ParentLink, Stack


def resident_kib(stack: Stack) -> int:
    status = Path(f"/proc/{stack.process.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def is_cut(link: ParentLink) -> bool:
    """Whether the enclave has closed the connection without an answer."""
    link.peer.settimeout(10)
    try:
        return link.peer.recv(1) == b""
    except ConnectionError:
        return True


MALFORMED = {
    "length-2^32": b"\xff\xff\xff\xff",
    "length-above": (FRAME_MAX_BYTES + 1).to_bytes(4, "big"),
    "empty": frame(b""),
    "no-cbor": frame(b"\xff\xfe\xfd"),
    "trailing": frame(cbor.encode([7, 1]) + b"\x00"),
    "indefinite": frame(b"\x9f\x07\x01\xff"),
    "float": frame(b"\x82\x07\xfb" + bytes(8)),
    "string-2^63": frame(b"\x83\x03\x01\x5b\x7f" + b"\xff" * 7),
    "array-2^32": frame(b"\x9a\xff\xff\xff\xff"),
    "deep": frame(b"\x81" * 5_000 + b"\x00"),
    "other-kind": frame(cbor.encode([99, 1])),
    "chunk-without-call": frame(cbor.encode([3, 1, b"x"])),
    "call-0": frame(cbor.encode([0, 0, "health", {}])),
    "call-2^64": frame(b"\x84\x00\x1b" + b"\xff" * 8 + b"\x66health\xa0"),
    "enclaves-own-kind": frame(cbor.encode([1, 1])),
    "duplicate-key": frame(b"\x84\x00\x01\x66health\xa2\x61a\x01\x61a\x01"),
    "not-text": frame(b"\x84\x00\x01\x62\xff\xff\xa0"),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_frames_cut_their_connection_and_nothing_else(
    stack: Stack, client: Client, link: ParentLink, data: bytes
) -> None:
    """Defence: frames.FrameConnection.receive; session.Session.run ends at a FrameError."""
    with stack.link() as bad:
        bad.peer.sendall(data)
        assert is_cut(bad)
    assert client.ask(link, chat("still here")).text == "You said: still here"


def test_lengths_are_judged_before_anything_is_held(stack: Stack) -> None:
    """Sixty connections say that 4 GiB will come. Defence: frames._frame_length."""
    before = resident_kib(stack)
    links = [stack.link() for _ in range(40)]
    try:
        for link in links:
            link.peer.sendall(b"\xff\xff\xff\xfe" + bytes(1_000))
        assert all(is_cut(link) for link in links)
    finally:
        for link in links:
            link.close()
    assert resident_kib(stack) - before < 30_000


def test_random_bytes_end_no_enclave(stack: Stack, client: Client, link: ParentLink) -> None:
    """Defence: the only errors that leave a reader are typed."""
    for _ in range(50):
        with stack.link() as bad:
            body = os.urandom(60)
            bad.peer.sendall(frame(body) + frame(os.urandom(3)))
            assert is_cut(bad)
    assert stack.event_count("INTERNAL") == 0
    assert client.ask(link, chat("still here")).text == "You said: still here"


@pytest.mark.parametrize(
    ("operation", "head", "code"),
    [
        ("inference", {}, ErrorCode.ERR_MALFORMED),
        ("inference", {"attestation_hash": 1}, ErrorCode.ERR_MALFORMED),
        ("attestation", {"nonce": b"short"}, ErrorCode.ERR_MALFORMED),
        ("attestation", {"time": 1}, ErrorCode.ERR_MALFORMED),
        ("attestation", {"key_id": "00" * 8}, ErrorCode.ERR_KEY_STALE),
        ("set_time", {"now_s": 1}, ErrorCode.ERR_UNSUPPORTED),
        ("health", {"x": 1}, ErrorCode.ERR_MALFORMED),
    ],
)
def test_calls_that_are_none(
    stack: Stack, *, operation: str, head: dict[str, cbor.CBORValue], code: ErrorCode
) -> None:
    """Nothing tells the enclave the time, for one. Defence: calls.parse_call."""
    with stack.link() as link:
        link.send_bytes(link.frames.send(Request(1, operation, head)))
        link.send_bytes(link.frames.send(End(1)))
        assert link.finish_all([1]) == {1: code}


def inference(client: Client) -> calls.InferenceCall:
    return client.seal(chat("slow")).call


def test_slow_upload_is_given_up(world: World, start_stack: StartStack) -> None:
    """A body that trickles in. Defence: session.Session._open, the timer to `_expire`."""
    stack = start_stack(world, limits={"CALL_UPLOAD_TIMEOUT_MS": 600})
    with stack.link() as link, stack.link() as honest:
        stack.open_gate(honest)
        client = Client.attest(stack, honest)
        call_id = link.frames.next_call_id
        link.send_bytes(link.frames.send(calls.request_frame(call_id, inference(client))))
        link.peer.settimeout(0.05)
        codes: list[ErrorCode] = []

        def is_given_up() -> bool:
            link.send_bytes(link.frames.send(Chunk(call_id, b"x")))
            try:
                event = link.next_event()
            except TimeoutError:
                return False
            codes.extend([event.code] if isinstance(event, Error) else [])
            return bool(codes)

        wait_for(is_given_up)
        assert codes == [ErrorCode.ERR_ENCLAVE_TIMEOUT]
        assert client.ask(honest, chat("quick")).text == "You said: quick"


def test_slow_uploads_do_not_take_every_place_for_long(
    world: World, start_stack: StartStack
) -> None:
    """All places taken by calls that never upload: others are told so at once, then served.

    Defence: session.Room.take_call, and the same timer.
    """
    stack = start_stack(world, limits={"CALL_UPLOAD_TIMEOUT_MS": 1_500})
    with stack.link() as link, stack.link() as honest:
        stack.open_gate(honest)
        client = Client.attest(stack, honest)
        call = inference(client)
        opening = b"".join(
            link.frames.send(calls.request_frame(call_id, call)) for call_id in range(1, 257)
        )
        link.send_bytes(opening)
        wait_for(lambda: client.fails(honest, chat("x")) is ErrorCode.ERR_OVERLOADED)
        wait_for(lambda: client.fails(honest, chat("x")) is None)


def test_held_bytes_are_bounded(world: World, start_stack: StartStack) -> None:
    """Many large bodies that never end. Defence: session.Room.take_bytes."""
    stack = start_stack(world, limits={"ENCLAVE_HELD_BODIES_MAX_BYTES": 4_000_000})
    with stack.link() as link:
        stack.open_gate(link)
        call = inference(Client.attest(stack, link))
        ids = range(link.frames.next_call_id, link.frames.next_call_id + 3)
        piece = bytes(100_000)
        for call_id in ids:
            link.send_bytes(link.frames.send(calls.request_frame(call_id, call)))
            for _ in range(18):
                link.send_bytes(link.frames.send(Chunk(call_id, piece)))
        assert link.finish_all([ids[-1]]) == {ids[-1]: ErrorCode.ERR_OVERLOADED}


class EndlessModel:
    """Says a word every 20 ms and never ends by itself."""

    blocking = True

    def __init__(self) -> None:
        self.begun = self.stopped = 0

    def run(self, request: ConverseRequest, cancelled: threading.Event) -> Iterator[Event]:
        """Yield until cancelled."""
        del request  # whatever is asked
        self.begun += 1
        try:
            while not cancelled.is_set():
                time.sleep(0.02)
                yield TextPiece("word ")
        finally:
            self.stopped += 1

    def is_idle(self) -> bool:
        """Whether every answer that was begun has been stopped."""
        return self.begun == self.stopped


@dataclass(frozen=True)
class Streaming:
    """An enclave that sends pieces as they come, and a model that never ends."""

    stack: Stack
    client: Client
    model: EndlessModel

    def request(self) -> Sealed:
        return self.client.seal(chat("go on", stream=True))

    def calm(self) -> None:
        """Let the scripted model answer from now on."""
        engines = cast("dict[str, Model]", self.stack.world.home.bedrock.engines)
        engines["default"] = engines["scripted"]


@pytest.fixture
def streaming(own_world: World, start_stack: StartStack) -> Streaming:
    stack, model = start_stack(own_world, policy=NOTHING_HELD), EndlessModel()
    with stack.link() as link:
        stack.open_gate(link)
        client = Client.attest(stack, link)
    cast("dict[str, Model]", own_world.home.bedrock.engines)["default"] = model
    return Streaming(stack, client, model)


def test_cancelled_stream_ends_sealed_and_stops_the_model(streaming: Streaming) -> None:
    """Defence: session.Session._cancel; egress.Egress.open cuts the connection it leaves early."""
    with streaming.stack.link() as link:
        sealed = streaming.request()
        call_id = link.start(sealed.call, sealed.wire)
        body, pieces = b"", 0
        while pieces < 3:
            event = link.next_event()
            if isinstance(event, Chunk):
                body, pieces = body + event.data, pieces + 1
        assert not streaming.model.is_idle()
        link.cancel(call_id)
        answer = link.finish_all([call_id])[call_id]
        assert isinstance(answer, Answer)
        opened = streaming.client.open(sealed, Answer({}, body + answer.body, answer.end))
        assert opened.code is ErrorCode.ERR_CANCELLED
        assert opened.receipt.signed.public.outcome == "cancelled"
        wait_for(streaming.model.is_idle)


def test_parent_that_goes_away_stops_the_model(streaming: Streaming) -> None:
    """Defence: session.Session._close cancels every call."""
    with streaming.stack.link() as link:
        sealed = streaming.request()
        link.start(sealed.call, sealed.wire)
        while not isinstance(link.next_event(), Head):
            pass
        wait_for(lambda: streaming.model.begun == 1)
    wait_for(streaming.model.is_idle)


def test_cancelled_calls_give_their_places_back(streaming: Streaming) -> None:
    """More cancelled streams than there are places. Defence: session.Session._release."""
    with streaming.stack.link() as link:
        for _ in range(6):
            batch = [streaming.request() for _ in range(50)]
            ids = [link.start(each.call, each.wire) for each in batch]
            for call_id in ids:
                link.cancel(call_id)
            ended = link.finish_all(ids).values()
            assert ErrorCode.ERR_OVERLOADED not in ended
        streaming.calm()
        assert streaming.client.ask(link, chat("after")).text == "You said: after"


def test_reader_who_never_reads_holds_up_only_himself(streaming: Streaming) -> None:
    """Defence: session.Session.send_and_drain waits; nothing is queued without bound."""
    stack, client = streaming.stack, streaming.client
    streaming.calm()
    long = chat("some words and " * 8_000, stream=True)
    with stack.link() as lazy, stack.link() as link:
        for _ in range(2):
            sealed = client.seal(long)
            lazy.start(sealed.call, sealed.wire)
        before = resident_kib(stack)
        for _ in range(5):
            assert client.ask(link, chat("quick")).text == "You said: quick"
        assert resident_kib(stack) - before < 200_000


def huge_arguments() -> dict[str, object]:
    """A request whose tool call has as many values as one scan takes on."""
    arguments = json.dumps({"n": [*range(1_000_000, 1_000_000 + 55_000)]})
    function = {"name": "f", "arguments": arguments}
    asked = {
        "role": "assistant",
        "tool_calls": [{"id": "c", "type": "function", "function": function}],
    }
    told = {"role": "tool", "tool_call_id": "c", "content": "x"}
    return chat("x") | {"messages": [{"role": "user", "content": "x"}, asked, told]}


def test_huge_tool_arguments_hold_up_no_other_tenant(stack: Stack, client: Client) -> None:
    """Defence: pipeline.Pipeline.work and aside.Aside: long walks and scans leave the loop."""
    other = replace(client, tenant_id="tnt_00000002")
    done = threading.Event()

    def ask_hugely() -> None:
        with stack.link() as link:
            client.ask(link, huge_arguments())
        done.set()

    started = time.monotonic()
    asking = threading.Thread(target=ask_hugely)
    asking.start()
    slowest_s = 0.0
    with stack.link() as link:
        while not done.is_set():
            asked = time.monotonic()
            other.ask(link, chat("quick"))
            slowest_s = max(slowest_s, time.monotonic() - asked)
    asking.join()
    took_s = time.monotonic() - started
    assert took_s > 0.5, "too little work to hold anybody up"
    assert slowest_s < took_s / 2
