"""The operators' listener: metrics, readiness, drain, credentials of upstreams. Never public."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from latensgate_parent import operator_upstreams
from latensgate_parent.http.errors import GatewayError, error_response
from latensgate_parent.http.exchange import CorrelationIds, headers_of
from latensgate_parent.http.fields import single
from latensgate_parent.metrics import CONTENT_TYPE
from latensgate_parent.operator_upstreams import hand_over, list_missing, show_attestation
from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from latensgate_parent.http.asgi_types import ASGIScope, Receive, Send
    from latensgate_parent.metrics import Metrics
    from latensgate_parent.operator_upstreams import CredentialFleet
    from latensgate_shared.strict_json import JSONObject

DRAIN_PATH: Final = "/drain"
DRAIN_HEADER: Final = "Latensgate-Operator"
"""Demanded of all but metrics and readiness: a web page that an operator happens to look at cannot
send it."""
_DRAIN_VALUE: Final = b"drain"
_CREDENTIAL_VALUE: Final = b"upstream-credential"
_JSON: Final = b"application/json"
_READY: Final = 200
_NOT_READY: Final = 503

Drain: TypeAlias = Callable[[], Awaitable[Mapping[str, int | None]]]
"""Drains all enclaves; open calls of each, None where one was not reached."""


class OperatorApp:
    """An ASGI application: metrics, readiness, drain, and credentials of upstreams.

    ``GET /metrics``, ``GET /ready``, ``POST /drain``, ``GET /upstreams``,
    ``GET /enclave-attestation``, ``POST /upstream-credential``.

    Args:
        metrics: What is shown.
        is_ready: Whether clients should be sent here.
        drain: Drains the enclaves.
        fleet: The enclaves, for credentials of upstreams.
    """

    def __init__(
        self,
        metrics: Metrics,
        is_ready: Callable[[], bool],
        drain: Drain,
        fleet: CredentialFleet,
    ) -> None:
        self._fleet = fleet
        self._metrics = metrics
        self._is_ready = is_ready
        self._drain = drain
        self._ids = CorrelationIds()

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            await self._answer(scope, receive, send)
        except LatensgateError as error:
            told = error_response(error, self._ids.new())
            await send(
                {
                    "type": "http.response.start",
                    "status": told.status,
                    "headers": told.headers,
                }
            )
            await send({"type": "http.response.body", "body": told.body})

    async def _answer(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        match scope["method"], scope["path"]:
            case "GET", "/metrics":
                await _send(send, _READY, self._metrics.exposition(), CONTENT_TYPE)
            case "GET", "/ready":
                ready = self._is_ready()
                status = _READY if ready else _NOT_READY
                await _send(send, status, json.dumps({"ready": ready}).encode())
            case "POST", "/drain":
                _check_operator(scope, _DRAIN_VALUE)
                body = json.dumps({"enclaves": dict(await self._drain())})
                await _send(send, _READY, body.encode())
            case "GET", operator_upstreams.LIST_PATH:
                _check_operator(scope, _CREDENTIAL_VALUE)
                await _send_json(send, await list_missing(self._fleet))
            case "GET", operator_upstreams.ATTESTATION_PATH:
                _check_operator(scope, _CREDENTIAL_VALUE)
                query = cast("bytes", scope.get("query_string", b""))
                await _send_json(send, await show_attestation(self._fleet, query))
            case "POST", operator_upstreams.CREDENTIAL_PATH:
                _check_operator(scope, _CREDENTIAL_VALUE)
                await _send_json(send, await hand_over(self._fleet, receive))
            case _:
                raise GatewayError(ErrorCode.ERR_NOT_FOUND, "There is no such route.")


def _check_operator(scope: ASGIScope, value: bytes) -> None:
    """Demand what a browser does not send for a foreign page: the header, and an address as host.

    Raises:
        GatewayError: ``ERR_FORBIDDEN``.
    """
    headers = headers_of(scope)
    named = single(headers, DRAIN_HEADER.lower().encode()) == value
    host = (single(headers, b"host") or b"").decode("latin-1")
    if not named or not _is_address(host):
        raise GatewayError(
            ErrorCode.ERR_FORBIDDEN,
            f"Header {DRAIN_HEADER}: {value.decode()}, and an address as Host expected.",
        )


def _is_address(host: str) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name == "localhost"
    return True


async def _send_json(send: Send, value: JSONObject) -> None:
    await _send(send, _READY, json.dumps(value).encode())


async def _send(send: Send, status: int, body: bytes, content_type: bytes = _JSON) -> None:
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
