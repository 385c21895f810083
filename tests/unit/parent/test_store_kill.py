"""kill -9 at random moments: what was confirmed is there, and nothing is there by half."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from latensgate_parent.store.interfaces import ReceiptQuery
from paths import REPOSITORY
from store_examples import ONE, answered, opened, receipt, running, tenant

ROUNDS = 8


def one_round(url: str, number: int, seconds: float) -> list[int]:
    """Kill a writing process after some time from its first receipt; return what it confirmed."""
    command = [sys.executable, str(REPOSITORY / "tests/store_kill_target.py"), url, str(number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        rest = process.stdout.read()
    assert process.returncode == -9
    return [int(line) for line in (first + rest).split(b"\n")[:-1]]


def test_confirmed_receipts_survive_kill_9(tmp_path: Path) -> None:
    async def prepare() -> None:
        async with opened("sqlite", tmp_path) as store:
            await store.insert_tenant(tenant(ONE))

    asyncio.run(prepare())
    moments = random.Random(4)  # noqa: S311 - moments, not secrets
    confirmed = [
        receipt_number
        for each in range(ROUNDS)
        for receipt_number in one_round(
            f"sqlite:///{tmp_path}/store.db", each, moments.uniform(0, 0.15)
        )
    ]
    assert len(confirmed) > 10 * ROUNDS
    asyncio.run(look(tmp_path, confirmed))


async def look(folder: Path, confirmed: list[int]) -> None:
    async with opened("sqlite", folder) as store:
        page = await store.receipts(ONE, ReceiptQuery(limit=10**6))
        found = {int(each.receipt_id.removeprefix("aud_"), 16): each for each in page.entries}
        assert not set(confirmed) - set(found)
        assert all(each == receipt(number) for number, each in found.items())
        unheard = list(set(found) - set(confirmed))
        for number in unheard + confirmed[::50]:  # a receipt and its answer are stored together
            record = running(f"request {number}")
            assert await store.begin(record, 1) == answered(record)
        unfinished = {int(each.receipt_id[4:], 16) for each in await store.unfinished(ONE)}
        assert not unfinished & set(found)
    with sqlite3.connect(folder / "store.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
