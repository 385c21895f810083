"""The one clock of a simulated AWS: real by default, frozen or skewed by tests."""

from __future__ import annotations

import datetime as dt
import time


class Clock:
    """UTC time that a test may stop, set or shift.

    Attributes:
        skew_s: Seconds added to the time; positive runs ahead.
    """

    __slots__ = ("_frozen_s", "skew_s")

    def __init__(self) -> None:
        self._frozen_s: float | None = None
        self.skew_s = 0.0

    def freeze(self, at: dt.datetime | None = None) -> None:
        """Stop at ``at`` (aware), or at this moment."""
        self._frozen_s = time.time() if at is None else at.timestamp()

    def run(self) -> None:
        """Follow the machine's clock again."""
        self._frozen_s = None

    def advance(self, seconds: float) -> None:
        """Move forward (backward if negative), frozen or not."""
        self.skew_s += seconds

    def seconds(self) -> float:
        """Seconds since 1970."""
        base = time.time() if self._frozen_s is None else self._frozen_s
        return base + self.skew_s

    def now(self) -> dt.datetime:
        """The same as an aware datetime, UTC."""
        return dt.datetime.fromtimestamp(self.seconds(), tz=dt.UTC)
