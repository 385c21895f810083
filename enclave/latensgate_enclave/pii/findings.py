"""What a scan finds: a closed set of categories, and spans in the caller's own text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Category(Enum):
    """Every category that a policy can name. Names are Presidio's where it has one.

    ``…_INVALID`` has the form and the issuer or country of its namesake, and wrong check digits: a
    typing error more often than not, so a policy may want to mask it and not to refuse it.
    """

    EMAIL_ADDRESS = "EMAIL_ADDRESS"
    PHONE_NUMBER = "PHONE_NUMBER"
    CREDIT_CARD = "CREDIT_CARD"
    CREDIT_CARD_INVALID = "CREDIT_CARD_INVALID"
    IBAN_CODE = "IBAN_CODE"
    IBAN_CODE_INVALID = "IBAN_CODE_INVALID"
    US_SSN = "US_SSN"
    US_ITIN = "US_ITIN"
    US_PASSPORT = "US_PASSPORT"
    US_BANK_NUMBER = "US_BANK_NUMBER"
    UK_NHS = "UK_NHS"
    MEDICAL_LICENSE = "MEDICAL_LICENSE"
    RECORD_NUMBER = "RECORD_NUMBER"
    STREET_ADDRESS = "STREET_ADDRESS"
    CRYPTO = "CRYPTO"
    IP_ADDRESS = "IP_ADDRESS"
    MAC_ADDRESS = "MAC_ADDRESS"
    UUID = "UUID"
    URL = "URL"
    DATE_TIME = "DATE_TIME"
    API_KEY = "API_KEY"
    PRIVATE_KEY = "PRIVATE_KEY"
    PASSWORD = "PASSWORD"  # noqa: S105 - the name of a category
    PERSON = "PERSON"
    LOCATION = "LOCATION"
    ORGANIZATION = "ORGANIZATION"
    NRP = "NRP"


ALL_CATEGORIES: Final = frozenset(Category)
NAME_CATEGORIES: Final = frozenset(
    {Category.PERSON, Category.LOCATION, Category.ORGANIZATION, Category.NRP}
)
"""Found by tier 2 alone. A policy has to name them: they need the ``ner`` flavour of the image."""

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
    findings: Iterable[Finding], rank: Callable[[Category], int]
) -> tuple[Finding, ...]:
    """Drop what lies inside a certain finding that is treated at least as strictly.

    The digits of a payment card can look like a telephone number; once the check digit says card,
    the weaker reading only miscounts. But it must stay where it asks for a stricter action: a
    check digit is right by chance one time in ten.

    Args:
        findings: As ``merge`` returns them.
        rank: How strictly a category is treated; more is stricter.
    """
    kept: list[Finding] = []
    reach: dict[int, int] = {}  # rank → end of the certain findings of at least that rank
    for finding in sorted(findings, key=_certain_first):
        strictness = rank(finding.category)
        if finding.score < CERTAIN and any(
            finding.end <= end for level, end in reach.items() if level >= strictness
        ):
            continue
        if finding.score >= CERTAIN:
            reach[strictness] = max(finding.end, reach.get(strictness, 0))
        kept.append(finding)
    return tuple(sorted(kept, key=by_position))


def by_position(finding: Finding) -> tuple[int, int, str]:
    """Order findings by start, then end, then name."""
    return finding.start, finding.end, finding.category.value


def _certain_first(finding: Finding) -> tuple[int, bool]:
    return finding.start, finding.score < CERTAIN


def _joined(first: Finding, second: Finding) -> Finding:
    best = second if second.score > first.score else first
    end = max(first.end, second.end)
    return Finding(first.category, first.start, end, best.score, best.recognizer)
