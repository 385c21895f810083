"""Key policies of the attack tests: the template, and what operators make of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from latensgate_shared.kms_policy import render_key_policy_text
from latensgate_sim.world import ACCOUNT
from stack import Stack

Statement = dict[str, object]
ROOT: Statement = {
    "Sid": "Delegation",
    "Effect": "Allow",
    "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
    "Action": "kms:*",
    "Resource": "*",
}
ANYONE: Statement = {**ROOT, "Sid": "Anyone", "Principal": "*"}
NOBODY: Statement = {**ANYONE, "Sid": "Nobody", "Effect": "Deny"}
LOOSE = json.dumps({"Version": "2012-10-17", "Statement": [ANYONE]})


def template(stack: Stack, **changes: str) -> str:
    return render_key_policy_text(replace(stack.parameters(), **changes))


def with_statements(stack: Stack, change: Callable[[list[Statement]], object]) -> str:
    policy = json.loads(template(stack))
    change(policy["Statement"])
    return json.dumps(policy)
