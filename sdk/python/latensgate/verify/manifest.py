"""From the signed ``user_data`` to the keys: steps 12 and 13 of ``verify_attestation``.

Keys are taken from the bytes whose hash was signed and from nowhere else.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha384
from hmac import compare_digest
from typing import TYPE_CHECKING, Final

from latensgate.verify.errors import (
    BindingMismatch,
    ManifestExpired,
    ManifestInvalid,
)
from latensgate.verify.moments import in_utc
from latensgate.verify.results import VERIFIER_ONLY, demand_verifier
from latensgate_shared.errors import MalformedError
from latensgate_shared.limits import (
    ATTESTATION_DOCUMENT_SKEW_S,
    SDK_RENEW_AFTER_S,
    SDK_STOP_AFTER_S,
)
from latensgate_shared.manifest import (
    USER_DATA_BYTES,
    Manifest,
    aci_keyset,
    aci_keyset_digest,
    aci_report_data,
    parse_manifest,
)

if TYPE_CHECKING:
    from latensgate.verify.results import VerifiedDocument

_REPORT_DATA: Final = slice(0, 32)
_ZEROS: Final = slice(32, 64)
_MANIFEST_DIGEST: Final = slice(64, 112)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedManifest:
    """A manifest that a signed ``user_data`` commits to.

    Attributes:
        manifest: Its members.
        manifest_bytes: Exactly as hashed; archive these.
        keyset_digest: ``sha256:…``: the name that ACI has for the same keys.
    """

    manifest: Manifest
    manifest_bytes: bytes
    keyset_digest: str
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        demand_verifier(seal)


def verify_manifest_binding(document: VerifiedDocument, manifest_bytes: bytes) -> VerifiedManifest:
    """Check that a verified document commits to these bytes, and read them.

    Args:
        document: Its ``user_data`` and ``nonce`` are compared.
        manifest_bytes: As they came with the document: untrusted until their hash has passed.

    Raises:
        BindingMismatch: The document commits to no manifest, or to another one (step 12).
        ManifestInvalid: The bytes are no manifest of version 1 (step 13).
    """
    if document.user_data is None:
        raise BindingMismatch("user_data: null, so the document commits to no manifest")
    manifest = check_binding(document.user_data, document.nonce, manifest_bytes)
    return VerifiedManifest(
        manifest=manifest,
        manifest_bytes=manifest_bytes,
        keyset_digest=aci_keyset_digest(aci_keyset(manifest)),
        seal=VERIFIER_ONLY,
    )


def check_binding(user_data: bytes, nonce: bytes | None, manifest_bytes: bytes) -> Manifest:
    """Check that ``user_data`` commits to these bytes, and read them. Internal to the verifier.

    1. 112 bytes, the middle 32 of them zero;
    2. the last 48 are SHA-384 of the manifest bytes as given;
    3. the manifest is one of version 1, in canonical form;
    4. the first 32 are ACI's report data, recomputed from the manifest and the document's nonce.

    Args:
        user_data: As a document states it.
        nonce: The document's own ``nonce`` field.
        manifest_bytes: As they came with the document.

    Raises:
        BindingMismatch: Steps 1, 2 or 4.
        ManifestInvalid: Step 3.
    """
    if len(user_data) != USER_DATA_BYTES or any(user_data[_ZEROS]):
        raise BindingMismatch(
            f"user_data: {USER_DATA_BYTES} bytes with 32 zeros in the middle expected"
        )
    if not compare_digest(user_data[_MANIFEST_DIGEST], sha384(manifest_bytes).digest()):
        raise BindingMismatch("user_data: its SHA-384 is not that of the manifest given")
    try:
        manifest = parse_manifest(manifest_bytes)
    except MalformedError as error:
        raise ManifestInvalid(error.detail) from error
    keyset_digest = aci_keyset_digest(aci_keyset(manifest))
    if not compare_digest(user_data[_REPORT_DATA], _report_data(keyset_digest, nonce)):
        raise BindingMismatch("user_data: its report data is not that of this manifest and nonce")
    return manifest


def _report_data(keyset_digest: str, nonce: bytes | None) -> bytes:
    try:
        return aci_report_data(keyset_digest, nonce)
    except MalformedError as error:
        raise BindingMismatch(error.detail) from error


def renew_at(manifest: Manifest) -> datetime:
    """Return when a client should fetch the next manifest: 50 minutes into this one."""
    return _moment(manifest.not_before, SDK_RENEW_AFTER_S)


def sealable_until(manifest: Manifest) -> datetime:
    """Return when a client must have stopped sealing: 70 minutes in, or at ``not_after``.

    The five minutes to ``not_after`` are for requests on their way.
    """
    return min(_moment(manifest.not_before, SDK_STOP_AFTER_S), _moment(manifest.not_after, 0))


def verify_sealable(binding: VerifiedManifest, *, at: datetime) -> VerifiedManifest:
    """Return the manifest if a client may seal to its keys at this moment.

    Args:
        binding: ``VerifiedAttestation.binding``.
        at: Evaluation time, with time zone.

    Raises:
        ConfigurationError: ``at`` without time zone, or no calendar date in UTC.
        ManifestExpired: Too late, or so early that a clock must be wrong.
    """
    now, manifest = in_utc(at), binding.manifest
    if now < _moment(manifest.not_before, -ATTESTATION_DOCUMENT_SKEW_S):
        raise ManifestExpired("manifest: not_before lies in the future; check the clock")
    if now >= sealable_until(manifest):
        raise ManifestExpired("manifest: too old to seal to; fetch the attestation again")
    return binding


def _moment(seconds: int, later_s: int) -> datetime:
    """Arithmetic from the epoch, because ``fromtimestamp`` has platform limits."""
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds + later_s)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
