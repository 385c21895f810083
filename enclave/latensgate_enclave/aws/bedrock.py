"""Bedrock over HTTP: requests, what its errors mean, and whether invocation logging is on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

from latensgate_enclave.aws.errors import error_name
from latensgate_enclave.aws.sigv4 import SigningScope
from latensgate_enclave.http1 import HttpRequest
from latensgate_enclave.retry import retry_after_ms
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError
from latensgate_shared.limits import AWS_ANSWER_MAX_BYTES
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from latensgate_enclave.http1 import HttpResponse

_OK: Final = 200
_TOO_MANY: Final = 429
_NOT_BEGUN: Final = (429, 503)
"""Throttled, model not ready, service unavailable: Bedrock turns these away before a model runs."""
_QUOTA: Final = "ServiceQuotaExceededException"


class UpstreamError(LatensgateError):
    """The model provider did not do what was asked. Its own words are never passed on.

    Attributes:
        status: HTTP status that it answered with; None in a stream, or if it answered otherwise.
        not_run: Whether it says that it has not begun, so that asking again costs nothing twice.
        retry_after_ms: How long it asks to be left alone, milliseconds; None if it does not say.
    """

    code = ErrorCode.ERR_UPSTREAM

    def __init__(
        self,
        detail: str,
        *,
        code: ErrorCode | None = None,
        status: int | None = None,
        not_run: bool = False,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(detail, code=code)
        self.status = status
        self.not_run = not_run
        self.retry_after_ms = retry_after_ms


_CODES: Final = {
    "ValidationException": ErrorCode.ERR_UPSTREAM_REFUSED,
    "ConflictException": ErrorCode.ERR_UPSTREAM_REFUSED,
    "ResourceNotFoundException": ErrorCode.ERR_MODEL_UNKNOWN,
    "AccessDeniedException": ErrorCode.ERR_UPSTREAM_DENIED,
    "ThrottlingException": ErrorCode.ERR_UPSTREAM_THROTTLED,
    "ServiceQuotaExceededException": ErrorCode.ERR_UPSTREAM_QUOTA,
    "ModelNotReadyException": ErrorCode.ERR_UPSTREAM_THROTTLED,
    "ModelTimeoutException": ErrorCode.ERR_UPSTREAM_TIMEOUT,
}
"""Everything else (faults of the service or the model) is ``ERR_UPSTREAM``."""
_TOO_LONG: Final = re.compile(
    rb"too long|too many (input )?tokens|context (length|window|limit)|maximum context",
    re.IGNORECASE,
)
"""Bedrock has no name of its own for a conversation that is too long; its text is looked at for
these words, and none of it is passed on."""


def upstream_error(
    name: str, body: bytes = b"", *, status: int | None = None, retry_after_ms: int | None = None
) -> UpstreamError:
    """Return the error for an AWS error name, its body and, outside a stream, its HTTP status."""
    code = _CODES.get(name)
    if code is ErrorCode.ERR_UPSTREAM_REFUSED and _TOO_LONG.search(body):
        code = ErrorCode.ERR_CONTEXT_LENGTH
    if code is None:
        throttled = status == _TOO_MANY
        code = ErrorCode.ERR_UPSTREAM_THROTTLED if throttled else ErrorCode.ERR_UPSTREAM
    where = "in the stream" if status is None else f"with HTTP {status}"
    return UpstreamError(
        f"Bedrock answered {where}: {name}",
        code=code,
        status=status,
        not_run=status in _NOT_BEGUN and name != _QUOTA,  # a quota does not come back in time
        retry_after_ms=retry_after_ms,
    )


def response_error(response: HttpResponse) -> UpstreamError:
    """Return what an answer with another status than 200 means."""
    name, status = error_name(response), response.status
    wait_ms = retry_after_ms(response.headers)
    return upstream_error(name, response.body, status=status, retry_after_ms=wait_ms)


def verify_success(response: HttpResponse) -> HttpResponse:
    """Return a response whose status is 200.

    Raises:
        UpstreamError: Any other status.
    """
    if response.status != _OK:
        raise response_error(response)
    return response


def runtime_request(
    region: str,
    model_id: str,
    body: bytes,
    method: Literal["converse", "converse-stream", "invoke"],
) -> HttpRequest:
    """Return the unsigned request of one call of Bedrock's runtime.

    Args:
        region: As in ``eu-central-1``.
        model_id: Of AWS: a model, an inference profile or its ARN.
        body: Of the call.
        method: Which of them.
    """
    streamed = method == "converse-stream"
    accept = "application/vnd.amazon.eventstream" if streamed else "application/json"
    return HttpRequest(
        "POST",
        f"bedrock-runtime.{region}.amazonaws.com",
        f"/model/{_quoted(model_id)}/{method}",
        (("content-type", "application/json"), ("accept", accept)),
        body,
    )


@lru_cache(maxsize=256)  # models of the measured deployment
def _quoted(model_id: str) -> str:
    return quote(model_id, safe="")


@lru_cache(maxsize=64)  # measured Regions
def bedrock_scope(region: str) -> SigningScope:
    """Return the signing scope; runtime and control plane share one service name."""
    return SigningScope(region, "bedrock")


@dataclass(frozen=True, slots=True)
class InvocationLogging:
    """Whether the account writes prompts and answers to its own logs in one Region."""

    is_on: bool


def logging_state_request(region: str) -> HttpRequest:
    """Return the unsigned GetModelInvocationLoggingConfiguration request."""
    return HttpRequest(
        "GET",
        f"bedrock.{region}.amazonaws.com",
        "/logging/modelinvocations",
        (("accept", "application/json"),),
        b"",
    )


def parse_logging_state(response: HttpResponse) -> InvocationLogging:
    """Read the answer to GetModelInvocationLoggingConfiguration.

    Logging is off only if the answer names nothing at all: a configuration that we do not
    understand, or an empty one, counts as on.

    Raises:
        UpstreamError: Not a 200, or not a JSON object.
    """
    body = verify_success(response).body
    try:
        members = parse_json_object(body, max_bytes=AWS_ANSWER_MAX_BYTES)
    except MalformedError:
        raise UpstreamError("Bedrock: the logging configuration is not a JSON object") from None
    return InvocationLogging(is_on=any(value is not None for value in members.values()))
