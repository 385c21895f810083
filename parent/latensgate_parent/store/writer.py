"""Group commit: one thread writes for all who wait (docs/adr/0019-group-commit.md).

The thread takes what is queued, runs it in the order of its arrival in one transaction, commits,
which is when the disk has it, and then wakes every waiter. While the disk works, the next group
gathers: with one caller a group has one write, and never waits. Where the group before had several
writes, the next one waits for moments until many have come: a commit costs more than a write.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import closing, suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from latensgate_parent.limits import (
    STORE_GATHER_MAX_MS,
    STORE_GATHER_PAUSE_MS,
    STORE_GATHERED_COUNT,
    STORE_WRITES_PER_TRANSACTION_MAX_COUNT,
    STORE_WRITES_QUEUED_MAX_COUNT,
)
from latensgate_parent.store.faults import is_of_database, told
from latensgate_parent.store.interfaces import StoreError
from latensgate_parent.store.prepared import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine, PoolProxiedConnection

T = TypeVar("T")


class _Pending(Protocol):
    """A write that somebody may wait for."""

    def run(self, transaction: Transaction) -> None: ...
    def fail(self, error: Exception) -> None: ...
    def wake(self) -> None: ...


class _Write(Generic[T]):
    """One write and its waiter. ``run`` and ``fail`` are the thread's, ``wake`` is the loop's."""

    __slots__ = ("_apply", "_future", "_outcome")

    def __init__(self, apply: Callable[[Transaction], T], future: asyncio.Future[T]) -> None:
        self._apply = apply
        self._future = future
        self._outcome: Callable[[], object] = future.cancel

    def run(self, transaction: Transaction) -> None:
        self._outcome = partial(self._future.set_result, self._apply(transaction))

    def fail(self, error: Exception) -> None:
        self._outcome = partial(self._future.set_exception, error)

    def wake(self) -> None:
        if not self._future.done():  # a waiter that went away is not told; its write stands
            self._outcome()


class Writer:
    """Everything that changes the database passes here.

    Args:
        engine: Its transactions begin with the lock for writing.
        begin: The command that begins one.
        pause: Waits so many seconds, in the thread.

    The loop that runs at construction is the one that waits.
    """

    def __init__(
        self, engine: Engine, begin: str, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._engine = engine
        self._begin = begin
        self._pause = pause
        self._has_company = False  # the group before had several writes
        self._connection: PoolProxiedConnection | None = None
        self._queue: SimpleQueue[_Pending | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._closing = False
        self._last = False
        Thread(target=self._work, name="store-writer", daemon=True).start()

    async def write(self, apply: Callable[[Transaction], T]) -> T:
        """Return what ``apply`` returned, when the transaction is durable.

        ``apply`` may run twice: again, alone, if another write of its group failed. A waiter that
        is cancelled does not take its write back.

        Raises:
            StoreError: Nothing is confirmed: too much is queued, the store is closed, the write
                or its transaction failed.
        """
        if self._closing:
            raise StoreError("the store is closed")
        if self._queue.qsize() >= STORE_WRITES_QUEUED_MAX_COUNT:
            raise StoreError("too many writes wait for the disk")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Write(apply, future))
        return await future

    async def aclose(self) -> None:
        """Write what is queued, then close the connection."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        await asyncio.shield(self._ended)

    # --- from here on: the thread ---

    def _work(self) -> None:
        while not self._last:
            batch = self._take()
            self._write(batch)
            self._call(_wake, batch)
        self._disconnect()
        self._call(_end, self._ended)

    def _call(self, function: Callable[[T], None], argument: T) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, argument)

    def _take(self) -> list[_Pending]:
        """Wait for one write, then take those that stand behind it."""
        batch: list[_Pending] = []
        item = self._queue.get()
        if item is not None and self._has_company:
            self._gather()
        while item is not None:
            batch.append(item)
            if len(batch) == STORE_WRITES_PER_TRANSACTION_MAX_COUNT:
                return batch
            try:
                item = self._queue.get_nowait()
            except Empty:
                return batch
        self._last = True
        return batch

    def _gather(self) -> None:
        """Let many come, as long as any come, and not for long."""
        ends_at, had = time.monotonic() + STORE_GATHER_MAX_MS / 1000, -1
        while had < (has := self._queue.qsize()) < STORE_GATHERED_COUNT - 1:
            if time.monotonic() >= ends_at:
                return
            had = has
            self._pause(STORE_GATHER_PAUSE_MS / 1000)

    def _write(self, batch: Sequence[_Pending]) -> None:
        """Give every write its outcome."""
        self._has_company = len(batch) > 1
        try:
            if batch and not self._transact(batch, self._run_together):
                self._transact(batch, self._run_apart)
        except Exception as error:  # noqa: BLE001 - whatever it is, the waiters must be told and the thread must live
            self._disconnect()
            for write in batch:
                write.fail(told(error, self._engine.dialect))

    def _transact(
        self,
        batch: Sequence[_Pending],
        run: Callable[[Transaction, Sequence[_Pending]], bool],
    ) -> bool:
        """Commit if ``run`` says so; else leave everything as it was."""
        if self._connection is None:
            self._connection = self._engine.raw_connection()
        with closing(self._connection.cursor()) as cursor:
            transaction = Transaction(cursor)
            transaction.command(self._begin)
            is_good = run(transaction, batch)
            if is_good:
                self._connection.commit()
            else:
                self._connection.rollback()
        return is_good

    def _run_together(self, transaction: Transaction, batch: Sequence[_Pending]) -> bool:
        """Run all; False if one of them failed for a reason of its own."""
        try:
            for write in batch:
                write.run(transaction)
        except Exception as error:  # the write's own refusal; the database's goes on
            if is_of_database(error, self._engine.dialect):
                raise
            return False
        return True

    def _run_apart(self, transaction: Transaction, batch: Sequence[_Pending]) -> bool:
        """Run each behind a savepoint, so that one that fails leaves nothing of itself."""
        for write in batch:
            transaction.command("SAVEPOINT one")
            try:
                write.run(transaction)
            except Exception as error:  # as above: its caller is told
                if is_of_database(error, self._engine.dialect):
                    raise
                transaction.command("ROLLBACK TO SAVEPOINT one")
                write.fail(told(error, self._engine.dialect))
            transaction.command("RELEASE SAVEPOINT one")
        return True

    def _disconnect(self) -> None:
        """Give up the connection, after a transaction that did not end.

        It is rolled back by name: SQLite keeps a closed connection, and with it the lock, as long
        as a statement of it lives.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(self._engine.dialect.loaded_dbapi.Error):
                connection.rollback()
            connection.invalidate()


def _wake(batch: Sequence[_Pending]) -> None:
    for write in batch:
        write.wake()


def _end(ended: asyncio.Future[None]) -> None:
    ended.set_result(None)
