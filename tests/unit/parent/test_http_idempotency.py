# pyright: reportPrivateUsage=false
"""Every row of the table "Idempotency-Key", and a store that fails at every step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace

import pytest

from inference_doubles import (
    NOW_S,
    TENANT_ID,
    Got,
    Observed,
    Rig,
    begin,
    digest_of,
    make_rig,
    request,
    run,
    sealed_bytes,
)
from latensgate_parent.http import backlog as backlog_module
from latensgate_parent.http import receipts as receipts_module
from latensgate_parent.http import sealed_route as sealed_route_module
from latensgate_parent.http.backlog import Backlog
from latensgate_parent.http.idempotency import Claim, Idempotency
from latensgate_parent.link.interfaces import EnclaveError, EnclaveLostError
from latensgate_parent.store.interfaces import (
    IdempotencyRecord,
    IdempotencyState,
    ReceiptQuery,
    StoredReceipt,
    StoreError,
)
from latensgate_shared.errors import ErrorCode
from store_faults import Fault, FaultyStore, Plan, always, never, once
from store_memory import MemoryStore


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog_module, "BACKLOG_RETRY_MIN_S", 0.001)


def record(rig: Rig) -> IdempotencyRecord | None:
    store = rig.store._store if isinstance(rig.store, FaultyStore) else rig.store
    assert isinstance(store, MemoryStore)
    return store._records.get((TENANT_ID, "k"))


def state(rig: Rig) -> IdempotencyState | None:
    found = record(rig)
    return None if found is None else found.state


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for belongs to no task
        await asyncio.sleep(0.001)


# --- the table ---


def test_the_record_is_there_before_the_enclave_gets_the_request() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.release = asyncio.Event()
        _connection, task = begin(rig, *request(key="k"))
        await rig.enclave.arrived.wait()
        assert record(rig) == IdempotencyRecord(
            TENANT_ID,
            "k",
            digest_of("prompt"),
            IdempotencyState.RUNNING,
            rig.route.holder,
            int(NOW_S) + 86_400,
        )
        rig.enclave.release.set()
        await task

    run(test())


@pytest.mark.parametrize("code", [None, ErrorCode.ERR_PII_HARD_FAIL, ErrorCode.ERR_UPSTREAM])
def test_an_answered_request_is_replayed_byte_for_byte(code: ErrorCode | None) -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.code = code
        first = await rig.post(key="k")
        again = await rig.post(key="k")
        rig.restart()
        later = await rig.post(key="k")
        for each in (again, later):
            assert (each.status, each.body) == (first.status, first.body)
            assert each.header("x-request-id") != first.header("x-request-id")
        assert len(rig.enclave.ran) == 1
        assert len(await rig.receipts()) == 1

    run(test())


def test_a_replay_needs_no_enclave() -> None:
    async def test() -> None:
        rig = await make_rig()
        first = await rig.post(key="k")
        rig.enclave.error = EnclaveError("rotated", code=ErrorCode.ERR_KEY_STALE)
        assert (await rig.post(key="k")).body == first.body

    run(test())


def test_other_bytes_are_a_mismatch() -> None:
    async def test() -> None:
        rig = await make_rig()
        await rig.post(key="k")
        assert (await rig.post("other", key="k")).code is ErrorCode.ERR_IDEMPOTENCY_MISMATCH
        rig.restart()
        got = await rig.post("other", key="k")
        assert got.code is ErrorCode.ERR_IDEMPOTENCY_MISMATCH
        assert got.status == 422
        assert len(rig.enclave.ran) == 1

    run(test())


def test_a_running_request() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.release = asyncio.Event()
        connection, task = begin(rig, *request(key="k"))
        await rig.enclave.arrived.wait()
        got = await rig.post(key="k")
        assert got.code is ErrorCode.ERR_IDEMPOTENCY_RUNNING
        assert got.status == 409
        assert got.header("retry-after") == "1"
        assert (await rig.post("other", key="k")).code is ErrorCode.ERR_IDEMPOTENCY_MISMATCH
        rig.enclave.release.set()
        await task
        assert (await rig.post(key="k")).body == connection.got.body
        assert len(rig.enclave.ran) == 1

    run(test())


def test_many_at_once_run_once() -> None:
    async def test() -> None:
        rig = await make_rig()
        answers = await asyncio.gather(*(rig.post(key="k") for _ in range(20)))
        assert sorted(each.status for each in answers) == [200] + [409] * 19
        assert len(rig.enclave.ran) == 1

    run(test())


def test_another_parents_running_request() -> None:
    async def test() -> None:
        rig = await make_rig()
        theirs = IdempotencyRecord(
            TENANT_ID,
            "k",
            digest_of("prompt"),
            IdempotencyState.RUNNING,
            "another parent",
            int(NOW_S) + 10,
        )
        assert await rig.store.begin(theirs, int(NOW_S)) is None
        assert (await rig.post(key="k")).code is ErrorCode.ERR_IDEMPOTENCY_RUNNING
        assert (await rig.post("x", key="k")).code is ErrorCode.ERR_IDEMPOTENCY_MISMATCH
        assert not rig.enclave.ran
        assert record(rig) == theirs

    run(test())


def test_a_lost_enclave_is_never_asked_again() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.error = EnclaveLostError("lost")
        first = await rig.post(key="k")
        assert first.code is ErrorCode.ERR_OUTCOME_UNKNOWN
        rig.enclave.error = None
        for _ in range(2):
            assert (await rig.post(key="k")).code is ErrorCode.ERR_OUTCOME_UNKNOWN
            rig.restart()
        assert (await rig.post("other", key="k")).code is ErrorCode.ERR_IDEMPOTENCY_MISMATCH
        assert len(rig.enclave.calls) == 1

    run(test())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", ["no holder", "enclave says so"])
def test_a_stale_key_frees_the_idempotency_key(how: str, stream: bool) -> None:  # noqa: FBT001 - a case
    async def test() -> None:
        rig = await make_rig()
        sealed = sealed_bytes("stale", b"\xff" * 8 if how == "no holder" else bytes(range(8)))
        if how != "no holder":
            rig.enclave.error = EnclaveError("rotated", code=ErrorCode.ERR_KEY_STALE)
        got = await rig.send(*request(sealed=sealed, key="k", stream=stream))
        assert got.code is ErrorCode.ERR_KEY_STALE
        assert record(rig) is None
        rig.enclave.error = None
        resealed = await rig.post("sealed anew", key="k", stream=stream)
        assert resealed.status == 200

    run(test())


def test_a_refusal_before_anything_ran_frees_the_key() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.error = EnclaveError("full", code=ErrorCode.ERR_OVERLOADED)
        assert (await rig.post(key="k")).status == 503
        rig.enclave.error = None
        assert (await rig.post(key="k")).status == 200

    run(test())


@pytest.mark.parametrize("stream", [False, True])
def test_an_enclave_that_failed_inside_leaves_an_unknown_outcome(stream: bool) -> None:  # noqa: FBT001 - a case
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.error = EnclaveError("failed", code=ErrorCode.ERR_INTERNAL)
        assert (await rig.post(key="k", stream=stream)).code is ErrorCode.ERR_INTERNAL
        got = await rig.post(key="k", stream=stream)
        assert got.code is ErrorCode.ERR_OUTCOME_UNKNOWN

    run(test())


def test_a_record_ends_after_24_hours() -> None:
    async def test() -> None:
        rig = await make_rig()
        await rig.post(key="k")
        rig.now_s += 86_399
        assert (await rig.post("other", key="k")).code is ErrorCode.ERR_IDEMPOTENCY_MISMATCH
        rig.now_s += 1
        assert (await rig.post("other", key="k")).status == 200

    run(test())


def test_a_parent_that_died_leaves_unknown_outcomes() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.release = asyncio.Event()
        _connection, task = begin(rig, *request(key="k"))
        await rig.enclave.arrived.wait()
        dead = rig.route
        rig.restart()
        assert await rig.route.start() == 1
        assert (await rig.post(key="k")).code is ErrorCode.ERR_OUTCOME_UNKNOWN
        assert len(rig.enclave.ran) == 1
        rig.enclave.release.set()
        await task
        assert await dead.finish(1)

    run(test())


def test_without_a_key_every_request_is_a_first_one() -> None:
    async def test() -> None:
        rig = await make_rig()
        assert (await rig.post()).status == (await rig.post()).status == 200
        assert len(rig.enclave.ran) == 2

    run(test())


def test_a_key_of_full_length() -> None:
    async def test() -> None:
        rig = await make_rig()
        key = "".join(chr(33 + i % 94) for i in range(255))
        assert (await rig.post(key=key)).body == (await rig.post(key=key)).body

    run(test())


def test_expired_records_are_removed_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(sealed_route_module, "IDEMPOTENCY_EXPIRE_S", 0.001)
        store = FaultyStore(MemoryStore())
        rig = await make_rig(store)
        await rig.post(key="k")
        store._plan = once(Fault.NOTHING_STORED, "expire")
        rig.now_s += 86_401
        expiring = asyncio.create_task(rig.route.expire_for_ever())
        await until(lambda: record(rig) is None)
        monkeypatch.setattr(rig.store, "expire", _broken)
        await until(lambda: rig.observed.unexpected)
        expiring.cancel()
        await asyncio.wait([expiring])
        assert expiring.cancelled()

    run(test())


async def _broken(_now_s: int) -> int:
    raise ZeroDivisionError


# --- a store that fails ---


async def faulty(plan: Plan = never) -> tuple[Rig, FaultyStore]:
    rig = await make_rig(FaultyStore(MemoryStore()))
    store = rig.store
    assert isinstance(store, FaultyStore)
    await rig.post("warm up")
    store.calls.clear()
    store._plan = plan
    return rig, store


def runs(rig: Rig) -> int:
    return rig.enclave.ran.count(sealed_bytes("prompt"))


async def settled(rig: Rig) -> Got:
    """Ask again until something final is said."""
    for _ in range(50):
        got = await rig.post(key="k")
        if got.status != 503 and got.code_or_none is not ErrorCode.ERR_IDEMPOTENCY_RUNNING:
            return got
        await asyncio.sleep(0.002)
    raise AssertionError("the key is stuck")


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("second", ["same", "other"])
def test_begin_fails(fault: Fault, second: str) -> None:
    async def test() -> None:
        rig, _ = await faulty(once(fault, "begin"))
        got = await rig.post(key="k")
        assert got.code is ErrorCode.ERR_STORE_UNAVAILABLE
        assert got.header("retry-after") == "1"
        assert not runs(rig)
        text = "prompt" if second == "same" else "sealed anew"
        again = await rig.post(text, key="k")
        assert again.status == 200
        assert (await rig.post(text, key="k")).body == again.body
        assert await rig.route.finish(1)
        assert state(rig) is IdempotencyState.ANSWERED

    run(test())


@pytest.mark.parametrize("fault", Fault)
def test_begin_fails_and_is_cleared_in_the_background(fault: Fault) -> None:
    async def test() -> None:
        rig, _ = await faulty(once(fault, "begin"))
        await rig.post(key="k")
        assert await rig.route.finish(1)
        assert record(rig) is None
        assert not rig.route.idempotency._claims

    run(test())


def test_begin_fails_where_another_parent_holds_the_key() -> None:
    async def test() -> None:
        rig, store = await faulty()
        theirs = IdempotencyRecord(
            TENANT_ID, "k", digest_of("prompt"), IdempotencyState.RUNNING, "another", 2**40
        )
        await store.begin(theirs, 0)
        store.calls.clear()
        store._plan = once(Fault.NOTHING_STORED, "begin")
        await rig.post(key="k")
        assert await rig.route.finish(1)
        assert record(rig) == theirs  # not removed: it is not ours

    run(test())


@pytest.mark.parametrize("fault", Fault)
def test_the_receipt_fails_and_a_retry_gets_the_answer(fault: Fault) -> None:
    async def test() -> None:
        rig, _ = await faulty(once(fault, "insert_receipt"))
        got = await rig.post(key="k")
        assert got.code is ErrorCode.ERR_STORE_UNAVAILABLE
        assert got.header("retry-after") == "1"
        assert b"response_ciphertext" not in got.body
        assert (await settled(rig)).status == 200
        assert runs(rig) == 1
        assert await rig.route.finish(1)
        assert len(await rig.receipts()) == 2
        assert not rig.route.idempotency._claims

    run(test())


def test_while_the_receipt_is_not_durable_the_key_still_runs() -> None:
    async def test() -> None:
        rig, store = await faulty(always(Fault.NOTHING_STORED, "insert_receipt"))
        await rig.post(key="k")
        assert (await rig.post(key="k")).code is ErrorCode.ERR_IDEMPOTENCY_RUNNING
        assert (await rig.post("x", key="k")).code is ErrorCode.ERR_IDEMPOTENCY_MISMATCH
        store._plan = never
        assert await rig.route.finish(1)
        assert (await rig.post(key="k")).status == 200
        assert runs(rig) == 1

    run(test())


def test_a_parent_that_dies_before_the_receipt_is_durable_never_runs_it_again() -> None:
    async def test() -> None:
        rig, store = await faulty(always(Fault.NOTHING_STORED, "insert_receipt"))
        await rig.post(key="k")
        dead = rig.route
        rig.restart()
        assert await rig.route.start() == 1
        assert (await rig.post(key="k")).code is ErrorCode.ERR_OUTCOME_UNKNOWN
        store._plan = never
        assert await dead.finish(1)  # its last write changes nothing that was said
        assert (await rig.post(key="k")).code is ErrorCode.ERR_OUTCOME_UNKNOWN
        assert runs(rig) == 1

    run(test())


def test_a_long_answer_that_waits_for_the_store_becomes_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        monkeypatch.setattr(receipts_module, "BACKLOG_ANSWER_MAX_BYTES", 10)
        rig, _ = await faulty(once(Fault.NOTHING_STORED, "insert_receipt"))
        await rig.post(key="k")
        assert (await settled(rig)).code is ErrorCode.ERR_OUTCOME_UNKNOWN
        assert await rig.route.finish(1)
        assert len(await rig.receipts()) == 2

    run(test())


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("resealed", [False, True])
def test_forget_fails(fault: Fault, resealed: bool) -> None:  # noqa: FBT001 - a case
    async def test() -> None:
        rig, _ = await faulty(once(fault, "forget"))
        rig.enclave.error = EnclaveError("rotated", code=ErrorCode.ERR_KEY_STALE)
        assert (await rig.post(key="k")).code is ErrorCode.ERR_KEY_STALE
        rig.enclave.error = None
        got = await rig.post("sealed anew" if resealed else "prompt", key="k")
        assert got.status == 200
        assert await rig.route.finish(1)
        assert state(rig) is IdempotencyState.ANSWERED

    run(test())


@pytest.mark.parametrize("fault", Fault)
def test_settle_fails(fault: Fault) -> None:
    async def test() -> None:
        rig, _ = await faulty(once(fault, "settle"))
        rig.enclave.error = EnclaveLostError("lost")
        assert (await rig.post(key="k")).code is ErrorCode.ERR_OUTCOME_UNKNOWN
        rig.enclave.error = None
        assert (await rig.post(key="k")).code is ErrorCode.ERR_OUTCOME_UNKNOWN
        assert await rig.route.finish(1)
        assert state(rig) is IdempotencyState.UNKNOWN
        assert not rig.enclave.ran[1:]
        assert not rig.route.idempotency._claims

    run(test())


@pytest.mark.parametrize("fault", Fault)
def test_a_store_that_stays_down_answers_503_and_recovers(fault: Fault) -> None:
    async def test() -> None:
        rig, store = await faulty(always(fault))
        for _ in range(3):
            assert (await rig.post(key="k")).code is ErrorCode.ERR_STORE_UNAVAILABLE
            assert (await rig.post()).status == 503
        store._plan = never
        assert (await settled(rig)).status == 200
        assert await rig.route.finish(1)
        assert runs(rig) == 1 + 3  # three without a key

    run(test())


def test_too_many_waiting_writes_refuse_new_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(backlog_module, "BACKLOG_MAX_COUNT", 2)
        rig, store = await faulty(always(Fault.NOTHING_STORED, "insert_receipt"))
        for text in ("1", "2", "3"):
            assert (await rig.post(text)).code is ErrorCode.ERR_STORE_UNAVAILABLE
        assert sealed_bytes("3") not in rig.enclave.ran
        store._plan = never
        assert await rig.route.finish(1)
        assert (await rig.post("4")).status == 200

    run(test())


def test_a_store_that_cannot_tell_who_calls() -> None:
    async def test() -> None:
        rig, _ = await faulty(once(Fault.NOTHING_STORED, "authenticate"))
        rig.authenticator.forget_all()
        assert (await rig.post()).code is ErrorCode.ERR_STORE_UNAVAILABLE
        assert (await rig.post()).status == 200

    run(test())


def scenario(rig: Rig) -> list[Coroutine[object, object, Got]]:
    return [
        rig.post(key="k"),
        rig.post(key="k"),
        rig.post("stream", key="s", stream=True),
        rig.post("stream", key="s", stream=True),
        rig.send(*request(sealed=sealed_bytes("stale", b"\xff" * 8), key="r")),
        rig.post("resealed", key="r"),
        rig.post("unkeyed"),
    ]


def crossings() -> list[tuple[str, Plan]]:
    async def count() -> list[tuple[str, Plan]]:
        store = FaultyStore(MemoryStore())
        rig = await make_rig(store)
        store.calls.clear()
        for each in scenario(rig):
            await each
        return store.crossings()

    return run(count())


@pytest.mark.parametrize(("name", "plan"), crossings())
def test_each_call_of_the_store_fails_in_both_ways(name: str, plan: Plan) -> None:
    """No second run, no answer without its receipt, no key stuck for ever; retries end well."""

    async def test() -> None:
        store = FaultyStore(MemoryStore())
        rig = await make_rig(store)
        store.calls.clear()
        store._plan = plan
        answers: list[Got] = []
        for each in scenario(rig):
            answers.append(await each)
            stored = {receipt.receipt_id for receipt in await receipts_in(store)}
            assert_released_only_with_receipt(answers[-1], stored)
        assert await rig.route.finish(2)
        assert not rig.route.idempotency._claims
        assert not rig.observed.unexpected
        keyed = [each for each in rig.enclave.ran if each != sealed_bytes("unkeyed")]
        assert len(keyed) == len(set(keyed)), name
        stored = {receipt.receipt_id for receipt in await receipts_in(store)}
        assert len(stored) == len(rig.enclave.ends)
        first = await settled(rig)
        assert first.status == 200
        assert sum(each.status not in {200, 409} for each in answers) <= 1

    run(test())


async def receipts_in(store: FaultyStore) -> Sequence[StoredReceipt]:
    """Look past the faults."""
    page = await store._store.receipts(TENANT_ID, ReceiptQuery(limit=100))
    return page.entries


def assert_released_only_with_receipt(got: Got, stored: set[str]) -> None:
    if got.header("content-type") == "application/json" and got.status == 200:
        assert got.json["audit_receipt_id"] in stored


# --- faults of ours ---


def test_a_write_that_fails_in_another_way_is_told_and_frees_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        rig = await make_rig()
        monkeypatch.setattr(rig.store, "insert_receipt", _broken_insert)
        assert (await rig.post(key="k")).code is ErrorCode.ERR_INTERNAL
        assert await rig.route.finish(1)
        assert len(rig.observed.unexpected) == 2
        assert (await rig.post(key="k")).code is ErrorCode.ERR_OUTCOME_UNKNOWN

    run(test())


async def _broken_insert(*_: object) -> None:
    raise ZeroDivisionError


class SlowStore(MemoryStore):
    """Receipts take until ``end`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.end = asyncio.Event()

    async def insert_receipt(
        self, receipt: StoredReceipt, answered: IdempotencyRecord | None = None
    ) -> None:
        await self.end.wait()
        await super().insert_receipt(receipt, answered)


def test_a_cancelled_write_is_finished_in_the_background() -> None:
    async def test() -> None:
        store = SlowStore()
        rig = await make_rig(store)
        connection, task = begin(rig, *request())
        await until(lambda: rig.enclave.ends)
        await asyncio.sleep(0.01)
        connection.gone.set()
        await task
        assert not connection.got.status
        store.end.set()
        assert await rig.route.finish(1)
        assert len(await rig.receipts()) == 1

    run(test())


@pytest.mark.parametrize("how", ["begin", "forget", "settle"])
def test_a_cancelled_step_leaves_no_key_behind(how: str) -> None:
    """A server that is shut down cancels whatever waits for the store."""

    async def test() -> None:
        store = MemoryStore()
        rig = await make_rig(store)
        backlog = Backlog(Observed())
        idempotency = Idempotency(store, backlog, "holder", rig.clock)
        begun = await idempotency.begin(TENANT_ID, "other", b"d" * 48)
        assert isinstance(begun, Claim)

        async def one() -> None:
            if how == "begin":
                await idempotency.begin(TENANT_ID, "k", b"d" * 48)
            elif how == "forget":
                await idempotency.free(begun)
            else:
                await idempotency.lose(begun)

        task = asyncio.create_task(one())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert await backlog.wait(1)
        assert set(idempotency._claims) == ({(TENANT_ID, "other")} if how == "begin" else set())

    run(test())


def test_a_record_of_this_process_that_nobody_here_knows_becomes_unknown() -> None:
    async def test() -> None:
        rig = await make_rig()
        lost = IdempotencyRecord(
            TENANT_ID,
            "k",
            digest_of("prompt"),
            IdempotencyState.RUNNING,
            rig.route.holder,
            2**40,
        )
        await rig.store.begin(lost, 0)
        assert (await rig.post(key="k")).code is ErrorCode.ERR_OUTCOME_UNKNOWN
        assert await rig.route.finish(1)
        assert record(rig) == replace(lost, state=IdempotencyState.UNKNOWN)

    run(test())


def test_two_who_clear_the_same_key() -> None:
    async def test() -> None:
        rig, store = await faulty(always(Fault.STORED, "begin"))
        await rig.post(key="k")
        store._plan = never
        answers = await asyncio.gather(*(rig.post(key="k") for _ in range(5)))
        assert min(each.status for each in answers) == 200
        assert {each.status for each in answers} <= {200, 409}
        assert runs(rig) == 1

    run(test())


def test_a_store_error_is_no_fault_of_ours() -> None:
    async def fails() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise StoreError("down")

    tries: list[int] = []

    async def test() -> None:
        observed = Observed()
        backlog = Backlog(observed)
        backlog.add(fails)
        assert backlog.count == 1
        assert await backlog.wait(1)
        assert backlog.count == 0
        assert len(tries) == 3
        assert not observed.unexpected

    run(test())
