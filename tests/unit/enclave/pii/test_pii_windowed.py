from __future__ import annotations

import random
import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_enclave.pii import (
    Budget,
    Category,
    Direction,
    PIIHardFailError,
    PIITooLargeError,
    Policy,
    TextPart,
    Tier1Engine,
    parse_policy,
    scan_texts,
)
from latensgate_enclave.pii.findings import Finding
from latensgate_enclave.pii.surrogates import Surrogates
from latensgate_enclave.pii.tally import Tally
from latensgate_enclave.pii.windowed import HELD_MAX_CHARS, WindowedScan, changes

ANSWER = Direction.ANSWER
MASK = parse_policy({"rules": {"*": {"*": {"action": "mask"}}}})
FLAG = parse_policy({"rules": {"*": {"*": {"action": "flag"}}}})
WORDS = (
    "the of and to in is was he for on are with as his they at be this from have or by one had",
    "not but what all were when we there can an your which their said if do",
)
VALUES = (
    "ann@example.com",
    "+1 (212) 555-0134",
    "4111 1111 1111 1111",
    "GB82 WEST 1234 5698 7654 32",
    "ssn 219-09-9998",
    "10.1.2.3",
    "password: hunter2",
    "https://a.example/b?c=d",
    "card 4111111111111111",
    "\n",
    ". ",
    ", 12 3 ",
)
COMMON = " ".join(WORDS).split()


@cache
def engine() -> Tier1Engine:
    return Tier1Engine()


def windowed(text: str, sizes: list[int], policy: Policy = MASK) -> tuple[str, object, int]:
    tally = Tally()
    scan = WindowedScan(engine(), policy, ANSWER, tally=tally, budget=Budget())
    told: list[str] = []
    place = worst = 0
    for size in [*sizes, len(text)]:
        told.append(scan.push(text[place : place + size]))
        place = min(len(text), place + size)
        worst = max(worst, place - len("".join(told)))
    return "".join([*told, scan.end()]), tally.verdict().counts, worst


def batch(text: str, policy: Policy = MASK) -> tuple[str, object]:
    found = scan_texts(engine(), policy, [TextPart(text, ANSWER)])
    return found.texts[0], found.verdict.counts


def prose(seed: int, words: int, density: float) -> str:
    draw = random.Random(seed)  # noqa: S311  # the same texts each time
    return " ".join(
        draw.choice(VALUES) if draw.random() < density else draw.choice(COMMON)
        for _ in range(words)
    )


@pytest.mark.parametrize("density", [0.0, 0.05, 0.3, 0.9])
def test_the_result_is_that_of_the_whole_text(density: float) -> None:
    for seed in range(12):
        text = prose(seed, 400, density)
        expected = batch(text)
        for size in (1, 7, 100, len(text)):
            told, counts, _ = windowed(text, [size] * (len(text) // size))
            assert (told, counts) == expected


@given(
    st.lists(st.sampled_from((*VALUES, *COMMON, " ", "x" * 90)), max_size=120).map(" ".join),
    st.lists(st.integers(1, 300), max_size=30),
)
@settings(max_examples=60, deadline=None)
def test_no_split_changes_the_result(text: str, sizes: list[int]) -> None:
    assert windowed(text, sizes)[:2] == windowed(text, [])[:2]


@given(st.text(max_size=900), st.lists(st.integers(1, 300), max_size=12))
@settings(max_examples=40, deadline=None)
def test_no_split_changes_the_result_for_any_text(text: str, sizes: list[int]) -> None:
    assert windowed(text, sizes)[:2] == windowed(text, [])[:2]


@pytest.mark.parametrize("text", [prose(1, 900, 0), prose(2, 900, 0.02), "x" * 9_000])
def test_what_is_held_back_is_bounded(text: str) -> None:
    told, _, worst = windowed(text, [3] * (len(text) // 3))
    assert worst <= HELD_MAX_CHARS
    assert told == batch(text)[0]


def private_key(lines: int) -> str:
    body = "\n".join(["QUJD" * 16] * lines)
    return f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----"


def test_a_finding_of_any_length_is_replaced_once_and_whole() -> None:
    key = private_key(30)
    text = f"{prose(3, 60, 0)}\n{key}\n{prose(4, 60, 0)}"
    told, counts, _ = windowed(text, [5] * (len(text) // 5))
    assert (told, counts) == batch(text)
    assert told.count("<PRIVATE_KEY>") == 1
    assert "QUJD" not in told


def test_a_flagged_finding_of_any_length_is_counted_once_and_left() -> None:
    key = private_key(30)
    told, counts, _ = windowed(f"a {key} b", [5] * 400, FLAG)
    assert told == f"a {key} b"
    assert counts == {"PRIVATE_KEY": {"answer": 1}}


def test_a_refused_category_ends_the_text_before_it_leaves() -> None:
    policy = parse_policy({"rules": {"US_SSN": {"answer": {"action": "fail"}}}})
    scan = WindowedScan(engine(), policy, ANSWER, tally=Tally(), budget=Budget())
    told: list[str] = []
    with pytest.raises(PIIHardFailError) as caught:
        told.extend(map(scan.push, f"{prose(5, 100, 0)} ssn 219-09-9998 {prose(6, 100, 0)}"))
    assert caught.value.counts == {"US_SSN": {"answer": 1}}
    assert "219" not in "".join(told)


def test_surrogates_are_no_findings() -> None:
    surrogates = Surrogates(b"s" * 32)
    mark = surrogates.of(Category.PASSWORD, "hunter2")
    text = f"your password: {mark} and password: hunter3"
    scan = WindowedScan(engine(), MASK, ANSWER, tally=Tally(), budget=Budget(), known=surrogates)
    told = scan.push(text) + scan.end()
    assert mark in told
    assert "hunter3" not in told


def test_the_budget_bounds_an_answer() -> None:
    scan = WindowedScan(engine(), MASK, ANSWER, tally=Tally(), budget=Budget(max_chars=500))
    with pytest.raises(PIITooLargeError):
        scan.push("word " * 300)


def test_which_policies_change_an_answer() -> None:
    assert changes(MASK, ANSWER)
    assert not changes(FLAG, ANSWER)


def test_an_empty_text_costs_nothing() -> None:
    assert windowed("", []) == ("", {}, 0)


class Runs:
    """Finds runs of A: any, or only those that a B ends."""

    digest = "runs"

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)

    def waits(self, categories: frozenset[Category]) -> bool:
        return not categories

    def scan(
        self, text: str, *, categories: frozenset[Category] = frozenset(), hint: str = ""
    ) -> tuple[Finding, ...]:
        assert Category.URL in categories
        assert not hint
        found = self._pattern.finditer(text)
        return tuple(Finding(Category.URL, each.start(), each.end(), 1.0, "run") for each in found)


def run_through(pattern: str, policy: Policy, text: str) -> tuple[str, object]:
    tally = Tally()
    scan = WindowedScan(Runs(pattern), policy, ANSWER, tally=tally, budget=Budget())
    told = "".join([*map(scan.push, text), scan.end()])
    return told, tally.verdict().counts


ONE = {"URL": {"answer": 1}}
LONG_RUN = "A" * (4 * HELD_MAX_CHARS)


def test_a_flagged_finding_that_is_longer_than_what_is_held_counts_once() -> None:
    text = f"to {LONG_RUN} and on"
    assert run_through("A+", FLAG, text) == (text, ONE)


def test_what_is_left_of_a_finding_that_was_not_known_to_be_one_is_replaced() -> None:
    told, counts = run_through("A+B", MASK, f"to {LONG_RUN}B and on")
    assert re.fullmatch("to A+<URL> and on", told)
    assert len(told) < len(LONG_RUN)
    assert counts == ONE
