"""What of a request's findings asks for an approver, counted while its texts are scanned.

All that was found is looked at, before findings that overlap are settled: what another finding
explains is not masked twice, but an approver is still asked.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from latensgate_shared.pii_policy import NO_OPINION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latensgate_enclave.pii.apply import TextPart
    from latensgate_enclave.pii.findings import Finding
    from latensgate_enclave.pii.replacing import Acted
    from latensgate_shared.pii_policy import Policy


class HeldTally:
    """Counts by category and direction; a witness of a scan (`apply.Witness`)."""

    __slots__ = ("_counts", "_policy")

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._counts: Counter[tuple[str, str]] = Counter()

    def __call__(self, part: TextPart, found: Iterable[Finding], acted: tuple[Acted, ...]) -> None:
        """Take what was found in one text, and what lies across its borders."""
        direction = part.direction
        seen = list(found)
        for each in seen:
            value = part.text[each.start : each.end]
            rule = self._policy.acting_on(direction, value).get(each.category, NO_OPINION)
            self._counts[each.category.value, direction.value] += rule.hold and rule.acts_on(
                each.score
            )
        rules = self._policy.acting(direction)
        for finding, _ in acted:
            if finding not in seen:  # a piece of what no text holds alone
                rule = rules.get(finding.category, NO_OPINION)
                self._counts[finding.category.value, direction.value] += rule.hold

    def counts(self) -> dict[str, dict[str, int]]:
        """Return what was counted; empty where nobody need be asked."""
        nested: dict[str, dict[str, int]] = {}
        for (category, direction), count in sorted(self._counts.items()):
            if count:
                nested.setdefault(category, {})[direction] = count
        return nested
