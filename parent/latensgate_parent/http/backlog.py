"""Writes that must happen although nobody waits for them any more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from latensgate_parent.limits import (
    BACKLOG_FAILING_S,
    BACKLOG_MAX_COUNT,
    BACKLOG_RETRY_MAX_S,
    BACKLOG_RETRY_MIN_S,
)
from latensgate_parent.store.interfaces import StoreConflictError, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from latensgate_parent.http.observer import Observer

    Write: TypeAlias = Callable[[], Awaitable[None]]

_T = TypeVar("_T")

BACKGROUND_ID: Final = "background"
"""In place of a correlation id where no request is concerned."""


class Tasks:
    """Tasks that outlive the request that began them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def start(self, work: Coroutine[object, object, _T]) -> asyncio.Task[_T]:
        """Run something that ends by itself; its result or error is for whoever awaits it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: its request may be gone

    async def wait(self, timeout_s: float) -> bool:
        """Wait until all have ended, and what they began; False: not in time."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + timeout_s
        while self._tasks and (left_s := ends_at - loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left_s)
        return not self._tasks


class Backlog:
    """Repeats writes that the store did not confirm, until it does.

    While too many wait, or the store has confirmed nothing for a while, new requests are refused
    (``refuses_new``): they stay bounded, and no model is asked for answers that cannot leave.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._tasks = Tasks()
        self._failing_since: float | None = None
        self.count = 0

    @property
    def refuses_new(self) -> bool:
        """Whether nothing that may need a place here should begin."""
        since = self._failing_since
        if since is not None and asyncio.get_running_loop().time() - since >= BACKLOG_FAILING_S:
            return True
        return self.count >= BACKLOG_MAX_COUNT

    def add(self, write: Write, given_up: Callable[[], None] | None = None) -> None:
        """Do a write, again and again while it raises ``StoreError``.

        Args:
            write: Safe to repeat after it failed.
            given_up: Called if it fails in another way: a fault of ours, or of an enclave.
        """
        self.count += 1
        self._tasks.start(self._run(write, given_up))

    async def _run(self, write: Write, given_up: Callable[[], None] | None) -> None:
        pause_s = BACKLOG_RETRY_MIN_S
        try:
            while not await self._tried(write, given_up):
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, BACKLOG_RETRY_MAX_S)
        finally:
            self.count -= 1

    async def _tried(self, write: Write, given_up: Callable[[], None] | None) -> bool:
        try:
            await write()
        except StoreConflictError as error:
            self._give_up(error, given_up)
        except StoreError:
            if self._failing_since is None:
                self._failing_since = asyncio.get_running_loop().time()
            return False
        except Exception as error:  # noqa: BLE001  # nobody is above; it must be seen
            self._give_up(error, given_up)
        else:
            self._failing_since = None
        return True

    def _give_up(self, error: Exception, given_up: Callable[[], None] | None) -> None:
        self._observer.failed_unexpectedly(BACKGROUND_ID, error)
        if given_up is not None:
            given_up()

    async def wait(self, timeout_s: float) -> bool:
        """Wait until all is written; False: not in time."""
        return await self._tasks.wait(timeout_s)
