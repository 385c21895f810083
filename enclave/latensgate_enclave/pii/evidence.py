"""Why something was found: for whoever tries a policy, and never for a log or a receipt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, runtime_checkable

from latensgate_enclave.pii.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from latensgate_enclave.pii.findings import Category
    from latensgate_enclave.pii.scanner import Scanner


class ContextWord(NamedTuple):
    """A word that raised a score.

    Attributes:
        word: In lower case.
        distance: 1 stands right before the match, 2 one word further away.
    """

    word: str
    distance: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """One match that counts towards a finding.

    Attributes:
        category: What it is taken for.
        start: First code point, in the text that was scanned.
        end: Code point after the last.
        score: With everything.
        recognizer: Name of the recognizer.
        source: ``tier1``, ``tier2``, ``deny_list`` or ``custom``.
        pattern: RE2 syntax; None where no pattern matched.
        pattern_score: Of the pattern alone.
        validated_score: What its validator made of that; None without one.
        context: Words before it that count for its recognizer, the nearest first.
        reading: ``plain``, or ``escaped`` or ``base64`` where it stands behind an encoding.
    """

    category: Category
    start: int
    end: int
    score: float
    recognizer: str
    source: str = "tier1"
    pattern: str | None = None
    pattern_score: float | None = None
    validated_score: float | None = None
    context: tuple[ContextWord, ...] = ()
    reading: str = "plain"

    @classmethod
    def of(cls, finding: Finding, source: str) -> Self:
        """Return a finding as its own evidence."""
        return cls(
            finding.category,
            finding.start,
            finding.end,
            finding.score,
            finding.recognizer,
            source,
        )

    def finding(self) -> Finding:
        """Return it as a finding by itself."""
        return Finding(self.category, self.start, self.end, self.score, self.recognizer)


@runtime_checkable
class Explaining(Protocol):
    """A scanner that can say why."""

    def evidence(
        self, text: str, *, categories: frozenset[Category], hint: str = ""
    ) -> Iterable[Evidence]:
        """Yield what findings are made of; in no order."""
        ...


def evidence_of(
    scanner: Scanner, text: str, *, categories: frozenset[Category], hint: str
) -> Iterable[Evidence]:
    """Return why a scanner finds what it finds; nothing from one that cannot say."""
    if isinstance(scanner, Explaining):
        return scanner.evidence(text, categories=categories, hint=hint)
    return ()


def context_words(before: Sequence[str], wanted: frozenset[str]) -> tuple[ContextWord, ...]:
    """Return the words that a recognizer wants, the nearest first.

    Args:
        before: Words before a match, in the order of the text.
        wanted: Of the recognizer.
    """
    return tuple(
        ContextWord(word, distance)
        for distance, word in enumerate(reversed(before), 1)
        if word in wanted
    )
