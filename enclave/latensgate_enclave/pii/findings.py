"""What a scan finds: a closed set of categories, and spans in the caller's own text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Category(Enum):
    """Every category that a policy can name. Names are Presidio's where it has one."""

    EMAIL_ADDRESS = "EMAIL_ADDRESS"
    PHONE_NUMBER = "PHONE_NUMBER"
    CREDIT_CARD = "CREDIT_CARD"
    IBAN_CODE = "IBAN_CODE"
    US_SSN = "US_SSN"
    US_ITIN = "US_ITIN"
    US_PASSPORT = "US_PASSPORT"
    US_BANK_NUMBER = "US_BANK_NUMBER"
    UK_NHS = "UK_NHS"
    MEDICAL_LICENSE = "MEDICAL_LICENSE"
    CRYPTO = "CRYPTO"
    IP_ADDRESS = "IP_ADDRESS"
    MAC_ADDRESS = "MAC_ADDRESS"
    UUID = "UUID"
    URL = "URL"
    DATE_TIME = "DATE_TIME"
    API_KEY = "API_KEY"
    PRIVATE_KEY = "PRIVATE_KEY"
    PASSWORD = "PASSWORD"  # noqa: S105 - the name of a category


ALL_CATEGORIES: Final = frozenset(Category)

CERTAIN: Final = 1.0
"""Score of a finding whose check digits are right."""


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


def merge(findings: list[Finding]) -> tuple[Finding, ...]:
    """Join findings of one category that overlap; the order is by start, then end, then name.

    The joined finding spans all of them and keeps the best score and its recognizer. One sweep
    over the sorted list: n log n, however dense the text.
    """
    open_by_category: dict[Category, Finding] = {}
    done: list[Finding] = []
    for finding in sorted(findings, key=_by_position):
        last = open_by_category.get(finding.category)
        if last is None or finding.start >= last.end:
            if last is not None:
                done.append(last)
            open_by_category[finding.category] = finding
        else:
            open_by_category[finding.category] = _joined(last, finding)
    done.extend(open_by_category.values())
    return tuple(sorted(done, key=_by_position))


def _by_position(finding: Finding) -> tuple[int, int, str]:
    return finding.start, finding.end, finding.category.value


def _joined(first: Finding, second: Finding) -> Finding:
    best = second if second.score > first.score else first
    end = max(first.end, second.end)
    if best is first and end == first.end:
        return first
    return Finding(first.category, first.start, end, best.score, best.recognizer)
