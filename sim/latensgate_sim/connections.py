"""What every listener here does with its connections: count them, end them, never leak one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from latensgate_sim.errors import CutConnectionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Talk: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CLOSE_S: Final = 1.0
"""How long to wait for a peer's own end of TLS; asyncio's 30 s would hold up every stop."""

_LATE_S: Final = 0.01
_LATE_TURNS: Final = 8
"""asyncio hands a connection on some turns of its loop after it accepted it."""

_ABORTED = (
    OSError,
    CutConnectionError,
    asyncio.IncompleteReadError,
    asyncio.LimitOverrunError,
    TimeoutError,
)


@dataclass(slots=True)
class Connections:
    """The open connections of one listener.

    Attributes:
        talk: Serves one connection to its end.
    """

    talk: Talk
    _ended: bool = False
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    def __len__(self) -> int:
        return len(self._tasks)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a new connection in a task of its own."""
        if self._ended:
            _cut(writer)
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Cut all of them, and those that were accepted at the very moment of the end."""
        self._ended = True
        await self.cut()
        await asyncio.sleep(_LATE_S)
        for _ in range(_LATE_TURNS):  # a slow machine reaches the end of that time in one turn
            await asyncio.sleep(0)

    async def cut(self) -> None:
        """Cut all of them at once."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.talk(reader, writer)
        except _ABORTED:
            _cut(writer)
        except asyncio.CancelledError:
            _cut(writer)
            raise
        finally:
            await _closed(writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    """Close in an orderly way, and at once if the peer or whoever waits here does not let us."""
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_S):
            await writer.wait_closed()
    except OSError:  # TimeoutError is one
        _cut(writer)
    except asyncio.CancelledError:
        _cut(writer)
        raise


def _cut(writer: asyncio.StreamWriter) -> None:
    # Python 3.11.2 (Debian 12) stumbles over a TLS connection that its peer has reset already.
    with suppress(AttributeError):
        writer.transport.abort()
