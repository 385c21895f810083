"""A dry run: what a policy would do to a request, and why; no model is called (ADR 0055).

The scan is that of every request, and it is asked to tell. What is explained is therefore what is
done, and cannot come apart from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from latensgate_enclave.pii import Budget
from latensgate_enclave.pii.explain import ExplainedTexts, explain_texts
from latensgate_shared.limits import PII_EXPLAINED_MAX_COUNT, PII_REQUEST_MAX_CHARS
from latensgate_shared.messages import DRY_RUN
from latensgate_shared.pii_names import Action, Category, Direction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from latensgate_enclave.dry_run_operation import DryRunRequest
    from latensgate_enclave.pii.protection import Protection
    from latensgate_enclave.record import Record
    from latensgate_shared.strict_json import JSONObject


def dry_run(request: DryRunRequest, protection: Protection, record: Record) -> bytes:
    """Return what the policy would do to a request, as JSON.

    Raises:
        LatensgateError: The scan could not be completed, or there is too much to tell.
    """
    record.dry_run = True
    budget = Budget(max_chars=PII_REQUEST_MAX_CHARS, max_findings=PII_EXPLAINED_MAX_COUNT)
    told = explain_texts(protection, request.parts(), budget)
    record.add_counts(told.counts)
    attached = _attachments(request.attachments(), protection, record)
    names_nothing = request.with_texts(told.forwarded) is None
    refusals = [*_refusals(told, attached), *(["a masked tool name calls no tool"] * names_nothing)]
    record.lap("scan")
    return msgspec.json.encode(
        {
            "object": DRY_RUN,
            "model": request.model,
            "refused": bool(refusals),
            "refusals": refusals,
            "policy_digest": record.policy_digest,
            "engine_digest": record.engine_digest,
            "settings": record.settings,
            "counts": record.counts,
            "surrogates": len(protection.surrogates),
            "attachments": attached,
            "texts": told.to_json(is_forwarded=not refusals),
        }
    )


def _attachments(count: int, protection: Protection, record: Record) -> JSONObject | None:
    if not count:
        return None
    rule = protection.policy.acting(Direction.PROMPT).get(Category.ATTACHMENT)
    action = Action.ALLOW if rule is None else rule.action
    if rule is not None:
        record.add_counts({Category.ATTACHMENT.value: {Direction.PROMPT.value: count}})
    return {
        "count": count,
        "action": action.name.lower(),
        "refused": action > Action.FLAG,
        "hold": rule is not None and rule.hold,
    }


def _refusals(told: ExplainedTexts, attached: JSONObject | None) -> Iterator[str]:
    for category, directions in told.refused.items():
        for direction, count in directions.items():
            yield f"{category} in {direction}: {count}"
    if attached is not None and attached["refused"]:
        yield f"{Category.ATTACHMENT.value} in {Direction.PROMPT.value}: {attached['count']}"
