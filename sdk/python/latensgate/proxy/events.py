"""Carrying an opened stream to the application: events as they come, pings while none does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from latensgate import carrier
from latensgate.errors import LatensgateClientError
from latensgate.proxy.answers import PING, Refusal, error_event, refusal_event
from latensgate.proxy.sealing import carried, unreached
from latensgate_shared.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping

    import httpx

    from latensgate.proxy.presence import Presence
    from latensgate.receipts import AnswerReceipt

    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PING_S: Final = 10.0
"""Proxies and clients cut connections that are silent for a minute or two."""
_RESPONSES: Final = "responses"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a stream ended.

    Attributes:
        outcome: ``answered``, ``failed`` or ``cut``.
        code: Of the error.
        receipt: Verified; None of a stream that was cut.
    """

    outcome: str
    code: str | None = None
    receipt: AnswerReceipt | None = None


class Relay:
    """Carries one stream."""

    __slots__ = (
        "_events",
        "_first",
        "_last_s",
        "_loop",
        "_of_responses",
        "_ping_s",
        "_response",
        "_send",
        "_sent",
    )

    def __init__(
        self, send: Send, response: httpx.Response, operation: str, ping_s: float = PING_S
    ) -> None:
        """Take where to, what, the operation that it answers, and how long silence may last."""
        self._send = send
        self._response = response
        self._of_responses = operation == _RESPONSES
        self._ping_s = ping_s
        self._sent = 0
        self._events = _stream(response)
        self._first: asyncio.Future[bytes] | None = None
        self._loop = asyncio.get_running_loop()
        self._last_s = self._loop.time()

    async def refused(self) -> LatensgateClientError | None:
        """Wait for the first event; return the error that came in its place.

        So that what is refused before it began is an HTTP error to the application, as with OpenAI.
        Silence is waited for no longer than any other silence.
        """
        self._first = asyncio.ensure_future(_next(self._events))
        try:
            await asyncio.wait({self._first}, timeout=self._ping_s)
        except asyncio.CancelledError:
            await self.leave()
            raise
        error = self._first.exception() if self._first.done() else None
        if not isinstance(error, LatensgateClientError):
            return None
        await self._response.aclose()
        return error

    async def run(self, presence: Presence) -> Ended:
        """Carry everything; an error in the middle becomes the stream's last event."""
        pings = asyncio.create_task(self._pings())
        try:
            ended, last = await self._carried()
            pings.cancel()
            presence.answered()
            await self._send({"type": "http.response.body", "body": last})
        finally:
            pings.cancel()
            await self.leave()
        return ended

    async def leave(self) -> None:
        """Leave the rest of the stream unread: the gateway cancels it."""
        if self._first is not None:
            self._first.cancel()
        await self._response.aclose()

    async def _carried(self) -> tuple[Ended, bytes]:
        about = carried(self._response)
        try:
            await self._carry()
        except LatensgateClientError as error:
            event = error_event(error, of_responses=self._of_responses, sequence_number=self._sent)
            receipt = about.verified()
            outcome = "cut" if receipt is None else "failed"
            return Ended(outcome, error.error_code.name, receipt), event
        except carrier.broken_connections() as error:
            refusal = _broken(error)
            event = refusal_event(
                refusal, of_responses=self._of_responses, sequence_number=self._sent
            )
            return Ended("cut", refusal.code.name, None), event
        return Ended("answered", None, about.verified()), b""

    async def _carry(self) -> None:
        about, named = carried(self._response), False
        async for event in self._whole():
            piece = event
            receipt = None if named else about.verified()
            if (
                receipt is not None
            ):  # known once the stream was verified whole: before its last event
                named = True
                piece = f": latensgate-receipt {receipt.audit_receipt_id}\n\n".encode() + event
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            self._sent += 1
            self._last_s = self._loop.time()

    async def _whole(self) -> AsyncIterator[bytes]:
        if self._first is not None:
            first, self._first = await self._first, None
            if not first:
                return
            yield first
        async for event in self._events:
            yield event

    async def _pings(self) -> None:
        while True:
            silent_s = self._loop.time() - self._last_s
            if silent_s >= self._ping_s:
                await self._send({"type": "http.response.body", "body": PING, "more_body": True})
                self._last_s, silent_s = self._loop.time(), 0.0
            await asyncio.sleep(self._ping_s - silent_s)


def _stream(response: httpx.Response) -> AsyncIterator[bytes]:
    """Return the opened events; nothing is decoded, gathered or cut anew."""
    return response.stream.__aiter__()  # type: ignore[union-attr]  # of the asynchronous transport


async def _next(events: AsyncIterator[bytes]) -> bytes:
    """Return the next event; nothing at the end."""
    return await anext(events, b"")


def _broken(error: Exception) -> Refusal:
    if isinstance(error, carrier.timeouts()):
        return Refusal(ErrorCode.ERR_UPSTREAM_TIMEOUT, "stream: nothing came for too long")
    return unreached(error)
