"""Who may come in: authentication, the limits of tenants and addresses. The same for all routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from latensgate_parent.http.addresses import client_address
from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.rate_limit import address_bucket, rate_headers
from latensgate_parent.limits import PUBLIC_REQUESTS_PER_MINUTE
from latensgate_shared.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_parent.clock import Clock
    from latensgate_parent.http.auth import Authenticator, Caller
    from latensgate_parent.http.exchange import Exchange
    from latensgate_parent.http.rate_limit import Allowance, RateLimiter
    from latensgate_parent.settings_forms import Network


@dataclass(frozen=True, slots=True)
class Admission:
    """What a request passes before its route sees it.

    Attributes:
        authenticator: Finds the caller.
        limiter: Counts requests of tenants and addresses.
        monotonic: Seconds from any start, the same for all routes.
        trusted_proxies: Peers whose ``X-Forwarded-For`` is believed.
    """

    authenticator: Authenticator
    limiter: RateLimiter
    monotonic: Clock
    trusted_proxies: Sequence[Network] = ()

    async def caller(self, exchange: Exchange) -> Caller:
        """Return the caller of a request that its tenant's limit permits.

        Raises:
            GatewayError: As ``Authenticator.authenticate``; ``ERR_RATE_LIMITED``.
            StoreError: Nobody can be authenticated now.
        """
        try:
            caller = await self.authenticator.authenticate(exchange.headers, exchange.tenant_in_url)
        except GatewayError as error:
            # A key that is good is never refused for what others behind its address present.
            if error.code is ErrorCode.ERR_UNAUTHENTICATED:
                await self.anybody(exchange)
            raise
        tenant = caller.tenant
        exchange.tenant_id = tenant.tenant_id
        allowance = await self.limiter.take(
            tenant.tenant_id, tenant.requests_per_minute, self.monotonic()
        )
        _apply(exchange, allowance, "tenant")
        return caller

    async def anybody(self, exchange: Exchange) -> None:
        """Count a request by its address: of a public route, or without a good key.

        Raises:
            GatewayError: ``ERR_RATE_LIMITED``.
        """
        address = client_address(exchange.peer, exchange.headers, self.trusted_proxies)
        allowance = await self.limiter.take(
            address_bucket(address), PUBLIC_REQUESTS_PER_MINUTE, self.monotonic()
        )
        _apply(exchange, allowance, "address")


def _apply(exchange: Exchange, allowance: Allowance, whose: str) -> None:
    exchange.answer_headers += rate_headers(allowance)
    if allowance.retry_after_s is not None:
        raise GatewayError(
            ErrorCode.ERR_RATE_LIMITED,
            f"Exceeded {allowance.limit} requests/minute for this {whose}.",
        )
