"""Attacks on the PII engine: what it cannot scan, or cannot trust, it must not pass."""

from __future__ import annotations

import hmac
import time
from pathlib import Path

import pytest

import ner_fake
from latensgate_enclave.ner.model import MODEL_DIGEST, ModelError, load_finder
from latensgate_enclave.ner.pool import NamesPool
from latensgate_enclave.pii import Category, Tier1Engine
from latensgate_enclave.pii.cache import FindingsCache
from latensgate_enclave.pii.errors import (
    PIICacheError,
    PIIDeadlineError,
    PIINoNamesError,
    PIIWorkerLostError,
)
from latensgate_enclave.pii.findings import Finding
from latensgate_enclave.pii.scanner import Scanner
from latensgate_enclave.pii.two_tier import TwoTierEngine

NAMES = frozenset({Category.PERSON})
LONG = "Ann Lee wrote this long message, and she wrote it more than once, as one does in a chat."


@pytest.mark.parametrize(
    ("word", "error"), [("DIE", PIIWorkerLostError), ("HANG", PIIDeadlineError)]
)
def test_no_text_passes_a_worker_that_was_killed_or_hangs(
    word: str, error: type[Exception]
) -> None:
    names = NamesPool(ner_fake.command(), 1, time.monotonic_ns, piece_deadline_ms=1_000)
    engine = TwoTierEngine(Tier1Engine(), names, "")
    try:
        with pytest.raises(error):
            engine.scan(f"Ann Lee {word}", categories=NAMES)
        assert len(engine.scan("Ann Lee", categories=NAMES)) == 1
    finally:
        names.close()


def test_no_text_passes_an_image_without_names_whose_policy_names_them() -> None:
    with pytest.raises(PIINoNamesError):
        Tier1Engine().scan("Ann Lee", categories=NAMES)


def test_another_model_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.cfg").write_text("[nlp]")
    with pytest.raises(ModelError, match="pinned"):
        load_finder(tmp_path, MODEL_DIGEST)


class _Engine:
    digest = ""

    def __init__(self) -> None:
        self.scans = 0

    def waits(self, categories: frozenset[Category]) -> bool:
        return not categories

    def scan(
        self, text: str, *, categories: frozenset[Category] = NAMES, hint: str = ""
    ) -> tuple[Finding, ...]:
        del categories, hint
        self.scans += 1
        return (Finding(Category.PERSON, 0, len(text) % 8, 0.85, "test"),)


def _remembering(cache: FindingsCache, engine: _Engine, tenant: str, secret: bytes) -> Scanner:
    return cache.scanner(engine, tenant, secret)


def test_remembered_findings_cannot_be_taken_away() -> None:
    cache, engine = FindingsCache(), _Engine()
    scanner = _remembering(cache, engine, "t", bytes(32))
    scanner.scan(LONG)
    kept = cache._entries  # pyright: ignore[reportPrivateUsage] # what an attacker would change
    ((place, entry),) = kept.items()
    kept[place] = entry[-32:]  # no finding any more
    with pytest.raises(PIICacheError):
        scanner.scan(LONG)


def test_no_tenant_and_no_conversation_meets_what_another_had_scanned() -> None:
    cache, engine = FindingsCache(), _Engine()
    for tenant in ("one", "two"):
        for secret in (b"a" * 32, b"b" * 32):
            _remembering(cache, engine, tenant, secret).scan(LONG)
    assert engine.scans == 4


def test_who_knows_the_conversation_secret_still_does_not_know_a_key() -> None:
    engine = _Engine()
    for _ in range(2):
        cache = FindingsCache()
        _remembering(cache, engine, "t", bytes(32)).scan(LONG)
        (place,) = cache._entries  # pyright: ignore[reportPrivateUsage]
        guess = hmac.digest(bytes(32), b"", "sha256")
        assert place != guess
    assert engine.scans == 2
