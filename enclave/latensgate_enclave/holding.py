"""Holding a request: what happens in the place of its model call where an approver must decide."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate_enclave.holds import PendingState
from latensgate_shared.errors import ErrorCode, LatensgateError, TooLargeError
from latensgate_shared.hold import (
    PENDING_ID_BYTES,
    PLAN_SALT_BYTES,
    HoldNotice,
    copied,
    plan_digest,
)
from latensgate_shared.limits import HOLD_MAX_S, HOLD_REQUEST_MAX_BYTES
from latensgate_shared.pii_names import Category, Direction
from latensgate_shared.pii_policy import NO_OPINION, PolicyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latensgate_enclave.operation import Forwarding
    from latensgate_enclave.pii.protection import Protection
    from latensgate_enclave.record import Record
    from latensgate_enclave.steps import Opened, Parts
    from latensgate_shared.pii_policy import HoldTerms
    from latensgate_shared.settings import TenantSettings

_ATTACHED: Final = Category.ATTACHMENT.value
_PROMPT: Final = Direction.PROMPT.value


class HeldError(LatensgateError):
    """An approver must decide: nothing was sent to the model.

    Attributes:
        notice: What the caller is told of it.
    """

    code = ErrorCode.ERR_HELD

    def __init__(self, notice: HoldNotice) -> None:
        super().__init__(
            f"the policy holds this request until an approver decides ({notice.pending_id})"
        )
        self.notice = notice


@dataclass(frozen=True, slots=True, repr=False)
class Pending:
    """What the parent is handed of a held request.

    Attributes:
        pending_id: Its id.
        expires_at: Seconds since 1970.
        state: Sealed to this enclave.
    """

    pending_id: str
    expires_at: int
    state: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class Holding:
    """May hold one request: made where its policy holds anything at all.

    Attributes:
        parts: Of the enclave.
        opened: The request.
        settings: Those in force, or None.
        secret: That its surrogates are made of.
    """

    parts: Parts
    opened: Opened
    settings: TenantSettings | None
    secret: bytes = field(repr=False)

    def judge(self, calls: Sequence[Forwarding], record: Record, protection: Protection) -> None:
        """Let a request go on, or hold it.

        Args:
            calls: Its plan: exactly what would be forwarded.
            record: Is told of the hold, and hands the state to the parent.
            protection: Has counted what asks for an approver.

        Raises:
            HeldError: An approver must decide.
            PolicyError: There is nobody who could.
            TooLargeError: It is too long to be held.
        """
        counts = _with_attachments(protection, record)
        if not counts:
            return
        record.hashes.pop("forwarded", None)
        if self.settings is None or not self.settings.approvers:
            raise PolicyError(
                "settings.approvers", "the policy holds this request, and nobody may approve it"
            )
        terms, bodies = protection.policy.hold, [call.body for call in calls]
        raise HeldError(self._held(self.settings, bodies, counts, record, terms))

    def _held(
        self,
        settings: TenantSettings,
        bodies: Sequence[bytes],
        counts: dict[str, dict[str, int]],
        record: Record,
        terms: HoldTerms,
    ) -> HoldNotice:
        entropy = self.parts.environment.entropy
        salt, pending_id = entropy(PLAN_SALT_BYTES), "hld_" + entropy(PENDING_ID_BYTES).hex()
        outer = self.opened.outer
        if self.opened.size_bytes > HOLD_REQUEST_MAX_BYTES:
            raise TooLargeError(f"at most {HOLD_REQUEST_MAX_BYTES} sealed bytes can be held")
        state = PendingState(
            pending_id=pending_id,
            expires_at=self.parts.clock.now_s() + (terms.expires_s or HOLD_MAX_S),
            attestation_hash=outer.attestation_hash,
            model=outer.model,
            tenant_id=outer.tenant_id,
            operation=outer.operation,
            stream=outer.stream,
            shared_secret=self.opened.shared_secret,
            surrogate_secret=self.secret,
            settings=record.settings,
            tenant_root=settings.root,
            settings_version=settings.version,
            plan_salt=salt,
            plan_digest=plan_digest(salt, bodies),
            counts=counts,
            show_content=bool(terms.show_content),
        )
        sealed = self.parts.holds.seal(state)
        record.pending = Pending(pending_id, state.expires_at, sealed)
        record.hold = {"pending_id": pending_id, "plan_digest": state.plan_digest}
        names = tuple([each.name for each in settings.approvers])
        return HoldNotice(pending_id, state.plan_digest, state.expires_at, copied(counts), names)


def _with_attachments(protection: Protection, record: Record) -> dict[str, dict[str, int]]:
    """Return what asks for an approver; attachments, which no scan sees, are on the record."""
    counts = {name: dict(by) for name, by in protection.held.items()}
    rule = protection.policy.acting(Direction.PROMPT).get(Category.ATTACHMENT, NO_OPINION)
    attached: Mapping[str, int] = record.counts.get(_ATTACHED, {})
    if rule.hold and attached:
        counts[_ATTACHED] = {_PROMPT: attached[_PROMPT]}
    return counts
