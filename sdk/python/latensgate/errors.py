"""What a call of the client can end in.

Every error is the fitting error of the official ``openai`` client *and* a
``LatensgateClientError``, so code written for either works: ``except openai.RateLimitError`` and
``except latensgate.errors.RateLimited`` catch the same thing. ``retryable`` says whether a retry
makes sense; the client has made its own (``max_retries``) already.
"""

# ruff: noqa: N818 -- the classes are named for what a person reads; their bases end in Error

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import openai

from latensgate.verify import ConfigurationError
from latensgate_shared.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from latensgate.exchange_failure import Failure
    from latensgate.receipts import AnswerReceipt


class LatensgateClientError(openai.APIStatusError):
    """Base of every refusal.

    Attributes:
        error_code: Member of the closed enumeration; ``code`` is its name.
        retryable: Whether the same request may succeed later without a change.
        hint: What the caller can do.
        correlation_id: To quote to the operator; None if nothing came from the gateway.
        retry_after_s: How long the gateway asks to wait; None if it does not say.
        receipt: Signed proof of a refusal by the enclave itself; None if it was refused outside.
    """

    error_code: ErrorCode = ErrorCode.ERR_INTERNAL
    retryable: bool = False
    hint: str = ""
    correlation_id: str | None = None
    retry_after_s: int | None = None
    receipt: AnswerReceipt | None = None


class RequestRefused(LatensgateClientError, openai.BadRequestError):
    """The request cannot be served as it is (400)."""


class MalformedAnswer(LatensgateClientError):
    """Something on the way answered instead of the gateway, or the gateway speaks otherwise."""


class Unauthenticated(LatensgateClientError, openai.AuthenticationError):
    """No valid API key (401)."""


class Forbidden(LatensgateClientError, openai.PermissionDeniedError):
    """The key lacks a scope, or an approver said no (403)."""


class HeldError(LatensgateClientError, openai.PermissionDeniedError):
    """An approver must decide before the request goes on: nothing was sent to the model (202).

    ``client.holds.wait(error)`` returns the answer once it is approved.

    Attributes:
        pending_id: ``hld_`` and 32 hex digits.
        plan_digest: Names exactly what would be forwarded.
        expires_at: Until when an approver may decide.
        counts: What asks for an approver, by category and direction.
        approvers: Names of those who may decide.
    """

    pending_id: str = ""
    plan_digest: str = ""
    expires_at: datetime | None = None
    counts: Mapping[str, object] = MappingProxyType({})
    approvers: tuple[str, ...] = ()


class HoldDenied(Forbidden):
    """An approver denied the request (403)."""


class HoldExpired(LatensgateClientError, openai.ConflictError):
    """Nobody decided in time (409)."""


class HoldLost(LatensgateClientError, openai.ConflictError):
    """The enclave that held the request is gone, again and again (409)."""


class KMSDenied(Forbidden):
    """KMS does not release keys to this enclave (403)."""


class NotFound(LatensgateClientError, openai.NotFoundError):
    """There is no such thing, or no model of this name (404)."""


class TooLarge(LatensgateClientError):
    """The request is too long (413)."""


class KeyStale(LatensgateClientError, openai.ConflictError):
    """The gateway knows the attested keys no longer, twice in a row (409)."""


class Replayed(LatensgateClientError, openai.ConflictError):
    """The enclave saw this very request before (409)."""


class StillRunning(LatensgateClientError, openai.ConflictError):
    """The first request with this idempotency key still runs (409)."""


class OutcomeUnknown(LatensgateClientError, openai.ConflictError):
    """The request may have run; under this idempotency key it is never run again (409)."""


class Conflict(LatensgateClientError, openai.ConflictError):
    """Another conflict (409)."""


class UnprocessableRequest(LatensgateClientError, openai.UnprocessableEntityError):
    """Policy, settings or idempotency key do not fit the request (422)."""


class PIIHardFailError(UnprocessableRequest):
    """The request holds personal data of a category that must not pass (422)."""


class AttestationError(UnprocessableRequest):
    """The enclave was not proven to be one that you accept: nothing was sent (422)."""


class ReceiptError(LatensgateClientError, openai.UnprocessableEntityError):
    """The receipt of an answer does not verify: the answer was withheld (422)."""


class ClockSkewError(RequestRefused):
    """Client and enclave disagree about the time.

    Attributes:
        client_time: Of this machine; None where the enclave itself refused (see the message).
        enclave_time: Of the enclave; the same.
    """

    client_time: datetime | None = None
    enclave_time: datetime | None = None


class RateLimited(LatensgateClientError, openai.RateLimitError):
    """Too many requests (429); ``retry_after_s`` says how long to wait."""


class GatewayFailure(LatensgateClientError, openai.InternalServerError):
    """The gateway, the enclave or the model failed (500 and above)."""


class AnswerInvalid(GatewayFailure):
    """The answer is not the enclave's answer to this request: it was withheld (502)."""


class AnswerTruncated(AnswerInvalid):
    """The answer ended before its end (502)."""


class EnclaveTimeout(GatewayFailure):
    """The enclave did not accept the request in time (504)."""


class Unavailable(GatewayFailure):
    """No enclave is ready, or too much is queued (503)."""


class UpstreamFailure(GatewayFailure):
    """The model provider failed (502, 503, 504)."""


_BY_CODE: Final[dict[ErrorCode, type[LatensgateClientError]]] = {
    ErrorCode.ERR_MALFORMED: MalformedAnswer,
    ErrorCode.ERR_TOO_LARGE: TooLarge,
    ErrorCode.ERR_KEY_STALE: KeyStale,
    ErrorCode.ERR_REPLAY: Replayed,
    ErrorCode.ERR_REQUEST_AGE: ClockSkewError,
    ErrorCode.ERR_ANSWER_INVALID: AnswerInvalid,
    ErrorCode.ERR_ANSWER_TRUNCATED: AnswerTruncated,
    ErrorCode.ERR_ATTESTATION_INVALID: AttestationError,
    ErrorCode.ERR_RECEIPT_INVALID: ReceiptError,
    ErrorCode.ERR_KMS_DENIED: KMSDenied,
    ErrorCode.ERR_KMS_KEY_UNFIT: KMSDenied,
    ErrorCode.ERR_KMS_ENVELOPE: KMSDenied,
    ErrorCode.ERR_PII_HARD_FAIL: PIIHardFailError,
    ErrorCode.ERR_HELD: HeldError,
    ErrorCode.ERR_HOLD_DENIED: HoldDenied,
    ErrorCode.ERR_HOLD_EXPIRED: HoldExpired,
    ErrorCode.ERR_HOLD_LOST: HoldLost,
    ErrorCode.ERR_UPSTREAM: UpstreamFailure,
    ErrorCode.ERR_UPSTREAM_TIMEOUT: UpstreamFailure,
    ErrorCode.ERR_UPSTREAM_IDENTITY: UpstreamFailure,
    ErrorCode.ERR_UPSTREAM_LOGGING: UpstreamFailure,
    ErrorCode.ERR_IDEMPOTENCY_RUNNING: StillRunning,
    ErrorCode.ERR_OUTCOME_UNKNOWN: OutcomeUnknown,
    ErrorCode.ERR_ENCLAVE_TIMEOUT: EnclaveTimeout,
    ErrorCode.ERR_ENCLAVE_UNAVAILABLE: Unavailable,
    ErrorCode.ERR_OVERLOADED: Unavailable,
}
_BY_STATUS: Final[dict[int, type[LatensgateClientError]]] = {
    400: RequestRefused,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: UnprocessableRequest,
    429: RateLimited,
}
_SERVER_FAULTS: Final = 500


def error_class(code: ErrorCode, status: int) -> type[LatensgateClientError]:
    """Return the class for a code; where the code has none of its own, for the status."""
    if code is ErrorCode.ERR_MALFORMED and status in _BY_STATUS:
        return _BY_STATUS[status]  # so that the fitting openai error catches it
    named = _BY_CODE.get(code)
    if named is not None and not (named is MalformedAnswer and status >= _SERVER_FAULTS):
        return named
    return _BY_STATUS.get(status) or (
        GatewayFailure if status >= _SERVER_FAULTS else LatensgateClientError
    )


def error_of(failure: Failure, response: httpx.Response) -> LatensgateClientError:
    """Make the error that tells a failure.

    Args:
        failure: What happened.
        response: As the OpenAI client saw it; its request must hold no plaintext.
    """
    code = failure.code
    told: dict[str, object] = {
        "message": failure.message,
        "type": code.openai_type,
        "param": failure.param,
        "code": code.openai_code,
    }
    text = f"{code.name}: {failure.message}"
    made = error_class(code, failure.status)(text, response=response, body=told)  # type: ignore[arg-type]  # httpx2 has the same class
    made.error_code, made.retryable = code, failure.retry
    made.hint, made.correlation_id = code.hint, failure.correlation_id
    made.receipt, made.retry_after_s = failure.receipt, failure.retry_after_s
    if isinstance(made, HeldError) and failure.hold is not None:
        hold = failure.hold
        made.pending_id, made.plan_digest = hold.pending_id, hold.plan_digest
        made.expires_at = datetime.fromtimestamp(hold.expires_at, UTC)
        made.counts, made.approvers = hold.counts, hold.approvers
    if isinstance(made, ClockSkewError):
        made.client_time, made.enclave_time = failure.client_time, failure.enclave_time
    return made


__all__ = [
    "AnswerInvalid",
    "AnswerTruncated",
    "AttestationError",
    "ClockSkewError",
    "ConfigurationError",
    "Conflict",
    "EnclaveTimeout",
    "Forbidden",
    "GatewayFailure",
    "HeldError",
    "HoldDenied",
    "HoldExpired",
    "HoldLost",
    "KMSDenied",
    "KeyStale",
    "LatensgateClientError",
    "MalformedAnswer",
    "NotFound",
    "OutcomeUnknown",
    "PIIHardFailError",
    "RateLimited",
    "ReceiptError",
    "Replayed",
    "RequestRefused",
    "StillRunning",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnprocessableRequest",
    "UpstreamFailure",
    "error_class",
    "error_of",
]
