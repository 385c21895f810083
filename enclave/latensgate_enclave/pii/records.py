"""Numbers that name a person in somebody's files: told by the words before them, not by form."""

from __future__ import annotations

import re
from typing import Final

from latensgate_enclave.pii.findings import Category
from latensgate_enclave.pii.recognizer import Pattern, Recognizer, Span, words

_KINDS: Final = (
    r"medical record|med(?:ical)? rec|health (?:record|plan|card)|patient|chart|encounter"
    r"|case|claim|policy|policyholder|member|membership|subscriber|beneficiary|insurance|group"
    r"|employee|staff|badge|personnel|student|enrol?lment|matriculation|customer|client|applicant"
    r"|docket|court|file|bar|licen[cs]e|permit|registration|booking|ticket|reservation|order"
    r"|loyalty|frequent flyer|tax|vat|national insurance|social insurance|identity|id card"
)
_MARK: Final = r"(?i:id|no|nr|num|number|code|ref|reference)\b\.?|#"
_JOIN: Final = r"[\"'`]?\s{0,2}(?:[:=#]|(?i:is|was|as)\b)?\s{0,2}[\"'`#]?"
_VALUE: Final = r"([A-Za-z]{0,5}[-/ ]?[0-9][A-Za-z0-9]{2,15}(?:[-/.][A-Za-z0-9]{1,12}){0,3})"
_SURE: Final = 0.6
_FORM_ONLY: Final = 0.2
_MIN_DIGITS: Final = 4


def record_numbers() -> Recognizer:
    """Record, policy, employee and like numbers behind their name; MRN in any form."""
    return Recognizer(
        name="own.record",
        category=Category.RECORD_NUMBER,
        patterns=(
            Pattern(r"\b(?i:MRN)[-_ ]?#?[0-9]{4,12}\b", _SURE),
            Pattern(rf"(?:\b|_)(?i:mrn|emr|ehr|nhs no|dln|npi)\b{_JOIN}{_VALUE}", _SURE, group=1),
            Pattern(rf"(?:\b|_)(?i:{_KINDS})[ _-]?(?:{_MARK}){_JOIN}{_VALUE}", _SURE, group=1),
            Pattern(rf"\b(?i:{_KINDS})(?:\s{{0,2}}[:#]\s{{0,2}}){_VALUE}", _SURE, group=1),
            Pattern(r"\b[A-Z]{2,4}-[0-9]{5,10}\b", _FORM_ONLY),
        ),
        context=words("badge case chart claim employee file id member mrn patient policy record"),
        judge=_judge,
    )


_MISREAD: Final = "[0-9BIOSZlo]"
"""A digit, or a letter that is read for one: in 8, 1, 0, 5, 2, 1, 0."""
_MISREAD_MIN_DIGITS: Final = 6
_NOT_DIGITS: Final = re.compile("[^0-9]")
_NEVER_ISSUED: Final = re.compile(r"(?=[0-9]{9}\Z)(?:000|666|[0-9]{3}00|[0-9]{5}0000|([0-9])\1{8})")
_USUAL: Final = re.compile(r"[0-9]{3}([-. ]?)[0-9]{2}\1[0-9]{4}")
_NAME_CHARS: Final = 32
_USUAL_NAME: Final = re.compile(r"(?:ssn|security)[^A-Za-z0-9]", re.IGNORECASE)
"""Presidio's recognizer has these, by its own context words."""


def misread_ssns() -> Recognizer:
    """Social security numbers behind their name: up to three digits misread, however divided."""
    value = rf"({_MISREAD}{{3}}[-. ]?{_MISREAD}{{2}}[-. ]?{_MISREAD}{{4}})\b"
    name = (
        rf"\b(?:(?i:ssn|social[ _-]?security|soc(?:ial)?\.? ?sec\b\.?)(?:[ _-]{{0,2}}(?:{_MARK}))?"
        rf"|(?i:ss) ?(?:{_MARK}))"
    )
    spaced = r"([0-9](?: [0-9]){8})\b"
    return Recognizer(
        name="own.ssn_misread",
        category=Category.US_SSN,
        patterns=(
            Pattern(f"{name}{_JOIN}{value}", _SURE, group=1),
            Pattern(f"{name}{_JOIN}{spaced}", _SURE, group=1),
        ),
        judge=_judge_misread,
    )


def _judge_misread(view: str, match: Span) -> tuple[Span, ...]:
    text = view[match.start : match.end]
    digits = sum(character.isdigit() for character in text)
    if digits < _MISREAD_MIN_DIGITS or _NEVER_ISSUED.match(_NOT_DIGITS.sub("", text)):
        return ()
    usual = _USUAL.fullmatch(text) and _USUAL_NAME.search(
        view, max(0, match.start - _NAME_CHARS), match.start
    )
    return () if usual else (match,)


def _judge(view: str, match: Span) -> tuple[Span, ...]:
    text = view[match.start : match.end]
    if sum(character.isdigit() for character in text) < _MIN_DIGITS:
        return ()
    return (match,)
