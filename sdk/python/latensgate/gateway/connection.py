"""One HTTP exchange with the gateway: bounded, never redirected, errors typed."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

import httpx

from latensgate import answer_bounds
from latensgate.gateway.errors import (
    GatewayAnswerMalformedError,
    GatewayRefusedError,
    GatewayUnreachableError,
    Unreachable,
)
from latensgate.verify.errors import ConfigurationError
from latensgate_shared.error_answers import parse_error_answer
from latensgate_shared.errors import MalformedError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import SEALED_BODY_MAX_BYTES
from latensgate_shared.sealed import AnswerTruncatedError
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from latensgate.gateway.address import GatewayAddress
    from latensgate_shared.strict_json import JSONObject

TIMEOUT_S: Final = 30.0
"""Longer than the enclave's 5 s to accept a call; none of these routes waits for a model."""
_FIRST_ERROR: Final = 400
_OK: Final = frozenset({200, 201})
_HEALTH_STATUSES: Final = frozenset({200, 503})
_RETRY_AFTER_MAX_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is strict JSON.

    Attributes:
        status: HTTP status.
        members: Its body.
        headers: As they came.
        sent: On the own clock, before the request went out.
        received: On the own clock, when the whole answer was there.
    """

    status: int
    members: JSONObject = field(repr=False)
    headers: httpx.Headers = field(repr=False)
    sent: datetime
    received: datetime


class Connection:
    """Requests to one gateway. Use it as a context manager, or close it."""

    def __init__(
        self,
        address: GatewayAddress,
        *,
        api_key: str | None = None,
        ca_file: Path | None = None,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.address = address
        self._has_key = api_key is not None
        headers = {"Accept": "application/json", "User-Agent": "latensgate-python"}
        headers["Accept-Encoding"] = "identity"  # a bomb would be unpacked before it is measured
        if api_key is not None:
            headers["Authorization"] = f"Bearer {checked_api_key(api_key)}"
        self._http = httpx.Client(
            headers=headers,
            timeout=timeout_s,
            cookies=answer_bounds.no_cookies(),
            follow_redirects=False,  # a key follows nobody
            trust_env=not address.loopback,  # what is for this machine passes no proxy
            verify=tls_context(ca_file),
            transport=transport,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, path: str, query: Mapping[str, str | int] | None = None) -> Answer:
        """Read something. Raises ``GatewayClientError``."""
        return self._exchange("GET", path, query=query)

    def get_health(self) -> Answer:
        """Read the health, whose 503 has the same form as its 200."""
        return self._exchange("GET", "/api/health", usable=_HEALTH_STATUSES)

    def post(self, path: str, body: JSONObject | None = None) -> Answer:
        """Make something. Raises ``GatewayClientError``."""
        return self._exchange("POST", path, body=canonicalize(body or {}))

    def put(self, path: str, body: JSONObject) -> Answer:
        """Store something. Raises ``GatewayClientError``."""
        return self._exchange("PUT", path, body=canonicalize(body))

    def delete(self, path: str) -> Answer:
        """End something. Raises ``GatewayClientError``."""
        return self._exchange("DELETE", path)

    def _exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: bytes | None = None,
        usable: frozenset[int] = _OK,
    ) -> Answer:
        headers = {} if body is None else {"Content-Type": "application/json"}
        sent = datetime.now(UTC)
        try:
            with self._http.stream(
                method,
                self.address.base_url + path,
                params=dict(query) if query else None,
                content=body,
                headers=headers,
            ) as response:
                data = _read(response)
        except AnswerTruncatedError:
            raise GatewayUnreachableError(
                f"{self.address.host}:{self.address.port}: the answer did not end in time",
                where=Unreachable.TIMEOUT,
            ) from None
        except httpx.HTTPError as error:
            raise unreachable(error, self.address) from None
        except (httpx.InvalidURL, UnicodeError):
            raise ConfigurationError("base_url: not a URL that can be asked") from None
        return _answer(response, data, usable, sent)


def checked_api_key(api_key: str) -> str:
    """Return the key if it can stand in a header.

    Raises:
        ConfigurationError: Empty, or other than visible ASCII characters.
    """
    if not api_key or not all("!" <= mark <= "~" for mark in api_key):
        raise ConfigurationError("api_key: visible ASCII characters without spaces expected")
    return api_key


def tls_context(ca_file: Path | None) -> ssl.SSLContext | bool:
    """Return what httpx verifies servers with; True is its default, SSL_CERT_FILE included.

    Raises:
        ConfigurationError: The file holds no certificate.
    """
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or "no certificate in PEM form"
        raise ConfigurationError(f"CA file {ca_file}: {reason}") from None


def _read(response: httpx.Response) -> bytes:
    """Read a body; one that is too long is cut one byte above the limit, which then refuses it.

    One that is compressed is not read at all, and no gateway's for being empty.

    Raises:
        AnswerTruncatedError: It dripped for too long.
    """
    data = bytearray()
    if answer_bounds.is_encoded(response):
        return b""
    for piece in answer_bounds.patient(response.iter_bytes(), answer_bounds.QUESTION_WAIT_MAX_S):
        data += piece
        if len(data) > SEALED_BODY_MAX_BYTES:
            break
    return bytes(data[: SEALED_BODY_MAX_BYTES + 1])


def _answer(
    response: httpx.Response, data: bytes, usable: frozenset[int], sent: datetime
) -> Answer:
    status = response.status_code
    try:
        if status not in usable and status >= _FIRST_ERROR:
            raise _refused(response, data)
        members = parse_json_object(data, max_bytes=SEALED_BODY_MAX_BYTES)
    except MalformedError as error:
        raise GatewayAnswerMalformedError(
            f"the answer (HTTP {status}) is not a gateway's: {error.detail}", status=status
        ) from None
    if status not in usable:
        raise GatewayAnswerMalformedError(f"HTTP {status} is no answer of a gateway", status=status)
    return Answer(status, members, response.headers, sent, datetime.now(UTC))


def _refused(response: httpx.Response, data: bytes) -> GatewayRefusedError:
    return GatewayRefusedError(
        parse_error_answer(data),
        status=response.status_code,
        retry_after_s=retry_after_s(response.headers.get("Retry-After")),
    )


def retry_after_s(value: str | None) -> int | None:
    """Read whole seconds; a date, which this gateway never sends, counts as nothing."""
    if value is None or not value.isascii() or not value.isdigit():
        return None
    return int(value) if len(value) <= _RETRY_AFTER_MAX_DIGITS else None


def unreachable(error: httpx.HTTPError, address: GatewayAddress) -> GatewayUnreachableError:
    """Say in words why no answer came."""
    where = f"{address.host}:{address.port}"
    causes = _causes(error)
    if isinstance(error, httpx.ProxyError):
        return GatewayUnreachableError("the proxy on the way refused", where=Unreachable.PROXY)
    if isinstance(error, httpx.TimeoutException):
        return GatewayUnreachableError(f"{where}: no answer in time", where=Unreachable.TIMEOUT)
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return GatewayUnreachableError(
            f"{address.host}: the name does not resolve", where=Unreachable.NAME
        )
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return GatewayUnreachableError(
                f"{where}: TLS failed: {tls_reason(cause)}", where=Unreachable.TLS
            )
    if isinstance(error, httpx.ConnectError):
        return GatewayUnreachableError(f"{where}: nothing answers there")
    return GatewayUnreachableError(f"{where}: the connection broke ({type(error).__name__})")


def tls_reason(error: ssl.SSLError) -> str:
    """A reason of OpenSSL, or of the check of the certificate, in its own words."""
    told = getattr(error, "verify_message", None) or getattr(error, "reason", None)
    return str(told or "handshake").lower().replace("_", " ")


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in found:
        found.append(at)
        at = at.__cause__ or at.__context__
    return found
