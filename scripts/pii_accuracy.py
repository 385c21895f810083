"""Precision, recall and F2 of tier 1 by category on the published development sets.

    python scripts/pii_accuracy.py

A finding is right if it has the type of a gold span that is still unused and their intersection
over union is at least 0.5; F2 weighs recall. "covered" is the share of gold spans whose letters
and digits lie inside findings of any category to at least 95 %: what does not leak. Only figures
are printed, never a text.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

from latensgate_enclave.pii.engine import Tier1Engine
from latensgate_enclave.pii.findings import without_explained

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from latensgate_enclave.pii.findings import Finding
    from latensgate_enclave.pii.scanner import Scanner

REPOSITORY: Final = Path(__file__).resolve().parent.parent
SETS: Final = (
    "presidio_research_synth_v2",
    "pii_anon_eval_adversarial",
    "pii_anon_eval_technology",
)
SPACE: Final = {
    "EMAIL_ADDRESS": "EMAIL_ADDRESS",
    "PHONE_NUMBER": "PHONE_NUMBER",
    "CREDIT_CARD": "CREDIT_CARD",
    "IBAN_CODE": "IBAN_CODE",
    "US_SSN": "US_SSN",
    "SOCIAL_SECURITY_NUMBER": "US_SSN",
    "IP_ADDRESS": "IP_ADDRESS",
    "MAC_ADDRESS": "MAC_ADDRESS",
    "API_KEY": "API_KEY",
    "PASSWORD": "PASSWORD",
    "PERSON": "PERSON",
    "PERSON_NAME": "PERSON",
    "GPE": "LOCATION",
    "LOCATION": "LOCATION",
    "ORG": "ORGANIZATION",
    "ORGANIZATION": "ORGANIZATION",
    "ORGANIZATION_NAME": "ORGANIZATION",
    "BANK_ACCOUNT_NUMBER": "US_BANK_NUMBER",
    "STREET_ADDRESS": "STREET_ADDRESS",
    "MEDICAL_RECORD_NUMBER": "RECORD_NUMBER",
}
"""Type of the sets → our category."""
MIN_IOU: Final = 0.5
MIN_COVERED: Final = 0.95
BETA2: Final = 4


class Span(TypedDict):
    """One gold span."""

    type: str
    start: int
    end: int


class Row(TypedDict):
    """One text of a set."""

    text: str
    spans: list[Span]


@dataclass(slots=True)
class Score:
    """Counts of one category on one set."""

    right: int = 0
    found: int = 0
    gold: int = 0
    covered: int = 0

    @property
    def precision(self) -> float:
        """Share of findings that are right."""
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of gold spans that are found."""
        return self.right / self.gold if self.gold else 0.0

    @property
    def f2(self) -> float:
        """F measure with recall four times as heavy as precision."""
        below = BETA2 * self.precision + self.recall
        return (1 + BETA2) * self.precision * self.recall / below if below else 0.0


def rows(path: Path) -> Iterator[Row]:
    """Read one set."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def score_set(engine: Scanner, texts: Iterable[Row]) -> dict[str, Score]:
    """Scan every text of a set and count by category."""
    scores: dict[str, Score] = defaultdict(Score)
    for row in texts:
        findings = without_explained(engine.scan(row["text"]), rank=_alike)
        _score_row(row, findings, scores)
    return dict(scores)


def _alike(_finding: Finding) -> int:
    return 0


def _score_row(row: Row, findings: tuple[Finding, ...], scores: dict[str, Score]) -> None:
    unused = [(SPACE[s["type"]], s["start"], s["end"]) for s in row["spans"] if s["type"] in SPACE]
    for category, start, end in unused:
        scores[category].gold += 1
        scores[category].covered += _is_covered(row["text"], start, end, findings)
    for finding in findings:
        score = scores[finding.category.value]
        score.found += 1
        hit = next((gold for gold in unused if _hits(finding, gold)), None)
        if hit is not None:
            unused.remove(hit)
            score.right += 1


def _hits(finding: Finding, gold: tuple[str, int, int]) -> bool:
    category, start, end = gold
    shared = min(end, finding.end) - max(start, finding.start)
    joined = max(end, finding.end) - min(start, finding.start)
    return category == finding.category.value and shared >= MIN_IOU * joined


def _is_covered(text: str, start: int, end: int, findings: tuple[Finding, ...]) -> bool:
    places = [place for place in range(start, end) if text[place].isalnum()]
    inside = sum(any(f.start <= place < f.end for f in findings) for place in places)
    return inside >= MIN_COVERED * len(places)


def main() -> int:
    """Print one table a set."""
    default = REPOSITORY.parent / "shared" / "vectors"
    root = Path(os.environ.get("LATENSGATE_VECTORS") or default) / "pii"
    engine = Tier1Engine()
    for name in SETS:
        print(f"{name}\n{'':18}  found   gold      P      R     F2  covered")
        scores = score_set(engine, rows(root / f"{name}.jsonl"))
        for category, score in sorted(scores.items()):
            share = f"{score.covered / score.gold:8.2f}" if score.gold else "       -"
            print(
                f"{category:18} {score.found:6} {score.gold:6} {score.precision:6.2f} "
                f"{score.recall:6.2f} {score.f2:6.2f} {share}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
