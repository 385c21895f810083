"""A short soak: the same load and the same report as `make soak`, some thousand times less."""

from __future__ import annotations

import asyncio
from pathlib import Path

from soak_driver import MIX
from soak_report import Progress, run_soak


def test_a_few_hundred_calls_leak_nothing(tmp_path: Path) -> None:
    limits = {"KEY_ROTATION_S": 2, "MANIFEST_LIFETIME_S": 60, "CLOCK_REFRESH_S": 1}
    with Progress(600, quiet=True) as progress:
        report = asyncio.run(
            run_soak(tmp_path, count=600, lanes=6, limits=limits, progress=progress)
        )
    assert report.faults() == [], report.text()
    assert set(report.tally.calls) == set(MIX)
