"""tests/vectors/kms_policy: equal and unequal key policies around the deployed template.

The template itself is data here: the file that Terraform deploys and the enclave renders.
"""

# ruff: noqa: E501 -- a table of cases reads best one row a line

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

from vectors.case import Case, Json, fixed, sha384_text
from vectors.pki import pcrs
from vectors.primitives import jcs

SPEC = "conformance.md, key policies"
KIND = "ERR_KMS_KEY_UNFIT"
REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATE = REPOSITORY / "shared" / "latensgate_shared" / "kms_key_policy.json.tftpl"
ACCOUNT = "111122223333"
PARAMETERS: dict[str, str] = {
    "account_id": ACCOUNT,
    "partition": "aws",
    "service_role_arn": f"arn:aws:iam::{ACCOUNT}:role/latensgate-service",
    "key_admin_role_arn": f"arn:aws:iam::{ACCOUNT}:role/latensgate-key-admin",
    "pcr0": pcrs()[0].hex(),
    "pcr1": pcrs()[1].hex(),
    "pcr2": pcrs()[2].hex(),
    "context_service": "latensgate",
    "context_release": "0.1.0",
    "context_deployment_digest": sha384_text(b"deployment.toml"),
}

Policy = dict[str, Any]


def _rendered() -> Policy:
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, value in PARAMETERS.items():
        text = text.replace("${" + name + "}", value)
    policy: Policy = json.loads(text)
    return policy


def _canonical(value: Json) -> Json:
    """Lists are sets, and a list of one is its element."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return {name: _canonical(member) for name, member in value.items()}
    items = {jcs(_canonical(item)): _canonical(item) for item in cast("list[Json]", value)}
    ordered = [items[key] for key in sorted(items)]
    return ordered[0] if len(ordered) == 1 else ordered


def _digest(policy: Policy) -> str:
    return sha384_text(jcs(_canonical(policy)))


def _text(policy: Policy) -> str:
    return json.dumps(policy, separators=(",", ":"))


def _input(text: str) -> dict[str, Json]:
    return {"policy": text, "parameters": PARAMETERS}


def _good(name: str, why: str, policy: Policy) -> Case:
    output: dict[str, Json] = {"digest": _digest(_rendered())}
    return Case(name, "verify_key_policy", why, SPEC, _input(_text(policy)), output)


def _bad(name: str, why: str, text: str) -> Case:
    return Case(name, "verify_key_policy", why, SPEC, _input(text), error=KIND)


def _changed(*path: str | int, to: Json) -> Policy:
    """The rendered policy with the value at ``path`` replaced."""
    policy = _rendered()
    place: Any = policy
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = deepcopy(to)
    return policy


def _accepted() -> list[Case]:
    policy = _rendered()
    statements: list[Any] = policy["Statement"]
    use: Policy = statements[0]
    turned = [{**s, "Action": list(reversed(s["Action"]))} for s in statements]
    return [
        _good("as-rendered", "The policy as the template gives it.", policy),
        _good("statements-reordered", "Lists are sets: another order of statements.", policy | {"Statement": list(reversed(statements))}),
        _good("actions-reordered", "Another order of actions.", policy | {"Statement": turned}),
        _good("action-twice", "Lists are sets: a value that stands twice.", _changed("Statement", 0, "Action", to=[*use["Action"], use["Action"][0]])),
        _good("scalar-as-list", "A scalar equals a list of one.", _changed("Statement", 0, "Principal", "AWS", to=[PARAMETERS["service_role_arn"]])),
        _good("statement-twice", "The same statement twice says no more than once.", policy | {"Statement": [*statements, use]}),
        _good("members-reordered", "Members of objects have no order.", dict(reversed(policy.items()))),
    ]  # fmt: skip


def _refused() -> list[Case]:
    policy = _rendered()
    statements: list[Any] = policy["Statement"]
    root = {
        "Sid": "Root",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    no_pcr2 = _rendered()
    del no_pcr2["Statement"][0]["Condition"]["StringEqualsIgnoreCase"][
        "kms:RecipientAttestation:PCR2"
    ]
    condition = (
        "Statement",
        0,
        "Condition",
        "StringEqualsIgnoreCase",
        "kms:RecipientAttestation:PCR0",
    )
    return [
        _bad("root-delegation", "Delegation to the account's root, which IAM policies then widen.", _text(policy | {"Statement": [*statements, root]})),
        _bad("pcr0-other", "Another PCR0.", _text(_changed(*condition, to=fixed("other", 48).hex()))),
        _bad("pcr0-alternative", "A second PCR0 beside the right one.", _text(_changed(*condition, to=[PARAMETERS["pcr0"], fixed("other", 48).hex()]))),
        _bad("pcr2-missing", "PCR2 is not demanded.", _text(no_pcr2)),
        _bad("condition-if-exists", "A condition that holds where the key is absent.", _text(policy).replace('"StringEqualsIgnoreCase"', '"StringEqualsIgnoreCaseIfExists"')),
        _bad("deny-missing", "The statement against loosening is missing.", _text(policy | {"Statement": statements[:-1]})),
        _bad("deny-allows", "A Deny became an Allow.", _text(_changed("Statement", 4, "Effect", to="Allow"))),
        _bad("deny-shortened", "PutKeyPolicy is no longer denied.", _text(policy).replace('"kms:PutKeyPolicy",', "")),
        _bad("action-wildcard", "The service role may do anything.", _text(_changed("Statement", 0, "Action", to="kms:*"))),
        _bad("principal-any", "Anyone whose document matches.", _text(_changed("Statement", 0, "Principal", to="*"))),
        _bad("principal-other-account", "A role of another account.", _text(policy).replace(f"{ACCOUNT}:role/latensgate-service", "444455556666:role/latensgate-service")),
        _bad("context-release-other", "The encryption context of another release.", _text(policy).replace('"0.1.0"', '"0.1.1"')),
        _bad("case-of-a-name", "Names are compared exactly.", _text(policy).replace('"Effect"', '"effect"')),
        _bad("member-twice", "A member stands twice: readers could differ.", _text(policy)[:-1] + ',"Version":"2012-10-17"}'),
        _bad("not-json", "Not JSON.", "{"),
        _bad("empty", "No text.", ""),
    ]  # fmt: skip


def cases() -> list[Case]:
    """Every case of the folder."""
    return [*_accepted(), *_refused()]
