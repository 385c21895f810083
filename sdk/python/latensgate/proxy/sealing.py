"""The SDK's own transport, asked without the OpenAI client in front of it.

Requests go in as the application wrote them, answers come out as the enclave wrote them: no model
of either is built here. Attempts of one request share one idempotency key and, as long as the
enclave's keys live, the identical sealed bytes; so asking again never runs a request twice.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, cast

import httpx

from latensgate import carrier
from latensgate.proxy.answers import Refusal
from latensgate.transport_routes import CARRIED, IDEMPOTENCY_HEADER, Carried
from latensgate_shared.errors import ErrorCode

if TYPE_CHECKING:
    from latensgate.exchange_failure import Failure
    from latensgate.proxy.routes import Route
    from latensgate.transport_async import AsyncSealingTransport

ATTEMPTS_MAX_COUNT: Final = 3
"""As many as the OpenAI client makes."""
PAUSE_S: Final = 0.5
"""Before the second attempt; doubled before the third."""
WAIT_MAX_S: Final = 8
"""Whoever is asked to wait longer is told so at once."""
_APPLICATIONS_MATTER: Final = frozenset(
    {ErrorCode.ERR_RATE_LIMITED, ErrorCode.ERR_UPSTREAM_THROTTLED}
)
"""The application's own pace decides here: it sees 429 and how long to wait."""
_NOTHING_RAN: Final = _APPLICATIONS_MATTER | {
    ErrorCode.ERR_ATTESTATION_INVALID,
    ErrorCode.ERR_ENCLAVE_UNAVAILABLE,
    ErrorCode.ERR_OVERLOADED,
}
"""Said outside the seal: nothing was begun. Inside it, the enclave's own word counts."""
_NOT_AGAIN: Final = ("x-should-retry", "false")
"""What the official clients obey: their next attempt would be another request, charged again."""
_UNPROVEN: Final = frozenset({ErrorCode.ERR_ATTESTATION_INVALID})
UNAVAILABLE: Final = 503


def carried(response: httpx.Response) -> Carried:
    """Return what travels beside an answer of the transport."""
    return cast("Carried", response.extensions[CARRIED])


@dataclass(frozen=True, slots=True)
class Sealing:
    """Asks the gateway through the seal.

    Attributes:
        transport: Of the SDK.
        root: The gateway's address without a slash at its end.
        api_key: Of the tenant; the application's own never leaves this machine.
        timeout: As httpx reads it from a request.
    """

    transport: AsyncSealingTransport = field(repr=False)
    root: str
    api_key: str = field(repr=False)
    timeout: object

    async def ask(self, route: Route, body: bytes, key: str | None) -> httpx.Response | Refusal:
        """Exchange one request; what comes back may be a stream.

        Args:
            route: Where it goes.
            body: JSON as the application wrote it; empty of what has none.
            key: The application's idempotency key, if it has one.
        """
        own, attempt = key or f"lg-{uuid.uuid4()}", 0
        reply = await self._once(route, body, own)
        unsure = may_have_run(reply)
        while (wait_s := _wait_s(reply, attempt)) is not None:
            await asyncio.sleep(wait_s)
            attempt += 1
            reply = await self._once(route, body, own)
            unsure = unsure or may_have_run(reply)
        return not_again(reply) if unsure and key is None and route.sealed else reply

    async def _once(self, route: Route, body: bytes, key: str) -> httpx.Response | Refusal:
        method = "POST" if route.sealed else "GET"
        headers = [("authorization", f"Bearer {self.api_key}"), (IDEMPOTENCY_HEADER, key)]
        request = httpx.Request(
            method,
            self.root + route.target,
            headers=headers,
            content=body or None,
            extensions={"timeout": self.timeout},
        )
        try:
            return await self.transport.handle_async_request(request)
        except carrier.nothing_sent() as error:
            return unreached(error)
        except carrier.timeouts():
            late = "the gateway did not answer in time"
            return Refusal(ErrorCode.ERR_ENCLAVE_TIMEOUT, late, unsure=True)
        except carrier.broken_connections() as error:
            return replace(unreached(error), unsure=True)


def may_have_run(reply: httpx.Response | Refusal) -> bool:
    """Whether a request that has no answer may have been run, and charged, all the same."""
    if isinstance(reply, Refusal):
        return reply.unsure
    failure = carried(reply).failure
    if failure is None or failure.sealed:
        return False
    return failure.retry and failure.code not in _NOTHING_RAN


def not_again(reply: httpx.Response | Refusal) -> httpx.Response | Refusal:
    """Tell the official clients not to try again by themselves: it would be another request.

    Without an idempotency key of the application its next attempt cannot be told from a new one.
    """
    if isinstance(reply, Refusal):
        return replace(reply, headers=(*reply.headers, _NOT_AGAIN))
    reply.headers[_NOT_AGAIN[0]] = _NOT_AGAIN[1]
    return reply


def unreached(error: Exception) -> Refusal:
    """Return what a gateway that was not reached comes to."""
    name = type(error).__name__
    return Refusal(ErrorCode.ERR_ENCLAVE_UNAVAILABLE, f"the gateway was not reached ({name})")


def _wait_s(reply: httpx.Response | Refusal, attempt: int) -> float | None:
    """Return how long to wait before the next attempt, or None: this was the last one."""
    if attempt + 1 >= ATTEMPTS_MAX_COUNT:
        return None
    pause_s = PAUSE_S * 2**attempt
    if isinstance(reply, Refusal):
        return pause_s if reply.code is ErrorCode.ERR_ENCLAVE_UNAVAILABLE else None
    failure = carried(reply).failure
    if failure is None or not failure.retry or failure.code in _APPLICATIONS_MATTER:
        return None
    wait_s = max(pause_s, failure.retry_after_s or 0)
    return wait_s if wait_s <= WAIT_MAX_S else None


def status_of(status: int, failure: Failure | None) -> int:
    """Return the status that an application sees.

    An enclave that is not proven is the proxy's trouble and no fault of the request: 503, not 422.
    """
    unproven = failure is not None and failure.code in _UNPROVEN and not failure.sealed
    return UNAVAILABLE if unproven else status
