"""How a request ended: what its receipt states, and what its caller is told."""

from __future__ import annotations

from typing import Final

from latensgate_enclave.chat import RequestInvalidError
from latensgate_shared.error_answers import WireError
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import ERROR_MESSAGE_MAX_CHARS

_FAILURES: Final = (600, 900)
"""Blocks of codes that are failures behind the enclave; the other blocks refuse the request."""


def outcome_of(error: WireError | None) -> str:
    """Return the outcome class that a receipt states."""
    if error is None:
        return "answered"
    if error.code is ErrorCode.ERR_CANCELLED:
        return "cancelled"
    return "failed" if error.code.number // 100 * 100 in _FAILURES else "refused"


def wire_error(error: LatensgateError) -> WireError:
    """Return what the caller is told; it is sealed, so it may name fields of the request."""
    param = error.param if isinstance(error, RequestInvalidError) else None
    return WireError(error.code, error.detail[:ERROR_MESSAGE_MAX_CHARS], param or None)
