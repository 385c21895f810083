"""Who may call a route, how often, and with which query: what runs before every handler."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Depends, Request
from fastapi.routing import APIRoute

from latensgate_parent.http.addresses import client_address
from latensgate_parent.http.auth import Caller, Scope, require
from latensgate_parent.http.context import Services, exchange_of, services_of
from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.fields import parameter_name
from latensgate_parent.http.rate_limit import address_bucket, rate_headers
from latensgate_parent.limits import PUBLIC_REQUESTS_PER_MINUTE
from latensgate_shared.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from latensgate_parent.http.rate_limit import Allowance

TheServices = Annotated[Services, Depends(services_of)]


def permitted(scope: Scope) -> Callable[[Request], Awaitable[Caller]]:
    """Return a dependency: an authenticated caller within its limit, whose key has a scope."""

    async def check(request: Request) -> Caller:
        caller = await _authenticated(request)
        await _limit_tenant(request, caller)
        require(caller, scope)
        each_parameter_once(request)
        return caller

    return check


async def _authenticated(request: Request) -> Caller:
    services, exchange = services_of(request), exchange_of(request)
    try:
        caller = await services.authenticator.authenticate(exchange.headers, exchange.tenant_in_url)
    except GatewayError as error:
        if error.code is ErrorCode.ERR_UNAUTHENTICATED:  # or guesses would cost lookups
            await _limit_address(request)
        raise
    exchange.tenant_id = caller.tenant.tenant_id
    return caller


async def _limit_tenant(request: Request, caller: Caller) -> None:
    services = services_of(request)
    tenant = caller.tenant
    allowance = await services.limiter.take(
        tenant.tenant_id, tenant.requests_per_minute, services.monotonic()
    )
    _apply(request, allowance, "this tenant")


async def _limit_address(request: Request) -> None:
    services = services_of(request)
    peer = request.client.host if request.client is not None else ""
    address = client_address(peer, exchange_of(request).headers, services.trusted_proxies)
    allowance = await services.limiter.take(
        address_bucket(address), PUBLIC_REQUESTS_PER_MINUTE, services.monotonic()
    )
    _apply(request, allowance, "this address")


def _apply(request: Request, allowance: Allowance, whose: str) -> None:
    exchange_of(request).answer_headers += rate_headers(allowance)
    if allowance.retry_after_s is not None:
        raise GatewayError(
            ErrorCode.ERR_RATE_LIMITED,
            f"More than {allowance.limit} requests a minute of {whose}.",
        )


async def public(request: Request) -> None:
    """Count a request of a public route by its address."""
    await _limit_address(request)
    each_parameter_once(request)


def each_parameter_once(request: Request) -> None:
    """Refuse a query parameter that stands twice: two readers must never see two values.

    Routes that have none refuse any; those that have some refuse unknown ones by their models.

    Raises:
        GatewayError: ``ERR_REQUEST_INVALID`` with the parameter's name.
    """
    has_none = _has_no_parameters(request)
    counts = Counter(name for name, _ in request.query_params.multi_items())
    for name, count in counts.items():
        if has_none:
            shown = parameter_name(name)
            raise GatewayError(
                ErrorCode.ERR_REQUEST_INVALID,
                f"Query parameter {shown}: this route has none.",
                param=shown,
            )
        if count > 1:
            shown = parameter_name(name)
            raise GatewayError(
                ErrorCode.ERR_REQUEST_INVALID,
                f"Query parameter {shown}: expected once, found {count} times.",
                param=shown,
            )


_READS_ITS_OWN: Final = "/verify"
"""A page for people: what it does not know, it shows as unknown."""


def _has_no_parameters(request: Request) -> bool:
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or route.path == _READS_ITS_OWN:
        return False
    return not route.dependant.query_params


PUBLIC: Final = [Depends(public)]
"""Dependencies of a public route."""
