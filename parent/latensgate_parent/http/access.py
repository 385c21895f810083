"""Who may call a route, how often, and with which query: what runs before every handler."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Depends, Request
from fastapi.routing import APIRoute

from latensgate_parent.http.auth import Caller, Scope, require
from latensgate_parent.http.context import Services, exchange_of, services_of
from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.fields import parameter_name
from latensgate_shared.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


TheServices = Annotated[Services, Depends(services_of)]


def permitted(scope: Scope) -> Callable[[Request], Awaitable[Caller]]:
    """Return a dependency: an authenticated caller within its limit, whose key has a scope."""

    async def check(request: Request) -> Caller:
        caller = await services_of(request).admission.caller(exchange_of(request))
        require(caller, scope)
        each_parameter_once(request)
        return caller

    return check


async def public(request: Request) -> None:
    """Count a request of a public route by its address."""
    await services_of(request).admission.anybody(exchange_of(request))
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
