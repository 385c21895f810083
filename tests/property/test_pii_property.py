from __future__ import annotations

import contextlib
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_enclave.pii import (
    Action,
    Category,
    Direction,
    Finding,
    Floor,
    Policy,
    PolicyError,
    Rule,
    Tier1Engine,
    apply,
    parse_policy,
)
from latensgate_enclave.pii.findings import merge
from latensgate_enclave.pii.normalise import view_of
from latensgate_enclave.pii.policy import NO_OPINION

PIECES = (
    "ann@example.com",
    "+1 (212) 555-0134",
    "212-555-0134",
    "4111 1111 1111 1111",
    "GB82 WEST 1234 5698 7654 32",
    "219-09-9998",
    "ssn 219099998",
    "fe80::1",
    "10.1.2.3",
    "password: hunter2",
    "-----BEGIN PRIVATE KEY-----",
    "https://a.example/b",
    "\u200b",
    "\u202e",
    "e\u0301",
    "אב",
    "٣٤",
    "\uff14\uff11",
    "\U0001f600",
    "ﷺ",
    "\ud800",
    "\x00",
    ".",
    "-",
    " ",
    "@",
    ":",
    "1",
    "a",
)
TEXTS = st.one_of(
    st.text(max_size=60),
    st.text(st.characters(), max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join),
    st.text(alphabet="0123456789 .-+()@:/aF\u200b", max_size=80),
)


def _finding(category: Category, start: int, length: int, score: float) -> Finding:
    return Finding(category, start, start + length, score, "test")


FINDINGS = st.lists(
    st.builds(
        _finding,
        st.sampled_from([Category.URL, Category.US_SSN, Category.CREDIT_CARD]),
        st.integers(0, 30),
        st.integers(1, 10),
        st.sampled_from([0.4, 0.6, 1.0]),
    ),
    max_size=12,
)
MASK_ALL = parse_policy({"rules": {"*": {"*": {"action": "mask"}}}})
RULES = st.builds(Rule, st.sampled_from(Action), st.none() | st.floats(0, 1))
POLICIES = st.dictionaries(
    st.tuples(st.sampled_from(list(Category)[:3]), st.sampled_from(Direction)), RULES, max_size=6
).map(Policy)


@cache
def engine() -> Tier1Engine:
    return Tier1Engine()


@given(TEXTS)
@settings(max_examples=400, deadline=None)
def test_every_text_is_scanned_and_every_span_lies_in_it(text: str) -> None:
    findings = engine().scan(text)
    assert findings == engine().scan(text)
    assert merge(findings) == findings
    for finding in findings:
        assert 0 <= finding.start < finding.end <= len(text)
        assert 0.35 <= finding.score <= 1.0


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_the_view_covers_the_text_in_order(text: str) -> None:
    view = view_of(text)
    assert len(view.text) == len(view.data)
    spans = [view.original(place, place + 1) for place in range(len(view.text))]
    assert spans == sorted(spans)
    assert all(0 <= start < end <= len(text) and end - start == 1 for start, end in spans)


@given(TEXTS, st.sampled_from(["\u200b", "\u202e", "\u2060", "\U000e0001", "\ufe0f"]))
@settings(max_examples=150, deadline=None)
def test_invisible_characters_hide_nothing(text: str, invisible: str) -> None:
    seen = engine().scan(text)
    hidden = engine().scan(invisible.join(text) + invisible)
    assert [f.category for f in hidden] == [f.category for f in seen]


@given(st.text(max_size=20), st.sampled_from(PIECES[:9]), st.text(max_size=20))
@settings(max_examples=200, deadline=None)
def test_a_mask_leaves_no_part_of_what_was_found(before: str, value: str, after: str) -> None:
    text = f"{before} {value} {after}"
    findings = engine().scan(text)
    masked = apply(text, findings, MASK_ALL, Direction.PROMPT).text
    kept = [True] * len(text)
    for finding in findings:
        kept[finding.start : finding.end] = [False] * (finding.end - finding.start)
    rest = "".join(character for character, keep in zip(text, kept, strict=True) if keep)
    for category in Category:
        masked = masked.replace(f"<{category.value}>", "")
        rest = rest.replace(f"<{category.value}>", "")
    assert masked == rest


@given(FINDINGS)
def test_merge_is_idempotent_and_loses_no_character(findings: list[Finding]) -> None:
    merged = merge(findings)
    assert merge(merged) == merged
    assert merge(reversed(findings)) == merge(findings)
    for category in Category:
        assert _covered(findings, category) == _covered(merged, category)


def _covered(findings: list[Finding] | tuple[Finding, ...], category: Category) -> set[int]:
    return {
        place
        for finding in findings
        if finding.category is category
        for place in range(finding.start, finding.end)
    }


@given(FINDINGS, POLICIES)
def test_no_masked_character_survives_any_policy(findings: list[Finding], policy: Policy) -> None:
    text = "".join(chr(0x4E00 + place) for place in range(41))
    gentle = Policy({c: r for c, r in policy.rules.items() if r.action is not Action.FAIL})
    acting = gentle.acting(Direction.PROMPT)
    masked = apply(text, merge(findings), gentle, Direction.PROMPT).text
    for finding in merge(findings):
        rule = acting.get(finding.category, NO_OPINION)
        if rule.action is Action.MASK and rule.acts_on(finding.score):
            assert not set(text[finding.start : finding.end]) & set(masked)


@given(POLICIES, POLICIES, POLICIES)
def test_the_join_is_a_lattice_and_only_tightens(one: Policy, two: Policy, three: Policy) -> None:
    assert one.joined(two) == two.joined(one)
    assert one.joined(one) == one
    assert one.joined(two).joined(three) == one.joined(two.joined(three))
    joined = one.joined(two)
    for cell in {**one.rules, **two.rules}:
        for policy in (one, two):
            rule = policy.rules.get(cell, NO_OPINION)
            assert joined.rules[cell].action >= rule.action
            if rule.threshold is not None:
                threshold = joined.rules[cell].threshold
                assert threshold is not None
                assert threshold <= rule.threshold


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["rules", "action", "mask", "URL", "*"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["rules", "URL", "*", "prompt", "action", "threshold", "hold", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(JSON | JSON.map(lambda value: {"rules": value}))
@settings(max_examples=300)
def test_a_policy_is_read_or_refused_with_a_typed_error(document: object) -> None:
    with contextlib.suppress(PolicyError):
        policy = parse_policy(document)
        assert not policy.holds
        assert policy.digest().startswith("sha384:")


def layered(base: Policy, listed: Policy, allowed: frozenset[str]) -> Policy:
    return Policy(base.rules, {allowed: listed.rules} if allowed else {})


LAYERED = st.builds(
    layered,
    POLICIES,
    POLICIES,
    st.frozensets(st.sampled_from(["a", "b"])),
)


@given(LAYERED, LAYERED, LAYERED, st.sampled_from(["A", "b", "c"]))
def test_with_allow_lists_the_join_stays_a_lattice_never_weaker_for_any_value(
    one: Policy, two: Policy, three: Policy, value: str
) -> None:
    assert one.joined(two) == two.joined(one)
    assert one.joined(one) == one
    assert one.joined(two).joined(three) == one.joined(two.joined(three))
    joined = one.joined(two)
    for direction in Direction:
        strictest = joined.acting_on(direction, value)
        for policy in (one, two):
            for category, rule in policy.acting_on(direction, value).items():
                assert strictest[category].action >= rule.action
                assert (strictest[category].threshold or 0) <= (rule.threshold or 0) or (
                    rule.threshold is None
                )


@given(POLICIES, LAYERED, LAYERED, st.sampled_from(["A", "b", "c"]))
def test_nothing_is_ever_weaker_than_a_floor_without_ranges(
    floor: Policy, tenant: Policy, request: Policy, value: str
) -> None:
    effective = Floor(floor).effective(tenant, request)
    for direction in Direction:
        acting = effective.acting_on(direction, value)
        for category, rule in floor.acting_on(direction, value).items():
            assert acting[category].action >= rule.action
