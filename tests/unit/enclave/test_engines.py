from __future__ import annotations

import time

import msgspec
import pytest

import ner_fake
from latensgate_enclave import engines
from latensgate_enclave.engines import build_engine
from latensgate_enclave.measured import PIIEngine
from latensgate_enclave.ner.pool import NamesPool
from latensgate_enclave.pii import Category, PIIEngineError, Tier1Engine
from latensgate_enclave.pii.errors import PIINoNamesError
from latensgate_enclave.pii.two_tier import TwoTierEngine


def test_patterns_alone_unless_the_policy_asks_for_names() -> None:
    engine = build_engine(PIIEngine(), time.monotonic_ns)
    assert isinstance(engine, Tier1Engine)
    assert engine.digest == Tier1Engine().digest
    other = build_engine(PIIEngine(phone_regions=("CH",), languages=("de",)), time.monotonic_ns)
    assert other.digest != engine.digest


def test_names_where_the_image_carries_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[NamesPool] = []

    class Kept(NamesPool):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type] # passed on
            pools.append(self)

    monkeypatch.setattr(engines, "worker_command", ner_fake.command)
    monkeypatch.setattr(engines, "NamesPool", Kept)
    engine = build_engine(PIIEngine(names="spacy", workers=1), time.monotonic_ns)
    assert isinstance(engine, TwoTierEngine)
    (found,) = engine.scan("Ann Lee", categories=frozenset({Category.PERSON}))
    assert (found.start, found.end) == (0, 7)
    pools[0].close()


def test_an_image_without_the_model_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "worker_command", lambda: None)
    with pytest.raises(PIINoNamesError):
        build_engine(PIIEngine(names="spacy"), time.monotonic_ns)


@pytest.mark.parametrize("table", [{"languages": ["xx"]}, {"phone_regions": ["XX"]}])
def test_what_is_unknown_does_not_start(table: dict[str, list[str]]) -> None:
    with pytest.raises(PIIEngineError):
        build_engine(msgspec.convert(table, PIIEngine), time.monotonic_ns)


@pytest.mark.parametrize(
    "table", [{"names": "maybe"}, {"workers": 0}, {"languages": ["English"]}, {"region": "US"}]
)
def test_a_table_of_another_form_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, PIIEngine)
