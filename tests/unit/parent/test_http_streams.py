# pyright: reportPrivateUsage=false
"""Streamed answers: events as they come, the receipt before the end, and callers who leave."""

from __future__ import annotations

import asyncio

import pytest

from inference_doubles import Connection, Rig, begin, make_rig, request, run, scope_of
from latensgate_parent.http import inference as inference_module
from latensgate_parent.http import relay as relay_module
from latensgate_parent.http.asgi_types import Message
from latensgate_parent.link.interfaces import EnclaveError, EnclaveLostError
from latensgate_parent.store.interfaces import IdempotencyState, StoredAnswer
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import CHUNK_FRAMED_MAX_BYTES
from store_faults import Fault, FaultyStore, always, once
from store_memory import MemoryStore

PIECES = [b"\x00nonce", b"one", b"two" * 1000, b"x" * CHUNK_FRAMED_MAX_BYTES]


def test_the_events_joined_are_the_sealed_answer() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.pieces = PIECES
        got = await rig.post(stream=True)
        assert got.status == 200
        assert got.header("content-type") == "text/event-stream"
        assert got.header("cache-control") == "no-store"
        assert got.header("content-length") is None
        assert got.header("x-request-id") is not None
        assert got.header("x-ratelimit-limit") == "1000"
        assert got.chunks == b"".join(PIECES) + rig.enclave.final
        assert rig.enclave.calls[0].stream
        assert rig.observed.done[0].code is None
        assert len(await rig.receipts()) == 1
        assert not await rig.store.unfinished("tnt_a3f9c42b")

    run(test())


def test_the_start_is_durable_before_the_first_byte_and_the_receipt_before_the_last() -> None:
    async def test() -> None:
        rig = await make_rig()
        seen: list[tuple[str, int, int]] = []

        class Watched(Connection):
            async def send(self, message: Message) -> None:
                store = rig.store
                starts = await store.unfinished("tnt_a3f9c42b")
                receipts = await rig.receipts()
                last = not message.get("more_body", True)
                kind = "last" if last else str(message["type"])
                seen.append((kind, len(starts), len(receipts)))
                await super().send(message)

        headers, body = request(stream=True)
        connection = Watched([body])
        await rig.gateway(scope_of(headers), connection.receive, connection.send)
        assert seen == [
            ("http.response.start", 1, 0),
            ("http.response.body", 1, 0),
            ("last", 0, 1),
        ]

    run(test())


def test_a_refusal_inside_a_stream_stays_200() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.code = ErrorCode.ERR_PII_HARD_FAIL
        got = await rig.post(stream=True)
        assert got.status == 200
        assert got.chunks.endswith(rig.enclave.final)
        assert [each.outcome for each in await rig.receipts()] == ["refused"]

    run(test())


@pytest.mark.parametrize("key", [None, "k"])
def test_a_caller_who_leaves_cancels_it_and_its_receipt_is_stored(key: str | None) -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.release = asyncio.Event()
        connection, task = begin(rig, *request(stream=True, key=key))
        await connection.until(lambda: connection.got.pieces)
        connection.gone.set()
        await task
        assert rig.enclave.cancelled == 1
        assert not connection.got.complete
        assert [each.outcome for each in await rig.receipts()] == ["cancelled"]
        assert rig.observed.done[0].code is ErrorCode.ERR_CANCELLED
        assert rig.route.room.open == rig.route.room.held_bytes == 0

    run(test())


def test_what_a_keyed_caller_left_is_replayed_to_its_cancelled_end() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.release = asyncio.Event()
        connection, task = begin(rig, *request(stream=True, key="k"))
        await connection.until(lambda: connection.got.pieces)
        connection.gone.set()
        await task
        got = await rig.post(stream=True, key="k")
        assert got.chunks == rig.enclave.content + rig.enclave.final
        assert len(rig.enclave.ran) == 1

    run(test())


def test_a_caller_who_leaves_before_the_head() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.release, rig.enclave.head = asyncio.Event(), asyncio.Event()
        connection, task = begin(rig, *request(stream=True))
        await rig.enclave.arrived.wait()
        connection.gone.set()
        await asyncio.sleep(0.01)
        rig.enclave.head.set()
        await task
        assert not connection.got.status
        assert rig.observed.done[0].status == 499
        assert rig.enclave.cancelled == 1
        assert [each.outcome for each in await rig.receipts()] == ["cancelled"]

    run(test())


def test_a_server_that_gives_up_leaves_the_receipt_to_be_stored() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.release = asyncio.Event()
        connection, task = begin(rig, *request(stream=True))
        await connection.until(lambda: connection.got.pieces)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await rig.route.finish(1)
        assert [each.outcome for each in await rig.receipts()] == ["cancelled"]

    run(test())


def test_a_replay_is_byte_for_byte() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.pieces = PIECES
        first = await rig.post(stream=True, key="k")
        again = await rig.post(stream=True, key="k")
        assert (again.status, again.body) == (first.status, first.body)
        assert again.header("content-type") == "text/event-stream"
        assert again.header("content-length") == str(len(first.body))
        assert len(rig.enclave.ran) == 1

    run(test())


@pytest.mark.parametrize("by", ["length", "room"])
def test_a_stream_too_long_to_store_is_unknown_afterwards(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.pieces = PIECES
        headers, body = request(stream=True, key="k")
        if by == "length":
            monkeypatch.setattr(relay_module, "STREAM_STORED_MAX_BYTES", 5000)
        else:
            rig.route.room._max_bytes = len(body) + 5000
        first = await rig.send(headers, body)
        assert first.chunks.endswith(rig.enclave.final)
        assert (await rig.send(headers, body)).code is ErrorCode.ERR_OUTCOME_UNKNOWN
        assert len(rig.enclave.ran) == 1
        assert len(await rig.receipts()) == 1

    run(test())


def test_a_silent_stream_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(inference_module, "STREAM_PING_S", 0.01)
        rig = await make_rig()
        rig.enclave.release = asyncio.Event()
        connection, task = begin(rig, *request(stream=True, key="k"))
        await connection.until(lambda: connection.got.pieces.count(b": ping\n\n") >= 2)
        rig.enclave.release.set()
        await task
        assert connection.got.chunks == rig.enclave.content + rig.enclave.final
        assert b": ping" not in (await rig.post(stream=True, key="k")).body

    run(test())


def test_nothing_is_sent_before_the_start_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a comment: the store is slower here than the time between two."""

    class SlowStore(MemoryStore):
        async def insert_start(self, start: object) -> None:
            await asyncio.sleep(0.05)
            await super().insert_start(start)  # type: ignore[arg-type]  # passed through

    async def test() -> None:
        monkeypatch.setattr(inference_module, "STREAM_PING_S", 0.01)
        rig = await make_rig(SlowStore())
        got = await rig.post(stream=True)
        assert got.chunks == rig.enclave.content + rig.enclave.final

    run(test())


def test_a_caller_who_takes_nothing_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(relay_module, "STREAM_SEND_TIMEOUT_S", 0.01)
        rig = await make_rig()
        rig.enclave.release = asyncio.Event()
        connection, task = begin(rig, *request(stream=True))
        connection.stalled = asyncio.Event()
        await task
        assert rig.enclave.cancelled == 1
        assert [each.outcome for each in await rig.receipts()] == ["cancelled"]

    run(test())


def test_a_server_that_says_the_caller_is_gone() -> None:
    class Broken(Connection):
        async def send(self, message: Message) -> None:
            if message["type"] == "http.response.body":
                raise OSError("gone")
            await super().send(message)

    async def test() -> None:
        rig = await make_rig()
        rig.enclave.release = asyncio.Event()
        headers, body = request(stream=True)
        connection = Broken([body])
        await rig.gateway(scope_of(headers), connection.receive, connection.send)
        assert rig.enclave.cancelled == 1
        assert [each.outcome for each in await rig.receipts()] == ["cancelled"]

    run(test())


@pytest.mark.parametrize(
    "error",
    [
        EnclaveError("failed", code=ErrorCode.ERR_INTERNAL),
        EnclaveLostError("the connection ended"),
    ],
    ids=["failed", "lost"],
)
def test_an_enclave_that_fails_after_the_head_cuts_the_body(error: Exception) -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.late_error = error
        got = await rig.post(stream=True, key="k")
        assert got.status == 200
        assert got.chunks == rig.enclave.content  # no final chunk: the client sees it cut
        assert rig.observed.done[0].code is error.code  # type: ignore[attr-defined]  # both have one
        assert len(await rig.store.unfinished("tnt_a3f9c42b")) == 1
        assert (await rig.post(stream=True, key="k")).code is ErrorCode.ERR_OUTCOME_UNKNOWN
        assert len(rig.enclave.ran) == 1

    run(test())


def test_the_unexpected_after_the_head_leaves_no_end() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.late_error = ZeroDivisionError("secret")
        connection, task = begin(rig, *request(stream=True, key="k"))
        await task
        assert not connection.got.complete  # the server cuts the connection
        assert [type(each) for each in rig.observed.unexpected] == [ZeroDivisionError]
        assert (await rig.post(stream=True, key="k")).code is ErrorCode.ERR_OUTCOME_UNKNOWN

    run(test())


def test_a_reader_too_slow_for_the_link_gets_no_end_but_its_receipt_is_stored() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.late_error = EnclaveError("not fetched", code=ErrorCode.ERR_OVERLOADED)
        connection, task = begin(rig, *request(stream=True, key="k"))
        await task
        assert connection.got.chunks == rig.enclave.content
        assert len(await rig.receipts()) == 1
        assert (await rig.post(stream=True, key="k")).code is ErrorCode.ERR_OUTCOME_UNKNOWN

    run(test())


async def failing(*methods: str, fault: Fault = Fault.NOTHING_STORED) -> tuple[Rig, FaultyStore]:
    rig = await make_rig(FaultyStore(MemoryStore()))
    store = rig.store
    assert isinstance(store, FaultyStore)
    store._plan = always(fault, *methods)
    return rig, store


@pytest.mark.parametrize("fault", Fault)
def test_a_start_that_is_not_durable_refuses_and_cancels(fault: Fault) -> None:
    async def test() -> None:
        rig, _ = await failing("insert_start", fault=fault)
        got = await rig.post(stream=True)
        assert got.code is ErrorCode.ERR_STORE_UNAVAILABLE
        assert rig.enclave.cancelled == 1
        assert [each.outcome for each in await rig.receipts()] == ["cancelled"]

    run(test())


@pytest.mark.parametrize("fault", Fault)
def test_a_keyed_retry_gets_the_stream_whose_start_was_not_durable(fault: Fault) -> None:
    async def test() -> None:
        rig, _ = await failing("insert_start", fault=fault)
        rig.enclave.pieces = PIECES
        refused = await rig.post(stream=True, key="k")
        assert refused.code is ErrorCode.ERR_STORE_UNAVAILABLE
        got = await rig.post(stream=True, key="k")
        assert got.chunks == b"".join(PIECES) + rig.enclave.final
        assert len(rig.enclave.ran) == 1

    run(test())


def test_a_receipt_that_is_not_durable_holds_the_final_chunk_back() -> None:
    async def test() -> None:
        rig = await make_rig(
            FaultyStore(MemoryStore(), once(Fault.NOTHING_STORED, "insert_receipt"))
        )
        got = await rig.post(stream=True, key="k")
        assert got.status == 200
        assert got.chunks == rig.enclave.content
        assert rig.observed.done[0].code is ErrorCode.ERR_STORE_UNAVAILABLE
        assert await rig.route.finish(2)
        again = await rig.post(stream=True, key="k")
        assert again.chunks == rig.enclave.content + rig.enclave.final
        assert len(rig.enclave.ran) == 1

    run(test())


def test_the_stored_answer_is_that_of_the_first_caller() -> None:
    async def test() -> None:
        rig = await make_rig()
        first = await rig.post(stream=True, key="k")
        store = rig.store
        assert isinstance(store, MemoryStore)
        record = store._records["tnt_a3f9c42b", "k"]
        assert record.state is IdempotencyState.ANSWERED
        assert record.answer == StoredAnswer(200, "text/event-stream", first.body)

    run(test())
