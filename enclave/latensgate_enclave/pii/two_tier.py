"""Both tiers as one engine: patterns always, names where the policy acts on them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Protocol

from latensgate_enclave.pii.engine import TIER1_CATEGORIES, Tier1Engine
from latensgate_enclave.pii.evidence import Evidence
from latensgate_enclave.pii.findings import (
    ALL_CATEGORIES,
    NAME_CATEGORIES,
    Category,
    Finding,
    merge,
)
from latensgate_enclave.pii.normalise import readable
from latensgate_shared import jcs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from latensgate_shared.strict_json import JSONObject

_SCORE: Final = 0.85
"""Presidio's score for whatever spaCy names: the model gives none."""
_RECOGNIZER: Final = "spacy.ner"
_CATEGORY_OF: Final = {
    "PERSON": Category.PERSON,
    "PER": Category.PERSON,
    "GPE": Category.LOCATION,
    "LOC": Category.LOCATION,
    "FAC": Category.LOCATION,
    "ORG": Category.ORGANIZATION,
    "NORP": Category.NRP,
    "DATE": Category.DATE_TIME,
    "TIME": Category.DATE_TIME,
}
"""Presidio's mapping. Dates come along where names are asked for, and never make tier 2 run."""


class Named(Protocol):
    """An entity in a text."""

    @property
    def start(self) -> int: ...  # noqa: D102 - code points
    @property
    def end(self) -> int: ...  # noqa: D102
    @property
    def label(self) -> str: ...  # noqa: D102


class NameFinder(Protocol):
    """What finds names: a ``NamesPool``."""

    def find(self, text: str) -> Sequence[Named]:
        """Return the entities of a text; see ``NamesPool.find``."""
        ...


class TwoTierEngine:
    """Tier 1 and the names of tier 2.

    Args:
        tier1: Patterns.
        names: Names; its failures are refusals.
        model_digest: Of the model behind it.
    """

    __slots__ = ("_names", "_tier1", "digest")

    def __init__(self, tier1: Tier1Engine, names: NameFinder, model_digest: str) -> None:
        self._tier1 = tier1
        self._names = names
        described: JSONObject = {"tier1": tier1.digest, "model": model_digest, "score": _SCORE}
        self.digest = f"sha384:{hashlib.sha384(jcs.canonicalize(described)).hexdigest()}"

    def waits(self, categories: frozenset[Category]) -> bool:
        """Whether a scan for these goes to the workers."""
        return not categories.isdisjoint(NAME_CATEGORIES)

    def scan(
        self,
        text: str,
        *,
        categories: frozenset[Category] = ALL_CATEGORIES,
        hint: str = "",
    ) -> tuple[Finding, ...]:
        """Find personal data in a text; see ``Tier1Engine.scan``.

        Raises:
            PIITooLargeError: As tier 1.
            PIIEngineError: Either tier could not finish; the subclass says why.
        """
        found = self._tier1.scan(text, categories=categories & TIER1_CATEGORIES, hint=hint)
        if not self.waits(categories) or not _has_letters(text):
            return found
        return merge([*found, *self._named(text, categories)])

    def evidence(
        self, text: str, *, categories: frozenset[Category], hint: str = ""
    ) -> Iterator[Evidence]:
        """Yield tier 1's evidence, and what the model named."""
        yield from self._tier1.evidence(text, categories=categories, hint=hint)
        if self.waits(categories) and _has_letters(text):
            for found in self._named(text, categories):
                yield Evidence.of(found, "tier2")

    def _named(self, text: str, categories: frozenset[Category]) -> Iterator[Finding]:
        read = readable(text)
        for entity in self._names.find(read.text):
            category = _CATEGORY_OF.get(entity.label)
            if category is not None and category in categories:
                start, end = read.original(entity.start, entity.end)
                yield Finding(category, start, end, _SCORE, _RECOGNIZER)


def _has_letters(text: str) -> bool:
    """Whether there can be a name: most JSON scalars are numbers."""
    return any(character.isalpha() for character in text)
