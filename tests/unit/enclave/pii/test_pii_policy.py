from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from latensgate_enclave.pii import Action, Category, Direction, Policy, PolicyError, Rule
from latensgate_enclave.pii.policy import NO_OPINION, parse_policy
from latensgate_shared.errors import ErrorCode

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject, JSONValue

EMAIL, PHONE = Category.EMAIL_ADDRESS, Category.PHONE_NUMBER
PROMPT, ANSWER = Direction.PROMPT, Direction.ANSWER


def test_the_order_of_actions_is_that_of_strictness() -> None:
    names = [action.name for action in sorted(Action)]
    assert names == ["ALLOW", "FLAG", "PSEUDONYMISE", "MASK", "FAIL"]


def test_the_more_exact_rule_wins_whatever_the_order() -> None:
    rules = {
        "*": {"*": {"action": "flag"}, "prompt": {"action": "mask"}},
        "EMAIL_ADDRESS": {"answer": {"action": "allow"}, "*": {"action": "fail", "threshold": 1}},
    }
    for ordered in (rules, dict(reversed(rules.items()))):
        policy = parse_policy({"rules": ordered})
        assert policy.rules[PHONE, ANSWER] == Rule(Action.FLAG, 0.35)
        assert policy.rules[PHONE, PROMPT] == Rule(Action.MASK, 0.35)
        assert policy.rules[EMAIL, PROMPT] == Rule(Action.FAIL, 1.0)
        assert policy.rules[EMAIL, ANSWER] == Rule(Action.ALLOW, None)


def test_an_empty_document_has_no_opinion() -> None:
    assert parse_policy({}) == Policy({})
    assert parse_policy({}).acting(PROMPT) == {}


def _threshold(value: JSONValue) -> JSONValue:
    return {"rules": {"URL": {"*": {"action": "flag", "threshold": value}}}}


REFUSED: list[tuple[JSONValue, str]] = [
    (None, "policy"),
    ([], "policy"),
    ({"rule": {}}, "policy"),
    ({"held": True}, "policy"),
    ({"hold": True}, "policy.hold"),
    ({"hold": {"expires": 60}}, "policy.hold"),
    ({"hold": {"expires_s": 59}}, "policy.hold.expires_s"),
    ({"hold": {"expires_s": 86_401}}, "policy.hold.expires_s"),
    ({"hold": {"show_content": 1}}, "policy.hold.show_content"),
    ({"rules": []}, "policy.rules"),
    ({"rules": {"EMAIL": {}}}, "policy.rules"),
    ({"rules": {"URL": 1}}, "policy.rules.URL"),
    ({"rules": {"URL": {"input": {}}}}, "policy.rules.URL"),
    ({"rules": {"URL": {"*": 1}}}, "policy.rules.URL.*"),
    ({"rules": {"URL": {"*": {}}}}, "policy.rules.URL.*.action"),
    ({"rules": {"URL": {"*": {"action": 1}}}}, "policy.rules.URL.*.action"),
    ({"rules": {"URL": {"*": {"action": "MASK"}}}}, "policy.rules.URL.*.action"),
    ({"rules": {"URL": {"*": {"action": "flag", "hold": 1}}}}, "policy.rules.URL.*.hold"),
    ({"rules": {"URL": {"*": {"action": "flag", "x": 1}}}}, "policy.rules.URL.*"),
    ({"rules": {"URL": {"*": {"action": "flag", "hold": True}}}}, "policy.rules.URL.*.hold"),
    (_threshold("1"), "policy.rules.URL.*.threshold"),
    (_threshold(value=True), "policy.rules.URL.*.threshold"),
    (_threshold(-0.1), "policy.rules.URL.*.threshold"),
    (_threshold(1.1), "policy.rules.URL.*.threshold"),
    (_threshold(float("nan")), "policy.rules.URL.*.threshold"),
]


@pytest.mark.parametrize(("document", "field"), REFUSED)
def test_errors_name_the_field_and_nothing_of_the_sender(document: JSONValue, field: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(document)
    assert caught.value.field == field
    assert caught.value.code is ErrorCode.ERR_POLICY_INVALID
    assert caught.value.detail.startswith(f"{field}: ")
    assert "input" not in caught.value.detail


def test_the_join_only_tightens() -> None:
    floor = parse_policy({"rules": {"EMAIL_ADDRESS": {"*": {"action": "mask"}}}}, name="floor")
    looser = parse_policy(
        {"rules": {"EMAIL_ADDRESS": {"*": {"action": "allow", "threshold": 0.9}}}}
    )
    later = parse_policy({"rules": {"EMAIL_ADDRESS": {"*": {"action": "fail", "threshold": 0.9}}}})
    earlier = parse_policy({"rules": {"*": {"*": {"action": "flag", "threshold": 0.1}}}})
    assert floor.joined(looser).rules[EMAIL, PROMPT] == Rule(Action.MASK, 0.35)
    assert floor.joined(later).rules[EMAIL, PROMPT] == Rule(Action.FAIL, 0.35)
    assert floor.joined(earlier).rules[EMAIL, PROMPT] == Rule(Action.MASK, 0.1)
    assert floor.joined(earlier).rules[PHONE, PROMPT] == Rule(Action.FLAG, 0.1)


@pytest.mark.parametrize(
    ("rule", "score", "acts"),
    [
        (Rule(Action.MASK, 0.5), 0.5, True),
        (Rule(Action.MASK, 0.5), 0.49, False),
        (Rule(Action.ALLOW, 0.0), 1.0, False),
        (Rule(Action.FLAG), 0.0, True),
        (NO_OPINION, 1.0, False),
    ],
)
def test_when_a_rule_acts(rule: Rule, score: float, *, acts: bool) -> None:
    assert rule.acts_on(score) is acts


ALLOW: JSONValue = {"action": "allow"}


def test_the_digest_names_what_is_effective() -> None:
    one = parse_policy({"rules": {"*": {"*": {"action": "mask"}}}})
    same = parse_policy({"rules": {"*": {d.value: {"action": "mask"} for d in Direction}}})
    other = parse_policy({"rules": {"*": {"*": {"action": "mask", "threshold": 0.5}}}})
    assert one.digest() == same.digest() != other.digest()
    cell: JSONObject = {"action": "mask", "hold": False, "threshold": 0.35}
    document: JSONObject = {
        "rules": {"URL": {"answer": cell}},
        "exempting": [],
        "deny": [],
        "recognizers": [],
    }
    written = json.dumps(document, sort_keys=True, separators=(",", ":"))
    named = parse_policy({"rules": {"URL": {"answer": {"action": "mask"}, "prompt": ALLOW}}})
    assert named.digest() == f"sha384:{hashlib.sha384(written.encode()).hexdigest()}"
