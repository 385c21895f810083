"""Tenant settings, shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from latensgate.cli.simple import facts_table, list_table, plain, short_hash
from latensgate.cli.text import printable, utc
from latensgate_shared.pii_names import Direction

if TYPE_CHECKING:
    from rich.console import RenderableType

    from latensgate_shared.pii_policy import Policy, Rule
    from latensgate_shared.settings import TenantSettings
    from latensgate_shared.strict_json import JSONObject


def settings_json(found: TenantSettings) -> JSONObject:
    """Return settings for programs."""
    return {
        "tenant_id": found.tenant_id,
        "tenant_root": found.root.hex(),
        "version": found.version,
        "issued_at": found.issued_at_s,
        "digest": found.digest,
        "policy": found.policy_document,
        "policy_digest": None if found.policy is None else found.policy.digest(),
        "approvers": [
            {"name": each.name, "ed25519": each.ed25519.hex(), "sealed": each.xwing is not None}
            for each in found.approvers
        ],
        "audit_key": found.audit_key is not None,
        "kms_key_arn": found.kms_key_arn,
    }


def settings_view(found: TenantSettings) -> list[RenderableType]:
    """Return settings for people."""
    shown: list[RenderableType] = [
        facts_table(
            [
                ("tenant", plain(found.tenant_id)),
                ("root", plain(found.root.hex())),
                ("version", plain(str(found.version))),
                ("signed", plain(_moment(found.issued_at_s))),
                ("digest", plain(short_hash(found.digest))),
                ("KMS key", plain(found.kms_key_arn or "none")),
                ("audit key", plain("yes" if found.audit_key else "none")),
                ("approvers", plain(", ".join(each.name for each in found.approvers) or "none")),
            ]
        )
    ]
    if found.policy is not None:
        shown += policy_view(found.policy)
    return shown


def policy_view(policy: Policy) -> list[RenderableType]:
    """Return a policy for people: one row for each category with a rule."""
    table = list_table("category", *(each.value for each in Direction))
    rules = dict(policy.rules)
    for exempted in policy.exempting.values():
        rules |= exempted
    for category in sorted({category for category, _ in rules}, key=lambda each: each.value):
        cells = [_cell(rules.get((category, direction))) for direction in Direction]
        table.add_row(category.value, *cells)
    facts: list[tuple[str, RenderableType]] = [
        ("deny terms", plain(str(len(policy.deny)))),
        ("allowed values", plain(str(sum(map(len, policy.exempting))))),
        ("recognizers", plain(", ".join(each.name for each in sorted(policy.recognizers)) or "0")),
    ]
    return [table, facts_table(facts)]


def _cell(rule: Rule | None) -> str:
    if rule is None:
        return "·"
    threshold = "" if rule.threshold is None else f" ≥{rule.threshold:g}"
    return printable(f"{rule.action.name.lower()}{threshold}")


def _moment(seconds: int) -> str:
    try:
        return utc(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s"
