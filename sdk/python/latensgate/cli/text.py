"""Text for terminals: safe, and in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def printable(text: str) -> str:
    """Replace what could steer a terminal: a document is written by strangers."""
    return "".join(mark if mark.isprintable() else "\ufffd" for mark in text)


def utc(moment: datetime) -> str:
    """ISO 8601 to the second, in UTC, with Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def duration(span: timedelta) -> str:
    """The two largest units: ``3 hours 5 minutes``."""
    left = int(abs(span.total_seconds()))
    parts: list[str] = []
    for size, name in _UNITS:
        count, rest = divmod(left, size)
        if count and len(parts) < 2:  # noqa: PLR2004 - two units are enough for people
            parts.append(f"{count:,} {name}{'s' if count > 1 else ''}")
            left = rest
        elif parts:
            break
    return " ".join(parts) or "less than a second"


def relative(moment: datetime, at: datetime) -> str:
    """Where a moment lies, seen from the evaluation time ``at``."""
    if int(moment.timestamp()) == int(at.timestamp()):
        return "the evaluation time itself"
    return f"{duration(at - moment)} {'before' if moment < at else 'after'} the evaluation time"


def coarse(seconds: int) -> str:
    """A receipt's minute, as in ``2026-11-14 09:23``; what is no date is shown as the number."""
    try:
        moment = datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)
    except OverflowError:
        return f"{seconds:,} s"
    return moment.strftime("%Y-%m-%d %H:%M")
