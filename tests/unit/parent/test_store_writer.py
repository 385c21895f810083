"""Group commit: what a failure of one write, of a transaction, of a waiter means to the others."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from latensgate_parent.limits import (
    STORE_GATHER_MAX_MS,
    STORE_GATHER_PAUSE_MS,
    STORE_GATHERED_COUNT,
    STORE_WRITES_QUEUED_MAX_COUNT,
)
from latensgate_parent.store import sqlite, writer
from latensgate_parent.store.interfaces import ReceiptQuery, Store, StoreError
from latensgate_parent.store.open import open_store
from latensgate_parent.store.prepared import Transaction
from latensgate_parent.store.writer import Writer
from store_examples import ONE, TWO, answered, receipt, running, tenant


@asynccontextmanager
async def sqlite_store(folder: Path) -> AsyncGenerator[Store]:
    store = await open_store(f"sqlite:///{folder}/store.db")
    await store.insert_tenant(tenant(ONE))
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def held_writer(
    folder: Path, pause: Callable[[float], None] = time.sleep
) -> AsyncGenerator[tuple[Writer, Event, asyncio.Task[None]]]:
    """Give a writer whose thread waits for an event, so that what follows becomes one group."""
    go, entered = Event(), Event()

    def hold(_: Transaction) -> None:
        entered.set()
        assert go.wait(10)

    path = folder / "plain.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE kept (n INTEGER PRIMARY KEY)")
    connection.close()
    made = Writer(sqlite.writing_engine(path), sqlite.BEGIN_WRITE, pause)
    holding = asyncio.create_task(made.write(hold))
    await asyncio.to_thread(entered.wait, 10)
    try:
        yield made, go, holding
    finally:
        go.set()
        await made.aclose()


def insert(transaction: Transaction, number: int) -> int:
    transaction.command(f"INSERT INTO kept VALUES ({number:d})")  # noqa: S608 - our own number
    return number


def kept(folder: Path) -> list[int]:
    with sqlite3.connect(folder / "plain.db") as connection:
        found = [row[0] for row in connection.execute("SELECT n FROM kept ORDER BY n")]
    connection.close()
    return found


def test_what_waits_is_written_in_one_transaction_in_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        order: list[int] = []
        commits: list[list[int]] = []

        def write(transaction: Transaction, number: int) -> None:
            insert(transaction, number)
            order.append(number)
            if kept(tmp_path) not in commits:  # another connection sees finished groups only
                commits.append(kept(tmp_path))

        async with held_writer(tmp_path) as (made, go, _):
            tasks = [
                asyncio.create_task(made.write(lambda t, n=number: write(t, n)))  # type: ignore[misc]  # mypy does not infer a lambda's default
                for number in range(20)
            ]
            await asyncio.sleep(0)
            go.set()
            await asyncio.gather(*tasks)
        assert order == list(range(20))
        assert commits == [[]]
        assert kept(tmp_path) == list(range(20))

    asyncio.run(scenario())


def test_who_is_alone_waits_for_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        pauses: list[float] = []
        async with held_writer(tmp_path, pauses.append) as (made, go, holding):
            go.set()
            await holding
            for number in range(5):
                await made.write(lambda t, n=number: insert(t, n))  # type: ignore[misc]  # as above
        assert pauses == []

    asyncio.run(scenario())


@pytest.mark.parametrize("coming", [0, 1, STORE_GATHERED_COUNT - 1, STORE_GATHERED_COUNT])
def test_behind_a_group_the_next_one_waits_for_many_but_not_for_long(
    tmp_path: Path, coming: int
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        pauses: list[float] = []
        later: list[asyncio.Future[int]] = []
        committed: list[int] = []

        def count(transaction: Transaction, number: int) -> int:
            committed.append(len(kept(tmp_path)))  # as others see it
            return insert(transaction, number)

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if not later:
                asyncio.run_coroutine_threadsafe(more(), loop).result(10)

        async def more() -> None:
            for number in range(100, 100 + coming):
                write = made.write(lambda t, n=number: count(t, n))  # type: ignore[misc]  # as above
                later.append(asyncio.ensure_future(write))
            await asyncio.sleep(0)

        async with held_writer(tmp_path, pause) as (made, go, holding):
            pair = [made.write(lambda t: count(t, 1)), made.write(lambda t: count(t, 2))]
            group = asyncio.gather(*pair)
            await asyncio.sleep(0)
            go.set()
            await holding
            await group
            assert pauses == []
            await made.write(lambda t: count(t, 3))
            await asyncio.gather(*later)
        many = coming + 1 >= STORE_GATHERED_COUNT
        # one more where some came, to see whether more do
        assert pauses == [STORE_GATHER_PAUSE_MS / 1000] * (1 if many or not coming else 2)
        assert committed == [0, 0] + [2] * (1 + coming)  # all of them in one transaction

    asyncio.run(scenario())


def test_who_keeps_coming_one_by_one_holds_nobody_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        later: list[asyncio.Future[int]] = []

        def pause(_: float) -> None:
            asyncio.run_coroutine_threadsafe(more(), loop).result(10)
            time.sleep(STORE_GATHER_MAX_MS / 1000 / 2)  # a machine that is slow to wake anybody

        async def more() -> None:
            number = 100 + len(later)
            later.append(asyncio.ensure_future(made.write(lambda t: insert(t, number))))
            await asyncio.sleep(0)

        async with held_writer(tmp_path, pause) as (made, go, holding):
            group = asyncio.gather(*(made.write(lambda t, n=n: insert(t, n)) for n in (1, 2)))  # type: ignore[misc]  # as above
            await asyncio.sleep(0)
            go.set()
            await holding
            await group
            await made.write(lambda t: insert(t, 3))
            assert len(later) <= 3
            await asyncio.gather(*later)

    asyncio.run(scenario())


def test_a_failing_write_fails_its_own_waiter_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        def half(transaction: Transaction) -> None:
            insert(transaction, 100)
            insert(transaction, 1)

        def defect(transaction: Transaction) -> None:
            insert(transaction, 200)
            raise ZeroDivisionError

        async with held_writer(tmp_path) as (made, go, _):
            calls = [
                made.write(lambda t: insert(t, 1)),
                made.write(half),
                made.write(defect),
                made.write(lambda t: insert(t, 2)),
            ]
            tasks = [asyncio.create_task(call) for call in calls]
            await asyncio.sleep(0)
            go.set()
            one, constraint, bug, two = await asyncio.gather(*tasks, return_exceptions=True)
        assert (one, two) == (1, 2)
        assert isinstance(constraint, StoreError)
        assert "UNIQUE constraint failed: kept.n" in constraint.detail
        assert isinstance(bug, ZeroDivisionError)
        assert kept(tmp_path) == [1, 2]

    asyncio.run(scenario())


def test_a_cancelled_waiter_does_not_take_its_write_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with held_writer(tmp_path) as (made, go, holding):
            gone = asyncio.create_task(made.write(lambda t: insert(t, 1)))
            failing = asyncio.create_task(made.write(lambda t: insert(t, 1)))
            await asyncio.sleep(0)
            gone.cancel()
            failing.cancel()
            go.set()
            await holding
            results = await asyncio.gather(gone, failing, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in results)
        assert kept(tmp_path) == [1]

    asyncio.run(scenario())


def test_closing_writes_what_is_queued(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with held_writer(tmp_path) as (made, go, _):
            tasks = [
                asyncio.create_task(made.write(lambda t: insert(t, 1))),
                asyncio.create_task(made.write(lambda t: insert(t, 2))),
            ]
            await asyncio.sleep(0)
            closing = asyncio.create_task(made.aclose())
            await asyncio.sleep(0)
            with pytest.raises(StoreError):
                await made.write(lambda t: insert(t, 3))
            go.set()
            await closing
            assert await asyncio.gather(*tasks) == [1, 2]
        assert kept(tmp_path) == [1, 2]

    asyncio.run(scenario())


def test_a_group_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "STORE_WRITES_PER_TRANSACTION_MAX_COUNT", 2)

    async def scenario() -> None:
        seen: dict[int, list[int]] = {}

        def write(transaction: Transaction, number: int) -> None:
            insert(transaction, number)
            seen[number] = kept(tmp_path)

        async with held_writer(tmp_path) as (made, go, _):
            tasks = [
                asyncio.create_task(made.write(lambda t: write(t, 0))),
                asyncio.create_task(made.write(lambda t: write(t, 1))),
                asyncio.create_task(made.write(lambda t: write(t, 2))),
            ]
            await asyncio.sleep(0)
            go.set()
            await asyncio.gather(*tasks)
        assert seen == {0: [], 1: [], 2: [0, 1]}

    asyncio.run(scenario())


def test_too_long_a_queue_refuses_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with held_writer(tmp_path) as (made, go, _):
            tasks = [
                asyncio.create_task(made.write(lambda _: None))
                for _ in range(STORE_WRITES_QUEUED_MAX_COUNT)
            ]
            await asyncio.sleep(0)
            with pytest.raises(StoreError, match="too many"):
                await made.write(lambda _: None)
            go.set()
            await asyncio.gather(*tasks)
            await made.write(lambda t: insert(t, 1))

    asyncio.run(scenario())


def test_a_conflicting_receipt_fails_alone_within_a_burst(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with sqlite_store(tmp_path) as store:
            await store.insert_receipt(receipt(5))
            calls = [store.insert_receipt(receipt(number)) for number in range(10)]
            calls.append(store.insert_receipt(receipt(5, public=b"forged")))
            calls.append(store.insert_receipt(replace(receipt(70), sequence=2**63)))
            calls.append(store.insert_receipt(receipt(71, outcome="\ud800")))
            calls += [store.insert_receipt(receipt(number)) for number in range(10, 20)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            failed = [place for place, each in enumerate(results) if each is not None]
            assert failed == [10, 11, 12]
            assert all(isinstance(results[place], StoreError) for place in failed)
            assert (await store.receipts(ONE, ReceiptQuery())).total == 20

    asyncio.run(scenario())


def test_reading_what_no_column_can_hold_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with sqlite_store(tmp_path) as store:
            for call in (
                store.receipt(ONE, "\ud800"),
                store.receipts(ONE, ReceiptQuery(since_s=2**70)),
            ):
                with pytest.raises(StoreError, match="cannot hold"):
                    await call

    asyncio.run(scenario())


# --- the disk ---


def test_a_full_disk_fails_the_group_and_is_survived(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with held_writer(tmp_path) as (made, go, _):

            def fill(transaction: Transaction) -> int:
                transaction.command("PRAGMA max_page_count=3")
                transaction.command("CREATE TABLE big AS SELECT zeroblob(100000) AS b")
                return 0

            tasks = [
                asyncio.create_task(made.write(lambda t: insert(t, 1))),
                asyncio.create_task(made.write(fill)),
                asyncio.create_task(made.write(lambda t: insert(t, 2))),
            ]
            await asyncio.sleep(0)
            go.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [str(each) for each in results] == [
                "the database did not confirm: database or disk is full"
            ] * 3
            assert len({id(each) for each in results}) == 3
            assert kept(tmp_path) == []
            assert await made.write(lambda t: insert(t, 3)) == 3
        assert kept(tmp_path) == [3]

    asyncio.run(scenario())


def test_a_locked_database_is_told_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tuple(each for each in sqlite.SETTINGS if "busy" not in each)
    monkeypatch.setattr(sqlite, "SETTINGS", (*settings, "busy_timeout=20"))

    async def scenario() -> None:
        async with sqlite_store(tmp_path) as store:
            other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            record = running()
            for call in (
                store.insert_receipt(receipt(1), answered(record)),
                store.begin(record, 1),
                store.check(),
            ):
                with pytest.raises(StoreError, match="database is locked"):
                    await call
            assert await store.tenant(ONE) == tenant(ONE)
            other.execute("ROLLBACK")
            other.close()
            await store.check()
            await store.insert_receipt(receipt(1))
            assert await store.begin(record, 1) is None

    asyncio.run(scenario())


def test_a_database_that_cannot_be_written_is_told_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        store = await open_store(f"sqlite:///{tmp_path}/store.db")
        await store.insert_tenant(tenant(ONE))
        real = sqlite3.connect
        with monkeypatch.context() as patched:
            locked = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
            locked.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError):
                await store.insert_tenant(tenant(TWO))  # drops the connection

            def refuse(*_: object, **__: object) -> sqlite3.Connection:
                raise sqlite3.OperationalError("unable to open database file")

            patched.setattr("sqlite3.dbapi2.connect", refuse)
            with pytest.raises(StoreError, match="unable to open"):
                await store.insert_tenant(tenant(TWO))
            locked.close()
        assert sqlite3.connect is real
        await store.insert_tenant(tenant(TWO))
        await store.aclose()

    asyncio.run(scenario())


def test_a_failing_commit_confirms_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with held_writer(tmp_path) as (made, go, _):

            def orphan(transaction: Transaction) -> int:
                transaction.command("CREATE TABLE a (n INTEGER PRIMARY KEY)")
                transaction.command(
                    "CREATE TABLE b (n INTEGER REFERENCES a DEFERRABLE INITIALLY DEFERRED)"
                )
                transaction.command("INSERT INTO b VALUES (7)")
                return 0

            tasks = [
                asyncio.create_task(made.write(lambda t: insert(t, 1))),
                asyncio.create_task(made.write(orphan)),
            ]
            await asyncio.sleep(0)
            go.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(each, StoreError) for each in results)
            assert kept(tmp_path) == []
            assert await made.write(lambda t: insert(t, 2)) == 2

    asyncio.run(scenario())


def test_the_loop_may_end_before_the_thread(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_store(f"sqlite:///{tmp_path}/store.db")
        await store.insert_tenant(tenant(ONE))
        task = asyncio.create_task(store.insert_receipt(receipt(1)))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(scenario())

    async def again() -> None:
        store = await open_store(f"sqlite:///{tmp_path}/store.db")
        for _ in range(100):
            if await store.receipt(ONE, receipt(1).receipt_id):
                return await store.aclose()
            await asyncio.sleep(0.02)
        pytest.fail("the write was lost")

    asyncio.run(again())
