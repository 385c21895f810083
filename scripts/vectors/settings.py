"""tests/vectors/settings: signed tenant settings, settings.md."""

# ruff: noqa: E501 -- a table of cases reads best one row a line

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vectors.case import Case, Json, base64_text, fixed, sha384_text
from vectors.primitives import jcs

if TYPE_CHECKING:
    from collections.abc import Mapping

_SPEC = "settings.md sections 1 and 2"
_LABEL = b"latensgate/1 tenant settings\x00"
_ROOT = Ed25519PrivateKey.from_private_bytes(fixed("tenant root", 32))
_OTHER = Ed25519PrivateKey.from_private_bytes(fixed("another tenant root", 32))
_TENANT = "tnt_a3f9c42b"
_SETTINGS: Mapping[str, Json] = {
    "format": "latensgate-tenant-settings/1",
    "tenant_id": _TENANT,
    "root": _ROOT.public_key().public_bytes_raw().hex(),
    "version": 7,
    "issued_at": 1_790_000_000,
    "policy": {"rules": {"US_SSN": {"*": {"action": "mask"}}}},
}


def _document(
    settings: Mapping[str, Json], key: Ed25519PrivateKey = _ROOT, label: bytes = _LABEL
) -> bytes:
    signature = key.sign(label + jcs(settings)).hex()
    return jcs({"settings": settings, "signature": signature})


def _input(document: bytes, **changes: Json) -> dict[str, Json]:
    return {
        "document_base64": base64_text(document),
        "tenant_root_hex": str(_SETTINGS["root"]),
        "tenant_id": _TENANT,
        "min_version": 7,
        **changes,
    }


def cases() -> list[Case]:
    """Settings that are demanded, and those that are refused."""
    good = _document(_SETTINGS)
    output: dict[str, Json] = {"version": 7, "digest": sha384_text(good)}
    bad: tuple[tuple[str, str, dict[str, Json]], ...] = (
        ("older", "A gateway that goes back to older settings is refused.", _input(good, min_version=8)),
        ("another-tenant", "Settings of another tenant.", _input(good, tenant_id="tnt_00000001")),
        ("another-root", "Self-made settings, well signed.", _input(_document({**_SETTINGS, "root": _OTHER.public_key().public_bytes_raw().hex()}, _OTHER))),
        ("signed-by-another", "The root that is named has not signed.", _input(_document(_SETTINGS, _OTHER))),
        ("no-label", "Signed without the label.", _input(_document(_SETTINGS, label=b""))),
        ("not-canonical", "White space in front.", _input(b" " + good)),
        ("unknown-member", "An unknown member is refused.", _input(_document({**_SETTINGS, "more": 1}))),
        ("audit-key-no-key", "An audit key that is none.", _input(_document({**_SETTINGS, "audit_key": "ff"}))),
    )  # fmt: skip
    return [
        Case("demanded", "verify_settings", "Signed by the root that is sealed.", _SPEC, _input(good), output),
        *(Case(name, "verify_settings", why, _SPEC, given, error="ERR_SETTINGS_REFUSED") for name, why, given in bad),
    ]  # fmt: skip
