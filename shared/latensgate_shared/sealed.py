"""The sealed protocol, version 1, without I/O: import from here.

Requests are in ``sealed_request``, answers in ``sealed_answer``, framing in ``chunks``. What the
plaintexts hold is the business of ``messages``.
"""

from __future__ import annotations

from latensgate_shared.chunks import padme
from latensgate_shared.sealed_answer import (
    AnswerInvalidError,
    AnswerOpener,
    AnswerSealer,
    AnswerSecret,
    AnswerStateError,
    AnswerTruncatedError,
    OpenedAnswer,
    open_answer,
)
from latensgate_shared.sealed_request import (
    SUITE_X25519,
    SUITE_XWING,
    KeyStaleError,
    OpenedRequest,
    OpenFailedError,
    OpeningKey,
    ProtocolVersionError,
    SealedRequest,
    SealingKey,
    find_suite,
    key_id,
    open_request,
    reopen_request,
    request_hash,
    seal_request,
)

__all__ = [
    "SUITE_X25519",
    "SUITE_XWING",
    "AnswerInvalidError",
    "AnswerOpener",
    "AnswerSealer",
    "AnswerSecret",
    "AnswerStateError",
    "AnswerTruncatedError",
    "KeyStaleError",
    "OpenFailedError",
    "OpenedAnswer",
    "OpenedRequest",
    "OpeningKey",
    "ProtocolVersionError",
    "SealedRequest",
    "SealingKey",
    "find_suite",
    "key_id",
    "open_answer",
    "open_request",
    "padme",
    "reopen_request",
    "request_hash",
    "seal_request",
]
