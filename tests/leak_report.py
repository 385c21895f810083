"""The measurement of what streams tell of their topics, and its table."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from leak_answers import TOPICS, WAYS, Way, Word, answer_of, vocabulary_of, watched
from leak_classifier import accuracy

ANSWERS: Final = 300
"""Of each topic: half to learn from, half to be judged."""
SEED: Final = 20_261_122
BEGIN: Final = "<!-- begin: written by make leak -->"
END: Final = "<!-- end of make leak -->"


@dataclass(frozen=True)
class Row:
    """What came out for one way."""

    way: Way
    accuracy: float
    records: float
    kib: float
    waits_ms: float


def measured(count: int, seed: int, ways: Sequence[Way] = WAYS) -> list[Row]:
    """Watch as many answers of every topic in each way; the answers are the same."""
    chance = random.Random(seed)  # noqa: S311 -- a model of traffic
    labels: list[int] = []
    answers: list[list[Word]] = []
    for label, topic in enumerate(TOPICS):
        vocabulary = vocabulary_of(topic, chance)
        for _ in range(count):
            labels.append(label)
            answers.append(answer_of(topic, vocabulary, chance))
    firsts_ms = [each[0].gap_s * 1_000 for each in answers]
    rows: list[Row] = []
    for way in ways:
        streams = watched(way, answers)
        pairs = list(zip(labels, streams, strict=True))
        waits = [each.at_ms[1] - first for each, first in zip(streams, firsts_ms, strict=True)]
        rows.append(
            Row(
                way,
                accuracy(pairs[::2], pairs[1::2]),
                fmean([len(each.size_bytes) for each in streams]),
                fmean([sum(each.size_bytes) / 1_024 for each in streams]),
                fmean(waits),
            )
        )
    return rows


def table(rows: Sequence[Row], count: int, seed: int) -> str:
    """Return the section of the document."""
    said = (
        f"{len(TOPICS)} generated topics, {count} answers each, half of them learned from and half"
        f" judged; seed {seed:,}. Guessing by chance: {1 / len(TOPICS):.0%}."
    )
    lines = [
        said,
        "",
        "| streams leave | topics named rightly | records | KiB | first token waits |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.way.name} | {row.accuracy:.0%} | {row.records:.0f} | {row.kib:.0f} |"
        f" {max(row.waits_ms, 0):.0f} ms |"
        for row in rows
    ]
    return "\n".join(lines)


def written(document: str, text: str) -> str:
    """Put the section between its marks.

    Raises:
        ValueError: The marks are not there.
    """
    before, rest = document.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"
