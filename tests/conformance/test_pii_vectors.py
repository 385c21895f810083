"""Tier 1 on the published sets: the accuracy it is held to, and the texts that stall others."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
import time
from typing import TYPE_CHECKING, Protocol, cast

import pytest

from latensgate_enclave.pii import Category, Tier1Engine
from latensgate_enclave.pii.presidio import load_recognizers
from paths import REPOSITORY, published

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETS = (
    "presidio_research_synth_v2",
    "pii_anon_eval_adversarial",
    "pii_anon_eval_technology",
)
AIMS = {
    "EMAIL_ADDRESS": 0.95,
    "IBAN_CODE": 0.95,
    "CREDIT_CARD": 0.95,
    "US_SSN": 0.95,
    "IP_ADDRESS": 0.95,
    "PHONE_NUMBER": 0.80,
}
HOSTILE_MAX_S = 4.0


class _Score(Protocol):
    gold: int
    f2: float


class _Accuracy(Protocol):
    def rows(self, path: Path) -> Iterator[object]: ...
    def score_set(self, engine: Tier1Engine, texts: Iterator[object]) -> dict[str, _Score]: ...


@pytest.fixture(scope="module")
def engine() -> Tier1Engine:
    return Tier1Engine()


@pytest.fixture(scope="module")
def accuracy() -> _Accuracy:
    path = REPOSITORY / "scripts" / "pii_accuracy.py"
    spec = importlib.util.spec_from_file_location("pii_accuracy", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pii_accuracy"] = module
    spec.loader.exec_module(module)
    return cast("_Accuracy", module)


@pytest.mark.parametrize("name", SETS)
def test_accuracy(name: str, engine: Tier1Engine, accuracy: _Accuracy) -> None:
    scores = accuracy.score_set(engine, accuracy.rows(published("pii", f"{name}.jsonl")))
    measured = {c: score.f2 for c, score in scores.items() if c in AIMS and score.gold}
    assert measured
    assert all(f2 >= AIMS[category] for category, f2 in measured.items()), measured


def test_no_hostile_text_stalls_a_scan(engine: Tier1Engine) -> None:
    with published("pii", "hostile_repeats.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    assert rows
    for row in rows:
        text = (row["unit"] * row["chars"])[: row["chars"]]
        started = time.process_time()
        engine.scan(text)
        assert time.process_time() - started < HOSTILE_MAX_S, row["name"]


OWN_HOSTILE = (
    "a@b.cc-",
    "a@b.",
    "a%40b.cc ",
    "joe [at] x ",
    "password='",
    "password is a1 ",
    "token=",
    "http://a:",
    "-----BEGIN PRIVATE KEY-----",
    "eyJaaaaaaaa.",
    "4 1 ",
    "4-",
    "AB12 ",
    "GB82 WEST 1234 5698 7654 32 ",
    "+1",
    "(212) ",
    "1.2.3.4.",
    "a::b ",
    "ssn 219099998 ",
    "3aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ",
    "\u200b1",
    "ﷺ",
    "é",
)


def test_time_grows_with_the_length_and_not_with_its_square(engine: Tier1Engine) -> None:
    for unit in OWN_HOSTILE:
        short, long = (unit * 4_000)[:4_000], (unit * 32_000)[:32_000]
        engine.scan(short)
        one = min(_cpu_s(engine, short) for _ in range(3))
        many = min(_cpu_s(engine, long) for _ in range(3))
        # 8 times the text. Quadratic work would take 64 times as long, whatever the machine does.
        assert many < 40 * max(one, 0.001), unit


def _cpu_s(engine: Tier1Engine, text: str) -> float:
    started = time.process_time()
    engine.scan(text)
    return time.process_time() - started


def test_our_luhn_is_presidios(engine: Tier1Engine) -> None:
    judge = load_recognizers()["CreditCardRecognizer"]
    draw = random.Random(7)  # noqa: S311 - reproducible numbers, no secret
    wanted = frozenset({Category.CREDIT_CARD})
    for _ in range(2_000):
        number = "4" + "".join(draw.choices("0123456789", k=15))
        assert bool(engine.scan(number, categories=wanted)) is judge.validate_result(number)
