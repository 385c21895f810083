"""The report finds what it is there to find."""

from __future__ import annotations

from dataclasses import replace

import pytest

from soak_driver import Tally
from soak_report import ID_BYTES, SLACK_KIB, STEADY_SLACK_KIB, Report, Sample


def report(*samples: Sample) -> Report:
    return Report(Tally(), list(samples), (8, 9), (1000, 1000), 0, 0, ids_kept_s=600)


def samples(duration_s: int, grow_kib: int, *, until_s: int) -> list[Sample]:
    """A sample a minute; memory grows until `until_s`."""
    return [
        Sample(at_s, at_s * 100, 50_000 + min(at_s, until_s) * grow_kib // 60, 20)
        for at_s in range(60, duration_s + 1, 60)
    ]


def test_growth_by_remembered_ids_is_no_leak() -> None:
    kib_a_minute = 6_000 * ID_BYTES // 1024
    assert report(*samples(600, kib_a_minute, until_s=600)).faults() == []
    assert report(*samples(3_000, kib_a_minute, until_s=600)).faults() == []


def test_growth_after_ids_are_forgotten_is_a_leak() -> None:
    found = report(*samples(3_000, STEADY_SLACK_KIB // 30, until_s=3_000)).faults()
    assert len(found) == 1
    assert "memory grew" in found[0]


def test_fast_growth_in_a_short_run_is_a_leak() -> None:
    found = report(*samples(600, 6_000 * ID_BYTES // 1024 + SLACK_KIB // 5, until_s=600)).faults()
    assert len(found) == 1


def test_descriptors_tasks_calls_and_a_bad_end_are_told() -> None:
    steady = samples(600, 0, until_s=0)
    steady[-1] = replace(steady[-1], descriptors=40)
    found = report(*steady)
    found.tasks, found.open_calls, found.exit_status = (8, 30), 2, -9
    assert len(found.faults()) == 4


@pytest.mark.parametrize("words", ["nothing leaked", "MiB at the end"])
def test_it_is_told_in_words(words: str) -> None:
    assert words in report(*samples(600, 0, until_s=0)).text()
