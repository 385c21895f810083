"""Which place is asked next, and after what pause: no I/O, no clock, entropy from outside.

A call is repeated only where it certainly has not run. The next attempt goes at once to the next
place of the list that has not failed lately, and otherwise waits: twice as long after each failure
of a place, half of it random, and never less than the upstream asked for. Where the pause does not
fit into what is left of the call's time, the failure is told instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from latensgate_enclave.values import Value
from latensgate_shared.limits import (
    UPSTREAM_ATTEMPTS_MAX_COUNT,
    UPSTREAM_BACKOFF_MAX_MS,
    UPSTREAM_BACKOFF_MIN_MS,
    UPSTREAM_RETRY_AFTER_MAX_MS,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from latensgate_enclave.environment import Entropy

_JITTER_BYTES: Final = 2
_JITTER_RANGE: Final = 1 << (8 * _JITTER_BYTES)


def backoff_ms(failures: int, entropy: Entropy) -> int:
    """Return a pause that doubles with each failure up to a bound; half of it is random.

    Args:
        failures: How many there were, at least one.
        entropy: Random bytes.
    """
    longest = min(UPSTREAM_BACKOFF_MIN_MS << min(failures - 1, 32), UPSTREAM_BACKOFF_MAX_MS)
    random = int.from_bytes(entropy(_JITTER_BYTES), "big")
    return longest // 2 + longest * random // (2 * _JITTER_RANGE)


_WHOLE: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_MS_PER_S: Final = 1_000


def retry_after_ms(headers: Mapping[str, str]) -> int | None:
    """Return how long an answer asks to be left alone; dates are not read, since no API sends them.

    Args:
        headers: By lower-case name.
    """
    for name, unit_ms in (("retry-after-ms", 1), ("retry-after", _MS_PER_S)):
        value = headers.get(name, "")
        if _WHOLE.fullmatch(value):
            return min(int(value) * unit_ms, UPSTREAM_RETRY_AFTER_MAX_MS)
    return None


class Attempt(Value, frozen=True):
    """What to do next.

    Attributes:
        place: Whom to ask.
        pause_ms: To wait before.
    """

    place: str
    pause_ms: int


@dataclass(slots=True)
class _Place:
    name: str
    failures: int = 0
    not_before_ms: int = 0


class Plan:
    """The attempts of one call.

    Args:
        places: In the order of preference, at least one, none twice.
        ends_at_ms: When the call's time is over.
        entropy: For jitter.
    """

    __slots__ = ("_attempts", "_ends_at_ms", "_entropy", "_places")

    def __init__(self, places: Sequence[str], ends_at_ms: int, entropy: Entropy) -> None:
        self._places = [_Place(name) for name in places]
        self._ends_at_ms = ends_at_ms
        self._entropy = entropy
        self._attempts = 0

    def next(self, now_ms: int, is_open: Callable[[str], bool]) -> Attempt | None:
        """Return the next attempt, or None: the failure that there was is the answer.

        Args:
            now_ms: Of the clock that `ends_at_ms` is of.
            is_open: Whether a place may be asked at all.
        """
        if self._attempts >= UPSTREAM_ATTEMPTS_MAX_COUNT:
            return None
        able = [place for place in self._places if is_open(place.name)]
        if not able:
            return None
        place = min(able, key=lambda each: max(each.not_before_ms, now_ms))  # first of equals
        pause_ms = max(place.not_before_ms - now_ms, 0)
        if now_ms + pause_ms >= self._ends_at_ms:
            return None
        self._attempts += 1
        return Attempt(place.name, pause_ms)

    def failed(self, name: str, now_ms: int, retry_after_ms: int | None) -> None:
        """Note that a place did not run the call.

        Args:
            name: Which place.
            now_ms: When.
            retry_after_ms: How long it asked to be left alone, if it did.
        """
        place = next(each for each in self._places if each.name == name)
        place.failures += 1
        asked_ms = min(retry_after_ms or 0, UPSTREAM_RETRY_AFTER_MAX_MS)
        place.not_before_ms = now_ms + max(backoff_ms(place.failures, self._entropy), asked_ms)
