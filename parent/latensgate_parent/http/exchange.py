"""One HTTP request on its way through the parent, and what became of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from latensgate_parent.http.errors import (
    correlation_headers,
    error_response,
    retry_headers,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_parent.http.asgi_types import ASGIScope, Receive, Send
    from latensgate_parent.http.errors import Header
    from latensgate_parent.store.interfaces import StoredAnswer
    from latensgate_shared.errors import ErrorCode, LatensgateError

CLIENT_GONE_STATUS: Final = 499
_UUID_BYTES: Final = 16
_POOL_COUNT: Final = 256


class CorrelationIds:
    """Random UUIDs of version 4; the system is asked for many at once, since asking is slow."""

    def __init__(self) -> None:
        self._pool = b""
        self._used = 0

    def new(self) -> str:
        """Return the next."""
        if self._used == len(self._pool):
            self._pool, self._used = os.urandom(_UUID_BYTES * _POOL_COUNT), 0
        digits = self._pool[self._used : self._used + _UUID_BYTES].hex()
        self._used += _UUID_BYTES
        variant = "89ab"[int(digits[16], 16) & 3]
        return (
            f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
        )


@dataclass(slots=True, repr=False)
class Exchange:
    """A request and the way to answer it.

    Attributes:
        headers: Of the request, as ASGI gives them.
        receive, send: Of ASGI.
        correlation_id: Of this request.
        tenant_in_url: The tenant whose URL was called, if it was one's.
        answer_headers: What every answer to it carries besides its own: rate limits.
        tenant_id: Of the caller, once authenticated.
        status: Of the answer, once it began.
        code: Of the error that was answered.
        peer: Address of the connection's other end, if it has one.
    """

    headers: Sequence[Header]
    receive: Receive
    send: Send
    correlation_id: str
    tenant_in_url: str | None = None
    answer_headers: list[Header] = field(default_factory=list["Header"])
    tenant_id: str | None = None
    status: int | None = None
    code: ErrorCode | None = None
    peer: str = ""

    async def begin(self, status: int, headers: Sequence[Header]) -> None:
        """Send status and headers."""
        self.status = status
        await self.send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def answer_stored(self, answer: StoredAnswer) -> None:
        """Send a whole answer as it is or will be stored: the first time and each time again."""
        await self.begin(
            answer.status,
            [
                (b"content-type", answer.content_type.encode("ascii")),
                (b"content-length", b"%d" % len(answer.body)),
                (b"cache-control", b"no-store"),
                *correlation_headers(self.correlation_id),
                *self.answer_headers,
                *retry_headers(answer.status),
            ],
        )
        await self.send({"type": "http.response.body", "body": answer.body})

    async def refuse(self, error: LatensgateError) -> None:
        """Send the envelope of an error."""
        self.code = error.code
        told = error_response(error, self.correlation_id, headers=self.answer_headers)
        await self.begin(told.status, told.headers)
        await self.send({"type": "http.response.body", "body": told.body})


def headers_of(scope: ASGIScope) -> list[Header]:
    """Return the request's headers: names in lower case, in the order in which they came."""
    return cast("list[Header]", scope["headers"])


def peer_of(scope: ASGIScope) -> str:
    """Return the address of the connection's other end, empty if it has none."""
    client = cast("tuple[str, int] | None", scope.get("client"))
    return client[0] if client else ""
