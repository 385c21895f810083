"""Times as the parent reads and writes them: seconds since 1970, and RFC 3339 in UTC."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeAlias

Clock: TypeAlias = Callable[[], float]
"""Seconds since 1970, or from any start where a duration is measured."""

_FORM: Final = "%Y-%m-%dT%H:%M:%SZ"
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)


def to_rfc3339(at_s: float) -> str:
    """Return a moment in UTC, rounded down to the second, as in ``2026-11-14T09:23:41Z``."""
    return datetime.fromtimestamp(at_s // 1, UTC).strftime(_FORM)


def optional_rfc3339(at_s: int | None) -> str | None:
    """Return ``to_rfc3339`` of a moment, None of none."""
    return None if at_s is None else to_rfc3339(at_s)


def from_rfc3339(text: str) -> int:
    """Return seconds since 1970.

    Raises:
        ValueError: Not RFC 3339 in UTC with whole seconds and ``Z``, or no real moment since 1970.
    """
    if _TIME.fullmatch(text) is None:
        raise ValueError("RFC 3339 in UTC with whole seconds and Z expected")
    at_s = int(datetime.strptime(text, _FORM).replace(tzinfo=UTC).timestamp())
    if at_s < 0:
        raise ValueError("a moment since 1970 expected")
    return at_s
