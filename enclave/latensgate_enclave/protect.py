"""The protection of one opened request: what the floor, its tenant and itself ask for, joined."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from latensgate_enclave.chat_values import UnsupportedError
from latensgate_enclave.holding import Holding
from latensgate_enclave.pii.custom import scanner_for
from latensgate_enclave.pii.protection import Protection
from latensgate_enclave.tenant_settings import applied
from latensgate_shared.errors import LatensgateError
from latensgate_shared.sealed_plaintext import CONVERSATION_SECRET_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.operation import Forwarding
    from latensgate_enclave.record import Record
    from latensgate_enclave.steps import Opened, Parts
    from latensgate_shared.strict_json import JSONObject


def takes_long(parts: Parts, opened: Opened) -> bool:
    """Whether policies bring what may take long to compile, or settings are read the first time.

    Deny terms and patterns take milliseconds each, and tenants choose them.
    """
    fields, document = opened.plaintext.fields, opened.tenant_settings
    if _brings(fields.policy or {}):
        return True
    if fields.tenant_root is None or document is None:
        return False
    settings = parts.settings.known(document)
    return settings is None or _brings(settings.policy_document or {})


def _brings(policy: JSONObject) -> bool:
    return not policy.keys().isdisjoint({"lists", "recognizers"})


def prepare(parts: Parts, opened: Opened) -> None:
    """Do the long part of `protection_of`, in any thread; what it makes is remembered for that.

    What is wrong with the policies is told by `protection_of` alone.
    """
    fields, tenant_id = opened.plaintext.fields, opened.outer.tenant_id
    with suppress(LatensgateError):
        settings = parts.settings.demanded(fields, opened.tenant_settings, tenant_id)
        scanner_for(parts.engine, applied(parts.floor, fields, settings).policy)


def protection_of(parts: Parts, opened: Opened, record: Record) -> Protection:
    """Return what is done with a request's texts and its answer's; the record tells of it.

    Raises:
        SettingsError: Settings are demanded, and those that the parent supplied are not they.
        PolicyError: The request's policy is not what the specification says.
        LatensgateError: `ERR_KMS_ENVELOPE`: the settings name a key, the request has none.
    """
    fields, tenant_id = opened.plaintext.fields, opened.outer.tenant_id
    settings = parts.settings.demanded(fields, opened.tenant_settings, tenant_id)
    record.audit_key = None if settings is None else settings.audit_key
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
