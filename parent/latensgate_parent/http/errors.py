"""Errors as callers see them: one envelope, made in one place (docs/spec/http.md section 6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from latensgate_shared.error_answers import (
    ErrorAnswer,
    SealedRefusal,
    WireError,
    encode_error_answer,
)
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

Header: TypeAlias = tuple[bytes, bytes]

CORRELATION_HEADER: Final = b"latensgate-correlation-id"
OPENAI_REQUEST_ID_HEADER: Final = b"x-request-id"
"""OpenAI clients read it and show it as ``_request_id``."""
JSON_TYPE: Final = b"application/json"

RETRY_AFTER_S: Final = 1
"""Seconds to wait where nothing better is known: the shortest that the header can say."""


class GatewayError(LatensgateError):
    """A refusal by the parent itself.

    Attributes:
        code: Decides status, type and hint.
        detail: The message that the caller sees.
        param: The request field that it is about.
        retry_after_s: Whole seconds; without it codes that need ``Retry-After`` say the default.
        headers: Further headers of the answer, such as those of rate limits.
    """

    def __init__(
        self,
        code: ErrorCode,
        detail: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        headers: Sequence[Header] = (),
    ) -> None:
        super().__init__(detail, code=code)
        self.param = param
        self.retry_after_s = retry_after_s
        self.headers = tuple(headers)


@dataclass(frozen=True, slots=True)
class Response3:
    """A whole HTTP answer: what ASGI needs to send it."""

    status: int
    headers: list[Header]
    body: bytes = field(repr=False)


def correlation_headers(correlation_id: str) -> list[Header]:
    """Return the two headers by which an answer is quoted to the operator."""
    value = correlation_id.encode("ascii")
    return [(CORRELATION_HEADER, value), (OPENAI_REQUEST_ID_HEADER, value)]


def error_response(
    error: LatensgateError,
    correlation_id: str,
    *,
    refusal: SealedRefusal | None = None,
    headers: Sequence[Header] = (),
) -> Response3:
    """Return the envelope of an error.

    Args:
        error: A ``GatewayError`` or ``MalformedError`` shows its detail, which is written for
            callers; any other speaks to operators, so its caller is told what its code says.
        correlation_id: 1 to 256 visible ASCII characters.
        refusal: What the enclave sealed, if the error is one inside the seal.
        headers: Further headers, such as those of rate limits.
    """
    told = WireError(
        error.code, _message(error), error.param if isinstance(error, GatewayError) else None
    )
    body = encode_error_answer(ErrorAnswer(told, correlation_id, refusal))
    return Response3(
        error.code.http_status,
        [
            (b"content-type", JSON_TYPE),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            *correlation_headers(correlation_id),
            *_code_headers(error, headers),
        ],
        body,
    )


def _message(error: LatensgateError) -> str:
    shown = isinstance(error, GatewayError | MalformedError) and error.detail
    return error.detail if shown else error.code.hint


def _code_headers(error: LatensgateError, headers: Sequence[Header]) -> list[Header]:
    """Return the given headers, and those that HTTP and http.md section 5 demand for a code."""
    found = [*headers]
    seconds: int | None = None
    if isinstance(error, GatewayError):
        found += error.headers
        seconds = error.retry_after_s
    if seconds is not None:
        found = [*_without_retry(found), (b"retry-after", b"%d" % max(seconds, 1))]
    elif len(_without_retry(found)) == len(found):
        found += retry_headers(error.code.http_status)
        if error.code is ErrorCode.ERR_IDEMPOTENCY_RUNNING:
            found.append(_RETRY)
    if error.code is ErrorCode.ERR_UNAUTHENTICATED:
        found.append((b"www-authenticate", b'Bearer realm="latensgate"'))  # RFC 9110, 11.6.1
    return found


def _without_retry(headers: Sequence[Header]) -> list[Header]:
    return [each for each in headers if each[0] != b"retry-after"]


def retry_headers(status: int) -> list[Header]:
    """Return ``Retry-After`` for the statuses that say "later", where nothing better is known."""
    return [_RETRY] if status in _LATER else []


_LATER: Final = frozenset({429, 503})
_RETRY: Final = (b"retry-after", b"%d" % RETRY_AFTER_S)
