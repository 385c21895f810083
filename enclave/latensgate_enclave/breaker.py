"""A circuit breaker: leaves an upstream alone that fails again and again. No I/O, no clock.

Closed, it lets every call pass and counts failures in a row. Open, it lets none pass for a pause
that doubles each time. After the pause one call, the probe, finds out whether the upstream is back.
Times are milliseconds of any clock that never runs backwards.
"""

from __future__ import annotations

from latensgate_enclave.values import Value
from latensgate_shared.limits import (
    BREAKER_FAILURES_COUNT,
    BREAKER_OPEN_MAX_MS,
    BREAKER_OPEN_MIN_MS,
)


class Permit(Value, frozen=True):
    """One call may pass. Whoever holds it reports how the call went, once.

    Attributes:
        is_probe: Whether it is the one call that tries an open breaker.
    """

    is_probe: bool


class Breaker:
    """Of one upstream in one place."""

    __slots__ = ("_failures", "_opened", "_probing", "_until_ms")

    def __init__(self) -> None:
        self._failures = 0  # in a row, while closed
        self._opened = 0  # how often in a row; 0 is closed
        self._probing = False
        self._until_ms = 0

    def wait_ms(self, now_ms: int) -> int:
        """Return how long no call will pass; 0 if one may pass now."""
        if not self._opened:
            return 0
        if self._probing:
            return BREAKER_OPEN_MIN_MS
        return max(self._until_ms - now_ms, 0)

    def admit(self, now_ms: int) -> Permit | None:
        """Let a call pass, or return None."""
        if self.wait_ms(now_ms):
            return None
        self._probing = bool(self._opened)
        return Permit(self._probing)

    def succeeded(self, permit: Permit) -> None:
        """The upstream answered, whatever it answered."""
        if permit.is_probe or not self._opened:
            self._failures = self._opened = 0
            self._probing = False

    def failed(self, permit: Permit, now_ms: int) -> None:
        """It did not answer, or answered that it cannot."""
        if permit.is_probe:
            self._open(now_ms)
        elif not self._opened:  # a call from before it opened says nothing new
            self._failures += 1
            if self._failures >= BREAKER_FAILURES_COUNT:
                self._open(now_ms)

    def abandoned(self, permit: Permit) -> None:
        """Nobody knows how the call went: its caller went away. Another one may be the probe."""
        if permit.is_probe:
            self._probing = False

    def _open(self, now_ms: int) -> None:
        pause_ms = min(BREAKER_OPEN_MIN_MS << min(self._opened, 32), BREAKER_OPEN_MAX_MS)
        self._until_ms = now_ms + pause_ms
        self._opened += 1
        self._failures = 0
        self._probing = False
