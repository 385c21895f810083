"""What docs/pii.md states, measured: speed, what of Presidio's findings is met, memory."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench_pii import hostile, process, prompts, seconds
from pii_rivals import (
    THRESHOLD,
    Placed,
    is_met,
    listed_loss,
    placed,
    stock_patterns,
    stock_with_spacy,
)

from latensgate_enclave.ner.pool import NamesPool
from latensgate_enclave.pii.apply import TextPart
from latensgate_enclave.pii.engine import Tier1Engine
from latensgate_enclave.pii.protection import Protection
from latensgate_enclave.pii.tally import Budget
from latensgate_enclave.pii.two_tier import TwoTierEngine
from latensgate_shared.limits import PII_REQUEST_MAX_CHARS
from latensgate_shared.pii_names import Direction
from latensgate_shared.pii_policy_document import parse_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pii_rivals import Analyzer

    from latensgate_enclave.pii.scanner import Scanner
    from latensgate_shared.pii_policy import Policy

SIZES: Final = (200, 1_024, 4_096, 32_768)
_MIB: Final = 1024 * 1024


@dataclass(slots=True)
class Met:
    """How many of Presidio's findings are ours, too.

    Attributes:
        theirs: All of theirs.
        listed: Left out on purpose, by reason.
        lost: Neither met nor listed, by category.
    """

    theirs: int = 0
    listed: Counter[str] = field(default_factory=Counter[str])
    lost: Counter[str] = field(default_factory=Counter[str])

    @property
    def share(self) -> float:
        """Share that is met, of those that are not left out on purpose."""
        held = self.theirs - self.listed.total()
        return 1 - self.lost.total() / held if held else 1.0

    def add(self, text: str, theirs: Sequence[Placed], ours: Sequence[Placed]) -> None:
        """Count the findings in one text."""
        for each in theirs:
            self.theirs += 1
            if is_met(text, each, ours):
                continue
            reason = listed_loss(text, each)
            (self.lost if reason is None else self.listed)[reason or each.category] += 1


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians over the texts of one kind and size, milliseconds."""

    kind: str
    size: int
    ours_ms: float
    theirs_ms: float


def _ours(engine: Scanner, text: str) -> list[Placed]:
    return [Placed(each.category.value, each.start, each.end) for each in engine.scan(text)]


def _wall_s(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _compared(
    engine: Scanner,
    rival: Analyzer,
    cells: Sequence[tuple[str, int]],
    timed: Callable[[Callable[[], object]], float],
    rounds: int,
) -> tuple[list[Speed], Met]:
    """Time both over the same texts in turns, and compare what they find."""
    speeds: list[Speed] = []
    met = Met()
    for kind, size in cells:
        ours: list[float] = []
        theirs: list[float] = []
        for text in prompts(kind, size):
            found = placed(rival.analyze(text, "en", score_threshold=THRESHOLD))
            met.add(text, found, _ours(engine, text))
            analyze = partial(rival.analyze, text, "en", score_threshold=THRESHOLD)
            pairs = [(timed(partial(engine.scan, text)), timed(analyze)) for _ in range(rounds)]
            ours.append(min(pair[0] for pair in pairs))
            theirs.append(min(pair[1] for pair in pairs))
        speeds.append(
            Speed(kind, size, statistics.median(ours) * 1_000, statistics.median(theirs) * 1_000)
        )
    return speeds, met


def tier1_against_patterns(rounds: int) -> tuple[list[Speed], Met]:
    """CPU time of tier 1 and of Presidio's pattern recognizers."""
    cells = [(kind, size) for kind in ("sparse", "dense") for size in SIZES]
    return _compared(Tier1Engine(), stock_patterns(), cells, seconds, rounds)


def two_tiers_against_stock(names: NamesPool, rounds: int) -> tuple[list[Speed], Met]:
    """Time of both tiers with one worker, and of Presidio with spaCy in one thread."""
    engine = TwoTierEngine(Tier1Engine(), names, "")
    cells = [("sparse", 1_024), ("sparse", 4_096)]
    return _compared(engine, stock_with_spacy(), cells, _wall_s, rounds)


def hostile_worst() -> tuple[str, float]:
    """Return name and CPU seconds of the slowest hostile text at 32 KB."""
    return hostile(Tier1Engine())


def tier1_memory_mib() -> tuple[float, float]:
    """Return the peak of a process with tier 1, and its start in CPU milliseconds."""
    return process()


def flat_memory(names: NamesPool, texts: int) -> tuple[float, float, float]:
    """Scan texts of ever-new words; MiB before, after, and of a worker at most."""
    engine = TwoTierEngine(Tier1Engine(), names, "")
    for number in range(texts // 10):
        engine.scan(_new_words(-number))
    before = _resident_mib(os.getpid(), "VmRSS")
    for number in range(texts):
        engine.scan(_new_words(number))
    return before, _resident_mib(os.getpid(), "VmRSS"), _largest_worker_mib()


def flat_tier1(texts: int) -> tuple[float, float]:
    """Protect requests of ever-new words and values, both ways; MiB before and after."""
    engine, policy = Tier1Engine(), parse_policy(_BOTH_WAYS)
    for number in range(texts // 10):
        _protected(engine, policy, -number - 1)
    before = _resident_mib(os.getpid(), "VmRSS")
    for number in range(texts):
        _protected(engine, policy, number)
    return before, _resident_mib(os.getpid(), "VmRSS")


def _protected(engine: Scanner, policy: Policy, number: int) -> None:
    """Do what the enclave does for a request: surrogates to the model, windows on the way back."""
    protection = Protection.under(
        policy, engine, "tnt_00000000", number.to_bytes(8, "big", signed=True)
    )
    prompt = f"{_new_words(number)} mail w{number:x}@example.com or call +49 30 {number % 10**7:07}"
    told = _prompted(protection, prompt)
    passage = protection.stream(Direction.ANSWER, budget=_budget())
    said = "".join(passage.push(told[place : place + 40]) for place in range(0, len(told), 40))
    assert said + passage.end() == prompt


def _prompted(protection: Protection, text: str) -> str:
    (told,) = protection.scan_request([TextPart(text, Direction.PROMPT)], budget=_budget()).texts
    return told


def _budget() -> Budget:
    return Budget(max_chars=PII_REQUEST_MAX_CHARS)


_TO_MODEL: Final = {"action": "pseudonymise"}
_BOTH_WAYS: Final = {"rules": {"*": {"prompt": _TO_MODEL, "answer": {"action": "mask"}}}}


def streamed_against_batch() -> tuple[float, float]:
    """CPU milliseconds of dense 4 KB answers, whole and in pieces of 1 to 8 characters; medians."""
    engine, policy = Tier1Engine(), parse_policy(_BOTH_WAYS)
    chance = random.Random(7)  # noqa: S311 -- where to cut, no secret
    whole: list[float] = []
    pieces: list[float] = []
    for text in prompts("dense", 4_096):
        cut = list(_cut(text, chance))
        part = TextPart(text, Direction.ANSWER)
        timed = [
            (
                seconds(partial(_batch, _fresh(engine, policy), part)),
                seconds(partial(_streamed, _fresh(engine, policy), cut)),
            )
            for _ in range(3)
        ]
        whole.append(min(pair[0] for pair in timed))
        pieces.append(min(pair[1] for pair in timed))
    return statistics.median(whole) * 1_000, statistics.median(pieces) * 1_000


def both_ways_ms() -> float:
    """CPU milliseconds of the engine for a sparse 1 KB prompt and as much of an answer; median."""
    engine, policy = Tier1Engine(), parse_policy(_BOTH_WAYS)

    def run(text: str) -> None:
        protection = _fresh(engine, policy)
        told = _prompted(protection, text)
        protection.scan_answer([TextPart(told, Direction.ANSWER)], budget=_budget())

    best = [min(seconds(partial(run, text)) for _ in range(5)) for text in prompts("sparse", 1_024)]
    return statistics.median(best) * 1_000


def _fresh(engine: Scanner, policy: Policy) -> Protection:
    return Protection.under(policy, engine, "tnt_00000000", bytes(32))


def _cut(text: str, chance: random.Random) -> Iterator[str]:
    place = 0
    while place < len(text):
        end = place + chance.randrange(1, 9)
        yield text[place:end]
        place = end


def _batch(protection: Protection, part: TextPart) -> None:
    protection.scan_answer([part], budget=_budget())


def _streamed(protection: Protection, pieces: Iterable[str]) -> None:
    passage = protection.stream(Direction.ANSWER, budget=_budget())
    for piece in pieces:
        passage.push(piece)
    passage.end()


def _new_words(number: int) -> str:
    return " ".join(f"Zu{number:x}q{place}k Mb{place}x{number:x}" for place in range(12))


def _resident_mib(process_id: int, field_name: str) -> float:
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith(field_name):
            return int(line.split()[1]) * 1024 / _MIB
    return 0.0


def _largest_worker_mib() -> float:
    tasks = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    workers = [
        int(worker)
        for task in tasks
        for worker in Path(f"/proc/{task}/task/{task}/children").read_text().split()
    ]
    return max(_resident_mib(worker, "VmHWM") for worker in workers)
