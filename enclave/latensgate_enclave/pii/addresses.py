"""Street addresses: where a number, a name and a word for "street" stand together.

Presidio has no recognizer for them and spaCy covers one in ten whole. Addresses are written
differently in each country; what is here are the common forms of English, German, Dutch, Nordic
and Romance ones, post boxes, and a US town with state and ZIP code.
"""

from __future__ import annotations

import re
from typing import Final

from latensgate_enclave.pii.findings import Category
from latensgate_enclave.pii.recognizer import Pattern, Recognizer, Span, words

_SURE: Final = 0.7
_LIKELY: Final = 0.5
_CONTEXT: Final = words(
    "address addresses addr billing deliver delivery home house lives live living location located"
    " mail mailing moved reside residence resident resides residing ship shipping street"
)
# Longest first: alternatives are tried in order, and "St" begins "Street".
_SUFFIXES: Final = (
    "street|avenue|boulevard|expressway|parkway|crescent|highway|terrace|gardens|causeway|crossing"
    "|esplanade|freeway|turnpike|circle|square|plaza|drive|court|place|trail|alley|close|grove"
    "|lane|road|loop|mews|pike|quay|walk|way|row|path|blvd|pkwy|expy|tpke|cres|gdns|hwy|fwy|sqr"
    "|ave|cir|ter|plz|trl|aly|str|st|av|rd|dr|ln|ct|pl|sq|wy"
)
_AMBIGUOUS: Final = words(
    "av circle close court cres crossing ct dr drive grove loop path pike pl place plaza row sq"
    " square st ter trail walk way wy"
)
"""Also other words in running text: the name before them has to be written as a name."""
_NO_NAMES: Final = words(
    "a about across after all along an and any are at away before blocks by days degrees down each"
    " every feet few for from houses hours in into is it km kilometers lanes levels long meters"
    " miles minutes more most my new no of off on one or other our out over own people per right"
    " same seconds some steps than that the their them these they this those through times to two"
    " up ways were with years your"
)
_WORD: Final = r"[A-Za-z0-9\xff][A-Za-z0-9\xff'.-]{0,30}"
_CAPITAL: Final = r"[A-Z\xff][A-Za-z\xff'.-]{1,30}"
_UNIT: Final = (
    r"(?:[ ,\n\r>]{1,4}(?i:apartment|apt|suite|ste|unit|floor|flat|room|rm|bldg|building|fl)\.? ?#?"
    r"[A-Za-z0-9-]{1,6}|[ ,]{1,2}#[ ]?[A-Za-z0-9-]{1,6})"
)
_STATES: Final = (
    "A[AEKLPRZ]|C[AOT]|D[CE]|FL|GA|GU|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[ARW]"
    "|RI|S[CD]|T[NX]|UT|V[AIT]|W[AIVY]"
)
_ZIP: Final = r"[0-9]{5}(?:-[0-9]{4})?\b"
_UK_CODE: Final = r"[A-Z]{1,2}[0-9][A-Z0-9]? ?[0-9][A-Z]{2}\b"
_GAP: Final = r"[ ,\n\r\t]{1,6}"
_TOWN: Final = rf"{_CAPITAL}(?: {_CAPITAL}){{0,3}}"
_TAIL: Final = (
    rf"(?:{_GAP}{_TOWN}{_GAP}(?:{_STATES})\b(?:{_GAP}{_CAPITAL})?(?:{_GAP}{_ZIP})?"
    rf"|{_GAP}(?:{_TOWN}{_GAP})?(?:[A-Z]{{2}}{_GAP})?(?:{_TOWN} )?(?:{_UK_CODE}|{_ZIP}))?"
)
_DIRECTION: Final = r"(?:[ ,](?:[NSEW]|[NS][EW]|North|South|East|West)\b\.?)?"
_COMPOUND: Final = (
    r"stra\xffe|strasse|str\.|weg|platz|allee|gasse|damm|ufer|straat|laan|plein|gracht|kade"
    r"|gatan|v\xffgen|vagen|gade|vej|gata|veien|katu|kuja"
)
_ROMANCE: Final = (
    r"rue|avenue|boulevard|place|chemin|all\xffe|impasse|quai|route|calle|avenida|plaza|paseo"
    r"|carrer|camino|via|viale|piazza|corso|largo|rua|travessa|pra\xffa|strada|ulica|ul\."
)
_LINK: Final = (
    r"(?:(?i:de|del|della|delle|dei|di|da|do|dos|das|du|des|la|le|les|el|los|las) |[dl]')"
)


def addresses() -> Recognizer:
    """Street addresses with number; as far as the postal code where town and code follow."""
    name = rf"(?:{_WORD} ){{1,4}}"
    return Recognizer(
        name="own.address",
        category=Category.STREET_ADDRESS,
        patterns=(
            Pattern(
                rf"\b[0-9]{{1,6}}[A-Za-z]?,? {name}(?i:{_SUFFIXES})\b\.?{_DIRECTION}{_UNIT}?"
                rf"{_TAIL}",
                _SURE,
            ),
            Pattern(rf"\b[0-9]{{1,6}}[A-Za-z]? {name}?{_WORD}{_UNIT}{_TAIL}", _LIKELY),
            Pattern(
                rf"\b(?:{_CAPITAL}[ -]){{0,2}}[A-Z\xff][A-Za-z\xff-]{{0,30}}[ -]?"
                rf"(?i:{_COMPOUND}) ?[0-9]{{1,4}}(?: ?[a-zA-Z]\b)?"
                rf"(?:{_GAP}[0-9]{{4,5}}(?: [A-Z]{{2}})?\b(?: {_CAPITAL})?)?",
                _SURE,
            ),
            Pattern(
                rf"\b[0-9]{{1,4}}(?: (?:bis|ter))?,? (?i:{_ROMANCE}) {_LINK}{{0,2}}{_TOWN}{_TAIL}",
                _SURE,
            ),
            Pattern(
                rf"\b(?i:{_ROMANCE}) {_LINK}{{0,2}}{_TOWN}(?:,? (?i:n[.o\xff\x80]{{0,2}} ?)?)"
                rf"[0-9]{{1,4}}\b{_TAIL}",
                _LIKELY,
            ),
            Pattern(
                rf"\b(?i:p\.? ?o\.? ?box|postfach|bo\xffte postale) [0-9]{{1,7}}\b{_TAIL}", _SURE
            ),
            Pattern(
                r"\b(?i:(?:psc|unit) [0-9]{1,5},? box [0-9]{1,5}|uss [a-z]{3,20})"
                rf"{_GAP}(?i:apo|fpo|dpo) (?i:aa|ae|ap) {_ZIP}",
                _SURE,
            ),
            Pattern(rf"\b{_TOWN}, (?:{_STATES}),? {_ZIP}", _LIKELY),
        ),
        context=_CONTEXT,
        judge=_judge,
    )


_NAMED: Final = re.compile(
    rf"[0-9]{{1,6}}[A-Za-z]?,? (?P<name>(?:{_WORD} ){{1,4}}?)(?P<suffix>(?i:{_SUFFIXES}))\b"
)
_DIGITS: Final = re.compile("[0-9]")
_WEAK: Final = 0.4


def _judge(view: str, match: Span) -> tuple[Span, ...]:
    """Keep running text out: "5 miles down the road" has a number and a road, too."""
    if match.start and view[match.start - 1] in "._-/#$":
        return ()
    text = view[match.start : match.end]
    if _DIGITS.match(text) is None:
        return (match,)
    named = _NAMED.match(text)
    if named is None:
        # With a unit or, surer, with a word for "street" before the name.
        named_so = match.score == _SURE or _is_written_as_name(text.split()[1])
        return (match,) if named_so else ()
    score = _named_score(named["name"].split(), named["suffix"].lower(), match.score)
    return (Span(match.start, match.end, score),)


_LOWER_NAME_MAX_WORDS: Final = 2


def _named_score(name: list[str], suffix: str, written: float) -> float:
    if any(word.lower() in _NO_NAMES for word in name):
        return 0.0
    if all(_is_written_as_name(word) for word in name):
        return written
    unclear = suffix in _AMBIGUOUS or len(name) > _LOWER_NAME_MAX_WORDS
    return 0.0 if unclear else _WEAK


def _is_written_as_name(word: str) -> bool:
    return not word[0].islower() or word[0] == "\xff"
