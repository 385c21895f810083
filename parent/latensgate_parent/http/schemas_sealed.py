"""What the sealed route takes and gives, and every error: for the document alone.

They are served without pydantic, by code of their own.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from latensgate_parent.http.schemas import (
    Base64,
    BedrockHealth,
    Count,
    Digest,
    EnclaveHealth,
    KMSHealth,
    Model,
    ReceiptId,
    TenantId,
    Time,
)


class InferenceRequest(Model):
    """A sealed request: docs/spec/wire.md section 3."""

    prompt_ciphertext: Base64 = Field(description="The sealed request; decoded at most 15 MiB.")
    model: str = Field(
        min_length=1,
        max_length=256,
        description="Visible to the host; must equal the sealed one.",
        examples=["claude-3.5-sonnet"],
    )
    tenant_id: TenantId
    operation: str = Field(
        "chat.completions", min_length=1, max_length=256, description="What is asked of the model."
    )
    stream: bool = Field(
        default=False, description="Whether the answer comes as server-sent events."
    )


class InferenceAnswer(Model):
    """A sealed answer. All but the first member are hints that the SDK compares with the seal."""

    response_ciphertext: Base64
    audit_receipt_id: ReceiptId
    attestation_hash: Digest
    latency_ms: Count = Field(examples=[23])
    pii_detected: bool = Field(examples=[False])


class ErrorObject(Model):
    """As OpenAI clients know it."""

    message: str = Field(min_length=1, max_length=4096)
    type: str
    param: str | None
    code: str


class ErrorEnvelope(BaseModel):
    """The body of every answer with a status of 400 or above."""

    error: ErrorObject
    code: str = Field(examples=["ERR_REQUEST_INVALID"])
    correlation_id: str = Field(
        min_length=1, max_length=256, description="To quote to the operator."
    )
    hint: str = Field(description="What the caller can do.")


class SealedErrorEnvelope(ErrorEnvelope):
    """An error; with the last two members it is one inside the seal, and that one counts."""

    response_ciphertext: Base64 | None = None
    audit_receipt_id: ReceiptId | None = None


class UnavailableHealth(ErrorEnvelope):
    """The envelope, and beside it what ``GET /api/health`` says."""

    status: Literal["ok", "degraded", "unavailable"]
    enclave: EnclaveHealth
    kms: KMSHealth
    bedrock: BedrockHealth
    checked_at: Time | None
