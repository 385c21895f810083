from __future__ import annotations

import pytest

from latensgate_shared.limits import (
    POLICY_CONTEXT_MAX_COUNT,
    POLICY_LIST_MAX_COUNT,
    POLICY_PATTERN_MAX_CHARS,
    POLICY_RECOGNIZERS_MAX_COUNT,
    POLICY_TERM_MAX_CHARS,
)
from latensgate_shared.pii_names import NAME_CATEGORIES, Action, Category, Direction
from latensgate_shared.pii_policy import Floor, Policy, PolicyError, Rule
from latensgate_shared.pii_policy_document import parse_floor, parse_policy
from latensgate_shared.strict_json import JSONObject, JSONValue

PROMPT = Direction.PROMPT
EMAIL, URL = (Category.EMAIL_ADDRESS, PROMPT), (Category.URL, PROMPT)


def rules(category: str, action: str, **more: JSONValue) -> JSONObject:
    return {"rules": {category: {"*": {"action": action, **more}}}}


def recognizer(**changes: JSONValue) -> JSONObject:
    return {"recognizers": [{"name": "staff", "pattern": "E[0-9]+", **changes}]}


def test_any_category_is_any_but_names() -> None:
    policy = parse_policy(rules("*", "mask"))
    assert not NAME_CATEGORIES & policy.categories(PROMPT)
    assert Category.CUSTOM in policy.categories(PROMPT)
    named = parse_policy(rules("PERSON", "mask"))
    assert named.categories(PROMPT) == {Category.PERSON}


def test_what_a_document_brings_is_masked_unless_it_says_otherwise() -> None:
    policy = parse_policy({"lists": {"deny": ["Blue Bird"]}, **recognizer()})
    assert policy.deny == {"blue bird"}
    assert policy.acting(PROMPT) == {
        Category.DENY_LISTED: Rule(Action.MASK, 0.35),
        Category.CUSTOM: Rule(Action.MASK, 0.35),
    }
    other = parse_policy(recognizer(category="URL", score=0.5, context=["b", "a", "a"]))
    assert other.acting(PROMPT) == {}
    (found,) = other.recognizers
    assert (found.score, found.context, found.category) == (0.5, ("a", "b"), "URL")


LONG: list[JSONValue] = [str(number) for number in range(POLICY_LIST_MAX_COUNT + 1)]
MANY: list[JSONValue] = [{} for _ in range(POLICY_RECOGNIZERS_MAX_COUNT + 1)]
WORDS: list[JSONValue] = ["a" for _ in range(POLICY_CONTEXT_MAX_COUNT + 1)]
REFUSED: list[tuple[JSONObject, str]] = [
    ({"lists": []}, "policy.lists"),
    ({"lists": {"block": []}}, "policy.lists"),
    ({"lists": {"deny": "x"}}, "policy.lists.deny"),
    ({"lists": {"allow": LONG}}, "policy.lists.allow"),
    ({"lists": {"allow": ["a", 1]}}, "policy.lists.allow[1]"),
    ({"lists": {"allow": [""]}}, "policy.lists.allow[0]"),
    ({"lists": {"allow": [" a"]}}, "policy.lists.allow[0]"),
    ({"lists": {"allow": ["\ud800"]}}, "policy.lists.allow[0]"),
    ({"lists": {"deny": ["a" * (POLICY_TERM_MAX_CHARS + 1)]}}, "policy.lists.deny[0]"),
    ({"recognizers": {}}, "policy.recognizers"),
    ({"recognizers": MANY}, "policy.recognizers"),
    ({"recognizers": ["x"]}, "policy.recognizers[0]"),
    (recognizer(more=1), "policy.recognizers[0]"),
    (recognizer(name="1"), "policy.recognizers[0].name"),
    (recognizer(name=None), "policy.recognizers[0].name"),
    (recognizer(pattern=1), "policy.recognizers[0].pattern"),
    (recognizer(pattern="é"), "policy.recognizers[0].pattern"),
    (recognizer(pattern="a" * (POLICY_PATTERN_MAX_CHARS + 1)), "policy.recognizers[0].pattern"),
    (recognizer(score=2), "policy.recognizers[0].score"),
    (recognizer(context="x"), "policy.recognizers[0].context"),
    (recognizer(context=["X"]), "policy.recognizers[0].context[0]"),
    (recognizer(context=[1]), "policy.recognizers[0].context[0]"),
    (recognizer(context=WORDS), "policy.recognizers[0].context"),
    (recognizer(category="X"), "policy.recognizers[0].category"),
    (recognizer(category=1), "policy.recognizers[0].category"),
    (rules("URL", "mask", hold=True), "policy.rules.URL.*.hold"),
    (rules("URL", "mask", hold="x"), "policy.rules.URL.*.hold"),
]


@pytest.mark.parametrize(("document", "field"), REFUSED)
def test_errors_name_the_field(document: JSONObject, field: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(document)
    assert caught.value.field == field


def test_an_allowed_value_is_exempt_from_its_own_document_only() -> None:
    one = parse_policy({**rules("URL", "mask"), "lists": {"allow": ["A.example"]}})
    assert one.acting_on(PROMPT, "a.EXAMPLE") == {}
    assert one.acting_on(PROMPT, "b.example") == one.acting(PROMPT) != {}
    assert one.has_exemptions
    flags = parse_policy(rules("URL", "flag"))
    joined = one.joined(flags)
    assert joined.acting_on(PROMPT, "a.example")[Category.URL].action is Action.FLAG
    both = one.joined(parse_policy({**rules("URL", "fail"), "lists": {"allow": ["a.example"]}}))
    assert both.acting_on(PROMPT, "a.example") == {}
    assert both.acting(PROMPT)[Category.URL].action is Action.FAIL


def test_holding_is_a_switch_of_its_own() -> None:
    holds = Policy({URL: Rule(Action.ALLOW, 0.5, hold=True)})
    assert holds.holds
    assert holds.acting(PROMPT)[Category.URL].acts_on(0.5)
    joined = holds.joined(Policy({URL: Rule(Action.MASK, 0.9)}))
    assert joined.rule(URL) == Rule(Action.MASK, 0.5, hold=True)
    assert not Policy({URL: Rule(Action.MASK)}).holds


def test_equal_policies_have_equal_digests_and_others_others() -> None:
    documents: list[JSONObject] = [
        rules("URL", "mask"),
        {**rules("URL", "mask"), "lists": {"allow": ["a"]}},
        {**rules("URL", "mask"), "lists": {"allow": ["b"]}},
        {**rules("URL", "mask"), "lists": {"deny": ["a"]}},
        {**rules("URL", "mask"), **recognizer()},
        {**rules("URL", "mask"), **recognizer(pattern="F")},
    ]
    digests = [parse_policy(each).digest() for each in documents]
    assert len(set(digests)) == len(digests)
    assert digests == [parse_policy(each).digest() for each in documents]


FLOOR: JSONObject = {"rules": {"EMAIL_ADDRESS": {"*": {"action": "mask"}}}}
RANGES: JSONObject = {"ranges": {"EMAIL_ADDRESS": {"*": {"action": "flag", "threshold": 0.6}}}}


def test_settings_loosen_only_where_the_floor_names_a_range() -> None:
    allows = parse_policy(rules("EMAIL_ADDRESS", "allow"))
    assert parse_floor(FLOOR).effective(allows, None).rule(EMAIL) == Rule(Action.MASK, 0.35)
    ranged = parse_floor({**FLOOR, **RANGES})
    assert ranged.effective(allows, None).rule(EMAIL) == Rule(Action.FLAG, 0.6)
    assert ranged.effective(None, None) is ranged.policy
    silent = parse_policy(rules("URL", "flag"))
    assert ranged.effective(silent, None).rule(EMAIL) == Rule(Action.MASK, 0.35)
    stricter = parse_policy(rules("EMAIL_ADDRESS", "fail", threshold=0.9))
    assert ranged.effective(stricter, None).rule(EMAIL) == Rule(Action.FAIL, 0.6)
    assert ranged.effective(allows, stricter).rule(EMAIL) == Rule(Action.FAIL, 0.6)
    assert ranged.effective(None, allows).rule(EMAIL) == Rule(Action.MASK, 0.35)


def test_an_allow_list_of_settings_reaches_the_floor_only_by_leave() -> None:
    listed = parse_policy({**rules("EMAIL_ADDRESS", "fail"), "lists": {"allow": ["a@b.example"]}})
    for given, left in (
        ({}, {Category.EMAIL_ADDRESS: Rule(Action.MASK, 0.35)}),
        ({"allow_lists": True}, {}),
    ):
        floor = parse_floor({**FLOOR, **given})
        assert floor.effective(listed, None).acting_on(PROMPT, "A@b.example") == left
        own = floor.effective(None, listed).acting_on(PROMPT, "a@b.example")
        assert own == {Category.EMAIL_ADDRESS: Rule(Action.MASK, 0.35)}


@pytest.mark.parametrize("allow_lists", [False, True])
def test_settings_drop_nothing_that_the_floor_looks_for(*, allow_lists: bool) -> None:
    looks_for = parse_floor(
        {**FLOOR, **recognizer(), "lists": {"deny": ["Bluebird"]}, "allow_lists": allow_lists}
    )
    allowing = parse_policy({"lists": {"allow": ["a@b.example"]}})
    for settings in (parse_policy({}), allowing):
        left = looks_for.effective(settings, None)
        assert left.deny == {"bluebird"}
        assert left.recognizers == looks_for.policy.recognizers


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"allow_lists": 1}, "pii.allow_lists"),
        ({"lists": {"allow": ["a"]}}, "pii.lists.allow"),
        ({"ranges": []}, "pii.ranges"),
        (
            {"ranges": {"EMAIL_ADDRESS": {"*": {"action": "fail"}}}},
            "pii.ranges.EMAIL_ADDRESS",
        ),
        ({"x": 1}, "pii"),
    ],
)
def test_a_floor_is_read_strictly(more: JSONObject, field: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_floor({**FLOOR, **more})
    assert caught.value.field == field


def test_a_range_of_a_cell_without_a_rule_is_no_range() -> None:
    floor = parse_floor({**FLOOR, "ranges": {"URL": {"*": {"action": "flag"}}}})
    assert floor == Floor(floor.policy)
