"""The typed errors of the PII engine: codes, categories and counts, never a piece of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from collections.abc import Mapping


class PIIEngineError(LatensgateError):
    """The scan could not be completed, so nothing may be forwarded."""

    code = ErrorCode.ERR_PII_ENGINE


class PIIPatternError(PIIEngineError):
    """RE2 does not take a pattern, or gave up on a text: no pattern is ever skipped."""

    code = ErrorCode.ERR_PII_PATTERN


class PIIWorkerLostError(PIIEngineError):
    """A worker of tier 2 ended, or broke its protocol, before it answered."""

    code = ErrorCode.ERR_PII_WORKER_LOST


class PIIDeadlineError(PIIEngineError):
    """A worker of tier 2 did not answer in time; it is killed."""

    code = ErrorCode.ERR_PII_DEADLINE


class PIIMemoryError(PIIEngineError):
    """A worker of tier 2 ran out of the memory it may have."""

    code = ErrorCode.ERR_PII_MEMORY


class PIIBusyError(PIIEngineError):
    """The queue before the workers of tier 2 is full."""

    code = ErrorCode.ERR_PII_BUSY


class PIICacheError(PIIEngineError):
    """A cached finding is not what was stored; it is forgotten."""

    code = ErrorCode.ERR_PII_CACHE


class PIINoNamesError(PIIEngineError):
    """The policy acts on names, and this image carries no tier 2."""

    code = ErrorCode.ERR_PII_NO_NAMES


class PIITooLargeError(LatensgateError):
    """More text, or more findings, than one scan takes on: refused, never cut short."""

    code = ErrorCode.ERR_TOO_LARGE


class PIIHardFailError(LatensgateError):
    """Data of a category was found that the policy lets nobody forward.

    Attributes:
        counts: Findings by ``CATEGORY`` and direction, as in ``{"US_SSN": {"prompt": 2}}``.
    """

    code = ErrorCode.ERR_PII_HARD_FAIL

    def __init__(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        named = ", ".join(
            f"{category} in {direction}: {count}"
            for category, directions in sorted(counts.items())
            for direction, count in sorted(directions.items())
        )
        super().__init__(f"the policy refuses personal data that was found ({named})")
        self.counts = counts
