"""Rewriting a policy keeps it equal; any single edit makes it another."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_shared import kms_policy
from latensgate_shared.kms_policy import KeyPolicyParameters

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject, JSONValue

ACCOUNT = "111122223333"
PARAMETERS = KeyPolicyParameters(
    account_id=ACCOUNT,
    partition="aws",
    service_role_arn=f"arn:aws:iam::{ACCOUNT}:role/service",
    key_admin_role_arn=f"arn:aws:iam::{ACCOUNT}:role/admin",
    pcr0="a0" * 48,
    pcr1="b1" * 48,
    pcr2="c2" * 48,
    context_service="latensgate",
    context_release="1.0.0",
    context_deployment_digest="sha384:" + "d3" * 48,
)
RENDERED = kms_policy.render_key_policy(PARAMETERS)


def rewritten(value: JSONValue, chance: Random) -> JSONValue:
    """Spell a value anew: order, repetition, scalar or list of one."""
    if isinstance(value, dict):
        names = chance.sample(list(value), len(value))
        return {name: wrapped(value[name], chance) for name in names}
    if isinstance(value, list):
        items = [rewritten(item, chance) for item in value]
        repeated = items + chance.sample(items, chance.randrange(len(items) + 1))
        return chance.sample(repeated, len(repeated))
    return value


def wrapped(value: JSONValue, chance: Random) -> JSONValue:
    again = rewritten(value, chance)
    if not isinstance(again, list) and chance.random() < 0.5:
        return [again]
    return again


def places(value: JSONValue) -> list[tuple[dict[str, JSONValue] | list[JSONValue], str | int]]:
    """List every member and element, with what holds it."""
    if isinstance(value, dict):
        own: list[tuple[dict[str, JSONValue] | list[JSONValue], str | int]] = [
            (value, name) for name in value
        ]
        return own + [place for member in value.values() for place in places(member)]
    if isinstance(value, list):
        own = [(value, at) for at in range(len(value))]
        return own + [place for item in value for place in places(item)]
    return []


def edit(chance: Random, policy: JSONObject) -> None:
    holder, at = chance.choice(places(policy))
    how = chance.choice(["drop", "replace", "add"])
    if isinstance(holder, list):
        assert isinstance(at, int)
        if how == "drop":
            del holder[at]
        elif how == "replace":
            holder[at] = "kms:Other"
        else:
            holder.append("kms:Other")
        return
    assert isinstance(at, str)
    if how == "drop":
        del holder[at]
    elif how == "replace":
        holder[at] = "other"
    else:
        holder[at + "x"] = holder[at]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32).map(Random))
def test_rewriting_keeps_a_policy_equal(chance: Random) -> None:
    again = rewritten(RENDERED, chance)
    assert isinstance(again, dict)
    assert kms_policy.policies_equal(RENDERED, again)
    assert kms_policy.key_policy_digest(again) == kms_policy.key_policy_digest(RENDERED)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32).map(Random))
def test_one_edit_makes_another_policy(chance: Random) -> None:
    policy = kms_policy.render_key_policy(PARAMETERS)
    edit(chance, policy)
    again = rewritten(policy, chance)
    assert isinstance(again, dict)
    assert not kms_policy.policies_equal(RENDERED, again)
    assert kms_policy.key_policy_digest(again) != kms_policy.key_policy_digest(RENDERED)
