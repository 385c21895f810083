"""What the surface takes and gives, as pydantic models: the source of the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from latensgate_parent.http.auth import Scope
from latensgate_parent.limits import (
    AUDIT_LIMIT_DEFAULT,
    AUDIT_LIMIT_MAX,
    AUDIT_PAGE_MAX,
    KEY_NAME_MAX_CHARS,
)
from latensgate_shared.calls import (  # noqa: TC001 -- pydantic reads annotations at run time
    BedrockState,
    EnclaveState,
    KMSState,
)
from latensgate_shared.limits import JSON_MAX_SAFE_INTEGER

_SHA384: Final = r"^sha384:[0-9a-f]{96}$"
_RFC3339: Final = (
    r"^(19[7-9][0-9]|2[0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"
)
_BASE64: Final = r"^[A-Za-z0-9+/]*={0,2}$"
FORMS: Final = {
    _SHA384: "sha384: and 96 lower-case hexadecimal digits",
    _RFC3339: "a second in UTC such as 2026-11-14T09:23:41Z",
    _BASE64: "Base64",
}
"""What patterns that are hard to read stand for."""


def digits(value: object) -> object:
    """Read a whole number of a query; Python's own ``int`` takes blanks, signs and underscores."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and value[0] != "0"):
        raise ValueError("a whole number in decimal digits without leading zeros expected")
    return value


Digest = Annotated[str, Field(pattern=_SHA384, examples=["sha384:" + "c8f8e1a0" * 12])]
Register = Annotated[str, Field(pattern="^[0-9a-f]{96}$")]
Base64 = Annotated[str, Field(pattern=_BASE64, examples=["hEShATgi"])]
Time = Annotated[str, Field(pattern=_RFC3339, examples=["2026-11-14T09:23:41Z"])]
TenantId = Annotated[str, Field(pattern="^tnt_[0-9a-f]{8}$", examples=["tnt_a3f9c42b"])]
ReceiptId = Annotated[str, Field(pattern="^aud_[0-9a-f]{16}$", examples=["aud_8f9e1a0d56e9bb6a"])]
APIKeyId = Annotated[str, Field(pattern="^key_[0-9a-f]{16}$", examples=["key_5e0f3c2a9d817b64"])]
HPKEKeyId = Annotated[str, Field(pattern="^[0-9a-f]{16}$", examples=["5e0f3c2a9d817b64"])]
Nonce = Annotated[
    str, Field(pattern="^[0-9a-f]{64}$", examples=["00112233445566778899aabbccddeeff" * 2])
]
Signature = Annotated[str, Field(pattern="^[0-9a-f]{128}$")]
Count = Annotated[int, Field(ge=0, le=JSON_MAX_SAFE_INTEGER)]
Life = Annotated[
    str,
    Field(
        examples=["90d", "12h"],
        json_schema_extra={
            "pattern": (
                "^((?:[1-9][0-9]{0,2}|[12][0-9]{3}|3[0-5][0-9]{2}|36[0-4][0-9]|3650)d|"
                "(?:[1-9][0-9]{0,3}|[1-7][0-9]{4}|8[0-6][0-9]{3}|87[0-5][0-9]{2}|87600)h)$"
            )
        },
    ),
]
"""At most 3650d: told to programs; what is wrong, `api_keys.parse_duration` says better."""
Grace = Annotated[
    str,
    Field(
        examples=["24h", "7d"],
        json_schema_extra={
            "pattern": ("^((?:[1-9]|[12][0-9]|30)d|(?:[1-9][0-9]?|[1-6][0-9]{2}|7[01][0-9]|720)h)$")
        },
    ),
]
"""The same, at most 30d."""
Outcome = Literal["answered", "refused", "failed", "cancelled", "held", "dry_run"]


class Model(BaseModel):
    """Exactly these members; types are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Query(BaseModel):
    """The parameters of a route; texts of the query are read by the form of each."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- attestation ---


class AttestationQuery(Query):
    """Query of ``GET /api/attestation``."""

    nonce: Nonce | None = Field(
        None, description="32 fresh random bytes of the client; asks for a `nonce_document`."
    )
    key_id: HPKEKeyId | None = Field(
        None, description="The enclave that holds this key answers. Left out: one that is ready."
    )


class Attestation(Model):
    """The evidence that a client verifies before it seals."""

    attestation_hash: Digest = Field(description="Of `document`: a hint, the client computes it.")
    document: Base64 = Field(description="The published attestation document; its nonce is null.")
    manifest: Base64 = Field(description="The exact bytes that the document commits to.")
    nonce_document: Base64 | None = Field(
        None,
        description="There exactly if a nonce was sent: over the same manifest, with that nonce.",
    )


class AttestQuery(Query):
    """Query of ``GET /api/attest``."""

    hash: Digest = Field(description="`attestation_hash` of an answer or a receipt.")


class Step(Model):
    """One step of the verification checklist."""

    number: int = Field(ge=1, le=13)
    title: str
    state: Literal["passed", "failed", "not run"]
    reason: str | None


class Attest(Model):
    """An archived document, and the gateway's own opinion of it."""

    hash: Digest = Field(description="As asked.")
    pcr_values: dict[str, Register] = Field(
        description="Every register that the document holds: `PCR` and its index.",
        examples=[{"PCR0": "a0" * 48, "PCR1": "a1" * 48, "PCR2": "a2" * 48}],
    )
    timestamp: Time | None = Field(
        description="Of the document, to the second; null if it cannot be read."
    )
    enclave_image_sha: Digest | None = Field(
        description="`sha384:` and PCR0, the measurement of the whole image."
    )
    status: Literal["verified", "simulated", "debug", "untrusted", "revoked", "invalid"] = Field(
        description="The first step that refuses decides. Never act on it: verify yourself."
    )
    region: str | None = Field(
        description="AWS Region in the leaf certificate's name.", examples=["us-east-1"]
    )
    document: Base64 = Field(description="Raw document: the ground for a judgement of your own.")
    manifest: Base64 = Field(description="Raw manifest.")
    fresh: bool = Field(description="Whether the manifest's `not_after` is still to come.")
    verdict: list[Step] = Field(description="The 13 steps, at the document's own second.")


# --- audit ---


class AuditQuery(Query):
    """Query of ``GET /api/audit``."""

    page: Annotated[int, Field(ge=1, le=AUDIT_PAGE_MAX), BeforeValidator(digits)] = Field(
        1, description="From 1."
    )
    limit: Annotated[int, Field(ge=1, le=AUDIT_LIMIT_MAX), BeforeValidator(digits)] = Field(
        AUDIT_LIMIT_DEFAULT, description="Entries of a page."
    )
    outcome: Outcome | None = Field(None, description="Only receipts of this outcome.")
    key_id: HPKEKeyId | None = Field(None, description="Only what was sealed to this HPKE key.")
    attestation_hash: Digest | None = Field(None, description="Only receipts of this document.")
    since: Time | None = Field(None, description="Issued at this moment or later.")
    until: Time | None = Field(None, description="Issued before this moment.")


class PublicPart(Model):
    """The public part of a receipt; its JCS is what is signed."""

    version: Literal[1]
    receipt_id: ReceiptId
    tenant_id: TenantId
    key_id: HPKEKeyId
    sequence: Count = Field(description="Rises by one for each enclave and tenant.")
    previous_receipt_hash: Digest | None
    issued_at: Count = Field(
        description="Seconds since 1970, rounded down to the minute.", examples=[1780315260]
    )
    outcome: Outcome
    request_hash: Digest
    response_hash: Digest
    attestation_hash: Digest
    private_digest: Digest


class AuditEntry(Model):
    """One receipt."""

    public: PublicPart
    signature: Signature = Field(description="Ed25519 by the enclave's receipt key.")
    private_sealed: Base64 | None = Field(
        description="The private part, sealed to the tenant's audit key."
    )


class AuditPage(Model):
    """One page of receipts, newest first."""

    entries: list[AuditEntry]
    page: int = Field(ge=1)
    limit: int = Field(ge=1)
    total: Count = Field(description="All receipts that match.")


# --- keys ---


class APIKeyShown(Model):
    """An API key without its secret."""

    id: APIKeyId
    name: str = Field(examples=["production-pipeline"])
    hint: str = Field(description="The beginning of the full key.", examples=["lg_live_Ab3d…"])
    scopes: list[str] = Field(examples=[["audit:read", "inference:read"]])
    status: Literal["active", "expired", "revoked"]
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None


class APIKeyList(Model):
    """All API keys of the tenant, newest first."""

    keys: list[APIKeyShown]


class APIKeyMade(APIKeyShown):
    """A key that was just made."""

    key: str = Field(
        description="The full key. It is shown in this answer and never again.",
        examples=["lg_live_" + "A" * 43],
    )


class APIKeyRotated(APIKeyMade):
    """A key that was just made in place of another."""

    replaces: APIKeyId


class CreateKey(Model):
    """Body of ``POST /api/keys``."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "production-pipeline",
                    "scopes": ["inference:read", "audit:read"],
                    "expiry": "90d",
                }
            ]
        }
    )

    name: str = Field(
        min_length=1,
        max_length=KEY_NAME_MAX_CHARS,
        description="For people; printable characters.",
    )
    scopes: list[Annotated[Scope, Field(strict=False)]] = Field(
        min_length=1,
        max_length=len(Scope),
        description="What the key permits; only scopes that the caller's own key has.",
        json_schema_extra={"uniqueItems": True},
    )
    expiry: Life | None = Field(
        "90d", description="How long it works: hours or days, at most `3650d`; null: no end."
    )


class RotateKey(Model):
    """Body of ``POST /api/keys/{key_id}/rotate``."""

    grace: Grace | None = Field(
        "24h",
        description="How long the old key goes on working, at most `30d`; null: not at all.",
    )
    expiry: Life | None = Field(
        None,
        description=(
            "Of the new key; null: no end; left out: it lives as long as the old one was to live."
        ),
    )


# --- health, models, usage ---


class EnclaveHealth(Model):
    """The enclaves."""

    status: EnclaveState | Literal["unreachable"] = Field(description="Of the best enclave.")
    ready: int = Field(ge=0, description="How many take requests.")
    total: int = Field(ge=0)


class KMSHealth(Model):
    """What KMS said last."""

    status: KMSState | Literal["unknown"]


class BedrockHealth(Model):
    """What the last check of the upstream account said."""

    status: BedrockState | Literal["unknown"]


class Health(Model):
    """What the parent knows of its enclaves."""

    status: Literal["ok", "degraded", "unavailable"]
    enclave: EnclaveHealth
    kms: KMSHealth
    bedrock: BedrockHealth
    checked_at: Time | None = Field(description="When that enclave last answered.")


class ModelName(Model):
    """One of the operator's model names."""

    id: str = Field(examples=["claude-3.5-sonnet"])
    object: Literal["model"] = "model"
    created: int = Field(0, description="Seconds since 1970; 0 if not known.")
    owned_by: Literal["latensgate"] = "latensgate"
    shutdown_date: str | None = Field(None, examples=["2026-10-14"])
    kind: Literal["chat", "embeddings"] = "chat"


class ModelList(Model):
    """As OpenAI lists models."""

    object: Literal["list"] = "list"
    data: list[ModelName]


class Counts(Model):
    """What was counted since the enclave started."""

    requests: Count = Field(description="Those for which a model ran.")
    prompt_tokens: Count
    completion_tokens: Count


class EnclaveUsage(Model):
    """What one enclave counted for the tenant, and what pins the operator to it."""

    receipt_key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    issued_at: Time
    usage: Counts
    totals_hash: Digest = Field(description="SHA-384 of the totals of all tenants.")
    signature: Signature = Field(description="The enclave's over these totals.")


class Usage(Model):
    """What the enclaves have counted for the tenant."""

    tenant_id: TenantId
    usage: Counts = Field(description="The sum over `enclaves`.")
    enclaves: list[EnclaveUsage]
