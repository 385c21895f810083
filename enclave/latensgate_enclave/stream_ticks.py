"""A streamed answer on the ticks of a clock: what came in between leaves as one.

When a piece leaves says how long the model thought about it, and how many leave says how many
tokens there are. On ticks that were fixed before the model was asked, both say little.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from msgspec.structs import replace

from latensgate_enclave.chat_answer import ReasoningDelta, TextDelta, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from latensgate_enclave.chat_answer import ChatDelta

_MS_PER_S = 1_000
_EARLY = 0.01
"""Part of the distance between two ticks by which a timer may be early."""


class Ticks:
    """Points in time that lie the same distance apart, from the moment that it is made.

    Args:
        every_ms: Milliseconds between two of them; more than 0.
    """

    def __init__(self, every_ms: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._every_s = every_ms / _MS_PER_S
        self._began_s = self._loop.time()

    def left_s(self) -> float:
        """Return seconds until the next one; who wakes up early waits for the one after."""
        left_s = self._every_s - (self._loop.time() - self._began_s) % self._every_s
        return left_s if left_s > self._every_s * _EARLY else left_s + self._every_s


async def on_ticks(
    pieces: AsyncGenerator[Sequence[ChatDelta]], ticks: Ticks
) -> AsyncGenerator[Sequence[ChatDelta]]:
    """Pass pieces on, at ticks alone; also the end and a failure wait for the next one.

    A task reads, since a generator that has a deadline must stay in one task. While what was read
    is passed on it waits, so that a slow caller holds the model back.
    """
    held: list[ChatDelta] = []
    passing = asyncio.Lock()

    async def read() -> None:
        async with aclosing(pieces) as source:
            async for deltas in source:
                async with passing:
                    held.extend(deltas)

    reading = asyncio.create_task(read())
    try:
        while not reading.done():
            await asyncio.sleep(ticks.left_s())
            async with passing:
                if held:
                    yield merged(held)
                    held.clear()
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def merged(deltas: Sequence[ChatDelta]) -> list[ChatDelta]:
    """Join neighbours that one piece can say."""
    found: list[ChatDelta] = []
    for delta in deltas:
        one = _joined(found[-1], delta) if found else None
        if one is None:
            found.append(delta)
        else:
            found[-1] = one
    return found


def _joined(before: ChatDelta, delta: ChatDelta) -> ChatDelta | None:
    if isinstance(before, TextDelta) and isinstance(delta, TextDelta):
        return TextDelta(before.text + delta.text)
    if isinstance(before, ReasoningDelta) and isinstance(delta, ReasoningDelta):
        if before.signature is None and before.redacted is None and delta.redacted is None:
            return replace(delta, text=before.text + delta.text)
        return None  # a block of its own
    if isinstance(before, ToolCallDelta) and isinstance(delta, ToolCallDelta):
        return ToolCallDelta(delta.index, before.arguments + delta.arguments)
    return None
