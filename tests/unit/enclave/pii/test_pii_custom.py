from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latensgate_enclave.pii import (
    Category,
    Direction,
    PIIEngineError,
    PIIHardFailError,
    PIITooLargeError,
    PolicyError,
    TextPart,
    Tier1Engine,
    custom,
    parse_policy,
    scan_texts,
)
from latensgate_enclave.pii.custom import PolicyScanner, scanner_for
from latensgate_enclave.pii.findings import Finding
from latensgate_enclave.pii.surrogates import Surrogates
from latensgate_shared.limits import POLICY_LIST_MAX_COUNT, POLICY_PATTERN_MAX_CHARS
from latensgate_shared.strict_json import JSONObject, JSONValue

PROMPT = Direction.PROMPT
STAFF: JSONObject = {"name": "staff number", "pattern": "EMP-[0-9]{6}"}


class Nothing:
    """An engine that finds nothing."""

    digest = "none"

    def waits(self, categories: frozenset[Category]) -> bool:
        del categories
        return False

    def scan(
        self, text: str, *, categories: frozenset[Category] = frozenset(), hint: str = ""
    ) -> tuple[Finding, ...]:
        del text, categories, hint
        return ()


@pytest.fixture(scope="module")
def engine() -> Tier1Engine:
    return Tier1Engine()


def told(engine: Tier1Engine, document: JSONObject, text: str) -> str:
    policy = parse_policy(document)
    scanned = scan_texts(scanner_for(engine, policy), policy, [TextPart(text, PROMPT)])
    return scanned.texts[0]


def test_a_policy_that_brings_nothing_costs_nothing(engine: Tier1Engine) -> None:
    assert scanner_for(engine, parse_policy({})) is engine


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("project Bluebird starts", "project <DENY_LISTED> starts"),
        ("PROJECT BLUEBIRD", "PROJECT <DENY_LISTED>"),
        ("bluebirds", "bluebirds"),
        ("a-bluebird.", "a-<DENY_LISTED>."),
        ("blue\u200bbird", "<DENY_LISTED>"),
        ("\uff22luebird", "<DENY_LISTED>"),
        ("Straße 9", "<DENY_LISTED> 9"),
        ("STRASSE", "<DENY_LISTED>"),
        ("ask Łukasz!", "ask <DENY_LISTED>!"),
        ("a +1% rise", "a <DENY_LISTED> rise"),
        ("項目藍鳥", "項目藍鳥"),
        ("藍鳥", "<DENY_LISTED>"),
    ],
)
def test_deny_terms_are_whole_words_in_any_script_and_case(
    engine: Tier1Engine, text: str, expected: str
) -> None:
    terms: list[JSONValue] = ["BlueBird", "straße", "łukasz", "+1%", "藍鳥"]
    assert told(engine, {"lists": {"deny": terms}}, text) == expected


_PIECES = st.text("ab _-\u00e91", max_size=12)


@given(_PIECES.filter(str.strip).map(str.strip), _PIECES)
def test_a_term_stands_where_an_expression_would_find_it(term: str, text: str) -> None:
    before = r"(?<![^\W_])" if term[0].isalnum() else ""
    after = r"(?![^\W_])" if term[-1].isalnum() else ""
    expected = [
        match.span() for match in re.finditer(f"{before}{re.escape(term)}{after}", text.casefold())
    ]
    scanner = PolicyScanner(Nothing(), parse_policy({"lists": {"deny": [term]}}))
    found = scanner.scan(text, categories=frozenset({Category.DENY_LISTED}))
    assert [(each.start, each.end) for each in found] == expected


def test_terms_that_nearly_match_everywhere_cost_no_more_than_their_count() -> None:
    nearly: list[JSONValue] = ["a " * 100 + "b" * number + "c" for number in range(1, 50)]
    scanner = PolicyScanner(Nothing(), parse_policy({"lists": {"deny": nearly}}))
    begun = time.thread_time()
    found = scanner.scan("a " * 100_000, categories=frozenset({Category.DENY_LISTED}))
    assert found == ()
    assert time.thread_time() - begun < 2  # some ms; half a minute where each place is tried


def test_terms_found_within_words_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom, "POLICY_TERM_PLACES_MAX_COUNT", 9)
    scanner = PolicyScanner(Nothing(), parse_policy({"lists": {"deny": ["-b", "-c"]}}))
    asked = frozenset({Category.DENY_LISTED})
    assert scanner.scan("-bx" * 4 + "-cx" * 5, categories=asked) == ()
    with pytest.raises(PIITooLargeError):
        scanner.scan("-bx" * 5 + "-cx" * 5, categories=asked)


def test_a_rule_for_deny_terms_takes_the_place_of_the_mask(engine: Tier1Engine) -> None:
    document: JSONObject = {
        "lists": {"deny": ["bluebird"]},
        "rules": {"DENY_LISTED": {"prompt": {"action": "fail"}}},
    }
    with pytest.raises(PIIHardFailError) as caught:
        told(engine, document, "bluebird")
    assert caught.value.counts == {"DENY_LISTED": {"prompt": 1}}


def test_a_recognizer_finds_its_pattern_and_counts_as_its_category(engine: Tier1Engine) -> None:
    document: JSONObject = {"recognizers": [STAFF]}
    assert told(engine, document, "I am EMP-123456.") == "I am <CUSTOM>."
    as_record: JSONObject = {
        "recognizers": [{**STAFF, "category": "RECORD_NUMBER"}],
        "rules": {"RECORD_NUMBER": {"*": {"action": "mask"}}},
    }
    assert told(engine, as_record, "I am EMP-123456.") == "I am <RECORD_NUMBER>."


def test_context_raises_a_score(engine: Tier1Engine) -> None:
    document: JSONObject = {
        "recognizers": [{"name": "code", "pattern": "[0-9]{5}", "score": 0.2, "context": ["badge"]}]
    }
    assert told(engine, document, "it was 12345") == "it was 12345"
    assert told(engine, document, "badge no 12345") == "badge no <CUSTOM>"
    policy = parse_policy(document)
    scanner = scanner_for(engine, policy)
    parts = [TextPart("12345", PROMPT, hint="badge")]
    assert scan_texts(scanner, policy, parts).texts == ("<CUSTOM>",)


def test_a_category_that_no_rule_acts_on_is_not_looked_for(engine: Tier1Engine) -> None:
    document: JSONObject = {
        "lists": {"deny": ["bluebird"]},
        "recognizers": [STAFF],
        "rules": {
            "DENY_LISTED": {"*": {"action": "allow"}},
            "CUSTOM": {"*": {"action": "allow"}},
            "URL": {"*": {"action": "flag"}},
        },
    }
    assert told(engine, document, "bluebird EMP-123456") == "bluebird EMP-123456"


def test_no_empty_match_is_a_finding(engine: Tier1Engine) -> None:
    document: JSONObject = {"recognizers": [{"name": "end", "pattern": "x*\\b"}]}
    assert told(engine, document, "a xx b") == "a <CUSTOM> b"


@pytest.mark.parametrize(
    "pattern", ["(", "(?=a)b", "(a)\\1", "a*", "", "^", "(?:[a-z]{1,100}){20}x", "\\pL{1,300}"]
)
def test_a_pattern_that_cannot_be_used_refuses_the_policy(
    engine: Tier1Engine, pattern: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        told(engine, {"recognizers": [{"name": "bad", "pattern": pattern}]}, "x")
    assert "recognizers" in caught.value.field
    assert caught.value.field.endswith("pattern")


def test_what_a_policy_brings_is_bounded() -> None:
    many: list[JSONValue] = [str(n) for n in range(POLICY_LIST_MAX_COUNT + 1)]
    with pytest.raises(PolicyError):
        parse_policy({"lists": {"deny": many}})
    long = "a" * (POLICY_PATTERN_MAX_CHARS + 1)
    with pytest.raises(PolicyError):
        parse_policy({"recognizers": [{"name": "long", "pattern": long}]})


def test_too_many_findings_are_refused(
    engine: Tier1Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(custom, "PII_FINDINGS_MAX_COUNT", 3)
    with pytest.raises(PIITooLargeError):
        told(engine, {"lists": {"deny": ["a"]}}, "a a a a")


def test_whatever_fails_denies_and_tells_no_text(
    engine: Tier1Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_texts(_terms: frozenset[str]) -> tuple[bytes, ...]:
        return (b"no text",)

    monkeypatch.setattr(custom, "_folded_terms", no_texts)
    with pytest.raises(PIIEngineError) as caught:
        told(engine, {"lists": {"deny": ["bluebird"]}}, "bluebird")
    assert "bluebird" not in str(caught.value)


def test_a_custom_finding_gets_a_surrogate(engine: Tier1Engine) -> None:
    policy = parse_policy(
        {
            "recognizers": [STAFF],
            "rules": {"CUSTOM": {"*": {"action": "pseudonymise"}}},
        }
    )
    surrogates = Surrogates(b"s" * 32)
    parts = [TextPart("EMP-123456 and EMP-123456", PROMPT)]
    scanned = scan_texts(scanner_for(engine, policy), policy, parts, surrogates=surrogates)
    first, _, second = scanned.texts[0].split(" ")
    assert first == second
    assert first.startswith("[CUSTOM_")
    assert list(surrogates.values.values()) == ["EMP-123456"]


def test_whether_it_waits_is_the_engines(engine: Tier1Engine) -> None:
    scanner = scanner_for(engine, parse_policy({"recognizers": [STAFF]}))
    assert scanner.waits(frozenset({Category.URL})) is engine.waits(frozenset({Category.URL}))
