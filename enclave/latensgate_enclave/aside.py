"""Long work in threads, so that it does not hold up everyone else's frames.

There are few threads, and texts of a tenant's choice may keep one busy for seconds. So no tenant
gets more than its share of them at once: its further work waits, and everyone else's does not.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from latensgate_shared.limits import LONG_WORK_TENANT_THREADS, LONG_WORK_THREADS

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")
_Input = ParamSpec("_Input")


class Aside:
    """The threads, and who uses how many of them."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LONG_WORK_THREADS, "long-work")
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def run(
        self,
        tenant_id: str,
        work: Callable[_Input, _Result],
        *arguments: _Input.args,
        **options: _Input.kwargs,
    ) -> _Result:
        """Do work in a thread, as soon as the tenant has one left.

        Raises:
            Exception: What the work raises.
        """
        share = self._shares.get(tenant_id)
        if share is None:
            share = self._shares[tenant_id] = asyncio.Semaphore(LONG_WORK_TENANT_THREADS)
        await share.acquire()
        # Given back when the work ends and not when its caller goes: a thread cannot be stopped,
        # and who cancels must not get another one for it.
        ended = asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: work(*arguments, **options)
        )
        ended.add_done_callback(partial(_give_back, share))
        return await asyncio.shield(ended)


def _give_back(share: asyncio.Semaphore, ended: asyncio.Future[_Result]) -> None:
    share.release()
    ended.exception()  # looked at, also where its caller has gone
