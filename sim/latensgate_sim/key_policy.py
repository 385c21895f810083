"""Evaluation of KMS key policies (AWS IAM guide, "Policy evaluation logic" and "Condition").

An explicit Deny wins over everything; without an Allow the answer is no. Condition keys compare
without case, as AWS compares them. What is not known here raises when the policy is stored: an
unknown operator must never count as one that passes.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from latensgate_sim.errors import AWSError

if TYPE_CHECKING:
    from latensgate_sim.identity import Identity

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
Context: TypeAlias = Mapping[str, tuple[str, ...]]
"""Condition keys in lower case, each with its values."""


class Effect(Enum):
    """What a policy says about one request."""

    ALLOW = "allow"
    EXPLICIT_DENY = "explicit deny"
    IMPLICIT_DENY = "implicit deny"


@dataclass(frozen=True, slots=True)
class Access:
    """One request for permission.

    Attributes:
        action: For example ``kms:Decrypt``.
        key_arn: The key.
        identity: Who asks.
        context: Condition keys, lower case.
    """

    action: str
    key_arn: str
    identity: Identity
    context: Context


_FIELDS: Final = frozenset(
    {
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    }
)


def parse_policy(text: str) -> Mapping[str, JSON]:
    """Read a key policy and refuse what this evaluator does not know.

    Raises:
        AWSError: MalformedPolicyDocumentException.
    """
    try:
        policy = json.loads(text)
        for statement in _statements(policy):
            _check_statement(statement)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _malformed(f"The policy is not understood: {error}") from error
    return cast("Mapping[str, JSON]", policy)


def evaluate(policy: Mapping[str, JSON], access: Access) -> Effect:
    """Judge one request by the key policy alone."""
    effects = {
        str(statement["Effect"]) for statement in _statements(policy) if _applies(statement, access)
    }
    if "Deny" in effects:
        return Effect.EXPLICIT_DENY
    return Effect.ALLOW if "Allow" in effects else Effect.IMPLICIT_DENY


def action_matches(patterns: Sequence[str], action: str) -> bool:
    """Whether an action pattern such as ``kms:Generate*`` covers the action, without case."""
    return any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)


def _malformed(message: str) -> AWSError:
    return AWSError(400, "MalformedPolicyDocumentException", message)


def _statements(policy: Mapping[str, JSON]) -> list[Mapping[str, JSON]]:
    found = policy["Statement"]
    if isinstance(found, Mapping):
        return [found]
    return cast("list[Mapping[str, JSON]]", list(cast("Sequence[JSON]", found)))


def _check_statement(statement: Mapping[str, JSON]) -> None:
    unknown = set(statement) - _FIELDS
    if unknown or statement["Effect"] not in {"Allow", "Deny"}:
        raise ValueError(f"statement with {sorted(unknown)} and effect {statement['Effect']!r}")
    for pair in (("Principal", "NotPrincipal"), ("Action", "NotAction")):
        if sum(field in statement for field in pair) != 1:
            raise ValueError(f"exactly one of {pair} is needed")
    for operator, tests in _conditions(statement):
        if _operator(operator) is None:
            raise ValueError(f"condition operator {operator}")
        for values in tests.values():
            _strings(values)


def _conditions(statement: Mapping[str, JSON]) -> list[tuple[str, Mapping[str, JSON]]]:
    conditions = cast("Mapping[str, Mapping[str, JSON]]", statement.get("Condition", {}))
    return [(operator, dict(tests)) for operator, tests in conditions.items()]


def _applies(statement: Mapping[str, JSON], access: Access) -> bool:
    return (
        _principal_applies(statement, access)
        and _action_applies(statement, access.action)
        and _resource_applies(statement, access.key_arn)
        and all(
            _condition_holds(operator, key, _strings(values), access.context)
            for operator, tests in _conditions(statement)
            for key, values in tests.items()
        )
    )


def _principal_applies(statement: Mapping[str, JSON], access: Access) -> bool:
    if "NotPrincipal" in statement:
        return not _principal_names(statement["NotPrincipal"], access, allowing=False)
    allowing = statement["Effect"] == "Allow"
    return _principal_names(statement["Principal"], access, allowing=allowing)


def _principal_names(principal: JSON, access: Access, *, allowing: bool) -> bool:
    if not isinstance(principal, Mapping):
        return principal == "*"
    identity = access.identity
    names = set(_strings(principal.get("AWS", [])))
    if names & {"*", identity.principal_arn, identity.caller_arn}:
        return True
    if not names & {identity.account, f"arn:aws:iam::{identity.account}:root"}:
        return False
    # naming an account allows nothing by itself: it delegates to the account's IAM policies
    return not allowing or action_matches(identity.iam_actions, access.action)


def _action_applies(statement: Mapping[str, JSON], action: str) -> bool:
    if "NotAction" in statement:
        return not action_matches(_strings(statement["NotAction"]), action)
    return action_matches(_strings(statement["Action"]), action)


def _resource_applies(statement: Mapping[str, JSON], arn: str) -> bool:
    if "NotResource" in statement:
        return not any(
            fnmatch.fnmatchcase(arn, item) for item in _strings(statement["NotResource"])
        )
    return any(fnmatch.fnmatchcase(arn, item) for item in _strings(statement.get("Resource", "*")))


def _strings(value: JSON) -> list[str]:
    if isinstance(value, str | bool | int | float):
        return [_text(value)]
    if isinstance(value, Sequence):
        return [_text(cast("str | bool | float", item)) for item in value]
    raise TypeError(f"text or a list of text expected, not {type(value).__name__}")


def _text(value: str | bool | float) -> str:  # noqa: FBT001 -- JSON has booleans, and they are data here
    return str(value).lower() if isinstance(value, bool) else str(value)


Match: TypeAlias = Callable[[str, str], bool]


def _equals_ignore_case(pattern: str, value: str) -> bool:
    return pattern.lower() == value.lower()


_MATCHES: Final[Mapping[str, Match]] = {
    "StringEquals": str.__eq__,
    "StringEqualsIgnoreCase": _equals_ignore_case,
    "StringLike": lambda pattern, value: fnmatch.fnmatchcase(value, pattern),
    "ArnEquals": lambda pattern, value: fnmatch.fnmatchcase(value, pattern),
    "ArnLike": lambda pattern, value: fnmatch.fnmatchcase(value, pattern),
    "Bool": _equals_ignore_case,
    "NumericEquals": str.__eq__,
}
_NEGATED: Final = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NumericNotEquals": "NumericEquals",
}


@dataclass(frozen=True, slots=True)
class _Operator:
    match: Match | None
    negated: bool
    qualifier: str
    if_exists: bool


def _operator(name: str) -> _Operator | None:
    qualifier, separator, base = name.rpartition(":")
    if separator and qualifier not in {"ForAllValues", "ForAnyValue"}:
        return None
    if_exists = base.endswith("IfExists")
    base = base.removesuffix("IfExists")
    if base == "Null" and not separator and not if_exists:
        return _Operator(None, negated=False, qualifier="", if_exists=False)
    positive = _NEGATED.get(base, base)
    if positive not in _MATCHES:
        return None
    return _Operator(_MATCHES[positive], base in _NEGATED, qualifier, if_exists)


def _condition_holds(name: str, key: str, wanted: Sequence[str], context: Context) -> bool:
    operator = _operator(name)
    if operator is None:  # parse_policy let no such thing in
        raise _malformed(f"condition operator {name}")
    present = context.get(key.lower())
    if operator.match is None:
        return any((present is None) == (value.lower() == "true") for value in wanted)
    if present is None:
        return operator.if_exists or operator.negated or operator.qualifier == "ForAllValues"
    match = operator.match
    results = [any(match(item, value) for item in wanted) for value in present]
    if operator.negated:
        results = [not result for result in results]
    return all(results) if operator.qualifier == "ForAllValues" else any(results)
