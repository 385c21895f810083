"""The protection of one opened request: what the floor, its tenant and itself ask for, joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latensgate_enclave.chat_values import UnsupportedError
from latensgate_enclave.holding import Holding
from latensgate_enclave.pii.protection import Protection
from latensgate_enclave.tenant_settings import applied
from latensgate_shared.sealed_plaintext import CONVERSATION_SECRET_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.operation import Forwarding
    from latensgate_enclave.record import Record
    from latensgate_enclave.steps import Opened, Parts


def protection_of(parts: Parts, opened: Opened, record: Record) -> Protection:
    """Return what is done with a request's texts and its answer's; the record tells of it.

    Raises:
        SettingsError: Settings are demanded, and those that the parent supplied are not they.
        PolicyError: The request's policy is not what the specification says.
        LatensgateError: `ERR_KMS_ENVELOPE`: the settings name a key, the request has none.
    """
    fields, tenant_id = opened.plaintext.fields, opened.outer.tenant_id
    settings = parts.settings.demanded(fields, opened.tenant_settings, tenant_id)
    found = applied(parts.floor, fields, settings)
    record.settings = found.told
    is_floor = found.policy is parts.floor.policy
    record.policy_digest = parts.floor_digest if is_floor else found.policy.digest()
    record.engine_digest = parts.engine.digest
    secret = fields.conversation_secret or opened.surrogate_secret
    secret = secret or parts.environment.entropy(CONVERSATION_SECRET_BYTES)
    remembering = parts.findings.scanner(parts.engine, tenant_id, fields.conversation_secret)
    protection = Protection.under(found.policy, parts.engine, tenant_id, secret, remembering)
    protection.layers = found.layers
    record.protection = protection
    if settings is not None:
        parts.holds.seen(settings)
    if found.policy.holds:
        record.holding = Holding(parts, opened, settings, secret)
    return protection


def judge_calls(calls: Sequence[Forwarding], record: Record, protection: Protection) -> None:
    """Let model calls go on, or refuse them; the record is told what they leave out.

    Args:
        calls: As translated.
        record: Of the request.
        protection: Of the request, whose texts are scanned.

    Raises:
        UnsupportedError: What a field asks for would tell what the policy keeps from the answer, or
            what was put in place of the caller's own words; ``param`` names it.
        HeldError: An approver must decide first.
    """
    record.drop(name for call in calls for name in call.dropped)
    names = [name for call in calls for name in call.unscannable]
    if names and protection.acts_on_answers():
        raise UnsupportedError("the policy of this request changes answers", param=names[0])
    if record.holding is not None:
        record.holding.judge(calls, record, protection)
