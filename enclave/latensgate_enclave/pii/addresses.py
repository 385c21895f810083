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
_BY_CONTEXT: Final = 0.3
_CONTEXT: Final = words(
    "address addresses addr adress billing deliver delivery home house lives live living location"
    " located mail mailing moved reside residence resident resides residing ship shipping street"
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
_NAMESAKES: Final = (
    "bend|bluffs?|bridge|brook|canyon|centers?|circles|cliffs?|club|common|corners?|course|creek"
    "|crest|curve|dale|divide|estates?|fields?|flats?|ford|forest|forges?|forks?|gateway|glens?|green|greens"
    "|harbors?|haven|heights|highlands|hills?|hollow|inlet|islands?|isle|junctions?|keys?|knolls?|lakes?"
    "|landing|lights?|locks?|lodge|manors?|meadows?|mills?|mission|mountains?|neck|orchard|oval|parks?"
    "|pass|passage|pines?|plains?|points?|ports?|prairie|radial|ranch|rapids?|rest|ridges?|river"
    "|roads|rue|run|shores?|skyway|springs?|spurs?|squares|station|stravenue|stream|streets|summit|trace"
    "|track|trafficway|tunnel|unions?|valleys?|via|viaduct|views?|villages?|ville|vista|walks|wall"
    "|wells?|nagar|marg|chowk|ganj"
)
"""Streets are called so, and more often other things: they need a word that says address."""
_NO_NAMES: Final = words(
    "a about across after all along an and any are at away before blocks by days degrees down each"
    " every feet few for from houses hours in into is it km kilometers lanes levels long meters"
    " miles minutes more most my new no of off on one or other our out over own people per right"
    " same seconds some steps than that the their them these they this those through times to two"
    " up way ways were with years your"
)
_WORD: Final = r"[A-Za-z0-9\xff][A-Za-z0-9\xff'.-]{0,30}"
_CAPITAL: Final = r"[A-Z\xff][A-Za-z\xff'.-]{1,30}"
_UNIT: Final = (
    r"(?:[ ,]{1,2}[0-9]{1,2}(?:st|nd|rd|th) (?i:floor|fl)\b\.?"
    r"|[ ,\n\r>]{1,4}(?i:apartment|apt|suite|ste|unit|floor|flat|room|rm|bldg|building|fl)\.? ?#?"
    r"[A-Za-z0-9-]{1,6}|[ ,]{1,2}#[ ]?[A-Za-z0-9-]{1,6})"
)
_STATES: Final = (
    "A[AEKLPRSZ]|C[AOT]|D[CE]|F[LM]|GA|GU|HI|I[ADLN]|K[SY]|LA|M[ADEHINOPST]|N[CDEHJMVY]|O[HKR]"
    "|P[ARW]|RI|S[CD]|T[NX]|UT|V[AIT]|W[AIVY]"
)
_ZIP: Final = r"[0-9]{5}(?:-[0-9]{4})?\b"
_UK_CODE: Final = r"[A-Z]{1,2}[0-9][A-Z0-9]? ?[0-9][A-Z]{2}\b"
_GAP: Final = r"[ ,\n\r\t]{1,6}"
_TOWN: Final = rf"{_CAPITAL}(?: {_CAPITAL}){{0,3}}"
_ABROAD: Final = (
    r"(?:[ ,](?:NSW|VIC|QLD|WA|SA|TAS|ACT|NT) [0-9]{4}"  # Australia
    r"|[ ,]{1,2}(?:AB|BC|MB|N[BLSTU]|ON|PE|QC|SK|YT) [A-Z][0-9][A-Z] ?[0-9][A-Z][0-9]"  # Canada
    r"|(?: ?- ?| )[0-9]{6})\b"  # India
)
_TAIL: Final = (
    rf"(?:{_GAP}{_TOWN}{_ABROAD}"
    rf"|{_GAP}{_TOWN}{_GAP}(?:{_STATES})\b(?:{_GAP}{_CAPITAL})?(?:{_GAP}{_ZIP})?"
    rf"|{_GAP}(?:{_TOWN}{_GAP})?(?:[A-Z]{{2}}{_GAP})?(?:{_TOWN} )?(?:{_UK_CODE}|{_ZIP}))?"
)
_DIRECTION: Final = r"(?:[ ,](?:[NSEW]|[NS][EW]|North|South|East|West)\b\.?)?"
_COMPOUND: Final = (
    r"stra\xffe|strasse|str\.|weg|platz|allee|gasse|damm|ufer|straat|laan|plein|gracht|kade"
    r"|gatan|v\xffgen|vagen|gade|vej|gata|veien|katu|kuja"
)
_DOOR: Final = r"(?: ?[a-zA-Z]\b|[/-](?:[0-9]{1,4}(?:/[0-9]{1,4})?|[IVX]{1,4}|[A-H])\b)?"
_ROMANCE: Final = (
    r"rue|avenue|av\.|boulevard|bd|place|chemin|allee|impasse|quai|route|cours|calle|avenida|avda\.?|plaza"
    r"|paseo|pasaje|carrer|camino|ronda|rambla|alameda|cuesta|glorieta|travesia|vial|via|viale"
    r"|piazza|piazzale|corso|largo|vicolo|contrada|rua|travessa|praca|estrada|rodovia|ladeira"
    r"|strada|ulica|ul\.|aleja|al\.|plac|pl\.|osiedle|os\."
)
_LINK: Final = (
    r"(?:(?i:de|del|della|delle|dei|di|da|do|dos|das|du|des|la|le|les|el|los|las) |[dl]')"
)


_PLACE: Final = (
    r"[0-9]{1,4}(?:[/-][0-9]{1,4})?(?: ?[a-zA-Z])?\b"
    r"(?:,? (?i:piso|puerta|piano|appartamento|apt\.?|apto\.?|esc\.?|bajo|interno|lok\.?|m\.)"
    r" ?[0-9A-Za-z]{1,4}| ?, [0-9]{1,2}\.?\xff?[oa]\.? "
    r"(?:[A-Z]\b|(?i:esq|dto|dta|izq|izda|dcha)\b\.?))?"
)
"""A number, and what leads on from the door."""
_CODE_AND_TOWN: Final = (
    rf"(?:[ ,\n\r]{{1,3}}(?:{_TOWN}{_GAP})?"
    rf"(?:[0-9]{{5}}-?[0-9]{{3}}|[0-9]{{4}}-[0-9]{{3}}|[0-9]{{2}}-[0-9]{{3}}) {_TOWN}"
    r"(?: / [A-Z]{2})?"
    rf"|(?: ?[,-] {_TOWN}){{1,2}} ?[-/,] ?[A-Z]{{2}},? [0-9]{{5}}-?[0-9]{{3}})"
)
_BUILDING: Final = (
    r"(?:, (?i:bat(?:iment)?|escalier|esc|appartement|appt?|etage|porte|residence)\b\.? ?"
    r"[A-Za-z0-9]{1,12})"
)
"""Between a French street and its postal code."""
_LED: Final = (
    r"(?:(?i:flat|studio|unit|apt\.?|h\.? ?no\.?|house no\.?|plot no\.?) ?[0-9]{1,4}[A-Za-z]?"
    r"[ ,\n]{1,2}"
    r"(?:[0-9]{1,6}[A-Za-z]? )?|[0-9]{1,6}[A-Za-z]?(?:/[0-9]{1,4})?,?[ \n])"
)
_LONG_TAIL: Final = (
    rf"(?:{_GAP}{_TOWN}{_GAP}(?:{_STATES}){_GAP}{_ZIP}|{_GAP}(?:{_TOWN}{_GAP}){{0,2}}{_UK_CODE}"
    rf"|{_GAP}{_TOWN}{_ABROAD})"
)
"""As only an address has it: no word for "street" is needed before it."""


def addresses() -> Recognizer:
    """Street addresses with number; as far as the postal code where town and code follow."""
    return Recognizer(
        name="own.address",
        category=Category.STREET_ADDRESS,
        patterns=(*_by_street(), *_by_town(), *_by_parts(), *_by_form()),
        context=_CONTEXT,
        judge=_judge,
    )


def _by_street() -> tuple[Pattern, ...]:
    """A number, a name and a word for "street", in the orders that languages have."""
    name = rf"(?:{_WORD} ){{1,4}}"
    return (
        Pattern(
            rf"\b[0-9]{{1,6}}[A-Za-z]?,? {name}(?i:{_SUFFIXES})\b\.?{_DIRECTION}"
            rf"(?:(?:, [A-Z][A-Za-z' ]+)?{_UNIT})?"
            rf"{_TAIL}",
            _SURE,
        ),
        Pattern(rf"\b[0-9]{{1,6}}[A-Za-z]? {name}?{_WORD}{_UNIT}{_TAIL}", _LIKELY),
        Pattern(
            rf"\b(?:{_CAPITAL}[ -]){{0,2}}[A-Z\xff][A-Za-z\xff-]{{0,30}}[ -]?"
            rf"(?i:{_COMPOUND}) ?[0-9]{{1,4}}{_DOOR}"
            rf"(?:{_GAP}[0-9]{{4,5}}(?: [A-Z]{{2}})?\b(?: {_CAPITAL})?)?",
            _SURE,
        ),
        Pattern(
            rf"\b[0-9]{{1,4}}(?: (?:bis|ter))?,? (?i:{_ROMANCE}) {_LINK}{{0,2}}{_TOWN}"
            rf"{_BUILDING}{{0,2}}{_TAIL}",
            _SURE,
        ),
        Pattern(
            rf"\b(?:(?i:{_ROMANCE}) |(?:C/|C\.) ?){_LINK}{{0,2}}{_TOWN}"
            rf"(?:,? (?i:n[.o\xff\x80]{{0,2}} ?)?){_PLACE}(?:{_CODE_AND_TOWN}|{_TAIL})",
            _LIKELY,
        ),
    )


def _by_town() -> tuple[Pattern, ...]:
    """A number and a name, told by the town and the code behind them or by the words before."""
    return (
        Pattern(rf"\b{_LED}(?:{_CAPITAL} ){{0,3}}{_CAPITAL}\.?{_UNIT}?{_LONG_TAIL}", _SURE),
        Pattern(
            rf"\b{_TOWN},? {_PLACE}(?:[,;]|,?\r?\n) ?"
            r"(?:[0-9]{5}|[0-9]{4} ?[A-Z]{2}|[0-9]{2}-[0-9]{3}|[0-9]{3} [0-9]{2})"
            rf"[ ,\n]{{1,2}}{_TOWN}",
            _LIKELY,
        ),
        Pattern(
            rf"\b(?:[0-9]{{1,6}}(?:/[0-9]{{1,4}})?,?[ \n]{_CAPITAL} (?i:{_NAMESAKES})"
            rf"|[A-Z\xff][A-Za-z\xff-]{{2,30}}(?:ring|singel|pad|baan|steig|hof|markt)"
            rf" [0-9]{{1,4}}[a-z]?)\b",
            _BY_CONTEXT,
        ),
    )


_BOXES: Final = (
    r"p\.? ?o\.? ?box|postfach|boite postale|(?:r\.?r\.?|rural route|hc) ?#? ?[0-9]{1,4},? box"
)
_INDIAN: Final = (
    "Road|Rd|ROAD|Street|Lane|Nagar|NAGAR|Marg|Cross|Main|Layout|Colony|COLONY|Sector|SECTOR|Phase"
    "|Block|Apartments?|Towers?|Residency|Society|Enclave|Vihar|Salai|Stage|Bagh|Chowk|Bazaa?r"
)
_BRITISH: Final = (
    "Avenue|Beeches|Broadway|Chase|Close|Crescent|Croft|Drive|Glade|Glebe|Green|Grove|Hawthorns"
    "|Lane|Laurels|Limes|Mall|Maltings|Meadows?|Mews|Mount|Orchard|Paddocks?|Parade|Precinct"
    "|Promenade|Ridings?|Ridgeway|Row|Spinney|Square|Strand|Street|Terrace|Walk|Willows"
)
_LEAD: Final = r"(?i:(?:flat|plot|door|house|shop|h|d)\.? ?no\b\.?|no\b\.?|plot|flat|shop) ?"
_PART: Final = r"[A-Za-z0-9 .'&-]+"


def _by_parts() -> tuple[Pattern, ...]:
    """What only several parts with commas between tell."""
    part = r"[A-Z][A-Za-z'-]*(?: (?:[A-Z][A-Za-z'-]*|and|at|by|in|le|of|on|the|upon)){0,4}"
    return (
        # A house with a name and no number, told by its postal code.
        Pattern(rf"\b(?:{part},\s{{1,2}}){{2,4}}(?:{part},?\s{{1,2}})?{_UK_CODE}", _LIKELY),
        Pattern(rf"\b[0-9]{{1,3}}[A-Za-z]? The (?:{_BRITISH}),[ \n]{_TOWN}{_TAIL}", _LIKELY),
        Pattern(
            rf"(?:\b{_LEAD}|#|\b)(?:[A-Z]-?)?[0-9][0-9A-Za-z/-]*,(?:\s{_PART},){{0,4}}"
            rf"\s(?:{_PART} )?(?:{_INDIAN})\b(?:{_PART})?,(?:\s{_PART},){{0,2}}"
            rf"\s?{_TOWN}(?: ?- ?| )[1-9][0-9]{{2}} ?[0-9]{{3}}\b",
            _SURE,
        ),
    )


def _by_form() -> tuple[Pattern, ...]:
    """What is written in one way only."""
    return (
        Pattern(
            rf"\b{_TOWN} (?i:caddesi|cad\.|soka(?:k|g\xff)|sok\.|bulvar\xff|mahallesi|mah\.),? "
            rf"(?i:no)?[:. ]{{0,2}}[0-9]{{1,4}}\b",
            _SURE,
        ),
        Pattern(
            r"(?:\xff{2,}[0-9]{1,3}\xff{2}|\xff{3,}[0-9]{1,3}-)[0-9]{1,3}"
            r"(?:\xff|-)[0-9]{1,3}\xff",
            _LIKELY,
        ),  # a Japanese block, part and number
        Pattern(rf"\b(?i:{_BOXES}) [0-9]{{1,7}}\b{_TAIL}", _SURE),
        Pattern(
            r"\b(?i:(?:psc|unit) [0-9]{1,5},? box [0-9]{1,5}|uss [a-z]{3,20})"
            rf"{_GAP}(?i:apo|fpo|dpo) (?i:aa|ae|ap) {_ZIP}",
            _SURE,
        ),
        Pattern(rf"\b{_TOWN}, (?:{_STATES}),? {_ZIP}", _LIKELY),
    )


_NAMED: Final = re.compile(
    rf"[0-9]{{1,6}}[A-Za-z]?,? (?P<name>(?:{_WORD} ){{1,4}}?)(?P<suffix>(?i:{_SUFFIXES}))\b"
)
_DIGITS: Final = re.compile("[0-9]")
_NUMBER: Final = re.compile(r"\b[0-9]{1,6}[A-Za-z]?,? (?=[A-Z\xff])")
_WEAK: Final = 0.4


_LED_BY: Final = re.compile(
    r"\b(?i:(?:flat|apartment|apt|unit|level|lot|plot|suite|shop|house|door)\b\.?(?: ?no\b\.?)?"
    r"|h\.? ?no\b\.?) ?#?(?:[0-9A-Za-z/-]{1,9},\s)?\Z"
)
_LED_BY_CHARS: Final = 28
_MAX_CHARS: Final = 300


def _judge(view: str, match: Span) -> tuple[Span, ...]:
    """Keep running text out, and take in what stands before the number of the house."""
    if match.end - match.start > _MAX_CHARS:
        return ()
    return tuple(_led(view, found) for found in _judge_match(view, match))


def _led(view: str, found: Span) -> Span:
    lead = _LED_BY.search(view, max(0, found.start - _LED_BY_CHARS), found.start)
    return found if lead is None else found._replace(start=lead.start())


def _judge_match(view: str, match: Span) -> tuple[Span, ...]:
    """Keep running text out: "5 miles down the road" has a number and a road, too."""
    found = _judge_from(view, match)
    if found or match.score != _SURE:
        return found
    # What was taken for the number may be the end of another one: "555-0143, at 12 Elm Street".
    for later in _NUMBER.finditer(view, match.start + 1, match.end):
        rest = Span(later.start(), match.end, match.score)
        found = _judge_from(view, rest) if _NAMED.match(view, rest.start, rest.end) else ()
        if found:
            return found
    return ()


def _judge_from(view: str, match: Span) -> tuple[Span, ...]:
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
    score = _named_score(named["name"].split(), named["suffix"], match.score)
    # The longest match may reach to another such word: "12 Elm Street and down the drive".
    runs_on = named["suffix"][0].isupper() and _RUNS_ON.match(text, named.end())
    end = match.start + named.end() if runs_on else match.end
    return (Span(match.start, end, score),) if score else ()


_RUNS_ON: Final = re.compile(
    r" (?!(?:apartment|apt|suite|ste|unit|floor|flat|room|rm|bldg|building|fl"
    rf"|{_SUFFIXES})\b)[a-z]{{2}}"
)
_ORDINAL: Final = re.compile("[0-9]{1,3}(?:st|nd|rd|th)")
_ABBREVIATED: Final = words("cir ct dr pl sq st ter")
_LOWER_NAME_MAX_WORDS: Final = 2


def _named_score(name: list[str], suffix: str, written: float) -> float:
    if name == ["The"] and suffix.istitle():
        return _WEAK
    if any(word.lower() in _NO_NAMES for word in name):
        return 0.0
    if suffix.islower() and all(word.isdigit() for word in name):
        return 0.0  # groups of one long number, and the next word
    if all(_is_written_as_name(word) for word in name):
        return written
    return _lower_case_score(name, suffix)


def _lower_case_score(name: list[str], suffix: str) -> float:
    if len(name) > _LOWER_NAME_MAX_WORDS:
        return 0.0
    if suffix.lower() not in _AMBIGUOUS or _ORDINAL.fullmatch(name[-1].lower()):
        return _WEAK
    return _BY_CONTEXT if suffix in _ABBREVIATED else 0.0


def _is_written_as_name(word: str) -> bool:
    return not word[0].islower() or word[0] == "\xff"
