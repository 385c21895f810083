"""Numbers with check digits: payment cards and IBANs, found in any grouping."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

from latensgate_enclave.pii.findings import CERTAIN, Category
from latensgate_enclave.pii.recognizer import Pattern, Recognizer, Span, words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from latensgate_enclave.pii.presidio import PresidioRecognizer
    from latensgate_enclave.pii.recognizer import Judge

CARD_MIN_DIGITS: Final = 12
CARD_MAX_DIGITS: Final = 19
"""ISO/IEC 7812-1: at most 19; Maestro starts at 12."""
_UNKNOWN_ISSUER: Final = 0.3
_GROUP: Final = re.compile("[0-9]+")
_CARD_CONTEXT: Final = words(
    "amex card cc credit debit diners discover jcb maestro mastercard payment visa"
)


class _Issuer(NamedTuple):
    first: int
    last: int
    lengths: range


_ISSUERS: Final = (  # ranges of leading digits, and how long the whole number may be
    _Issuer(4, 4, range(13, 20, 3)),  # Visa: 13, 16, 19
    _Issuer(51, 55, range(16, 17)),  # Mastercard
    _Issuer(2221, 2720, range(16, 17)),  # Mastercard, series 2
    _Issuer(34, 34, range(15, 16)),  # American Express
    _Issuer(37, 37, range(15, 16)),  # American Express
    _Issuer(300, 305, range(14, 20)),  # Diners Club
    _Issuer(36, 36, range(14, 20)),  # Diners Club
    _Issuer(38, 39, range(14, 20)),  # Diners Club
    _Issuer(35, 35, range(16, 20)),  # JCB; it has 3528 to 3589, and nobody has the others
    _Issuer(1800, 1800, range(15, 16)),  # JCB, old
    _Issuer(2131, 2131, range(15, 16)),  # JCB, old
    _Issuer(2200, 2204, range(16, 20)),  # Mir
    _Issuer(50, 50, range(12, 20)),  # Maestro
    _Issuer(56, 58, range(12, 20)),  # Maestro
    _Issuer(60, 69, range(12, 20)),  # Discover, UnionPay, RuPay, Maestro
    _Issuer(81, 82, range(16, 20)),  # RuPay, UnionPay
)
_LENGTHS_BY_PREFIX: Final = {
    prefix: issuer.lengths for issuer in _ISSUERS for prefix in range(issuer.first, issuer.last + 1)
}
_OLD_MAESTRO: Final = "0604"
_OLD_MAESTRO_LENGTHS: Final = range(12, 20)
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""A digit doubled, its digits added (ISO/IEC 7812-1, annex B)."""


class _Digits:
    """The digits of one run, with running sums that give the Luhn sum of any window at once."""

    __slots__ = ("_sums", "digits", "ends", "starts")

    def __init__(self, run: str) -> None:
        groups = [match.span() for match in _GROUP.finditer(run)]
        self.digits = "".join(run[start:end] for start, end in groups)
        sizes = [end - start for start, end in groups]
        offsets = [0, *accumulate(sizes)]
        self.starts = [(offset, group[0]) for offset, group in zip(offsets, groups, strict=False)]
        self.ends = {offset: group[1] for offset, group in zip(offsets[1:], groups, strict=True)}
        values = [int(digit) for digit in self.digits]
        self._sums = tuple(
            [
                0,
                *accumulate(
                    _DOUBLED[value] if index % 2 == parity else value
                    for index, value in enumerate(values)
                ),
            ]
            for parity in (0, 1)
        )

    def luhn(self, start: int, end: int) -> bool:
        """Whether the digits of a window have a right check digit."""
        sums = self._sums[end % 2]  # the last digit stands at end - 1 and is not doubled
        return (sums[end] - sums[start]) % 10 == 0


_GROUPED_OTHERWISE: Final = "|".join(
    rf"(?:{mark}[0-9]{{4}}){{3}}" for mark in (r"\.", "/", "_", r"\r?\n", r"[ \t-]{1,3}")
)
"""As people write the sixteen digits in forms, in columns, one group a line."""


def cards() -> Recognizer:
    """Payment cards of 12 to 19 digits, however grouped; the check digit must be right."""
    return Recognizer(
        name="own.card",
        category=Category.CREDIT_CARD,
        patterns=(
            Pattern(r"[0-9](?:[ -]?[0-9]){11,}", _UNKNOWN_ISSUER),
            Pattern(rf"\b[2-6][0-9]{{3}}(?:{_GROUPED_OTHERWISE})\b", _UNKNOWN_ISSUER),
        ),
        context=_CARD_CONTEXT,
        judge=_judge_cards,
    )


_INVALID_GROUPED: Final = 0.5
_INVALID_PLAIN: Final = 0.2


def invalid_cards() -> Recognizer:
    """What is written like a card of a known issuer and has a wrong check digit."""
    four = "[0-9]{4}"
    return Recognizer(
        name="own.card_invalid",
        category=Category.CREDIT_CARD_INVALID,
        patterns=(
            *[
                Pattern(rf"\b[2-6][0-9]{{3}}(?:{mark}{four}){{3}}\b", _INVALID_GROUPED)
                for mark in " -"
            ],
            *[
                Pattern(rf"\b3[47][0-9]{{2}}{mark}[0-9]{{6}}{mark}[0-9]{{5}}\b", _INVALID_GROUPED)
                for mark in " -"
            ],
            Pattern(r"\b[2-6][0-9]{11,18}\b", _INVALID_PLAIN),
        ),
        context=_CARD_CONTEXT,
        judge=_judge_invalid_card,
    )


def _judge_invalid_card(view: str, match: Span) -> tuple[Span, ...]:
    run = _Digits(view[match.start : match.end])
    length = len(run.digits)
    lengths = _issuer_lengths(run.digits[:4])
    if lengths is None or length not in lengths or run.luhn(0, length):
        return ()
    return (match,)


_ABROAD_DIGITS: Final = 13
"""E.164 admits 15, hardly any number has more than 13; and cards of 13 digits are rare."""


def _judge_cards(view: str, match: Span) -> Iterator[Span]:
    if _touches_word(view, match.start, match.end):
        return
    run = _Digits(view[match.start : match.end])
    # What a plus leads in is a telephone number, if it is no longer than they are; a card may come
    # behind it. But a plus is a blank in forms, too, and the first column of a difference.
    abroad = view[match.start - 1 : match.start] == "+" and len(run.digits) <= _ABROAD_DIGITS
    taken = int(abroad)
    for first, start in run.starts:
        if first < taken:
            continue
        window = _card_window(run, first)
        if window is not None:
            taken, score = window
            yield Span(match.start + start, match.start + run.ends[taken], score)


def _card_window(run: _Digits, first: int) -> tuple[int, float] | None:
    """Return the end and the score of the card that starts at a digit: known issuers first."""
    best: tuple[int, float] | None = None
    lengths = _issuer_lengths(run.digits[first : first + 4])
    for length in range(CARD_MAX_DIGITS, CARD_MIN_DIGITS - 1, -1):
        end = first + length
        if end not in run.ends or not run.luhn(first, end):
            continue
        if lengths is not None and length in lengths:
            return end, CERTAIN
        if best is None and not first and run.digits[0] != "0":
            best = end, _UNKNOWN_ISSUER
    return best


def _issuer_lengths(prefix: str) -> range | None:
    if prefix[0] == "0":
        return _OLD_MAESTRO_LENGTHS if prefix == _OLD_MAESTRO else None
    for length in range(1, 5):
        lengths = _LENGTHS_BY_PREFIX.get(int(prefix[:length]))
        if lengths is not None:
            return lengths
    return None


def _touches_word(view: str, start: int, end: int) -> bool:
    before = view[start - 1] if start else " "
    after = view[end] if end < len(view) else " "
    return _is_word(before) or _is_word(after)


def _is_word(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalnum())


_IBAN_LENGTHS: Final = {  # ISO 13616 registry, release 99
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH CR HR LI LV",
    22: "BG BH DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_IBAN_LENGTH: Final = {
    country: length for length, countries in _IBAN_LENGTHS.items() for country in countries.split()
}
_VALID_FORMAT: Final = 0.5
_IBAN_CONTEXT: Final = words("account bank iban transaction transfer")
_IBAN_START: Final = re.compile(r"\b[A-Za-z]{2} ?[0-9]{2}(?=[ ._/\r\n0-9A-Za-z-])", re.ASCII)
_IBAN_MARKS: Final = " -._/\r\n"
_WITHOUT_MARKS: Final = str.maketrans("", "", _IBAN_MARKS)


def ibans(presidio: PresidioRecognizer) -> Recognizer:
    """IBANs in any grouping and case; Presidio's validator checks digits and country format."""
    return _ibans("own.iban", Category.IBAN_CODE, presidio, valid=True)


def invalid_ibans(presidio: PresidioRecognizer) -> Recognizer:
    """What has the country and the length of an IBAN, and wrong check digits."""
    return _ibans("own.iban_invalid", Category.IBAN_CODE_INVALID, presidio, valid=False)


def _ibans(
    name: str, category: Category, presidio: PresidioRecognizer, *, valid: bool
) -> Recognizer:
    return Recognizer(
        name=name,
        category=category,
        patterns=(
            Pattern(
                r"(?i)\b[A-Z]{2}[0-9]{2}(?:(?:[ ._/-]{1,2}|\r?\n)?[A-Z0-9]){11,}", _VALID_FORMAT
            ),
            Pattern(
                r"(?i)\b[A-Z]{2} [0-9]{2}(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,4})?\b", _VALID_FORMAT
            ),
        ),
        context=_IBAN_CONTEXT,
        judge=_iban_judge(presidio, wanted=valid),
    )


class _Iban(NamedTuple):
    """What stands at a place: where it ends, how sure it is, whether its check digits are right."""

    end: int
    score: float
    valid: bool


def _iban_judge(presidio: PresidioRecognizer, *, wanted: bool) -> Judge:
    def judge(view: str, match: Span) -> Iterator[Span]:
        taken = match.start
        # One match may run over several IBANs that only spaces divide.
        for found in _IBAN_START.finditer(view, match.start, match.end):
            start = found.start()
            iban = None if start < taken else _iban_at(view, start, match.end, presidio)
            if iban is None:
                continue
            taken = iban.end
            if iban.valid is wanted:
                yield Span(start, iban.end, iban.score)

    return judge


def _iban_at(view: str, start: int, limit: int, presidio: PresidioRecognizer) -> _Iban | None:
    length = _IBAN_LENGTH.get(view[start : start + 2].upper())
    if length is None:
        return None
    end = _after_characters(view, start, limit, length)
    compact = _compact(view, start, end or start)
    if end is not None and presidio.validate_result(compact):
        return _Iban(end, CERTAIN, valid=True)
    written = _WRITTEN_IBAN.match(view, start, limit)
    if written is not None and _has_right_sum(_compact(view, start, written.end())):
        return _Iban(written.end(), _VALID_FORMAT, valid=True)
    if end is None or not _is_mostly_digits(compact):
        return None
    return _Iban(end, _VALID_FORMAT, valid=False)


_WRITTEN_IBAN: Final = re.compile(
    "[A-Z]{2}[0-9]{2}(?:[A-Z0-9]{11,30}"
    "|(?P<mark>[ -])[A-Z0-9]{4}(?:(?P=mark)[0-9]{4}){2,6}(?:(?P=mark)[0-9]{1,3})?)(?![A-Z0-9_])",
    re.IGNORECASE | re.ASCII,
)
"""In one piece or in groups of four: what has right check digits there and another length or
format than those of its country is a number of a test, or of a format newer than our table."""
_IBAN_MODULUS: Final = 97


def _has_right_sum(compact: str) -> bool:
    """Whether the check digits of ISO 7064 are right, whatever the country says."""
    if not _is_mostly_digits(compact):
        return False
    turned = compact[4:] + compact[:4]
    return int("".join(str(int(each, 36)) for each in turned)) % _IBAN_MODULUS == 1


def _compact(view: str, start: int, end: int) -> str:
    return view[start:end].translate(_WITHOUT_MARKS).upper()


def _is_mostly_digits(compact: str) -> bool:
    """Keep words and keys out: the account part of every country's IBAN has many digits."""
    return sum(character.isdigit() for character in compact) * 2 > len(compact)


def _after_characters(view: str, start: int, limit: int, count: int) -> int | None:
    """Return the end of the first ``count`` letters and digits, if a word ends there."""
    position = start
    for _ in range(count):
        while position < limit and view[position] in _IBAN_MARKS:
            position += 1
        if position >= limit:
            return None
        position += 1
    return None if _touches_word(view, start, position) else position
