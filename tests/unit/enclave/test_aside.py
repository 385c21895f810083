"""Long work in threads: no tenant takes them all, also not by going away."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import suppress

import pytest

from enclave_doubles import in_loop
from latensgate_enclave.aside import Aside
from latensgate_shared.limits import LONG_WORK_TENANT_THREADS, LONG_WORK_THREADS

GREEDY, OTHER = "tnt_00000001", "tnt_00000002"


class Work:
    """Keeps its threads until it is let go."""

    def __init__(self) -> None:
        self.running = 0
        self.go = threading.Event()
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            self.running += 1
        self.go.wait(10)
        return threading.current_thread().name


@in_loop
async def test_a_tenant_gets_its_share_of_the_threads_and_no_more() -> None:
    assert LONG_WORK_TENANT_THREADS < LONG_WORK_THREADS
    aside, work = Aside(), Work()
    asked = [asyncio.create_task(aside.run(GREEDY, work)) for _ in range(3 * LONG_WORK_THREADS)]
    await asyncio.sleep(0.05)
    assert work.running == LONG_WORK_TENANT_THREADS
    assert await asyncio.wait_for(aside.run(OTHER, lambda: "at once"), 2) == "at once"
    work.go.set()
    names = await asyncio.gather(*asked)
    assert all(name.startswith("long-work") for name in names)


@in_loop
async def test_a_caller_that_goes_away_keeps_its_share_until_the_work_ends() -> None:
    aside, work = Aside(), Work()
    for _ in range(3 * LONG_WORK_THREADS):
        asked = asyncio.create_task(aside.run(GREEDY, work))
        await asyncio.sleep(0.01)
        asked.cancel()
        with suppress(asyncio.CancelledError):
            await asked
    assert work.running == LONG_WORK_TENANT_THREADS
    work.go.set()
    assert await aside.run(GREEDY, lambda: 7) == 7


@in_loop
async def test_a_failure_reaches_the_caller_and_gives_the_share_back() -> None:
    def fail() -> None:
        raise KeyError("no")

    aside = Aside()
    for _ in range(2 * LONG_WORK_TENANT_THREADS):
        with pytest.raises(KeyError):
            await aside.run(GREEDY, fail)


@in_loop
async def test_nobody_is_remembered() -> None:
    aside = Aside()
    for number in range(5):
        await aside.run(f"tnt_{number:08x}", lambda: None)
    await asyncio.sleep(0)
    gc.collect()
    shares = aside._shares  # pyright: ignore[reportPrivateUsage]  # what would grow
    assert len(shares) == 0
