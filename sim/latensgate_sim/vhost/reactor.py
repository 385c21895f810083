"""A small event loop over epoll.

asyncio hides two things that a socket device needs: that a peer is gone altogether (EPOLLHUP, which
tells a close from a half-close) and reading straight into a guest's memory.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

Ready: TypeAlias = "Callable[[int], None]"
"""Called with the epoll events that came."""


@dataclass(slots=True)
class Timer:
    """A call that is due later; ``cancel`` it by dropping what it would call."""

    call: Callable[[], None] | None

    def cancel(self) -> None:
        """Never call."""
        self.call = None


class Reactor:
    """Calls back when descriptors are ready and when time has come."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._running = False
        self.watch(self._wake, select.EPOLLIN, self._woken)

    def watch(self, descriptor: int, events: int, ready: Ready) -> None:
        """Begin to watch; EPOLLHUP and EPOLLERR are always reported."""
        self._epoll.register(descriptor, events)
        self._ready[descriptor] = ready

    def change(self, descriptor: int, events: int) -> None:
        """Watch for other events."""
        self._epoll.modify(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Stop watching; safe to call again."""
        if self._ready.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call once, in a number of seconds."""
        timer = Timer(call)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), timer))
        return timer

    def stop(self) -> None:
        """End ``run``; may be called from another thread."""
        self._running = False
        os.eventfd_write(self._wake, 1)

    def run(self) -> None:
        """Serve until ``stop``."""
        self._running = True
        while self._running:
            self.turn(None)

    def turn(self, timeout_s: float | None) -> None:
        """Wait for one batch of events, at most so long, and serve it."""
        for descriptor, events in self._epoll.poll(self._wait_s(timeout_s)):
            ready = self._ready.get(descriptor)  # an earlier one of the batch may have closed it
            if ready is not None:
                ready(events)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.call is not None:
                timer.call()

    def _wait_s(self, timeout_s: float | None) -> float | None:
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return timeout_s
        due_s = max(0.0, self._timers[0][0] - time.monotonic())
        return due_s if timeout_s is None else min(due_s, timeout_s)

    def _woken(self, _events: int) -> None:
        os.eventfd_read(self._wake)

    def close(self) -> None:
        """Give the descriptors back."""
        self._epoll.close()
        os.close(self._wake)
