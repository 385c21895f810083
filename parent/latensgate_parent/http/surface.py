"""The surface: every route but inference, on FastAPI, inside one plain ASGI callable.

The callable around it gives each answer its headers, tells the observer, and makes every error one
envelope; no middleware of the framework is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from latensgate_parent.http import (
    attest,
    attestation,
    audit,
    daily,
    health,
    holds,
    keys,
    models,
    policy,
    reference,
    usage,
    verify_page,
)
from latensgate_parent.http.asgi import CORRELATION_KEY, OTHER_ROUTE, TENANT_KEY
from latensgate_parent.http.context import EXCHANGE_KEY, exchange_of
from latensgate_parent.http.errors import GatewayError, correlation_headers, error_response
from latensgate_parent.http.exchange import CLIENT_GONE_STATUS, Exchange, headers_of, peer_of
from latensgate_parent.http.json_body import invalid
from latensgate_parent.http.observer import RequestDone
from latensgate_parent.http.openapi import describe
from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from latensgate_parent.http.asgi_types import ASGIScope, Message, Receive, Send
    from latensgate_parent.http.context import Services
    from latensgate_parent.http.errors import Header

_SECURITY_HEADERS: Final[list[Header]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]
"""Where an answer does not say otherwise itself."""
_ROUTERS: Final = tuple(
    module.router
    for module in (
        attestation,
        attest,
        audit,
        keys,
        holds,
        health,
        models,
        policy,
        usage,
        daily,
        reference,
        verify_page,
    )
)
_NOT_FOUND: Final = 404
_METHOD_NOT_ALLOWED: Final = 405


class Surface:
    """An ASGI application: what the gateway hands every request to that is not inference.

    Args:
        services: What the routes are built on.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self.app = build_app(services)

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Answer one request; its scope holds ``TENANT_KEY`` and ``CORRELATION_KEY``."""
        if scope["type"] != "http":
            return  # no lifespan, no WebSocket: the server goes on without
        exchange = Exchange(
            headers_of(scope),
            receive,
            send,
            cast("str", scope[CORRELATION_KEY]),
            cast("str | None", scope[TENANT_KEY]),
            peer=peer_of(scope),
        )
        inner: ASGIScope = {**scope, EXCHANGE_KEY: exchange}
        started = self._services.monotonic()
        try:
            await self._answer(exchange, inner)
        finally:
            self._services.observer.request_done(
                RequestDone(
                    route=_route_name(inner),
                    status=exchange.status or CLIENT_GONE_STATUS,
                    code=exchange.code,
                    tenant_id=exchange.tenant_id,
                    correlation_id=exchange.correlation_id,
                    ms=(self._services.monotonic() - started) * 1000,
                )
            )

    async def _answer(self, exchange: Exchange, scope: ASGIScope) -> None:
        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = cast("int", message["status"])
                given = cast("Iterable[Header]", message.get("headers", ()))
                message["headers"] = _completed(list(given), exchange)
            await exchange.send(message)

        try:
            await self.app(scope, exchange.receive, send)
        except Exception as error:  # a route's fault: counted, answered without its text
            self._services.observer.failed_unexpectedly(exchange.correlation_id, error)
            if exchange.status is None:
                raise


def _completed(headers: list[Header], exchange: Exchange) -> list[Header]:
    """Return an answer's headers with those that every answer has."""
    there = {name for name, _ in headers}
    more = [
        *correlation_headers(exchange.correlation_id),
        *exchange.answer_headers,
        *_SECURITY_HEADERS,
    ]
    return headers + [(name, value) for name, value in more if name not in there]


def _route_name(scope: ASGIScope) -> str:
    """Return the route as the reference names it; the set of names is closed."""
    route = scope.get("route")
    methods = getattr(route, "methods", None) or ()
    if scope["method"] not in methods:
        return OTHER_ROUTE
    return f"{scope['method']} {getattr(route, 'path', '')}"


def routes_only() -> FastAPI:
    """Return an application that has the routes and cannot serve them: for the document."""
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    for router in _ROUTERS:
        app.include_router(router)
    return app


def build_app(services: Services) -> FastAPI:
    """Return the FastAPI application of the surface."""
    app = routes_only()
    app.state.services = services
    app.add_exception_handler(LatensgateError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_error)
    app.add_exception_handler(HTTPException, _on_error)
    app.add_exception_handler(Exception, _on_error)
    app.state.openapi = describe(app, services.public_url)
    app.state.reference = reference.render(app.state.openapi)
    return app


async def _on_error(request: Request, error: Exception) -> Response:
    exchange = exchange_of(request)
    told = _told(error, request)
    exchange.code = told.code
    found = error_response(told, exchange.correlation_id)
    answer = Response(found.body, found.status)
    answer.raw_headers = list(found.headers)
    if told.code is ErrorCode.ERR_METHOD_NOT_ALLOWED:
        answer.headers["allow"] = _methods_of(request)
    return answer


def _methods_of(request: Request) -> str:
    """Return all methods of a path: the framework names those of one of its routes only."""
    path = request.scope["path"]
    found = {
        method
        for router in _ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and route.path_regex.match(path)
        for method in route.methods or ()
    }
    return ", ".join(sorted(found))


def _told(error: Exception, request: Request) -> LatensgateError:
    if isinstance(error, LatensgateError):
        return error
    if isinstance(error, RequestValidationError):
        return invalid(error.errors())
    status = error.status_code if isinstance(error, HTTPException) else 0
    if status == _NOT_FOUND and request.method == "POST" and _is_openais(request):
        return GatewayError(
            ErrorCode.ERR_PLAINTEXT_REFUSED,
            "An OpenAI client speaks to the Latensgate SDK or to `latensgate proxy`, which seal.",
        )
    if status == _NOT_FOUND:
        return GatewayError(ErrorCode.ERR_NOT_FOUND, "There is no such route.")
    if status == _METHOD_NOT_ALLOWED:
        return GatewayError(
            ErrorCode.ERR_METHOD_NOT_ALLOWED, "This route does not have this method."
        )
    return LatensgateError("not foreseen", code=ErrorCode.ERR_INTERNAL)


def _is_openais(request: Request) -> bool:
    """Whether somebody asks here as one asks OpenAI: in plain text."""
    return str(request.scope["path"]).startswith("/v1/")
