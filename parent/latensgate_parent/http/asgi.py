"""The public listener's application: the sealed route on its own, everything else to the surface.

The sealed route passes through no framework: it is what CPU is spent on. What both have in common
happens here once: the tenant's own URL, the correlation id, the last resort for errors, and telling
the observer.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import unquote_plus

from latensgate_parent.http.body import ClientGoneError
from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.exchange import (
    CLIENT_GONE_STATUS,
    CorrelationIds,
    Exchange,
    headers_of,
    peer_of,
)
from latensgate_parent.http.fields import parameter_name, single
from latensgate_parent.http.observer import NoObserver, RequestDone
from latensgate_parent.http.tenant_url import split
from latensgate_parent.limits import QUERY_MAX_BYTES
from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from latensgate_parent.clock import Clock
    from latensgate_parent.http.asgi_types import ASGIApp, ASGIScope, Message, Receive, Send
    from latensgate_parent.http.observer import Observer

INFERENCE_PATH: Final = "/api/inference"
HEALTH_PATH: Final = "/api/health"
"""Still answered while draining: with 503, and with what is known."""
INFERENCE_ROUTE: Final = "POST /api/inference"
OTHER_ROUTE: Final = "other"
TENANT_KEY: Final = "latensgate.tenant_in_url"
"""In the scope that the surface gets: the tenant whose URL was called, or None."""
CORRELATION_KEY: Final = "latensgate.correlation_id"
"""In the scope that the surface gets: what every answer to this request is quoted by."""


class Gateway:
    """An ASGI 3 application.

    Args:
        inference: Answers ``POST /api/inference``.
        surface: Answers everything else, and lifespan. Its scope holds ``TENANT_KEY``,
            ``CORRELATION_KEY`` and a path without the tenant. It tells the observer itself.
        tenant_domain: Domain whose first labels are tenants.
        observer: Is told about requests that do not reach the surface.
        monotonic: Measures how long they take, seconds.
    """

    def __init__(
        self,
        inference: Callable[[Exchange], Awaitable[None]],
        surface: ASGIApp,
        *,
        tenant_domain: str | None = None,
        observer: Observer | None = None,
        monotonic: Clock = time.perf_counter,
    ) -> None:
        self._inference = inference
        self._surface = surface
        self._tenant_domain = tenant_domain
        self._observer = observer or NoObserver()
        self._monotonic = monotonic
        self._ids = CorrelationIds()
        self._draining = False

    def drain(self) -> None:
        """Refuse every new request from now on; those under way go on."""
        self._draining = True

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Serve one connection event of the server."""
        if scope["type"] != "http":
            await self._surface(scope, receive, send)
            return
        exchange = Exchange(headers_of(scope), receive, send, self._ids.new(), peer=peer_of(scope))
        try:
            path = self._path(scope, exchange)
        except GatewayError as error:
            await self._observed(exchange, OTHER_ROUTE, _refusal(error))
            return
        if path != INFERENCE_PATH:
            await self._to_surface(scope, exchange, path)
        elif scope["method"] == "POST":
            await self._observed(exchange, INFERENCE_ROUTE, self._inference)
        else:
            await self._observed(exchange, OTHER_ROUTE, _refuse_method)

    def _path(self, scope: ASGIScope, exchange: Exchange) -> str:
        """Return the path without the tenant, which is noted."""
        host = single(exchange.headers, b"host")
        exchange.tenant_in_url, path = split(
            cast("str", scope["path"]),
            host.decode("latin-1") if host else None,
            self._tenant_domain,
        )
        _check_query(cast("bytes", scope.get("query_string", b"")), path)
        if self._draining and path != HEALTH_PATH:
            raise GatewayError(ErrorCode.ERR_OVERLOADED, "This gateway is being shut down.")
        return path

    async def _observed(
        self, exchange: Exchange, route: str, handler: Callable[[Exchange], Awaitable[None]]
    ) -> None:
        started = self._monotonic()
        try:
            await self._answered(exchange, handler)
        finally:
            status = CLIENT_GONE_STATUS if exchange.status is None else exchange.status
            self._observer.request_done(
                RequestDone(
                    route,
                    status,
                    exchange.code,
                    exchange.tenant_id,
                    exchange.correlation_id,
                    1000 * (self._monotonic() - started),
                )
            )

    async def _answered(
        self, exchange: Exchange, handler: Callable[[Exchange], Awaitable[None]]
    ) -> None:
        """Answer; the one place where errors become answers."""
        try:
            await handler(exchange)
        except ClientGoneError as error:
            exchange.code = error.code
        except LatensgateError as error:
            await exchange.refuse(error)
        except Exception as error:  # noqa: BLE001  # the one place: no text of it may leave
            self._observer.failed_unexpectedly(exchange.correlation_id, error)
            await _refuse_unexpected(exchange)

    async def _to_surface(self, scope: ASGIScope, exchange: Exchange, path: str) -> None:
        """Hand on; whatever the surface lets through becomes an envelope all the same."""

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = cast("int", message["status"])
            await exchange.send(message)

        inner: ASGIScope = {
            **scope,
            "path": path,
            "raw_path": path.encode("utf-8", "surrogateescape"),
            TENANT_KEY: exchange.tenant_in_url,
            CORRELATION_KEY: exchange.correlation_id,
        }
        try:
            await self._surface(inner, exchange.receive, send)
        except Exception:  # noqa: BLE001  # it has told the observer; its caller must be told too
            await _refuse_unexpected(exchange)


def _check_query(query: bytes, path: str) -> None:
    """Refuse a query that is long, and any at all where no parameter is known."""
    if len(query) > QUERY_MAX_BYTES:
        what = f"at most {QUERY_MAX_BYTES} bytes of query expected"
    elif query and path == INFERENCE_PATH:
        what = "this route has none"
    else:
        return
    name = parameter_name(unquote_plus(re.split(b"[=&]", query, maxsplit=1)[0].decode("latin-1")))
    raise GatewayError(
        ErrorCode.ERR_REQUEST_INVALID, f"Query parameter {name}: {what}.", param=name
    )


async def _refuse_unexpected(exchange: Exchange) -> None:
    exchange.code = ErrorCode.ERR_INTERNAL
    if exchange.status is None:  # else the server cuts the connection: the body has no end
        await exchange.refuse(LatensgateError("unexpected"))


def _refusal(error: GatewayError) -> Callable[[Exchange], Awaitable[None]]:
    async def refuse(_: Exchange) -> None:
        raise error

    return refuse


async def _refuse_method(_: Exchange) -> None:
    raise GatewayError(
        ErrorCode.ERR_METHOD_NOT_ALLOWED,
        "This route takes POST only.",
        headers=[(b"allow", b"POST")],
    )
