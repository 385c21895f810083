"""Evaluation times: arguments of the verifier, which never reads a clock."""

from __future__ import annotations

from datetime import UTC, datetime

from latensgate.verify.errors import ConfigurationError


def in_utc(at: datetime) -> datetime:
    """Return an evaluation time in UTC.

    Raises:
        ConfigurationError: No time zone, or no calendar date in UTC.
    """
    if at.utcoffset() is None:  # a tzinfo alone may have none; local time must never be guessed
        raise ConfigurationError("evaluation time: a datetime with time zone expected")
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ConfigurationError("evaluation time: not a calendar date in UTC") from None
