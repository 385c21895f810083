"""What is explained is what is done: same texts, same counts, and a reason for each finding."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_enclave.pii import Budget, TextPart, Tier1Engine, parse_policy
from latensgate_enclave.pii.explain import explain_texts
from latensgate_enclave.pii.protection import Protection
from latensgate_shared.pii_names import Category, Direction
from latensgate_shared.strict_json import JSONObject

PIECES = (
    "bob@example.com",
    "bob&#64;example.com",
    "4111 1111 1111 1111",
    "account number 4111111111111111",
    "ssn 536-90-4399",
    "Ym9iQGV4YW1wbGUuY29t",
    "call 212-555-0187",
    "DE89 3704 0044 0532 0130 00",
    "10.0.0.1",
    "\uff24\uff25\uff18\uff19 3704",
    "bluebird",
    "EMP-123",
    " and ",
    "\n",
)
POLICY: JSONObject = {
    "rules": {
        "*": {"*": {"action": "mask"}},
        "EMAIL_ADDRESS": {"*": {"action": "pseudonymise"}},
    },
    "lists": {"deny": ["bluebird"], "allow": ["10.0.0.1"]},
    "recognizers": [{"name": "staff", "pattern": "EMP-[0-9]{3}", "category": "CUSTOM"}],
}
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
PARTS = st.lists(st.tuples(TEXTS, st.booleans()), min_size=1, max_size=4)


@cache
def engine() -> Tier1Engine:
    return Tier1Engine()


def protection() -> Protection:
    policy = parse_policy(POLICY)
    made = Protection.under(policy, engine(), "tnt_00000001", bytes(32))
    made.layers = (("request", policy),)
    return made


@settings(max_examples=60, deadline=None)
@given(PARTS)
def test_a_dry_run_says_what_a_run_does(given_parts: list[tuple[str, bool]]) -> None:
    parts = [
        TextPart(text, Direction.PROMPT, continues=goes_on and number > 0)
        for number, (text, goes_on) in enumerate(given_parts)
    ]
    done = protection().scan_request(parts, budget=Budget())
    told = explain_texts(protection(), parts, Budget())
    assert tuple(told.forwarded) == done.texts
    assert told.counts == done.verdict.counts
    acted = 0
    for part, findings in zip(parts, told.findings, strict=True):
        for finding in findings:
            start, length = finding["offset"], finding["length"]
            assert isinstance(start, int)
            assert isinstance(length, int)
            assert 0 <= start < start + length <= len(part.text)
            acted += finding["fate"] == "acted"
            evidence = finding["evidence"]
            assert isinstance(evidence, list)
            assert bool(evidence) is (finding["fate"] != "across")
            best = [each["score"] for each in evidence if isinstance(each, dict)]
            assert finding["fate"] == "across" or best[0] == finding["score"]
    assert acted <= sum(sum(by.values()) for by in done.verdict.counts.values())


def test_evidence_is_of_tier_1_for_every_category() -> None:
    text = " ".join(PIECES)
    categories = frozenset(Category) - {Category.PERSON, Category.LOCATION}
    categories -= {Category.ORGANIZATION, Category.NRP}
    found = engine().scan(text, categories=categories)
    told = [*engine().evidence(text, categories=categories)]
    for finding in found:
        assert any(
            each.category is finding.category
            and (each.score, each.recognizer) == (finding.score, finding.recognizer)
            and finding.start <= each.start
            and each.end <= finding.end
            for each in told
        )
