"""A process to kill: it stores keyed receipts as fast as it can and tells which are confirmed.

``python store_kill_target.py URL ROUND`` writes one line for each receipt whose insert returned.
"""

from __future__ import annotations

import asyncio
import os
import sys

from latensgate_parent.store.interfaces import Store
from latensgate_parent.store.open import open_store
from store_examples import answered, receipt, running, start

ROUND_SIZE = 1_000_000
_WRITERS = 16


async def write(store: Store, number: int) -> None:
    """Do what a parent does around one keyed stream."""
    record = running(f"request {number}")
    await store.begin(record, 1)
    await store.insert_start(start(number))
    await store.insert_receipt(receipt(number), answered(record))
    os.write(1, f"{number}\n".encode())


async def main(url: str, first: int) -> None:
    store = await open_store(url)

    async def run(number: int) -> None:
        for each in range(number, first + ROUND_SIZE, _WRITERS):
            await write(store, each)

    await asyncio.gather(*(run(first + offset) for offset in range(_WRITERS)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]) * ROUND_SIZE))
