"""What a scan finds: a closed set of categories, and spans in the caller's own text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from latensgate_shared.pii_names import NAME_CATEGORIES, OF_POLICIES, UNSEEN, Category

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "ALL_CATEGORIES",
    "CERTAIN",
    "NAME_CATEGORIES",
    "Category",
    "Finding",
    "by_position",
    "merge",
    "without_explained",
]

ALL_CATEGORIES: Final = frozenset(Category) - OF_POLICIES - UNSEEN
"""All that an engine can find."""
CERTAIN: Final = 1.0
"""Score of a finding whose check digits are right, and of nothing else."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        category: What it is taken for.
        start: First code point, counted in the text that was given to the scan.
        end: Code point after the last.
        score: Confidence, 0 to 1.
        recognizer: Name of the recognizer, for explanations.
    """

    category: Category
    start: int
    end: int
    score: float
    recognizer: str


def merge(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Join findings of one category that overlap; the order is by start, then end, then name.

    The joined one spans them all and keeps the best score and its recognizer. One sweep over the
    sorted list: n log n, however dense the text.
    """
    joined: list[Finding] = []
    last_of: dict[Category, int] = {}
    for finding in sorted(findings, key=by_position):
        index = last_of.get(finding.category)
        if index is not None and finding.start < joined[index].end:
            joined[index] = _joined(joined[index], finding)
        else:
            last_of[finding.category] = len(joined)
            joined.append(finding)
    return tuple(sorted(joined, key=by_position))


def without_explained(
    findings: Iterable[Finding], rank: Callable[[Finding], int]
) -> tuple[Finding, ...]:
    """Drop what lies inside a certain finding that is treated at least as strictly.

    The digits of a payment card can look like a telephone number; once the check digit says card,
    the weaker reading only miscounts. But it must stay where it asks for a stricter action: a
    check digit is right by chance one time in ten. For the same reason what is certain itself goes
    where it is a part of something longer: the groups of an IBAN can read as a card.

    Args:
        findings: As ``merge`` returns them.
        rank: How strictly a finding is treated; more is stricter.
    """
    kept: list[Finding] = []
    reach: dict[int, tuple[int, int]] = {}  # rank → the certain finding of it that ends last
    for finding in sorted(findings, key=_certain_first):
        strictness = rank(finding)
        if any(_is_part(finding, *held) for level, held in reach.items() if level >= strictness):
            continue
        if finding.score >= CERTAIN and finding.end > reach.get(strictness, (0, 0))[1]:
            reach[strictness] = finding.start, finding.end
        kept.append(finding)
    return tuple(sorted(kept, key=by_position))


def by_position(finding: Finding) -> tuple[int, int, str]:
    """Order findings by start, then end, then name."""
    return finding.start, finding.end, finding.category.value


def _is_part(finding: Finding, start: int, end: int) -> bool:
    """Whether it lies in a certain finding, and is less than all of it if it is certain, too."""
    whole = finding.score >= CERTAIN and (finding.start, finding.end) == (start, end)
    return finding.end <= end and not whole


def _certain_first(finding: Finding) -> tuple[int, bool, int]:
    return finding.start, finding.score < CERTAIN, -finding.end


def _joined(first: Finding, second: Finding) -> Finding:
    best = second if second.score > first.score else first
    end = max(first.end, second.end)
    return Finding(first.category, first.start, end, best.score, best.recognizer)
