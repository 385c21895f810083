"""Recognizers whose patterns, context words and check digits are Presidio's own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from latensgate_enclave.pii.findings import CERTAIN, Category
from latensgate_enclave.pii.lookalikes import unless_counted, unless_part_of_another
from latensgate_enclave.pii.recognizer import Pattern, Recognizer, Span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latensgate_enclave.pii.presidio import PresidioRecognizer
    from latensgate_enclave.pii.recognizer import Judge

_BORROWED: Final = {
    "UsSsnRecognizer": Category.US_SSN,
    "UsItinRecognizer": Category.US_ITIN,
    "UsPassportRecognizer": Category.US_PASSPORT,
    "UsBankRecognizer": Category.US_BANK_NUMBER,
    "NhsRecognizer": Category.UK_NHS,
    "MedicalLicenseRecognizer": Category.MEDICAL_LICENSE,
    "CryptoRecognizer": Category.CRYPTO,
    "IpRecognizer": Category.IP_ADDRESS,
    "MacAddressRecognizer": Category.MAC_ADDRESS,
    "UuidRecognizer": Category.UUID,
    "DateRecognizer": Category.DATE_TIME,
}
_NOT_RE2: Final = re.compile(r"\(\?<?[!=]|\\1")
"""Look-around and back-references: what RE2 leaves out. Those patterns have own ones in ``own``."""
_ANY_CASE: Final = "(?i)"
"""Presidio matches without regard to case; its other two flags change none of these patterns."""


def borrowed(loaded: dict[str, PresidioRecognizer]) -> tuple[Recognizer, ...]:
    """Make recognizers of Presidio's, as far as RE2 takes their patterns."""
    return tuple(
        Recognizer(
            name=f"presidio.{name}",
            category=category,
            patterns=_patterns(loaded[name]),
            context=_context(loaded[name].context),
            judge=_judge(loaded[name], category),
        )
        for name, category in _BORROWED.items()
    )


def _judge(recognizer: PresidioRecognizer, category: Category) -> Judge:
    judge = judged_by(recognizer, _BY_CHANCE if category is Category.UK_NHS else CERTAIN)
    if category is Category.IP_ADDRESS:
        return unless_counted(judge)
    return unless_part_of_another(judge) if category in _US_NUMBERS else judge


_US_NUMBERS: Final = frozenset({Category.US_SSN, Category.US_ITIN})


def _patterns(recognizer: PresidioRecognizer) -> tuple[Pattern, ...]:
    return tuple(
        Pattern(_ANY_CASE + pattern.regex, pattern.score)
        for pattern in recognizer.patterns
        if _NOT_RE2.search(pattern.regex) is None
    )


def _context(words: Iterable[str]) -> frozenset[str]:
    # One word each: Presidio compares word by word too, so "mac address" never matched as one.
    return frozenset(word for phrase in words for word in re.findall("[a-z0-9]+", phrase.lower()))


_BY_CHANCE: Final = 0.8
"""One in eleven numbers of ten digits has the check digit of an NHS number, telephones too: such a
finding must not stand in the way of others."""


def judged_by(recognizer: PresidioRecognizer, valid_score: float = CERTAIN) -> Judge:
    """Return a judge that asks Presidio's validator: right check digits are certain."""

    def judge(view: str, match: Span) -> tuple[Span, ...]:
        text = view[match.start : match.end]
        valid = recognizer.validate_result(text)
        if valid is False or recognizer.invalidate_result(text):
            return ()
        return (Span(match.start, match.end, valid_score) if valid else match,)

    return judge
