"""What ``/api/policy`` takes and gives, as pydantic models."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from latensgate_parent.http.schemas import Count, Model, Signature, Time


class SignedSettings(Model):
    """Tenant settings and the root key's signature over them (docs/spec/settings.md)."""

    settings: dict[str, Any] = Field(
        description="What was signed, as canonical JSON behind a label."
    )
    signature: Signature = Field(description="Ed25519, by the key that `settings.root` names.")


class StoredPolicy(SignedSettings):
    """Signed settings as the gateway stores them."""

    version: Count = Field(description="That of `settings`.")
    stored_at: Time
