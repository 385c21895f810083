"""The status page of the seeds: every line of them exactly once, and what it points to exists."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass

import pytest

from paths import REPOSITORY

PAGE = REPOSITORY / "docs/seed-status.md"
LINES = {"A": 96, "B": 120, "C": 94, "D": 81, "E": 358}
STATUSES = ("met", "mapped", "to come", "set aside")
FOLDERS = ("docs/", "parent/", "sdk/", "enclave/", "shared/", "sim/", "tests/", "scripts/")
DASH = "\u2013"
MAX_ROWS = 330

GROUP = re.compile(rf"([A-E])(\d+)(?:{DASH}\1(\d+))?")
CODE = re.compile(r"`([^`]+)`")
PATH = re.compile(r"[\w./-]+")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table of a part."""

    part: str
    lines: str
    what: str
    status: str
    where: str

    def numbers(self) -> list[int]:
        """Return the numbers that the row covers; its form is checked by a test of its own."""
        found: list[int] = []
        for group in self.lines.split(", "):
            match = GROUP.fullmatch(group)
            assert match, f"{self.lines!r}: {group!r} is no line and no range"
            assert match[1] == self.part, f"{group} stands under part {self.part}"
            first, last = int(match[2]), int(match[3] or match[2])
            assert match[3] is None or first < last, f"{group} runs backwards"
            found.extend(range(first, last + 1))
        return found


def sections() -> dict[str, str]:
    """Return the text of each part by its letter."""
    text = PAGE.read_text()
    pieces = re.split(r"^## ([A-E])\. .*$", text, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def rows() -> list[Row]:
    found: list[Row] = []
    for part, text in sections().items():
        for line in text.splitlines():
            if not line.startswith("|") or line.startswith(("|---", "| lines |")):
                continue
            row = cells(line)
            assert len(row) == len(("lines", "what", "status", "where")), line
            found.append(Row(part, *row))
    return found


def functions(path: str) -> set[str]:
    tree = ast.parse((REPOSITORY / path).read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def counted() -> dict[str, Counter[str]]:
    found = {part: Counter[str]() for part in LINES}
    for row in rows():
        found[row.part][row.status] += len(row.numbers())
    return found


def counts_as_they_should_stand() -> list[str]:
    """Return the table of counts; a failing test prints it, to be put into the page."""
    by_part = counted()
    total = sum(by_part.values(), Counter[str]())
    lines = [f"| part | lines | {' | '.join(STATUSES)} |", "|---|" + "---:|" * (1 + len(STATUSES))]
    for name, counts in (*by_part.items(), ("all", total)):
        figures = [counts.total(), *(counts[status] for status in STATUSES)]
        lines.append(f"| {name} | {' | '.join(str(figure) for figure in figures)} |")
    return lines


@pytest.mark.parametrize("part", LINES)
def test_every_line_of_a_part_stands_exactly_once(part: str) -> None:
    times = Counter(number for row in rows() if row.part == part for number in row.numbers())
    assert {number: count for number, count in times.items() if count > 1} == {}
    assert sorted(set(range(1, LINES[part] + 1)) ^ set(times)) == []


def test_the_page_has_these_parts_and_stays_readable() -> None:
    assert list(sections()) == list(LINES)
    assert len(rows()) <= MAX_ROWS
    assert len([row for row in rows() if row.part == "A"]) == LINES["A"], "one row for each line"


def test_every_status_is_of_the_closed_set_and_has_its_ground() -> None:
    assert [row for row in rows() if row.status not in STATUSES] == []
    assert [row for row in rows() if not row.what or not row.where] == []


def test_every_file_that_is_named_exists() -> None:
    missing: list[str] = []
    for name in CODE.findall(PAGE.read_text()):
        path, _, test = name.partition("::")
        if not path.startswith(FOLDERS) or not PATH.fullmatch(path):
            continue
        file = REPOSITORY / path
        if not file.exists() or (test and test not in functions(path)):
            missing.append(name)
    assert missing == []


def test_the_counts_are_those_of_the_tables() -> None:
    wanted = "\n".join(counts_as_they_should_stand())
    assert wanted in PAGE.read_text(), f"the table of counts should be:\n{wanted}"
