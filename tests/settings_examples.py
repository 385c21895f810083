"""Signed tenant settings for tests, made by a second way: PyNaCl-free, on `cryptography` alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from latensgate_shared.strict_json import JSONObject, JSONValue

LABEL = b"latensgate/1 tenant settings\x00"


def canonical(value: JSONValue) -> bytes:
    """JCS for values that hold ASCII texts and integers only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Root:
    """A tenant's root key."""

    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    def settings(self, tenant_id: str, version: int = 1, **members: JSONValue) -> JSONObject:
        return {
            "format": "latensgate-tenant-settings/1",
            "tenant_id": tenant_id,
            "root": self.public.hex(),
            "version": version,
            "issued_at": 1_700_000_000,
            **members,
        }

    def signed(self, settings: JSONObject) -> bytes:
        signature = self.private.sign(LABEL + canonical(settings)).hex()
        return canonical({"settings": settings, "signature": signature})

    def document(self, tenant_id: str, version: int = 1, **members: JSONValue) -> bytes:
        return self.signed(self.settings(tenant_id, version, **members))
