"""Every claim of the threat model names tests, and every test that it names exists."""

from __future__ import annotations

import ast
import re

import pytest

from paths import REPOSITORY

PAGE = REPOSITORY / "docs/threat-model.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
CLAIMS_BEGIN, CLAIMS_END = "## 3. ", "## 4. "


def claims() -> list[str]:
    """The rows of the tables of claims, without their heads."""
    part = PAGE.read_text().partition(CLAIMS_BEGIN)[2].partition(CLAIMS_END)[0]
    rows = [line for line in part.splitlines() if line.startswith("|")]
    return [row for row in rows if not row.startswith(("|---", "| claim |"))]


def functions(path: str) -> set[str]:
    file = REPOSITORY / path
    if not file.exists():
        return set()
    tree = ast.parse(file.read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("row", claims(), ids=lambda row: row.split("|")[1].strip()[:60])
def test_a_claim_names_tests_that_exist(row: str) -> None:
    named = NAMED.findall(row)
    assert named, "a claim without a test"
    assert [f"{path}::{test}" for path, test in named if test not in functions(path)] == []


def test_the_page_makes_claims() -> None:
    assert len(claims()) > 30
