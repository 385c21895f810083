"""The store: durable receipts a second on SQLite, and the CPU of one, at several concurrencies.

The CPU is that of the whole process, both threads and the kernel's part of the fsync with it. The
bare row is a transaction for each receipt on one connection and no event loop: what SQLite and the
disk ask for in any case.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from latensgate_parent.store import sqlite
from latensgate_parent.store.open import open_store
from store_examples import ONE, receipt, tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from latensgate_parent.store.interfaces import Store, StoredReceipt

_WARM_UP: Final = 600  # the WAL has its full size then and is written over, no longer extended
_RUNS: Final = ((1, 3_000), (32, 20_000), (256, 40_000))
_PUBLIC: Final = b"\xa5" * 900


def _receipts(number: int) -> list[StoredReceipt]:
    numbers = count(int.from_bytes(os.urandom(6), "big"))
    return [
        replace(receipt(next(numbers), public=_PUBLIC), receipt_id=f"aud_{os.urandom(8).hex()}")
        for _ in range(number)
    ]


async def _insert(store: Store, receipts: Iterator[StoredReceipt]) -> None:
    for each in receipts:
        await store.insert_receipt(each)


async def _group(concurrency: int, number: int) -> tuple[float, float]:
    """Return receipts a second and CPU microseconds of one."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # /tmp may be no disk
        store = await open_store(f"sqlite:///{folder}/store.db")
        await store.insert_tenant(tenant(ONE))
        await _insert(store, iter(_receipts(_WARM_UP)))
        receipts = iter(_receipts(number))
        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(_insert(store, receipts) for _ in range(concurrency)))
        cpu, elapsed = time.process_time() - cpu, time.perf_counter() - started
        await store.aclose()
    return number / elapsed, cpu / number * 1e6


def _bare(number: int) -> tuple[float, float]:
    """Return the same for one thread and one transaction a receipt, without this store."""
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        closing(sqlite3.connect(f"{folder}/bare.db", isolation_level=None)) as connection,
    ):
        for setting in sqlite.SETTINGS:
            connection.execute(f"PRAGMA {setting}")
        connection.execute("CREATE TABLE r (id TEXT, tenant TEXT, n INTEGER, public BLOB)")
        connection.execute("CREATE UNIQUE INDEX a ON r (tenant, id)")
        connection.execute("CREATE INDEX b ON r (tenant, n)")
        rows = [
            (each.receipt_id, each.tenant_id, n, each.public)
            for n, each in enumerate(_receipts(number))
        ]
        started, cpu = time.perf_counter(), time.process_time()
        for row in rows:
            connection.execute(sqlite.BEGIN_WRITE)
            connection.execute("INSERT INTO r VALUES (?, ?, ?, ?)", row)
            connection.execute("COMMIT")
        cpu, elapsed = time.process_time() - cpu, time.perf_counter() - started
    return number / elapsed, cpu / number * 1e6


def measure() -> list[tuple[str, float, str]]:
    """Return the rows of this benchmark."""
    rate, bare_us = _bare(3_000)
    rows = [
        ("bare SQLite, a transaction each, receipts a second", rate, "the disk's own pace"),
        ("bare SQLite, a transaction each, CPU µs", bare_us, "of it, most is the kernel's fsync"),
    ]
    for concurrency, number in _RUNS:
        rate, cpu_us = asyncio.run(_group(concurrency, number))
        rows += [
            (f"{concurrency} at once, receipts a second", rate, "durable when told"),
            (f"{concurrency} at once, CPU µs of a receipt", cpu_us, "both threads and the kernel"),
            (f"{concurrency} at once, CPU / bare", cpu_us / bare_us, "below 1 by grouping"),
        ]
    return rows
