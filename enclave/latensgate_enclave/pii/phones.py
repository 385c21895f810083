"""Telephone numbers, judged by national number plans without trying one region after another.

The plans are the metadata of the ``phonenumbers`` package. At start the plans of all wanted
regions become one RE2 set, so a candidate costs one match and not two dozen expressions a region.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

from latensgate_enclave.pii.errors import PIIEngineError
from latensgate_enclave.pii.findings import Category
from latensgate_enclave.pii.matching import Gate
from latensgate_enclave.pii.recognizer import Pattern, Recognizer, Span, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from latensgate_enclave.pii.recognizer import Judge

DEFAULT_REGIONS: Final = ("US", "GB", "DE", "FR", "IL", "IN", "CA", "BR")
"""Presidio's default regions."""
_KINDS: Final = (
    "fixed_line",
    "mobile",
    "toll_free",
    "premium_rate",
    "shared_cost",
    "personal_number",
    "voip",
    "pager",
    "uan",
    "voicemail",
)
_CONTEXT: Final = words(
    "answering call callback called calling cell cellphone contact dial dialed fax home landline"
    " line mobile num number office ph phone reach reached ring sms tel telephone text texted"
    " voicemail whatsapp work"
)
_EXTENSION: Final = r"(?:[ ,]{0,2}(?i:x|ext\.?|extension)[ .:]{0,2}[0-9]{1,6})?"
_INTERNATIONAL: Final = (
    rf"(?:\+ ?\(?[0-9]|\(\+ ?[0-9]{{1,3}}\) ?[0-9])(?:[ .()/-]{{0,3}}[0-9]){{6,14}}{_EXTENSION}"
)
_DIALLED: Final = (
    r"\b(?:00|011[ -]?)[1-9][0-9]{0,2}[ .()/-]{1,3}[0-9](?:[ .()/-]{0,3}[0-9]){5,11}"
    rf"{_EXTENSION}"
)
"""With the prefix that is dialled for abroad in place of the plus: 00, and 011 in North America."""
_NORTH_AMERICAN: Final = (
    rf"(?:\b1[ .-]?)?(?:\([2-9][0-9]{{2}}\) ?[0-9]{{3}}(?:[ .-]| - )?"
    rf"|\b[2-9][0-9]{{2}}(?:[ .-]| - )[0-9]{{3}}(?:[ .-]| - ))[0-9]{{4}}{_EXTENSION}"
)
_GROUPED: Final = (
    r"(?:\([0-9]{1,5}\)[ ./-]{0,2}[0-9]{2,8}|\b[0-9]{2,6}(?:[ ./-]{1,2}| [/-] )[0-9]{2,8})"
    rf"(?:(?:[ ./-]{{1,2}}| [/-] )[0-9]{{2,8}})?(?:[ ./-]{{1,2}}[0-9]{{2,8}}){{0,3}}{_EXTENSION}"
)
_LINKED: Final = r"(?i:\bwa\.me/|\bwhatsapp\.com/send/?\?phone=)(\+?[0-9]{8,15})\b"
_PLAIN: Final = rf"\b[0-9]{{7,14}}{_EXTENSION}"

_INTERNATIONAL_SCORE: Final = 0.7
_LINKED_SCORE: Final = 0.65
_DIALLED_SCORE: Final = 0.45
_NORTH_AMERICAN_SCORE: Final = 0.5
_GROUPED_SCORE: Final = 0.15
_PLAIN_SCORE: Final = 0.1
_IN_PLAN_SCORE: Final = 0.4
"""Presidio's score for a number that the plan of one of its regions holds."""
_MIN_DIGITS: Final = 7
_PLAN_MIN_DIGITS: Final = 9
"""Shorter ones are too often two numbers side by side: they need a context word."""
_SHORTEST_ABROAD: Final = 4
"""With its country code: the patterns ask for seven digits, of which three can be the prefix."""
_MAX_DIGITS: Final = 15
"""ITU-T E.164: at most 15."""
_NANP_DIGITS: Final = 11
_DIGIT: Final = re.compile("[0-9]")
_NOT_DIGITS: Final = re.compile("[^0-9]")
_EXIT_PREFIX: Final = re.compile("^(?:00|011)")
_GOES_ON: Final = re.compile(r"[A-Za-z0-9_]|[./:-][0-9]|-[A-Z](?![A-Za-z])")
"""After a match: a longer word, a longer number, as an IP address or a time, or the letter of a
part's number. Letters that are not ASCII end a number: scripts without spaces have them next to
it."""
_COUNTRY_CODE: Final = re.compile(r"\+ ?\(?[0-9]{1,3}[ .()/-]{0,3}\Z")
_COUNTRY_CODE_CHARS: Final = 9
_PAUSES: Final = tuple(f"{digit},," for digit in range(10))
"""What a telephone dials behind them up to a "#", once connected, is no telephone number."""
_EXTENSION_START: Final = re.compile(r"[ ,]{0,2}[xeXE]")
_OTHER_SHAPES: Final = re.compile(
    r"(?:(?:\d{4}[./-]\d{1,2}[./-]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d\d))(?: \d+)*"  # dates
    r"|(?:1\d|20)\d\d[/ -](?:1\d|20)\d\d"  # from one year to another
    r"|(?:199\d|20[0-4]\d)[/-]\d{5,8}"  # a year and what is counted in it
    r"|\d{3}[ .-]\d\d[ .-]\d{4}"  # US social security numbers
    r"|\d{1,3}(?:\.\d{1,3}){3}"  # IPv4
    r"|(?:0|[1-9]\d*)[.]\d+"  # decimal fractions
    r"|\d{1,3}(?:[ .]000)+"  # amounts
    r")"
)


def phones(regions: Iterable[str] = DEFAULT_REGIONS) -> Recognizer:
    """Numbers in international form, in North American form, or in any other with support.

    Args:
        regions: ISO 3166-1 codes whose national numbers count without further support.

    Raises:
        PIIEngineError: A region is unknown.
    """
    return Recognizer(
        name="own.phone",
        category=Category.PHONE_NUMBER,
        patterns=(
            Pattern(_INTERNATIONAL, _INTERNATIONAL_SCORE),
            Pattern(_LINKED, _LINKED_SCORE, group=1),
            Pattern(_DIALLED, _DIALLED_SCORE),
            Pattern(_NORTH_AMERICAN, _NORTH_AMERICAN_SCORE),
            Pattern(_GROUPED, _GROUPED_SCORE),
            Pattern(_PLAIN, _PLAIN_SCORE),
        ),
        context=_CONTEXT,
        judge=_judge(_national_plans(regions)),
    )


def _national_plans(regions: Iterable[str]) -> Gate:
    return Gate(pattern for region in regions for pattern in _region_patterns(region))


def _region_patterns(region: str) -> Iterator[str]:
    metadata = PhoneMetadata.metadata_for_region(region, None)
    if metadata is None:
        raise PIIEngineError(f"no number plan for a region of {len(region)} characters")
    prefix = metadata.national_prefix_for_parsing
    optional = f"(?:{prefix})?" if prefix else ""
    for kind in _KINDS:
        description = getattr(metadata, kind)
        if description is not None and description.national_number_pattern:
            yield f"^{optional}(?:{description.national_number_pattern})$"


_BETWEEN: Final = re.compile(r" ?/ ?| - ")
"""Within a number, or between two of them."""
_TWO_MIN_CHARS: Final = 15


def _judge(plans: Gate) -> Judge:
    one = _judge_one(plans)

    def judge(view: str, match: Span) -> Iterable[Span]:
        found = one(view, match, match)
        if any(each.score >= _IN_PLAN_SCORE for each in found):
            return found
        if match.end - match.start < _TWO_MIN_CHARS:
            return found
        if _BETWEEN.search(view, match.start, match.end) is None:
            return found
        if match.start and view[match.start - 1] != "+" and _continues(view[match.start - 1]):
            return found
        parts = [each for part in _parts(view, match) for each in one(view, part, match)]
        # A whole that is in no plan gives way to a part that is: a room's number and a telephone's.
        return parts if not found or any(each.score >= _IN_PLAN_SCORE for each in parts) else found

    return judge


def _parts(view: str, match: Span) -> Iterator[Span]:
    """Yield what stands between the marks, the first as it was found, the rest as groups."""
    start, score = match.start, match.score
    for mark in _BETWEEN.finditer(view, match.start, match.end):
        yield Span(start, mark.start(), score)
        start, score = mark.end(), _GROUPED_SCORE
    yield Span(start, match.end, score)


def _judge_one(plans: Gate) -> Callable[[str, Span, Span], tuple[Span, ...]]:
    def judge(view: str, number: Span, whole: Span) -> tuple[Span, ...]:
        if number.score == _LINKED_SCORE:
            return (number,)
        if number.start == whole.start and number.start and _continues(view[number.start - 1]):
            return ()
        if number.end == whole.end and _GOES_ON.match(view, number.end):
            return ()
        if view.startswith("#", number.end) and view.endswith(_PAUSES, 0, number.start):
            return ()
        text = view[number.start : number.end]
        if number.score == _INTERNATIONAL_SCORE:
            return _international(number, text)
        found = _national_or_dialled(number, text, plans)
        return () if found and _is_another(view, number, found[0]) else found

    return judge


def _national_or_dialled(number: Span, text: str, plans: Gate) -> tuple[Span, ...]:
    if number.score == _DIALLED_SCORE:
        return _international(number, text)
    return _national(number, text, plans)


def _continues(before: str) -> bool:
    return before.isascii() and (before.isalnum() or before in "_.$#@+-/")


_STEMS: Final = words(
    "kunden rechnungs auftrags bestell vertrags vorgangs sendungs artikel steuer serien"
    " klant factuur order polis dossier"
)
"""Of German and Dutch words for other numbers."""
_OTHER_NUMBERS: Final = words(
    "abn account acct acn awb barcode bsb claim cnpj commande docket doi dossier ean ein epoch"
    " expediente factura facture faktura fattura fatura gtin hs imei invoice isbn itin kvk ndc nhs"
    " nip npi order ordine part passport pedido po rechnung ref reference regon rma routing"
    " security serial siren siret sku soc social ssn timestamp tin tracking txn upc utr vat waybill"
) | {stem + end for stem in _STEMS for end in ("nummer", "nr")}
"""They have categories of their own, or say nothing about anybody."""
_COUNTED_FILES: Final = words(
    "batch booking case conf confirmation contract file job licence license loan lot meeting model"
    " permit policy receipt registration report reservation tax teams ticket transaction webinar"
)
"""Other numbers where a word for "number" follows: these words stand before telephones, too."""
_COUNTED_PEOPLE: Final = words(
    "applicant badge client customer employee group member membership patient staff student"
)
"""Likewise, and the number may be what they are called under: so only without a number plan."""
_TELEPHONES: Final = words("phone tel telephone mobile mob cell fax whatsapp contact telefon handy")
_SHORT_CHARS: Final = 4
"""Of a word before a full stop: no longer ones are short for others, as "acct." and "inv."."""
_NUMBER_WORDS: Final = words("code id is no nr num number")
_NAME_MARKS: Final = " .:=#-_\"'"
_AROUND_NAME: Final = ".,:=#-\"'{[("
_NAME_CHARS: Final = 32
_WRITTEN_ALIKE: Final = words("nhs")
"""Numbers that are grouped as North American telephone numbers are."""
_ZIP_PLUS_4: Final = re.compile(r"\d{5}-\d{4}")
_STATE: Final = re.compile(r"[a-z.],? (?!PH)[A-Z]{2},? \Z")


def _is_another(view: str, match: Span, found: Span) -> bool:
    """Whether the words right before a number say that it is another one, or its form does."""
    start = match.start
    if _named_otherwise(view, match, is_planned=found.score >= _IN_PLAN_SCORE):
        return True
    text = view[start : match.end]
    if match.score == _DIALLED_SCORE:
        return _OTHER_SHAPES.fullmatch(text) is not None
    before = view[max(0, start - _COUNTRY_CODE_CHARS) : start]
    if _ZIP_PLUS_4.fullmatch(text) and _STATE.search(before):
        return True
    # Or it is the rest of a number in international form.
    return _COUNTRY_CODE.search(before) is not None


def _named_otherwise(view: str, match: Span, *, is_planned: bool) -> bool:
    start = match.start
    whole = view[max(0, start - _NAME_CHARS) : start]
    before = whole.rstrip(_NAME_MARKS)
    named = [word.strip(_AROUND_NAME) for word in before.lower().replace("_", " ").split()]
    marks = whole[len(before) :]
    if not _TELEPHONES.isdisjoint(named) or _ends_sentence(named, marks):
        return False  # a telephone's all the same, or the word ends the sentence before
    is_numbered = "#" in marks
    while named and named[-1] in _NUMBER_WORDS:
        is_numbered = bool(named.pop())
    name = named[-1] if named else ""
    if match.score == _NORTH_AMERICAN_SCORE:
        return is_numbered and name in _WRITTEN_ALIKE
    if name in _OTHER_NUMBERS:
        return True
    return is_numbered and (name in _COUNTED_FILES or (name in _COUNTED_PEOPLE and not is_planned))


def _ends_sentence(named: list[str], marks: str) -> bool:
    ends = bool(named) and len(named[-1]) > _SHORT_CHARS and not named[-1].endswith("nr")
    return ". " in marks and ends


def _international(match: Span, text: str) -> tuple[Span, ...]:
    number = _without_extension(text)
    digits = _EXIT_PREFIX.sub("", _NOT_DIGITS.sub("", number))
    if len(digits) < _SHORTEST_ABROAD:  # a part, as what stands before a mark
        return ()
    if not any(int(digits[:size]) in COUNTRY_CODE_TO_REGION_CODE for size in (1, 2, 3)):
        return ()
    end = match.end
    if match.score == _INTERNATIONAL_SCORE and digits[0] == "1" and len(digits) > _NANP_DIGITS:
        # The plan of country code 1 has ten digits: what follows is another number.
        last = [found.end() for found in _DIGIT.finditer(text)][_NANP_DIGITS - 1]
        end = match.start + last
    return (Span(match.start, end, match.score),)


def _national(match: Span, text: str, plans: Gate) -> tuple[Span, ...]:
    number = _without_extension(text)
    if match.score == _NORTH_AMERICAN_SCORE:
        return (match,)
    digits = _NOT_DIGITS.sub("", number)
    if not _MIN_DIGITS <= len(digits) <= _MAX_DIGITS or _OTHER_SHAPES.fullmatch(number):
        return ()
    if len(digits) >= _PLAN_MIN_DIGITS and plans.matching(digits.encode("ascii")):
        return (Span(match.start, match.end, _IN_PLAN_SCORE),)
    return (match,)


def _without_extension(text: str) -> str:
    found = _EXTENSION_START.search(text)
    return text if found is None else text[: found.start()]
