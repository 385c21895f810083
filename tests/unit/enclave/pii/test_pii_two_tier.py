from __future__ import annotations

import pytest

from latensgate_enclave.ner.wire import Entity
from latensgate_enclave.pii import Category, Tier1Engine
from latensgate_enclave.pii.engine import TIER1_CATEGORIES
from latensgate_enclave.pii.errors import PIIEngineError, PIINoNamesError, PIIWorkerLostError
from latensgate_enclave.pii.findings import ALL_CATEGORIES
from latensgate_enclave.pii.two_tier import TwoTierEngine
from latensgate_shared.errors import ErrorCode

NAMES = frozenset({Category.PERSON})


class Names:
    """Finds words, as a model would."""

    def __init__(self, **labels: str) -> None:
        self.labels = labels
        self.asked: list[str] = []
        self.error: PIIEngineError | None = None

    def find(self, text: str) -> list[Entity]:
        self.asked.append(text)
        if self.error is not None:
            raise self.error
        return [
            Entity(text.index(word), text.index(word) + len(word), label)
            for word, label in self.labels.items()
            if word in text
        ]


@pytest.fixture(scope="module")
def tier1() -> Tier1Engine:
    return Tier1Engine()


def test_names_and_patterns_together(tier1: Tier1Engine) -> None:
    names = Names(
        Ann="PERSON", Paris="GPE", Monday="DATE", Acme="ORG", Dane="NORP", nine="CARDINAL"
    )
    engine = TwoTierEngine(tier1, names, "sha256:00")
    text = "Ann, a Dane of Acme, Paris, comes Monday at nine. ssn 219099998"
    found = [f for f in engine.scan(text) if f.category is not Category.PHONE_NUMBER]
    assert [(f.category.value, text[f.start : f.end], f.score) for f in found] == [
        ("PERSON", "Ann", 0.85),
        ("NRP", "Dane", 0.85),
        ("ORGANIZATION", "Acme", 0.85),
        ("LOCATION", "Paris", 0.85),
        ("DATE_TIME", "Monday", 0.85),
        ("US_SSN", "219099998", 0.4),  # by its context alone: tier 2 takes none of that away
    ]
    assert {f.category for f in engine.scan(text, categories=NAMES)} == NAMES


def test_tier_2_runs_for_names_alone(tier1: Tier1Engine) -> None:
    names = Names(Ann="PERSON", Monday="DATE")
    engine = TwoTierEngine(tier1, names, "sha256:00")
    assert not engine.waits(TIER1_CATEGORIES)
    assert engine.waits(ALL_CATEGORIES)
    assert engine.scan("Ann comes Monday", categories=TIER1_CATEGORIES) == ()
    assert engine.scan("12 34", categories=NAMES) == ()
    assert names.asked == []


def test_names_behind_invisible_and_wide_characters(tier1: Tier1Engine) -> None:
    names = Names(Ann="PERSON", José="PERSON")
    engine = TwoTierEngine(tier1, names, "sha256:00")
    text = "I met A\u200bn\u202en, \uff2a\uff4f\uff53é and \U0001d400nn\u2019s cat\ud800 \u3164"
    found = [text[f.start : f.end] for f in engine.scan(text, categories=NAMES)]
    assert names.asked == ["I met Ann, José and Ann's cat "]
    assert found == ["A\u200bn\u202en", "\uff2a\uff4f\uff53é"]


def test_a_failure_of_tier_2_denies_with_its_own_code(tier1: Tier1Engine) -> None:
    names = Names()
    names.error = PIIWorkerLostError("gone")
    engine = TwoTierEngine(tier1, names, "sha256:00")
    with pytest.raises(PIIWorkerLostError):
        engine.scan("Ann", categories=NAMES)
    assert engine.scan("Ann", categories=TIER1_CATEGORIES) == ()


def test_an_image_without_tier_2_denies_names(tier1: Tier1Engine) -> None:
    with pytest.raises(PIINoNamesError) as caught:
        tier1.scan("", categories=NAMES)
    assert caught.value.code is ErrorCode.ERR_PII_NO_NAMES
    assert not tier1.waits(NAMES)


def test_the_digest_names_the_model_too(tier1: Tier1Engine) -> None:
    digests = {
        tier1.digest,
        TwoTierEngine(tier1, Names(), "sha256:00").digest,
        TwoTierEngine(tier1, Names(), "sha256:01").digest,
    }
    assert len(digests) == 3
    assert all(len(digest) == len("sha384:") + 96 for digest in digests)


def test_a_name_is_its_own_reason_and_patterns_keep_theirs(tier1: Tier1Engine) -> None:
    engine = TwoTierEngine(tier1, Names(Ann="PERSON"), "sha256:00")
    text = "Ann, bob@example.com"
    wanted = NAMES | {Category.EMAIL_ADDRESS}
    told = {each.source: each for each in engine.evidence(text, categories=wanted)}
    assert (told["tier2"].category, told["tier2"].pattern) == (Category.PERSON, None)
    assert told["tier1"].category is Category.EMAIL_ADDRESS
    only = engine.evidence(text, categories=frozenset({Category.EMAIL_ADDRESS}))
    assert [each.source for each in only] == ["tier1"]
    assert [*engine.evidence("12 34", categories=NAMES)] == []
