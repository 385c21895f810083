"""Reading a request, and noticing that whoever asked went away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Self

from latensgate.proxy.answers import Refusal
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import SEALED_REQUEST_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from types import TracebackType

    from latensgate.proxy.guard import Asked

    Message = MutableMapping[str, Any]  # as ASGI has it
    Receive = Callable[[], Awaitable[Message]]

BODY_WAIT_MAX_S: Final = 60
"""For a body from this same machine."""
_GONE: Final = "http.disconnect"


class GoneError(Exception):
    """Whoever asked went away."""


async def read_body(asked: Asked, receive: Receive) -> bytes | Refusal:
    """Read a body that is not longer than what can be sealed.

    Raises:
        GoneError: It never came whole.
    """
    declared = asked.one("content-length") or "0"
    if declared.isdigit() and int(declared[:12]) > SEALED_REQUEST_MAX_BYTES:
        return _too_large()
    try:
        async with asyncio.timeout(BODY_WAIT_MAX_S):
            return await _pieces(receive)
    except TimeoutError:
        return Refusal(ErrorCode.ERR_REQUEST_INVALID, "the body did not come in time", status=408)


async def _pieces(receive: Receive) -> bytes | Refusal:
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == _GONE:
            raise GoneError
        piece: bytes = message.get("body", b"")
        size, more = size + len(piece), bool(message.get("more_body", False))
        if size > SEALED_REQUEST_MAX_BYTES:
            return _too_large()
        pieces.append(piece)
    return b"".join(pieces)


def _too_large() -> Refusal:
    return Refusal(
        ErrorCode.ERR_TOO_LARGE, f"body: at most {SEALED_REQUEST_MAX_BYTES} bytes expected"
    )


class Presence:
    """Cancels what is done for somebody who went away: ``async with Presence(receive):``."""

    __slots__ = ("_answered", "_gone", "_receive", "_task", "_watcher")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = self._answered = False
        self._task: asyncio.Task[Any] | None = None
        self._watcher: asyncio.Task[None] | None = None

    def answered(self) -> None:
        """Say that the whole answer is about to be written: what comes then is no matter."""
        self._answered = True

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def _watch(self) -> None:
        while (await self._receive())["type"] != _GONE:
            pass
        if self._task is not None and not self._answered:
            self._gone = True
            self._task.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop watching.

        Raises:
            GoneError: In place of the cancellation that this made.
        """
        if self._watcher is not None:
            self._watcher.cancel()
        if self._gone and self._task is not None:
            self._task.uncancel()
            if kind is asyncio.CancelledError:
                raise GoneError from None
