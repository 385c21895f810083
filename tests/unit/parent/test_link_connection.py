# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import pytest
import uvloop

from latensgate_parent.limits import LINK_ANSWERS_MAX_BYTES
from latensgate_parent.link import connection as connection_module
from latensgate_parent.link import enclave as enclave_module
from latensgate_parent.link import open_calls
from latensgate_parent.link.interfaces import EnclaveError, EnclaveLostError, OpenInference
from latensgate_shared import calls
from latensgate_shared.call_forms import Message
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.frames import Accepted, Chunk, End, Head, Ping
from latensgate_shared.limits import (
    CALLS_MAX_OPEN,
    CHUNK_FRAMED_MAX_BYTES,
    SEALED_REQUEST_MAX_BYTES,
)
from link_doubles import (
    CONTENT,
    HEALTHY,
    RECEIPT_ID,
    Pair,
    StandInEnclave,
    connected,
    inference_call,
    inference_end,
)

Run = Callable[[Callable[[], Coroutine[None, None, None]]], None]
SEALED = b"a sealed request"
LARGE = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def runner(main: Callable[[], Coroutine[None, None, None]]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(asyncio.wait_for(main(), 20))

    return runner


def answer_at_once(standin: StandInEnclave, call_id: int) -> None:
    standin.answer_inference(call_id)


async def code_of(awaited: Awaitable[object]) -> ErrorCode:
    with pytest.raises(EnclaveError) as caught:
        await awaited
    return caught.value.code


async def is_lost(awaited: Awaitable[object]) -> str:
    with pytest.raises(EnclaveLostError) as caught:
        await awaited
    assert caught.value.code is ErrorCode.ERR_OUTCOME_UNKNOWN
    return caught.value.detail


async def begun(pair: Pair) -> tuple[OpenInference, int]:
    """Open a stream whose answer has begun."""
    opening = asyncio.create_task(pair.enclave.stream(inference_call(stream=True), SEALED))
    before = len(pair.standin.received)
    await pair.standin.until(lambda: len(pair.standin.received) > before)
    call_id = (await pair.standin.calls_came(before + 1))[-1]
    pair.standin.begin_inference(call_id)
    return await opening, call_id


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_unary_answer_comes_as_a_whole(run: Run) -> None:
    async def main() -> None:
        pair = await connected(answer_at_once)
        reply = await pair.enclave.infer(inference_call(), SEALED)
        assert (reply.receipt_id, reply.content) == (RECEIPT_ID, CONTENT)
        assert reply.end == inference_end()
        assert bytes(pair.standin.received[1].body) == SEALED
        assert pair.standin.call(1) == inference_call()
        assert pair.enclave.open_calls == 0
        assert pair.orphans == []
        await pair.close()

    run(main)


def test_large_bodies_pass_both_ways_while_small_calls_go_on(run: Run) -> None:
    def on_call(standin: StandInEnclave, call_id: int) -> None:
        standin.answer_inference(call_id, bytes(standin.received[call_id].body))

    async def main() -> None:
        pair = await connected(on_call)
        infer, call = pair.enclave.infer, inference_call()
        bodies = [LARGE, SEALED, LARGE[7:], b"", LARGE[: 64 * 1024 + 1]]
        replies = await asyncio.gather(*(infer(call, body) for body in bodies))
        assert [reply.content for reply in replies] == bodies
        assert pair.connection.budget.left_bytes == LINK_ANSWERS_MAX_BYTES
        await pair.close()

    run(main)


def test_a_stream_comes_in_bounded_pieces_and_ends_with_its_receipt(run: Run) -> None:
    async def main() -> None:
        pair = await connected()
        stream, call_id = await begun(pair)
        assert stream.receipt_id == RECEIPT_ID
        content = LARGE[: 3 * CHUNK_FRAMED_MAX_BYTES + 5]
        got = bytearray()

        async def read() -> None:
            async for piece in stream.pieces():
                assert 0 < len(piece) <= CHUNK_FRAMED_MAX_BYTES
                got.extend(piece)

        reader = asyncio.create_task(read())
        pair.standin.send(Chunk(call_id, content[:1]))
        await turns()
        pair.standin.send(Chunk(call_id, content[1:120_000]))
        pair.standin.send(Chunk(call_id, content[120_000:]))
        pair.standin.end_inference(call_id)
        await reader
        assert bytes(got) == content
        assert await stream.end() == inference_end()
        await stream.aclose()
        await turns()
        assert pair.orphans == []
        assert not pair.standin.received[call_id].cancelled
        await pair.close()

    run(main)


@pytest.mark.parametrize("when", ["before_head", "after_head", "after_content"])
def test_an_error_frame_is_the_calls_error(run: Run, when: str) -> None:
    def on_call(standin: StandInEnclave, call_id: int) -> None:
        if when != "before_head":
            standin.begin_inference(call_id)
        if when == "after_content":
            standin.send(Chunk(call_id, CONTENT))
        standin.refuse(call_id, ErrorCode.ERR_KEY_STALE)

    async def main() -> None:
        pair = await connected(on_call)
        assert await code_of(pair.enclave.infer(inference_call(), SEALED)) is (
            ErrorCode.ERR_KEY_STALE
        )
        await pair.close()

    run(main)


def test_content_before_an_error_is_still_handed_out(run: Run) -> None:
    async def main() -> None:
        pair = await connected()
        stream, call_id = await begun(pair)
        pair.standin.send(Chunk(call_id, CONTENT))
        pair.standin.refuse(call_id, ErrorCode.ERR_UPSTREAM)
        await turns()
        pieces = stream.pieces()
        assert await anext(pieces) == CONTENT
        for _ in range(2):
            assert await code_of(anext(pieces)) is ErrorCode.ERR_UPSTREAM
        assert await code_of(stream.end()) is ErrorCode.ERR_UPSTREAM
        await stream.aclose()
        await pair.close()

    run(main)


def test_a_stream_that_is_refused_at_once_raises_so(run: Run) -> None:
    async def main() -> None:
        pair = await connected(lambda s, c: s.refuse(c, ErrorCode.ERR_OVERLOADED))
        opening = pair.enclave.stream(inference_call(stream=True), SEALED)
        assert await code_of(opening) is ErrorCode.ERR_OVERLOADED
        await pair.close()

    run(main)


# --- deadlines ---


def test_what_is_not_accepted_in_time_is_cancelled_and_its_receipt_kept(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_ACCEPT_S", 0.05)

    async def main() -> None:
        pair = await connected()
        pair.standin.accepts = False
        unary = asyncio.create_task(pair.enclave.infer(inference_call(), SEALED))
        await asyncio.sleep(0.02)  # the second is due later than the first
        opening = asyncio.create_task(pair.enclave.stream(inference_call(stream=True), SEALED))
        assert await code_of(unary) is ErrorCode.ERR_ENCLAVE_TIMEOUT
        assert await code_of(opening) is ErrorCode.ERR_ENCLAVE_TIMEOUT
        for call_id in (1, 2):
            await pair.standin.cancel_came(call_id)
            pair.standin.send(Accepted(call_id))
            pair.standin.answer_inference(call_id)
        await turns()
        await asyncio.sleep(0.01)
        assert pair.orphans == [(inference_end(), RECEIPT_ID)] * 2
        assert pair.enclave.open_calls == 0
        pair.standin.accepts, pair.standin.on_call = True, answer_at_once
        await pair.enclave.infer(inference_call(), SEALED)
        await pair.close()

    run(main)


def test_a_call_that_does_not_end_is_lost_and_then_its_connection(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_PING_INTERVAL_S", 0.02)
    monkeypatch.setattr(connection_module, "_CALL_MAX_S", 0.05)
    monkeypatch.setattr(connection_module, "_ENDING_MAX_S", 0.2)

    async def main() -> None:
        pair = await connected()
        unary = asyncio.create_task(pair.enclave.infer(inference_call(), SEALED))
        await is_lost(unary)
        assert pair.enclave.is_open
        await pair.standin.cancel_came(1)
        assert "does not end" in await pair.enclave.wait_closed()
        await pair.close()

    run(main)


def test_an_enclave_that_answers_no_ping_is_lost(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_PING_INTERVAL_S", 0.02)
    monkeypatch.setattr(connection_module, "_PING_TIMEOUT_S", 0.1)

    async def main() -> None:
        pair = await connected()
        await asyncio.sleep(0.3)
        assert pair.enclave.is_open
        pair.standin.pongs = False
        unary = asyncio.create_task(pair.enclave.infer(inference_call(), SEALED))
        assert "pings" in await is_lost(unary)
        assert "pings" in await pair.enclave.wait_closed()
        await pair.close()

    run(main)


def test_whoever_sends_is_not_lost_for_a_pong_that_waits_behind(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_PING_INTERVAL_S", 0.02)
    monkeypatch.setattr(connection_module, "_PING_TIMEOUT_S", 0.1)

    async def main() -> None:
        pair = await connected()
        stream, call_id = await begun(pair)
        pair.standin.pongs = False
        for _ in range(15):
            await asyncio.sleep(0.02)
            pair.standin.send(Chunk(call_id, b"x"))
        assert pair.enclave.is_open
        await stream.aclose()
        await pair.close()

    run(main)


def test_the_enclaves_ping_is_answered(run: Run) -> None:
    async def main() -> None:
        pair = await connected()
        pair.standin.send(Ping(42))
        await pair.standin.until(lambda: pair.standin.pong_tokens == [42])
        await pair.close()

    run(main)


# --- loss ---


def test_loss_after_dispatch_is_unknown_and_before_it_is_not(run: Run) -> None:
    async def main() -> None:
        pair = await connected()
        unary = asyncio.create_task(pair.enclave.infer(inference_call(), SEALED))
        opening = asyncio.create_task(pair.enclave.stream(inference_call(stream=True), SEALED))
        await pair.standin.calls_came(2)
        stream, _ = await begun(pair)
        pair.standin.transport.pause_reading()
        uploading = asyncio.create_task(pair.enclave.infer(inference_call(), LARGE))
        await turns()
        waiting = asyncio.create_task(pair.enclave.infer(inference_call(), SEALED))
        await turns()
        pair.standin.transport.abort()
        await is_lost(unary)
        await is_lost(opening)
        await is_lost(anext(stream.pieces()))
        await is_lost(stream.end())
        assert await code_of(uploading) is ErrorCode.ERR_ENCLAVE_UNAVAILABLE
        assert await code_of(waiting) is ErrorCode.ERR_ENCLAVE_UNAVAILABLE
        late = pair.enclave.infer(inference_call(), SEALED)
        assert await code_of(late) is ErrorCode.ERR_ENCLAVE_UNAVAILABLE
        assert pair.orphans == []
        await stream.aclose()
        await pair.close()

    run(main)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xff",
        b"GET / HTTP/1.1\r\n\r\n",
        bytes.fromhex("00000003820801"),  # a pong that answers no ping
        bytes.fromhex("00000003820163"),
        bytes.fromhex("000000038201187f"),
        bytes.fromhex("0000000483040aa0"),  # an end of a call that nobody opened
    ],
)
def test_a_broken_rule_loses_the_connection_and_nothing_else(run: Run, garbage: bytes) -> None:
    async def main() -> None:
        pair = await connected()
        unary = asyncio.create_task(pair.enclave.infer(inference_call(), SEALED))
        await pair.standin.calls_came(1)
        pair.standin.transport.write(garbage)
        pair.standin.transport.write(bytes(200_000))
        await is_lost(unary)
        assert not pair.enclave.is_open
        assert "broke a rule" in await pair.enclave.wait_closed()
        await pair.close()

    run(main)


@pytest.mark.parametrize("part", ["head", "end"])
def test_a_malformed_answer_is_of_unknown_outcome(run: Run, part: str) -> None:
    def on_call(standin: StandInEnclave, call_id: int) -> None:
        head = {"receipt_id": "aud_no"} if part == "head" else {"receipt_id": RECEIPT_ID}
        end = inference_end().to_head() | ({"more": 1} if part == "end" else {})
        standin.send(Head(call_id, head))
        if standin.received[call_id].request.head["stream"] is False or part == "end":
            standin.send(End(call_id, end))

    async def main() -> None:
        pair = await connected(on_call)
        assert "malformed" in await is_lost(pair.enclave.infer(inference_call(), SEALED))
        opening = pair.enclave.stream(inference_call(stream=True), SEALED)
        if part == "head":
            await is_lost(opening)
            await pair.standin.cancel_came(2)
            pair.standin.end_inference(2)
        else:
            stream = await opening
            await is_lost(stream.end())
            await stream.aclose()
        await turns()
        assert pair.enclave.is_open
        assert pair.orphans == []
        await pair.close()

    run(main)


# --- nobody waits ---


@pytest.mark.parametrize("begun_first", [False, True])
def test_a_cancelled_task_cancels_its_call_and_the_receipt_is_kept(
    run: Run,
    begun_first: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    async def main() -> None:
        pair = await connected()
        unary = asyncio.create_task(pair.enclave.infer(inference_call(), SEALED))
        opening = asyncio.create_task(pair.enclave.stream(inference_call(stream=True), SEALED))
        await pair.standin.calls_came(2)
        if begun_first:
            pair.standin.begin_inference(1)
            pair.standin.send(Chunk(1, CONTENT))
            await turns()
        for task in (unary, opening):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        for call_id in (1, 2):
            await pair.standin.cancel_came(call_id)
        if not begun_first:
            pair.standin.begin_inference(1)
        pair.standin.send(Chunk(1, CONTENT))
        pair.standin.end_inference(1)
        pair.standin.refuse(2, ErrorCode.ERR_CANCELLED)
        await pair.standin.until(lambda: pair.standin.frames.open_calls == 0)
        await asyncio.sleep(0.01)
        assert pair.orphans == [(inference_end(), RECEIPT_ID)]
        assert pair.enclave.open_calls == 0
        await pair.close()

    run(main)


def test_an_answer_that_comes_together_with_the_cancel_is_not_forgotten(run: Run) -> None:
    async def main() -> None:
        for late in (False, True):
            pair = await connected()
            unary = asyncio.create_task(pair.enclave.infer(inference_call(), SEALED))
            await pair.standin.calls_came(1)
            end = pair.connection._calls[1]
            if late:
                unary.cancel()  # the call's future is cancelled, its task has not run yet
            end.take_head(calls.InferenceHead(RECEIPT_ID).to_head())
            end.take_end(inference_end().to_head())
            if not late:
                unary.cancel()  # it has its result, and its task never sees it
            with pytest.raises(asyncio.CancelledError):
                await unary
            await turns()
            assert pair.orphans == [(inference_end(), RECEIPT_ID)]
            await pair.close()

    run(main)


def test_a_stream_that_is_cancelled_still_ends_with_its_receipt(run: Run) -> None:
    async def main() -> None:
        pair = await connected()
        stream, call_id = await begun(pair)
        stream.cancel()
        stream.cancel()
        await pair.standin.cancel_came(call_id)
        pair.standin.send(Chunk(call_id, CONTENT))
        pair.standin.end_inference(call_id)
        assert [piece async for piece in stream.pieces()] == [CONTENT]
        assert await stream.end() == inference_end()
        await stream.aclose()
        await turns()
        assert pair.orphans == []
        await pair.close()

    run(main)


@pytest.mark.parametrize("ended_first", [False, True])
def test_the_receipt_of_a_stream_that_was_left_is_kept(
    run: Run,
    ended_first: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    async def main() -> None:
        pair = await connected()
        stream, call_id = await begun(pair)
        pair.standin.send(Chunk(call_id, CONTENT))
        if ended_first:
            pair.standin.end_inference(call_id)
            await asyncio.sleep(0.01)
        await stream.aclose()
        await stream.aclose()
        if not ended_first:
            await pair.standin.cancel_came(call_id)
            pair.standin.send(Chunk(call_id, CONTENT))
            pair.standin.end_inference(call_id)
        await asyncio.sleep(0.02)
        assert pair.orphans == [(inference_end(), RECEIPT_ID)]
        await pair.close()

    run(main)


def test_end_drops_what_was_not_read(run: Run) -> None:
    async def main() -> None:
        pair = await connected()
        stream, call_id = await begun(pair)
        pair.standin.send(Chunk(call_id, CONTENT))
        ending = asyncio.create_task(stream.end())
        await turns()
        pair.standin.send(Chunk(call_id, CONTENT))
        pair.standin.end_inference(call_id)
        assert await ending == inference_end()
        await pair.close()

    run(main)


def test_a_cancel_beside_the_end_is_not_sent(run: Run) -> None:
    """The chunk that is too much and the end came in one read: the call is over on the wire."""

    async def main() -> None:
        pair = await connected()
        unary = asyncio.create_task(pair.enclave.health())
        await pair.standin.calls_came(1)
        pair.standin.send(Head(1, HEALTHY.to_head()), Chunk(1, b"x"), End(1))
        await is_lost(unary)
        pair.standin.on_call = answer_at_once
        await pair.enclave.infer(inference_call(), SEALED)
        await pair.close()

    run(main)


# --- bounds ---


def test_a_stream_that_is_not_read_is_cancelled_and_its_receipt_still_comes(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_calls, "LINK_STREAM_QUEUE_MAX_BYTES", 3 * len(CONTENT))

    async def main() -> None:
        pair = await connected()
        stream, call_id = await begun(pair)
        for _ in range(5):
            pair.standin.send(Chunk(call_id, CONTENT))
        await pair.standin.cancel_came(call_id)
        pieces = stream.pieces()
        assert await anext(pieces) == 3 * CONTENT
        assert await code_of(anext(pieces)) is ErrorCode.ERR_OVERLOADED
        pair.standin.end_inference(call_id)
        assert await stream.end() == inference_end()
        assert await code_of(anext(pieces)) is ErrorCode.ERR_OVERLOADED
        await stream.aclose()
        assert pair.orphans == []
        await pair.close()

    run(main)


@pytest.mark.parametrize("bound", ["one", "all"])
def test_unary_answers_are_bounded_each_and_together(
    run: Run, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(
        enclave_module if bound == "one" else connection_module,
        "SEALED_ANSWER_MAX_BYTES" if bound == "one" else "LINK_ANSWERS_MAX_BYTES",
        2 * len(CONTENT),
    )

    async def main() -> None:
        pair = await connected()
        whole = asyncio.create_task(pair.enclave.infer(inference_call(), SEALED))
        unary = asyncio.create_task(pair.enclave.infer(inference_call(), SEALED))
        await pair.standin.calls_came(2)
        for call_id in (1, 2):
            pair.standin.begin_inference(call_id)
            pair.standin.send(Chunk(call_id, CONTENT))
        for _ in range(2):
            pair.standin.send(Chunk(2, CONTENT))
        assert "dropped" in await is_lost(unary)
        await pair.standin.cancel_came(2)
        for call_id in (1, 2):
            pair.standin.end_inference(call_id)
        assert (await whole).content == CONTENT
        await asyncio.sleep(0.01)
        assert pair.orphans == [(inference_end(), RECEIPT_ID)]
        await pair.close()

    run(main)


def test_no_more_calls_than_one_connection_may_carry(run: Run) -> None:
    async def main() -> None:
        pair = await connected()
        infer = pair.enclave.infer
        tasks = [asyncio.create_task(infer(inference_call(), b"")) for _ in range(CALLS_MAX_OPEN)]
        await pair.standin.calls_came(CALLS_MAX_OPEN)
        assert await code_of(infer(inference_call(), b"")) is ErrorCode.ERR_OVERLOADED
        for call_id in range(1, CALLS_MAX_OPEN + 1):
            pair.standin.answer_inference(call_id)
        await asyncio.gather(*tasks)
        await pair.close()

    run(main)


def test_a_body_that_no_enclave_takes_is_not_written(run: Run) -> None:
    async def main() -> None:
        pair = await connected()
        refused = pair.enclave.infer(inference_call(), bytes(SEALED_REQUEST_MAX_BYTES + 1))
        assert await code_of(refused) is ErrorCode.ERR_TOO_LARGE
        assert pair.enclave.open_calls == 0
        await pair.close()

    run(main)


def test_calls_wait_while_the_enclave_does_not_read(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "LINK_WAITING_CALLS_MAX_COUNT", 3)
    monkeypatch.setattr(connection_module, "_ACCEPT_S", 0.3)

    async def main() -> None:
        pair = await connected(answer_at_once)
        pair.standin.transport.pause_reading()
        infer = pair.enclave.infer
        uploading = asyncio.create_task(infer(inference_call(), LARGE))
        await turns()
        waiting = [asyncio.create_task(infer(inference_call(), SEALED)) for _ in range(2)]
        await turns()
        assert await code_of(infer(inference_call(), SEALED)) is ErrorCode.ERR_OVERLOADED
        waiting.pop().cancel()
        await turns()
        assert pair.enclave.open_calls == 1, "what waits is not written"
        late = asyncio.create_task(infer(inference_call(), SEALED))
        for task in (uploading, *waiting, late):
            assert await code_of(task) is ErrorCode.ERR_ENCLAVE_TIMEOUT
        pair.standin.transport.resume_reading()
        assert (await infer(inference_call(), SEALED)).content == CONTENT
        await pair.close()

    run(main)


def test_a_waiting_call_is_written_once_the_enclave_reads(run: Run) -> None:
    async def main() -> None:
        pair = await connected(answer_at_once)
        pair.standin.transport.pause_reading()
        infer = pair.enclave.infer
        tasks = [asyncio.create_task(infer(inference_call(), LARGE))]
        await turns()
        tasks += [asyncio.create_task(infer(inference_call(), SEALED)) for _ in range(5)]
        await turns()
        pair.standin.transport.resume_reading()
        assert {reply.content for reply in await asyncio.gather(*tasks)} == {CONTENT}
        await pair.close()

    run(main)


def test_an_upload_stops_when_it_is_refused(run: Run) -> None:
    async def main() -> None:
        pair = await connected()
        pair.standin.transport.pause_reading()
        uploading = asyncio.create_task(pair.enclave.infer(inference_call(), LARGE * 4))
        await turns()
        pair.standin.transport.resume_reading()
        await pair.standin.until(lambda: 1 in pair.standin.received)
        pair.standin.transport.pause_reading()
        pair.standin.refuse(1, ErrorCode.ERR_TOO_LARGE)
        assert await code_of(uploading) is ErrorCode.ERR_TOO_LARGE
        pair.standin.on_call = answer_at_once
        pair.standin.transport.resume_reading()
        assert (await pair.enclave.infer(inference_call(), SEALED)).content == CONTENT
        assert not pair.standin.received[1].complete
        await pair.standin.until(lambda: pair.standin.frames.open_calls == 0)
        assert pair.connection._frames.open_calls == 0
        assert pair.enclave.open_calls == 0
        await pair.close()

    run(main)


def test_a_cancelled_upload_leaves_the_connection_in_order(run: Run) -> None:
    async def main() -> None:
        pair = await connected()
        pair.standin.transport.pause_reading()
        uploading = asyncio.create_task(pair.enclave.infer(inference_call(), LARGE))
        await turns()
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await uploading
        pair.standin.transport.resume_reading()
        await pair.standin.cancel_came(1)
        pair.standin.refuse(1, ErrorCode.ERR_CANCELLED)
        pair.standin.on_call = answer_at_once
        assert (await pair.enclave.infer(inference_call(), SEALED)).content == CONTENT
        assert pair.enclave.open_calls == 0
        await pair.close()

    run(main)


# --- the other calls ---


def test_control_calls_read_their_answers(run: Run) -> None:
    heads: dict[str, Message] = {
        "health": HEALTHY,
        "attestation": calls.AttestationAnswer("sha384:" + "0" * 96, b"document", b"manifest"),
        "credentials": calls.Done(),
        "configure_kms": calls.ConfigureKMSAnswer(calls.KMSState.RELEASED, b"wrapped"),
        "usage": calls.UsageAnswer(bytes(64)),
        "drain": calls.DrainAnswer(3),
    }

    def on_call(standin: StandInEnclave, call_id: int) -> None:
        operation = standin.received[call_id].request.operation
        body = CONTENT if operation == "usage" else b""
        standin.answer(call_id, heads[operation], body, {})

    async def main() -> None:
        pair = await connected(on_call)
        enclave = pair.enclave
        assert await enclave.health() == HEALTHY
        assert await enclave.attestation(calls.AttestationCall()) == heads["attestation"]
        await enclave.deliver_credentials(calls.CredentialsCall("a", "b", "c", 1))
        told = await enclave.configure_kms(calls.ConfigureKMSCall("arn"))
        assert told == heads["configure_kms"]
        usage = await enclave.usage()
        assert (usage.totals, usage.signature) == (CONTENT, bytes(64))
        assert (await enclave.drain()).open_calls == 3
        await pair.close()

    run(main)


def test_a_control_call_has_a_deadline_of_its_own(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enclave_module, "HEALTH_TIMEOUT_MS", 30)

    async def main() -> None:
        pair = await connected()
        assert await code_of(pair.enclave.health()) is ErrorCode.ERR_ENCLAVE_TIMEOUT
        await pair.standin.cancel_came(1)
        await pair.close()

    run(main)


def test_a_control_answer_of_another_form_is_refused(run: Run) -> None:
    def on_call(standin: StandInEnclave, call_id: int) -> None:
        standin.answer(call_id, calls.Done(), b"", {"unknown": 1} if call_id == 1 else {})

    async def main() -> None:
        pair = await connected(on_call)
        await is_lost(pair.enclave.deliver_credentials(calls.CredentialsCall("a", "b", "c", 1)))
        with pytest.raises(LatensgateError):
            await pair.enclave.health()
        await pair.close()

    run(main)
