"""Each complaint about other gateways names tests of ours, and they exist."""

from __future__ import annotations

import re

import pytest

from paths import REPOSITORY

PAGE = REPOSITORY / "docs/compatibility-suites.md"
BEGIN = "## What users of other gateways complain about"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
ROWS = [
    line
    for line in PAGE.read_text().partition(BEGIN)[2].splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| complaint |"))
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_a_complaint_is_a_test(row: str) -> None:
    named = NAMED.findall(row)
    assert named, "a complaint without a test"
    for path, test in named:
        assert f"def {test}(" in (REPOSITORY / path).read_text(), f"{path}::{test}"


def test_no_complaint_is_lost() -> None:
    assert len(ROWS) >= 30
