"""What a policy looks for itself: deny terms, and recognizers in RE2 syntax.

Terms are found in any script and any case, as whole words. Patterns are bounded before they run: in
number, in length, and in the size of the program that RE2 makes of them; RE2's time is linear in
the text. A pattern that RE2 does not take, or that matches an empty text, refuses the policy and
names the field.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, Final

from latensgate_enclave.pii.engine import CONTEXT_BOOST, CONTEXT_MIN_SCORE
from latensgate_enclave.pii.errors import PIIEngineError, PIIPatternError, PIITooLargeError
from latensgate_enclave.pii.evidence import Evidence, context_words, evidence_of
from latensgate_enclave.pii.findings import ALL_CATEGORIES, CERTAIN, Category, Finding, merge
from latensgate_enclave.pii.matching import Regex
from latensgate_enclave.pii.normalise import replaced, view_of
from latensgate_shared.limits import (
    PII_FINDINGS_MAX_COUNT,
    POLICY_PATTERN_MAX_INSTRUCTIONS,
    POLICY_TERM_PLACES_MAX_COUNT,
)
from latensgate_shared.pii_policy import PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from latensgate_enclave.pii.normalise import View
    from latensgate_enclave.pii.scanner import Scanner
    from latensgate_shared.pii_policy import CustomRecognizer, Policy

_CONTEXT_CHARS: Final = 96
_WORD: Final = re.compile("[a-z0-9]+")
_NOT_PLAIN: Final = re.compile(r"[^\t\n\r -@\[-~]")
_NEARLY_CERTAIN: Final = 0.99
_TERMS_NAME: Final = "deny list"


class PolicyScanner:
    """An engine, and what a policy looks for besides.

    Args:
        engine: Whose findings are taken along.
        policy: Its deny list and recognizers.

    Raises:
        PolicyError: A pattern that cannot be used.
    """

    __slots__ = ("_compiled", "_engine", "_terms", "digest")

    def __init__(self, engine: Scanner, policy: Policy) -> None:
        self._engine = engine
        self.digest = engine.digest
        self._terms = _folded_terms(policy.deny)
        self._compiled = tuple(
            (each, Category(each.category), _compiled(each)) for each in sorted(policy.recognizers)
        )

    def waits(self, categories: frozenset[Category]) -> bool:
        """Whether a scan for these waits for another process."""
        return self._engine.waits(categories)

    def scan(
        self, text: str, *, categories: frozenset[Category] = ALL_CATEGORIES, hint: str = ""
    ) -> tuple[Finding, ...]:
        """Find personal data in a text, and what the policy looks for.

        Raises:
            PIITooLargeError: The text is too long, or has too many findings.
            PIIEngineError: Anything else.
        """
        found = self._engine.scan(text, categories=categories, hint=hint)
        try:
            own = self._own(text, categories, hint)
        except PIITooLargeError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever fails must deny; texts may hold content
            problem = type(error).__name__
        else:
            return merge([*found, *own]) if own else found
        raise PIIEngineError(f"a policy's own scan could not be finished: {problem}")

    def evidence(
        self, text: str, *, categories: frozenset[Category], hint: str = ""
    ) -> Iterator[Evidence]:
        """Yield the engine's evidence, and what the policy's own findings are made of."""
        yield from evidence_of(self._engine, text, categories=categories, hint=hint)
        if Category.DENY_LISTED in categories:
            for found in _denied(text, self._terms):
                yield Evidence.of(found, "deny_list")
        view = view_of(text)
        for recognizer, category, regex in self._compiled:
            if category in categories:
                yield from _matched(view, recognizer, category, regex, hint)

    def _own(self, text: str, categories: frozenset[Category], hint: str) -> list[Finding]:
        own: list[Finding] = []
        if self._terms and Category.DENY_LISTED in categories:
            _take(own, _denied(text, self._terms))
        asked = [each for each in self._compiled if each[1] in categories]
        if asked:
            view = view_of(text)
            for recognizer, category, regex in asked:
                matched = _matched(view, recognizer, category, regex, hint)
                _take(own, (each.finding() for each in matched))
        return own


def scanner_for(engine: Scanner, policy: Policy) -> Scanner:
    """Return what finds all that a policy acts on: the engine itself where it brings nothing.

    Raises:
        PolicyError: A pattern that cannot be used.
    """
    return PolicyScanner(engine, policy) if policy.deny or policy.recognizers else engine


def _take(own: list[Finding], found: Iterator[Finding]) -> None:
    for finding in found:
        own.append(finding)
        if len(own) > PII_FINDINGS_MAX_COUNT:
            raise PIITooLargeError(f"at most {PII_FINDINGS_MAX_COUNT} findings in a text expected")


# --- terms ---


def _fold(character: str) -> str:
    if unicodedata.category(character) in {"Cf", "Mn", "Me"}:
        return ""
    return unicodedata.normalize("NFKC", character).casefold()


@lru_cache(maxsize=64)
def _folded_terms(terms: frozenset[str]) -> tuple[str, ...]:
    folded = {replaced(term, _NOT_PLAIN, _fold).text for term in terms}
    return tuple(sorted(folded - {""}))


_WORD_END: Final = re.compile(r"[\W_]")


def _whole(term: str, text: str, looked_at: Iterator[int]) -> Iterator[tuple[int, int]]:
    """Yield where a term stands and no word goes on at its ends.

    An expression that says so would be tried at every character, and for a term that nearly matches
    there cost the length of the term each time. `str.find` is linear whatever both are; what it
    finds in the middle of words is counted over all terms.

    Raises:
        PIITooLargeError: It found too much.
    """
    opens, closes = term[0].isalnum(), term[-1].isalnum()
    place = text.find(term)
    while place >= 0:
        if next(looked_at) > POLICY_TERM_PLACES_MAX_COUNT:
            raise PIITooLargeError(
                f"at most {POLICY_TERM_PLACES_MAX_COUNT} places of deny terms in a text expected"
            )
        end = place + len(term)
        within = opens and text[place - 1 : place].isalnum()
        if not within and not (closes and text[end : end + 1].isalnum()):
            yield place, end
        elif opens:  # a term that opens with a word begins where a word begins
            found = _WORD_END.search(text, place)
            end = found.end() if found else len(text)
        else:
            end = place + 1
        place = text.find(term, end)


def _denied(text: str, terms: Iterable[str]) -> Iterator[Finding]:
    folded = replaced(text, _NOT_PLAIN, _fold)
    looked_at = count(1)
    for term in terms:
        for start, end in _whole(term, folded.text, looked_at):
            first, stop = folded.original(start, end)
            yield Finding(Category.DENY_LISTED, first, stop, CERTAIN, _TERMS_NAME)


# --- recognizers ---


@lru_cache(maxsize=512)
def _compiled(recognizer: CustomRecognizer) -> Regex:
    field = f"policy.recognizers.{recognizer.name}.pattern"
    try:
        regex = Regex(recognizer.pattern)
    except PIIPatternError:
        raise PolicyError(
            field, "RE2 syntax expected (no look-around, no back-references)"
        ) from None
    if regex.size > POLICY_PATTERN_MAX_INSTRUCTIONS:
        raise PolicyError(
            field, f"a program of at most {POLICY_PATTERN_MAX_INSTRUCTIONS} instructions expected"
        )
    if regex.spans(b""):
        raise PolicyError(field, "a pattern that does not match an empty text expected")
    return regex


def _matched(
    view: View, recognizer: CustomRecognizer, category: Category, regex: Regex, hint: str
) -> Iterator[Evidence]:
    wanted = frozenset(recognizer.context)
    for start, end in regex.spans(view.data):
        if start < end:
            score = recognizer.score
            context = context_words(_words_before(view, start, hint), wanted) if wanted else ()
            if context:
                score = min(_NEARLY_CERTAIN, max(score + CONTEXT_BOOST, CONTEXT_MIN_SCORE))
            yield Evidence(
                category,
                *view.original(start, end),
                max(score, recognizer.score),
                recognizer.name,
                "custom",
                pattern=recognizer.pattern,
                pattern_score=recognizer.score,
                context=context,
            )


def _words_before(view: View, start: int, hint: str) -> list[str]:
    before = view.text[max(0, start - _CONTEXT_CHARS) : start]
    found: list[str] = _WORD.findall(f"{hint} {before}".lower())
    return found
