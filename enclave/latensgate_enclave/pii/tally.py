"""Counts of what was found and acted on, and what one request may make the engine do."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

from latensgate_enclave.pii.errors import PIIHardFailError, PIITooLargeError
from latensgate_enclave.values import Value
from latensgate_shared.limits import PII_FINDINGS_MAX_COUNT, PII_REQUEST_MAX_CHARS
from latensgate_shared.pii_names import Action

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from latensgate_enclave.pii.replacing import Acted
    from latensgate_shared.pii_names import Direction


class Verdict(Value, frozen=True):
    """What was found and acted on, as numbers only.

    Attributes:
        counts: Findings by category name and direction name, as receipts carry them.
    """

    counts: Mapping[str, Mapping[str, int]]

    @property
    def detected(self) -> bool:
        """Whether anything was found that the policy acts on, if only to flag it."""
        return bool(self.counts)


_Cells: TypeAlias = "defaultdict[tuple[str, str], int]"
"""Counts by category and direction; made in C, as `Counter` is not."""


class Tally:
    """Counts of what was acted on, and of what refuses the whole."""

    __slots__ = ("_acted", "_refused")

    def __init__(self) -> None:
        self._acted: _Cells = defaultdict(int)
        self._refused: _Cells = defaultdict(int)

    def add(self, acted: Iterable[Acted], direction: Direction) -> None:
        """Count findings of one direction."""
        for finding, action in acted:
            cell = finding.category.value, direction.value
            self._acted[cell] += 1
            if action is Action.FAIL:
                self._refused[cell] += 1

    def take(self, verdict: Verdict) -> None:
        """Add what was counted elsewhere."""
        for category, directions in verdict.counts.items():
            for direction, count in directions.items():
                self._acted[category, direction] += count

    def counts(self) -> dict[str, dict[str, int]]:
        """Return what was counted so far, also where it refuses."""
        return _nested(self._acted)

    def refused(self) -> dict[str, dict[str, int]]:
        """Return what refuses the whole, counted; empty where nothing does."""
        return _nested(self._refused)

    def verdict(self) -> Verdict:
        """Return the counts.

        Raises:
            PIIHardFailError: Something was found that the policy refuses.
        """
        if self._refused:
            raise PIIHardFailError(_nested(self._refused))
        return Verdict(_nested(self._acted))


def _nested(counts: _Cells) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (category, direction), count in sorted(counts.items()):
        nested.setdefault(category, {})[direction] = count
    return nested


class Budget:
    """What one request, or one answer, may make the engine do, over all its texts."""

    __slots__ = ("_chars_left", "_findings_left")

    def __init__(
        self,
        *,
        max_chars: int = PII_REQUEST_MAX_CHARS,
        max_findings: int = PII_FINDINGS_MAX_COUNT,
    ) -> None:
        self._chars_left = max_chars
        self._findings_left = max_findings

    def spend_chars(self, count: int) -> None:
        """Take code points off.

        Raises:
            PIITooLargeError: Not so many are left.
        """
        self._chars_left -= count
        if self._chars_left < 0:
            raise PIITooLargeError("the texts of the request are longer than one scan takes on")

    def spend_findings(self, count: int) -> None:
        """Take findings off.

        Raises:
            PIITooLargeError: Not so many are left.
        """
        self._findings_left -= count
        if self._findings_left < 0:
            raise PIITooLargeError("the texts of the request hold more findings than one scan may")
