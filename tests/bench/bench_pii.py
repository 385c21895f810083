"""PII tier 1 against Presidio's pattern recognizers, interleaved in one run; and what it costs."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from pii_rivals import THRESHOLD, stock_patterns

from latensgate_enclave.pii.engine import Tier1Engine
from paths import published

if TYPE_CHECKING:
    from collections.abc import Callable

    from pii_rivals import Analyzer

_ROUNDS: Final = 5
_SIZES: Final = (200, 1_024, 4_096, 32_768)
_PROCESS: Final = """
import time
started = time.process_time()
from latensgate_enclave.pii.engine import Tier1Engine
engine = Tier1Engine()
ready_s = time.process_time() - started
for _ in range(3):
    engine.scan("mail bob@corp.internal, call +1 212 555 0134, card 4111 1111 1111 1111. " * 400)
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(line.split()[1], ready_s)
"""


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()  # CPU: other work on the machine counts for neither
    call()
    return time.process_time() - start


def prompts(kind: str, size: int) -> list[str]:
    with published("pii", "perf_prompts.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row["text"] for row in rows if row["kind"] == kind and row["size"] == size]


def compare(engine: Tier1Engine, presidio: Analyzer, text: str) -> tuple[float, float]:
    """Return the best times of both over a text; they take turns, so noise hits both alike."""
    pairs = [
        (
            seconds(partial(engine.scan, text)),
            seconds(partial(presidio.analyze, text, "en", score_threshold=THRESHOLD)),
        )
        for _ in range(_ROUNDS)
    ]
    return min(ours for ours, _ in pairs), min(theirs for _, theirs in pairs)


def hostile(engine: Tier1Engine) -> tuple[str, float]:
    worst = "", 0.0
    with published("pii", "hostile_repeats.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            text = (row["unit"] * row["chars"])[: row["chars"]]
            took = seconds(partial(engine.scan, text))
            worst = max(worst, (row["name"], took), key=lambda pair: pair[1])
    return worst


def process() -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _PROCESS], check=True, capture_output=True, text=True
    )
    resident_kib, ready_s = done.stdout.split()
    return int(resident_kib) / 1024, float(ready_s) * 1_000


def measure() -> list[tuple[str, float, str]]:
    """Return (name, value, meaning) rows."""
    engine = Tier1Engine()
    presidio = stock_patterns()
    rows: list[tuple[str, float, str]] = []
    for kind in ("sparse", "dense"):
        for size in _SIZES:
            times = [compare(engine, presidio, text) for text in prompts(kind, size)]
            ours = statistics.median(pair[0] for pair in times)
            theirs = statistics.median(pair[1] for pair in times)
            label = f"pii tier 1, {kind} {size} B"
            rows.append((label, ours * 1_000, "median CPU ms"))
            rows.append((f"{label}, gain", theirs / ours, "Presidio patterns / ours (3 or more)"))
    name, seconds = hostile(engine)
    rows.append((f"pii hostile, worst ({name})", seconds, "s at 32 KB (4 at most)"))
    resident_mib, ready_ms = process()
    rows.append(("pii process", resident_mib, "MiB peak resident (250 at most)"))
    rows.append(("pii start", ready_ms, "ms CPU, import and compile"))
    return rows


if __name__ == "__main__":
    for row in measure():
        print(f"{row[0]:44} {row[1]:10.3f}  {row[2]}")
