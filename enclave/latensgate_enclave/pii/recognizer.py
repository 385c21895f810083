"""What a recognizer is: patterns for RE2, context words, and a judge of each match."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from latensgate_enclave.pii.findings import Category


class Span(NamedTuple):
    """A part of the view, with the confidence that it is what it is taken for."""

    start: int
    end: int
    score: float


class Pattern(NamedTuple):
    """One RE2 pattern.

    Attributes:
        regex: RE2 syntax, over the characters of a view.
        score: Confidence of a match before check digits and context.
        group: Group whose span counts; 0 is the whole match.
    """

    regex: str
    score: float
    group: int = 0

    def at(self, start: int, end: int) -> Span:
        """Return the span of one match of this pattern."""
        return Span(start, end, self.score)


Judge: TypeAlias = Callable[[str, Span], Iterable[Span]]
"""Takes the view and a match, returns the findings in it: none, the same, or others."""


def accept(_view: str, match: Span) -> tuple[Span]:
    """Judge of patterns that say all there is to say."""
    return (match,)


@dataclass(frozen=True, slots=True)
class Recognizer:
    """One recognizer.

    Attributes:
        name: Unique; for explanations and the engine's digest.
        category: What it finds.
        patterns: Tried each on its own.
        context: Lower-case words that raise the score when one stands before a finding.
        judge: See ``Judge``.
    """

    name: str
    category: Category
    patterns: tuple[Pattern, ...]
    context: frozenset[str] = frozenset()
    judge: Judge = accept


def words(listed: str) -> frozenset[str]:
    """Return the words of a list that is written as one text."""
    return frozenset(listed.split())
