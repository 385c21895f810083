"""PII tier 1 against Presidio's pattern recognizers, interleaved in one run; and what it costs.

Presidio is here for comparison only, and its suffix list is the one in its package: as it comes
it would fetch one over the network.
"""

from __future__ import annotations

import json
import logging
import statistics
import subprocess
import sys
import time
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, cast

from latensgate_enclave.pii.engine import Tier1Engine
from paths import published

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS: Final = 5
_SIZES: Final = (200, 1_024, 4_096, 32_768)
_THRESHOLD: Final = 0.35
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


class _Analyzer(Protocol):
    def analyze(self, text: str, language: str, *, score_threshold: float) -> list[object]: ...


def _presidio() -> _Analyzer:
    # Ours loaded first and planted shells; Presidio as it comes needs its own packages.
    for name in [name for name in sys.modules if name.partition(".")[0] == "presidio_analyzer"]:
        del sys.modules[name]
    logging.getLogger("presidio-analyzer").disabled = True
    # By name, since `make setup` installs presidio-analyzer without what it depends on.
    tldextract = import_module("tldextract")
    presidio = import_module("presidio_analyzer")
    nlp = import_module("presidio_analyzer.nlp_engine")

    offline = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    cast("dict[str, object]", vars(tldextract))["extract"] = offline
    registry = presidio.RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    registry.remove_recognizer("SpacyRecognizer")
    nothing = nlp.NoOpNlpEngine([{"lang_code": "en", "model_name": "none"}])
    nothing.load()
    return cast("_Analyzer", presidio.AnalyzerEngine(registry=registry, nlp_engine=nothing))


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()  # CPU: other work on the machine counts for neither
    call()
    return time.process_time() - start


def _prompts(kind: str, size: int) -> list[str]:
    with published("pii", "perf_prompts.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row["text"] for row in rows if row["kind"] == kind and row["size"] == size]


def _compare(engine: Tier1Engine, presidio: _Analyzer, text: str) -> tuple[float, float]:
    """Return the best times of both over a text; they take turns, so noise hits both alike."""
    pairs = [
        (
            _seconds(partial(engine.scan, text)),
            _seconds(partial(presidio.analyze, text, "en", score_threshold=_THRESHOLD)),
        )
        for _ in range(_ROUNDS)
    ]
    return min(ours for ours, _ in pairs), min(theirs for _, theirs in pairs)


def _hostile(engine: Tier1Engine) -> tuple[str, float]:
    worst = "", 0.0
    with published("pii", "hostile_repeats.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            text = (row["unit"] * row["chars"])[: row["chars"]]
            took = _seconds(partial(engine.scan, text))
            worst = max(worst, (row["name"], took), key=lambda pair: pair[1])
    return worst


def _process() -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _PROCESS], check=True, capture_output=True, text=True
    )
    resident_kib, ready_s = done.stdout.split()
    return int(resident_kib) / 1024, float(ready_s) * 1_000


def measure() -> list[tuple[str, float, str]]:
    """Return (name, value, meaning) rows."""
    engine = Tier1Engine()
    presidio = _presidio()
    rows: list[tuple[str, float, str]] = []
    for kind in ("sparse", "dense"):
        for size in _SIZES:
            times = [_compare(engine, presidio, text) for text in _prompts(kind, size)]
            ours = statistics.median(pair[0] for pair in times)
            theirs = statistics.median(pair[1] for pair in times)
            label = f"pii tier 1, {kind} {size} B"
            rows.append((label, ours * 1_000, "median CPU ms"))
            rows.append((f"{label}, gain", theirs / ours, "Presidio patterns / ours (3 or more)"))
    name, seconds = _hostile(engine)
    rows.append((f"pii hostile, worst ({name})", seconds, "s at 32 KB (4 at most)"))
    resident_mib, ready_ms = _process()
    rows.append(("pii process", resident_mib, "MiB peak resident (250 at most)"))
    rows.append(("pii start", ready_ms, "ms CPU, import and compile"))
    return rows


if __name__ == "__main__":
    for row in measure():
        print(f"{row[0]:44} {row[1]:10.3f}  {row[2]}")
