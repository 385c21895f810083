"""Attestation: a real document of production, with an empty and with a warm chain cache."""

from __future__ import annotations

import os
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from latensgate.verify import ChainCache, verify_document
from latensgate.verify.document import parse_untrusted_document
from latensgate.verify.policy import AppraisalPolicy, Measurements

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS: Final = 25
_CALLS: Final = 4


def _document() -> bytes | None:
    """Return the newest published production document; see tests/paths.py for the folder."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "vectors"
    folder = Path(os.environ.get("LATENSGATE_VECTORS") or beside) / "nitro" / "attestation"
    found = sorted(folder.glob("prod-2*.cbor"))
    return found[-1].read_bytes() if found else None


def _cpu_ms(call: Callable[[], object]) -> float:
    start = time.process_time_ns()
    for _ in range(_CALLS):
        call()
    return (time.process_time_ns() - start) / _CALLS / 1e6


def _calls(document: bytes) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the cold and the cached verification of a document at its own second."""
    untrusted = parse_untrusted_document(document)
    pcrs = untrusted.pcrs
    policy = AppraisalPolicy(measurements=(Measurements(pcrs[0], pcrs[1], pcrs[2]),))
    at = datetime.fromtimestamp(untrusted.timestamp_ms / 1_000, tz=UTC)
    warm = ChainCache()
    return (
        lambda: verify_document(document, policy=policy, at=at),
        lambda: verify_document(document, policy=policy, at=at, cache=warm),
    )


def measure() -> list[tuple[str, float, str]]:
    """Return (name, value, meaning) rows."""
    document = _document()
    if document is None:
        print("bench_verify: SKIPPED, no published documents; set LATENSGATE_VECTORS")
        return []
    cold, cached = _calls(document)
    cached()
    rounds = [(_cpu_ms(cold), _cpu_ms(cached)) for _ in range(_ROUNDS)]
    cold_ms = statistics.median(pair[0] for pair in rounds)
    cached_ms = statistics.median(pair[1] for pair in rounds)
    return [
        ("verify a document, cold", cold_ms, "ms CPU, whole chain"),
        ("verify a document, cached", cached_ms, "ms CPU, chain known"),
        ("verify a document, gain", cold_ms / cached_ms, "cold / cached"),
    ]


if __name__ == "__main__":
    for row in measure():
        print(f"{row[0]:36} {row[1]:10.3f}  {row[2]}")
