"""``/api/approvals``: held requests, as the gateway tells of them. Nothing here is verified."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate.gateway import read
from latensgate_shared import formats
from latensgate_shared.hold import pending_id
from latensgate_shared.limits import SEALED_REQUEST_MAX_BYTES

if TYPE_CHECKING:
    from datetime import datetime

    from latensgate_shared.strict_json import JSONObject

STATES: Final = frozenset(
    {"pending", "running", "answered", "denied", "failed", "unknown", "lost", "expired"}
)
_HELD: Final = frozenset(
    {
        "pending_id",
        "state",
        "model",
        "operation",
        "held_at",
        "expires_at",
        "audit_receipt_id",
        "attestation_hash",
    }
)


@dataclass(frozen=True, slots=True)
class HeldRequestInfo:
    """A held request.

    Attributes:
        pending_id: ``hld_`` and 32 hex digits.
        state: One of ``STATES``.
        model: That the caller asks for.
        operation: What is asked for.
        held_at: When the gateway stored it, it says.
        expires_at: Until when an approver may decide.
        audit_receipt_id: Of the answer that it is held.
        attestation_hash: Of the enclave that holds it.
    """

    pending_id: str
    state: str
    model: str
    operation: str
    held_at: datetime
    expires_at: datetime
    audit_receipt_id: str
    attestation_hash: str


@dataclass(frozen=True, slots=True)
class UntrustedView:
    """A held request, and what an approver may see of it; nothing is verified.

    Attributes:
        held: As the gateway tells it.
        view: Signed by the enclave, it says.
        sealed: Whether it is sealed to the approver's X-Wing key.
    """

    held: HeldRequestInfo
    view: bytes = field(repr=False)
    sealed: bool


def parse_held(value: JSONObject) -> HeldRequestInfo:
    """Read one held request.

    Raises:
        JSONError: Another form.
    """
    return _held(formats.members(value, "approval", _HELD))


def parse_list(value: JSONObject) -> tuple[HeldRequestInfo, ...]:
    """Read a list of held requests.

    Raises:
        JSONError: Another form.
    """
    members = formats.members(value, "approvals", frozenset({"approvals", "count"}))
    formats.integer(members["count"], "approvals.count")
    listed = read.array(members["approvals"], "approvals.approvals")
    return tuple(_held(formats.members(each, "approval", _HELD)) for each in listed)


def parse_view(value: JSONObject) -> UntrustedView:
    """Read a held request with its view.

    Raises:
        JSONError: Another form.
    """
    members = formats.members(value, "approval", _HELD | {"view", "sealed"})
    return UntrustedView(
        _held(members),
        formats.base64_bytes(members["view"], "approval.view", SEALED_REQUEST_MAX_BYTES),
        formats.boolean(members["sealed"], "approval.sealed"),
    )


def _held(members: JSONObject) -> HeldRequestInfo:
    return HeldRequestInfo(
        pending_id=pending_id(members["pending_id"], "approval.pending_id"),
        state=read.one_of(members["state"], "approval.state", STATES),
        model=read.name(members["model"], "approval.model"),
        operation=read.name(members["operation"], "approval.operation"),
        held_at=read.moment(members["held_at"], "approval.held_at"),
        expires_at=read.moment(members["expires_at"], "approval.expires_at"),
        audit_receipt_id=formats.receipt_id(
            members["audit_receipt_id"], "approval.audit_receipt_id"
        ),
        attestation_hash=formats.sha384_digest(
            members["attestation_hash"], "approval.attestation_hash"
        ),
    )
