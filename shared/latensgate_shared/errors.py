"""The closed enumeration of errors, and the one exception family that carries it.

Only a code crosses a boundary; text never does. ``detail`` is for the person at the side that
raised: it names the input, what was expected and what was found, and never holds content of a
prompt, an answer or a secret.

Numbers stand in blocks of 100 by the part that speaks, so that a number in a log says who did.
The HTTP status and the OpenAI error type of every code stand here and nowhere else: the parent
answers with them, and the SDK, which does not believe the parent, derives them again from the
code inside the seal.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class ErrorFacts(NamedTuple):
    """What is fixed about one code.

    Attributes:
        number: Unique; block of 100 by part.
        http_status: Status of the outer answer.
        openai_type: ``error.type`` as OpenAI clients know it.
        retryable: Whether the same request may succeed later without a change.
        hint: What the caller can do, in one sentence.
    """

    number: int
    http_status: int
    openai_type: str
    retryable: bool
    hint: str


_RETRY = True
_FINAL = False
_BAD = "invalid_request_error"
_API = "api_error"
_AUTH = "authentication_error"
_PERM = "permission_error"
_RATE = "rate_limit_error"


class ErrorCode(Enum):
    """Every error that may cross a boundary of Latensgate.

    The name is what goes over the wire (``"ERR_KMS_DENIED"``); the value holds the facts.
    """

    # 100: sealed protocol and wire formats
    ERR_MALFORMED = ErrorFacts(
        100, 400, _BAD, _FINAL, "Send the format that docs/spec/wire.md describes."
    )
    ERR_TOO_LARGE = ErrorFacts(101, 413, _BAD, _FINAL, "Send less, or split the request.")
    ERR_VERSION = ErrorFacts(
        102, 400, _BAD, _FINAL, "Use a client of the protocol version that the manifest names."
    )
    ERR_KEY_STALE = ErrorFacts(
        103, 409, _API, _RETRY, "Fetch the attestation again and seal anew, once."
    )
    ERR_OPEN_FAILED = ErrorFacts(
        104,
        400,
        _BAD,
        _FINAL,
        "The seal does not open: check that nothing between you and the enclave changes the request.",
    )
    ERR_REPLAY = ErrorFacts(
        105, 409, _BAD, _FINAL, "Seal a new request; this one was already accepted."
    )
    ERR_REQUEST_AGE = ErrorFacts(
        106,
        400,
        _BAD,
        _FINAL,
        "Check your clock against the enclave time in the error and seal anew.",
    )
    ERR_PLAINTEXT_REFUSED = ErrorFacts(
        107,
        400,
        _BAD,
        _FINAL,
        "This route takes sealed requests only; use the SDK or the local proxy.",
    )
    ERR_OUTER_MISMATCH = ErrorFacts(
        108,
        400,
        _BAD,
        _FINAL,
        "The visible fields differ from the sealed ones; the request was changed on its way.",
    )
    ERR_ANSWER_INVALID = ErrorFacts(
        109,
        502,
        _API,
        _FINAL,
        "The answer is not the enclave's: do not use it, and tell your operator.",
    )
    ERR_ANSWER_TRUNCATED = ErrorFacts(
        110, 502, _API, _RETRY, "The answer ended before its final chunk; ask again."
    )

    # 200: attestation and receipts
    ERR_ATTESTATION_INVALID = ErrorFacts(
        200,
        422,
        _BAD,
        _FINAL,
        "The attestation does not match the expected enclave image; do not send data.",
    )
    ERR_ATTESTATION_UNKNOWN = ErrorFacts(
        201, 404, _BAD, _FINAL, "No document with this hash is archived here; check the hash."
    )
    ERR_RECEIPT_INVALID = ErrorFacts(
        202,
        422,
        _BAD,
        _FINAL,
        "The receipt does not verify; keep it as evidence and tell your operator.",
    )
    ERR_CONFIGURATION = ErrorFacts(
        203, 400, _BAD, _FINAL, "Name the measurements or the release list that you accept."
    )

    # 300: KMS and enclave keys
    ERR_KMS_DENIED = ErrorFacts(
        300,
        403,
        _PERM,
        _FINAL,
        "The KMS key policy rejected the attestation document; check the key policy and the measured image.",
    )
    ERR_KMS_UNREACHABLE = ErrorFacts(
        301, 503, _API, _RETRY, "KMS does not answer; retry with back-off."
    )
    ERR_KMS_KEY_UNFIT = ErrorFacts(
        302,
        403,
        _PERM,
        _FINAL,
        "The KMS key or its policy is not the one that the measured template demands.",
    )
    ERR_KMS_ENVELOPE = ErrorFacts(
        303,
        403,
        _PERM,
        _FINAL,
        "The tenant's KMS key did not release the data key to this enclave.",
    )

    # 400: the request itself
    ERR_REQUEST_INVALID = ErrorFacts(
        400, 400, _BAD, _FINAL, "Correct the field that the message names."
    )
    ERR_UNSUPPORTED = ErrorFacts(
        401,
        400,
        _BAD,
        _FINAL,
        "This model or this release does not support the field that the message names.",
    )
    ERR_MODEL_UNKNOWN = ErrorFacts(402, 404, _BAD, _FINAL, "Use a model name of GET /api/models.")
    ERR_NOT_FOUND = ErrorFacts(
        403, 404, _BAD, _FINAL, "Check the id; what belongs to another tenant looks absent."
    )
    ERR_METHOD_NOT_ALLOWED = ErrorFacts(
        404, 405, _BAD, _FINAL, "Use a method that the reference lists for this route."
    )

    # 500: PII and policy
    ERR_PII_HARD_FAIL = ErrorFacts(
        500,
        422,
        _BAD,
        _FINAL,
        "Remove data of the categories that the sealed error names, or change the tenant's policy.",
    )
    ERR_PII_ENGINE = ErrorFacts(
        501, 503, _API, _RETRY, "The scan could not be completed, so nothing was forwarded; retry."
    )
    ERR_POLICY_INVALID = ErrorFacts(
        502, 422, _BAD, _FINAL, "Correct the policy field that the message names."
    )
    ERR_SETTINGS_REFUSED = ErrorFacts(
        503,
        422,
        _BAD,
        _FINAL,
        "The tenant settings are unsigned, older than demanded or signed by another root.",
    )
    ERR_HELD = ErrorFacts(504, 202, _BAD, _FINAL, "An approver must decide; poll the pending id.")
    ERR_HOLD_LOST = ErrorFacts(
        505, 409, _API, _RETRY, "The enclave that held the request is gone; seal it anew."
    )
    ERR_HOLD_DENIED = ErrorFacts(506, 403, _PERM, _FINAL, "An approver denied the request.")
    ERR_HOLD_EXPIRED = ErrorFacts(
        507, 409, _BAD, _FINAL, "Nobody decided in time; ask anew, and tell an approver."
    )
    ERR_APPROVAL_REFUSED = ErrorFacts(
        508, 403, _PERM, _FINAL, "Let an approver of the tenant's settings decide on this plan."
    )
    ERR_PII_WORKER_LOST = ErrorFacts(
        510, 503, _API, _RETRY, "The process that looks for names ended during the scan; retry."
    )
    ERR_PII_DEADLINE = ErrorFacts(
        511, 503, _API, _RETRY, "The scan for names did not end in time; retry, or send less text."
    )
    ERR_PII_MEMORY = ErrorFacts(
        512, 503, _API, _RETRY, "The scan for names ran out of memory; retry, or send less text."
    )
    ERR_PII_BUSY = ErrorFacts(
        513, 503, _API, _RETRY, "Too many scans for names wait already; retry after a moment."
    )
    ERR_PII_CACHE = ErrorFacts(
        514, 503, _API, _RETRY, "Stored findings were not as they were stored; retry scans anew."
    )
    ERR_PII_PATTERN = ErrorFacts(
        515, 422, _BAD, _FINAL, "RE2 refuses a pattern, or could not finish with it; simplify it."
    )
    ERR_PII_NO_NAMES = ErrorFacts(
        516, 422, _BAD, _FINAL, "The policy acts on names; use an image of the ner flavour."
    )

    # 600: upstream
    ERR_UPSTREAM = ErrorFacts(
        600, 502, _API, _RETRY, "The model provider failed; retry with back-off."
    )
    ERR_UPSTREAM_THROTTLED = ErrorFacts(
        601,
        429,
        _RATE,
        _RETRY,
        "The model provider is throttling; wait as long as Retry-After says.",
    )
    ERR_UPSTREAM_TIMEOUT = ErrorFacts(
        602, 504, _API, _RETRY, "The model did not answer in time; retry or ask for less."
    )
    ERR_UPSTREAM_REFUSED = ErrorFacts(
        603,
        400,
        _BAD,
        _FINAL,
        "The model provider refused the request; correct what the sealed error names.",
    )
    ERR_UPSTREAM_IDENTITY = ErrorFacts(
        604,
        503,
        _API,
        _FINAL,
        "The credentials are not of the measured account, or the check is too old.",
    )
    ERR_UPSTREAM_LOGGING = ErrorFacts(
        605,
        503,
        _API,
        _FINAL,
        "Model invocation logging is on in the upstream account, and policy refuses that.",
    )
    ERR_UPSTREAM_CREDENTIAL = ErrorFacts(
        606,
        503,
        _API,
        _RETRY,
        "This enclave holds no credential for the model's upstream; the operator delivers it with `latensgate upstream-credential push`.",
    )
    ERR_UPSTREAM_UNAVAILABLE = ErrorFacts(
        607,
        503,
        _API,
        _RETRY,
        "The upstream failed again and again and is left alone; wait as long as Retry-After says.",
    )

    ERR_CONTEXT_LENGTH = ErrorFacts(
        608, 400, _BAD, _FINAL, "The conversation is longer than this model takes; send less of it."
    )
    ERR_UPSTREAM_QUOTA = ErrorFacts(
        609, 429, _RATE, _FINAL, "The provider's quota is used up; the operator can raise it."
    )
    ERR_UPSTREAM_DENIED = ErrorFacts(
        610, 403, _PERM, _FINAL, "The upstream account has no access to this model."
    )

    # 700: authentication, limits, idempotency (the parent)
    ERR_UNAUTHENTICATED = ErrorFacts(
        700, 401, _AUTH, _FINAL, "Send Authorization: Bearer with a valid API key."
    )
    ERR_FORBIDDEN = ErrorFacts(
        701, 403, _PERM, _FINAL, "Use a key that has the scope that the message names."
    )
    ERR_RATE_LIMITED = ErrorFacts(702, 429, _RATE, _RETRY, "Wait as long as Retry-After says.")
    ERR_IDEMPOTENCY_MISMATCH = ErrorFacts(
        703, 422, _BAD, _FINAL, "This Idempotency-Key was used with other bytes; use a new key."
    )
    ERR_IDEMPOTENCY_RUNNING = ErrorFacts(
        704, 409, _BAD, _RETRY, "The first request with this Idempotency-Key still runs; wait."
    )
    ERR_OUTCOME_UNKNOWN = ErrorFacts(
        705, 409, _API, _FINAL, "The request may have run; it is never run twice under this key."
    )

    # 800: transport between parent and enclave, overload
    ERR_ENCLAVE_TIMEOUT = ErrorFacts(
        800,
        504,
        _API,
        _RETRY,
        "The enclave did not accept the request within 5000 ms; retry with back-off.",
    )
    ERR_ENCLAVE_UNAVAILABLE = ErrorFacts(
        801, 503, _API, _RETRY, "No enclave is ready; retry as Retry-After says."
    )
    ERR_OVERLOADED = ErrorFacts(
        802, 503, _API, _RETRY, "Too much is queued; retry as Retry-After says."
    )
    ERR_CANCELLED = ErrorFacts(803, 499, _API, _FINAL, "The caller went away.")
    ERR_STORE_UNAVAILABLE = ErrorFacts(
        804,
        503,
        _API,
        _RETRY,
        "The receipt could not be made durable, so no answer was released; retry.",
    )

    # 900: everything that should not happen
    ERR_INTERNAL = ErrorFacts(900, 500, _API, _RETRY, "Quote the correlation id to your operator.")

    @property
    def number(self) -> int:
        """Unique number; the hundreds name the part."""
        return self.value.number

    @property
    def http_status(self) -> int:
        """HTTP status of the outer answer."""
        return self.value.http_status

    @property
    def openai_type(self) -> str:
        """``error.type`` as OpenAI clients know it."""
        return self.value.openai_type

    @property
    def openai_code(self) -> str:
        """``error.code`` in what OpenAI clients are shown: theirs where they have one."""
        return _OPENAI_CODES.get(self.name, self.name)

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later without a change."""
        return self.value.retryable

    @property
    def hint(self) -> str:
        """What the caller can do, in one sentence."""
        return self.value.hint


_OPENAI_CODES = {
    "ERR_CONTEXT_LENGTH": "context_length_exceeded",
    "ERR_MODEL_UNKNOWN": "model_not_found",
    "ERR_RATE_LIMITED": "rate_limit_exceeded",
    "ERR_UPSTREAM_QUOTA": "insufficient_quota",
    "ERR_UPSTREAM_THROTTLED": "rate_limit_exceeded",
}
"""Programs look for these names; between gateway, enclave and SDK only our own ones pass."""


class LatensgateError(Exception):
    """Base of every error that Latensgate raises on purpose.

    Attributes:
        code: What may cross a boundary.
        detail: For the person on this side; never content, never a secret.
    """

    code: ErrorCode = ErrorCode.ERR_INTERNAL

    def __init__(self, detail: str, *, code: ErrorCode | None = None) -> None:
        super().__init__(detail)
        if code is not None:
            self.code = code
        self.detail = detail


class MalformedError(LatensgateError):
    """Bytes that are not what a specification of ours says they are."""

    code = ErrorCode.ERR_MALFORMED


class TooLargeError(MalformedError):
    """A length above its limit in ``limits``."""

    code = ErrorCode.ERR_TOO_LARGE
