"""Look-ups that many want at once are made once.

What is remembered for moments runs out under load: then every request of a tenant that comes before
the store has answered would ask it the same, each through a thread of its own.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_Key = TypeVar("_Key")
_Found = TypeVar("_Found")


class Flights(Generic[_Key, _Found]):
    """Look-ups under way, by what is looked up.

    Args:
        joinable_s: Seconds after which a look-up is too old to join: what it read may be long over.
    """

    def __init__(self, joinable_s: float) -> None:
        self._joinable_s = joinable_s
        self._under_way: dict[_Key, tuple[float, asyncio.Task[_Found]]] = {}

    async def join(
        self, key: _Key, look_up: Callable[[_Key], Coroutine[object, object, _Found]]
    ) -> _Found:
        """Return what the look-up of a key returns, or raise what it raises.

        One that is under way is waited for. It goes on for the others where a caller is cancelled.
        """
        loop = asyncio.get_running_loop()
        began, flight = self._under_way.get(key, (0.0, None))
        if flight is None or loop.time() - began > self._joinable_s:
            flight = loop.create_task(look_up(key))
            self._under_way[key] = loop.time(), flight
            flight.add_done_callback(partial(self._ended, key))
        return await asyncio.shield(flight)

    def _ended(self, key: _Key, flight: asyncio.Task[_Found]) -> None:
        if self._under_way.get(key, (0.0, None))[1] is flight:
            del self._under_way[key]
        if not flight.cancelled():
            flight.exception()  # seen: everybody who waited may be gone

    def part(self, key: _Key) -> None:
        """Let nobody join what is under way for a key: it may have read what was true before."""
        self._under_way.pop(key, None)

    def part_all(self) -> None:
        """Do so for every key."""
        self._under_way.clear()
