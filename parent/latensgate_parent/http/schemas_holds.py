"""What the routes of held requests take and give, as pydantic models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from latensgate_parent.http.schemas import Base64, Count, Digest, Model, ReceiptId, Signature, Time
from latensgate_parent.store.held_forms import HoldState  # noqa: TC001 -- read at run time

PendingId = Annotated[
    str, Field(pattern="^hld_[0-9a-f]{32}$", examples=["hld_" + "5e0f3c2a9d817b64" * 2])
]
ApproverKey = Annotated[
    str, Field(pattern="^[0-9a-f]{64}$", examples=["00112233445566778899aabbccddeeff" * 2])
]


class HeldRequest(Model):
    """A request that an approver decides on. None of it is authenticated."""

    pending_id: PendingId
    state: HoldState
    model: str = Field(description="That the caller asks for.")
    operation: str
    held_at: Time
    expires_at: Time = Field(description="From then on nobody can decide.")
    audit_receipt_id: ReceiptId = Field(description="Of the answer that it is held.")
    attestation_hash: Digest = Field(description="Of the enclave that holds it.")


class HeldRequests(Model):
    """Held requests, newest first."""

    approvals: list[HeldRequest]
    count: Count


class ShownRequest(HeldRequest):
    """A held request, with what an approver may see of it (docs/spec/holds.md)."""

    view: Base64 = Field(description="Signed by the enclave; sealed if `sealed` says so.")
    sealed: bool = Field(description="Whether `view` is sealed to the approver's X-Wing key.")


class SignedDecision(Model):
    """What an approver has decided (docs/spec/holds.md)."""

    pending_id: PendingId
    plan_digest: Digest
    decision: Literal["approve", "deny"]
    expires_at: Count = Field(description="Seconds since 1970: then it counts for nothing.")
    approver: ApproverKey = Field(description="Ed25519 key of the tenant's settings.")
    signature: Signature
