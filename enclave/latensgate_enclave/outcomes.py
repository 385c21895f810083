"""How a request ended: what its receipt states, and what its caller is told."""

from __future__ import annotations

from typing import Final

from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.chat_values import RequestInvalidError
from latensgate_enclave.holding import HeldError
from latensgate_shared.error_answers import WireError
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import ERROR_MESSAGE_MAX_CHARS, RETRY_AFTER_MAX_MS

_FAILURES: Final = (600, 900)
"""Blocks of codes that are failures behind the enclave; the other blocks refuse the request."""


_THROTTLED_MS: Final = 1_000
"""Where a provider throttles and does not say for how long, as Bedrock never does in streams."""


_NAMED: Final = {ErrorCode.ERR_CANCELLED: "cancelled", ErrorCode.ERR_HELD: "held"}


def outcome_of(error: WireError | None, *, dry_run: bool = False) -> str:
    """Return the outcome class that a receipt states."""
    if error is None:
        return "dry_run" if dry_run else "answered"
    if error.code in _NAMED:
        return _NAMED[error.code]
    return "failed" if error.code.number // 100 * 100 in _FAILURES else "refused"


def wire_error(error: LatensgateError) -> WireError:
    """Return what the caller is told; it is sealed, so it may name fields of the request."""
    param = error.param if isinstance(error, RequestInvalidError) else None
    wait_ms = error.retry_after_ms if isinstance(error, UpstreamError) else None
    if wait_ms is None and error.code is ErrorCode.ERR_UPSTREAM_THROTTLED:
        wait_ms = _THROTTLED_MS
    message = error.detail[:ERROR_MESSAGE_MAX_CHARS]
    return WireError(
        error.code,
        message,
        param or None,
        wait_ms and min(wait_ms, RETRY_AFTER_MAX_MS),
        error.notice if isinstance(error, HeldError) else None,
    )
