"""Tier 1: every pattern over every text, in time linear in its length (ADR 0012).

The way of one text: make the view; one pass of the RE2 set over it tells which patterns match at
all; those patterns give matches; a judge looks at each match; context is looked up only around
what is left; findings of one category that overlap become one. No step can be skipped: whatever
goes wrong ends in ``PIIEngineError`` and so in a refusal.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from latensgate_enclave.pii.addresses import addresses
from latensgate_enclave.pii.borrowed import borrowed, judged_by
from latensgate_enclave.pii.decoded import BASE64_WORD, ESCAPED, base64_words, unescaped
from latensgate_enclave.pii.errors import PIIEngineError, PIINoNamesError, PIITooLargeError
from latensgate_enclave.pii.evidence import Evidence, context_words
from latensgate_enclave.pii.findings import (
    ALL_CATEGORIES,
    CERTAIN,
    NAME_CATEGORIES,
    Category,
    Finding,
    merge,
)
from latensgate_enclave.pii.languages import DEFAULT_LANGUAGES, in_languages
from latensgate_enclave.pii.matching import Gate, Regex
from latensgate_enclave.pii.normalise import View, view_of
from latensgate_enclave.pii.numbers import cards, ibans, invalid_cards, invalid_ibans
from latensgate_enclave.pii.own import own
from latensgate_enclave.pii.phones import DEFAULT_REGIONS, phones
from latensgate_enclave.pii.presidio import load_recognizers
from latensgate_enclave.pii.recognizer import accept
from latensgate_enclave.pii.records import misread_ssns, record_numbers
from latensgate_shared import jcs
from latensgate_shared.limits import PII_FINDINGS_MAX_COUNT, PII_TEXT_MAX_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from latensgate_enclave.pii.recognizer import Pattern, Recognizer, Span
    from latensgate_shared.strict_json import JSONObject

TIER1_CATEGORIES: Final = ALL_CATEGORIES - NAME_CATEGORIES
MIN_SCORE: Final = 0.35
"""Findings below are not reported. Presidio's customary threshold; a policy can ask for more."""
CONTEXT_BOOST: Final = 0.35
CONTEXT_MIN_SCORE: Final = 0.4
"""Both Presidio's: a context word adds 0.35 and lifts to at least 0.4."""
_NEARLY_CERTAIN: Final = 0.99
"""Context alone makes nothing certain."""
_PROBES: Final = 2
_CONTEXT_CHARS: Final = 96
_CONTEXT_WORDS: Final = 5
"""Presidio looks at five words before a finding."""


class Reach(NamedTuple):
    """How far from a finding a text can matter to it, in code points.

    Attributes:
        context_chars: Before its start: words that raise its score.
        match_chars: From its start to its end. Longer ones go on to the end of what has no white
            space, or, for a private key without an end mark, of the text.
        after_chars: Behind its end: whether a word or a number goes on, and "… as the password".
    """

    context_chars: int
    match_chars: int
    after_chars: int


REACH: Final = Reach(context_chars=2 * _CONTEXT_CHARS, match_chars=384, after_chars=64)
_WORD: Final = re.compile("[a-z0-9]+")
_CAMEL_CASE: Final = re.compile("(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What an engine looks for.

    Attributes:
        categories: Others are never reported.
        phone_regions: ISO 3166-1 codes of the number plans for national telephone numbers.
        languages: ISO 639-1 codes of languages whose context words count.
    """

    categories: frozenset[Category] = ALL_CATEGORIES
    phone_regions: tuple[str, ...] = DEFAULT_REGIONS
    languages: tuple[str, ...] = DEFAULT_LANGUAGES


class _Armed(NamedTuple):
    """A pattern ready to match, and whose it is."""

    regex: Regex
    pattern: Pattern
    recognizer: Recognizer


@dataclass(slots=True)
class _Context:
    """Words before a position, looked up once and only where a finding asks."""

    view: View
    hint: str
    known: dict[int, frozenset[str]] = field(default_factory=dict[int, frozenset[str]])

    def words_before(self, position: int) -> frozenset[str]:
        words = self.known.get(position)
        if words is None:
            words = self.known[position] = frozenset(self.in_order(position))
        return words

    def in_order(self, position: int) -> list[str]:
        start = max(0, position - _CONTEXT_CHARS)
        before = self.view.text[start:position]
        if start:
            # The window may cut a word: what is left of it is another word.
            before = before[_first_whole_word(self.view.text, start) :]
        else:
            before = f"{self.hint} {before}"
        found: list[str] = _WORD.findall(before.lower())
        return found[-_CONTEXT_WORDS:]


def _spaced(hint: str) -> str:
    """Return the end of a hint, ``customerSsn`` as two words; long names cost no more time."""
    return _CAMEL_CASE.sub(" ", hint[-_CONTEXT_CHARS:])


def _first_whole_word(text: str, start: int) -> int:
    position = start
    while text[position - 1].isalnum() and position < start + _CONTEXT_CHARS:
        position += 1
    return position - start


class Tier1Engine:
    """Pattern recognizers behind one gate. Pure: no file, socket, clock or state while scanning."""

    __slots__ = ("_armed", "_gate", "digest")

    def __init__(self, settings: EngineSettings | None = None) -> None:
        """Load Presidio's recognizers and compile every pattern. Reads files; takes about 0.2 s.

        Raises:
            PIIEngineError: Presidio does not load, RE2 refuses a pattern, or a region or a
                language is unknown.
        """
        settings = settings or EngineSettings()
        recognizers = [
            recognizer
            for recognizer in in_languages(_all_recognizers(settings), settings.languages)
            if recognizer.category in settings.categories
        ]
        self._armed = tuple(
            _Armed(Regex(pattern.regex, group=pattern.group), pattern, recognizer)
            for recognizer in recognizers
            for pattern in recognizer.patterns
        )
        # The last two are not matched: they tell whether an extra scan has anything to decode.
        self._gate = Gate([*(armed.pattern.regex for armed in self._armed), ESCAPED, BASE64_WORD])
        self.digest = _digest(recognizers, settings)

    def waits(self, categories: frozenset[Category]) -> bool:
        """Whether a scan for these waits for another process: never."""
        del categories
        return False

    def scan(
        self,
        text: str,
        *,
        categories: frozenset[Category] = TIER1_CATEGORIES,
        hint: str = "",
    ) -> tuple[Finding, ...]:
        """Find personal data in a text.

        Args:
            text: At most ``PII_TEXT_MAX_CHARS`` code points, any of them.
            categories: What the policy acts on; the rest is not looked at further.
            hint: Words that say what the text is, as the name of the JSON member that holds it;
                they count as standing before it.

        Returns:
            Findings in the order of their place, with offsets in code points of ``text``.

        Raises:
            PIITooLargeError: The text is longer than the limit, or has too many findings.
            PIINoNamesError: A category of names is asked for.
            PIIEngineError: Anything else; holds no part of the text, nor does its context.
        """
        if not categories.isdisjoint(NAME_CATEGORIES):
            raise PIINoNamesError("the policy acts on names, and this image has no tier 2")
        if len(text) > PII_TEXT_MAX_CHARS:
            raise PIITooLargeError(
                f"a text of at most {PII_TEXT_MAX_CHARS} code points expected, found {len(text)}"
            )
        try:
            return self._scan(text, categories, hint)
        except (PIITooLargeError, PIIEngineError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever fails must deny; texts may hold content
            problem = type(error).__name__
        # Raised here, not in the handler, so that no cause keeps frames that hold the text.
        raise PIIEngineError(f"tier 1 could not finish a scan: {problem}")

    def evidence(
        self, text: str, *, categories: frozenset[Category], hint: str = ""
    ) -> Iterator[Evidence]:
        """Yield every match that tier 1's findings are made of, and why it counts; for dry runs.

        What is read and judged is what ``scan`` reads and judges; a test holds the two together.
        """
        yield from self._evidence_in(text, categories, hint, "plain")
        read = unescaped(text)
        if read.text != text:
            for each in self._evidence_in(read.text, categories, hint, "escaped"):
                start, end = read.original(each.start, each.end)
                yield replace(each, start=start, end=end)
        for word in base64_words(text):
            before = f"{hint} {text[max(0, word.start - _CONTEXT_CHARS) : word.start]}"
            for each in self._evidence_in(word.text, categories, before, "base64"):
                score = min(each.score, _NEARLY_CERTAIN)
                yield replace(each, start=word.start, end=word.end, score=score)

    def _evidence_in(
        self, text: str, categories: frozenset[Category], hint: str, reading: str
    ) -> Iterator[Evidence]:
        view = view_of(text)
        context = _Context(view, _spaced(hint))
        for index in self._gate.matching(view.data):
            if index < len(self._armed) and self._armed[index].recognizer.category in categories:
                yield from _evidence(self._armed[index], view, context, reading)

    def _scan(self, text: str, categories: frozenset[Category], hint: str) -> tuple[Finding, ...]:
        view = view_of(text)
        matching = self._gate.matching(view.data)
        findings = self._found(view, matching, categories, hint)
        for probe in matching[-_PROBES:]:
            if probe == len(self._armed):
                findings += self._found_escaped(text, categories, hint)
            elif probe > len(self._armed):
                findings += self._found_in_words(text, categories, hint)
        return merge(_at_most(findings))

    def _found_escaped(
        self, text: str, categories: frozenset[Category], hint: str
    ) -> Iterator[Finding]:
        """Find in the text without its escapes; what has none in it was found before."""
        read = unescaped(text)
        view = view_of(read.text)
        for each in self._found(view, self._gate.matching(view.data), categories, hint):
            start, end = read.original(each.start, each.end)
            yield replace(each, start=start, end=end)

    def _found_in_words(
        self, text: str, categories: frozenset[Category], hint: str
    ) -> Iterator[Finding]:
        """Find in base64 words; the whole word is the finding, and never certain."""
        for word in base64_words(text):
            before = f"{hint} {text[max(0, word.start - _CONTEXT_CHARS) : word.start]}"
            view = view_of(word.text)
            for each in self._found(view, self._gate.matching(view.data), categories, before):
                score = min(each.score, _NEARLY_CERTAIN)
                yield replace(each, start=word.start, end=word.end, score=score)

    def _found(
        self, view: View, matching: list[int], categories: frozenset[Category], hint: str
    ) -> list[Finding]:
        context = _Context(view, _spaced(hint))
        findings: list[Finding] = []
        for index in matching:
            if index >= len(self._armed):
                break
            armed = self._armed[index]
            if armed.recognizer.category in categories:
                findings.extend(_find(armed, view, context))
                _at_most(findings)
        return findings


def _at_most(findings: list[Finding]) -> list[Finding]:
    if len(findings) > PII_FINDINGS_MAX_COUNT:
        raise PIITooLargeError(f"at most {PII_FINDINGS_MAX_COUNT} findings expected in one text")
    return findings


def _find(armed: _Armed, view: View, context: _Context) -> Iterable[Finding]:
    recognizer = armed.recognizer
    for start, end in armed.regex.spans(view.data):
        for span in recognizer.judge(view.text, armed.pattern.at(start, end)):
            score = _with_context(span, recognizer, context)
            if score >= MIN_SCORE:
                yield Finding(
                    recognizer.category,
                    *view.original(span.start, span.end),
                    score,
                    recognizer.name,
                )


def _evidence(armed: _Armed, view: View, context: _Context, reading: str) -> Iterator[Evidence]:
    recognizer, pattern = armed.recognizer, armed.pattern
    validates = recognizer.judge is not accept
    for first, last in armed.regex.spans(view.data):
        for span in recognizer.judge(view.text, pattern.at(first, last)):
            score = _with_context(span, recognizer, context)
            if score >= MIN_SCORE:
                start, end = view.original(span.start, span.end)
                yield Evidence(
                    recognizer.category,
                    start,
                    end,
                    score,
                    recognizer.name,
                    pattern=pattern.regex,
                    pattern_score=pattern.score,
                    validated_score=span.score if validates else None,
                    context=context_words(context.in_order(span.start), recognizer.context),
                    reading=reading,
                )


def _with_context(span: Span, recognizer: Recognizer, context: _Context) -> float:
    if not 0 < span.score < CERTAIN or recognizer.context.isdisjoint(
        context.words_before(span.start)
    ):
        return span.score
    return min(_NEARLY_CERTAIN, max(span.score + CONTEXT_BOOST, CONTEXT_MIN_SCORE))


def _all_recognizers(settings: EngineSettings) -> tuple[Recognizer, ...]:
    loaded = load_recognizers()
    return (
        *borrowed(loaded),
        *own(judged_by(loaded["MacAddressRecognizer"])),
        cards(),
        invalid_cards(),
        ibans(loaded["IbanRecognizer"]),
        invalid_ibans(loaded["IbanRecognizer"]),
        addresses(),
        record_numbers(),
        misread_ssns(),
        phones(settings.phone_regions),
    )


def _digest(recognizers: list[Recognizer], settings: EngineSettings) -> str:
    """Name everything that decides what is found: ``sha384:`` and 96 hex digits."""
    described: JSONObject = {
        "phone_regions": [*settings.phone_regions],
        "recognizers": [_described(recognizer) for recognizer in recognizers],
    }
    return f"sha384:{hashlib.sha384(jcs.canonicalize(described)).hexdigest()}"


def _described(recognizer: Recognizer) -> JSONObject:
    return {
        "category": recognizer.category.value,
        "context": [*sorted(recognizer.context)],
        "name": recognizer.name,
        "patterns": [
            [pattern.regex, pattern.score, pattern.group] for pattern in recognizer.patterns
        ],
    }
