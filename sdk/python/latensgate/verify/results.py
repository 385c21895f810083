"""What a verification returns. Only the verifier can make these values."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from latensgate.verify.anchors import Status
    from latensgate.verify.chain import CertificateSummary
    from latensgate.verify.document import UntrustedDocument
    from latensgate.verify.manifest import VerifiedManifest
    from latensgate.verify.policy import Match
    from latensgate_shared.manifest import Manifest

VERIFIER_ONLY: Final = object()
"""Proof of being the verifier: ``attestation``, ``manifest`` and ``receipt`` alone pass it (a test
looks)."""


def demand_verifier(seal: object) -> None:
    """Refuse to make a verified value for anyone but the verifier."""
    if seal is not VERIFIER_ONLY:
        raise TypeError("verified values are made by the verify functions and by nothing else")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedDocument:
    """An attestation document that passed every step (1 to 11).

    Attributes:
        status: ``verified`` under the AWS root, ``simulated`` under any other.
        module_id: Instance and enclave id.
        region: AWS Region in the leaf's name.
        timestamp: The document's own time, UTC.
        pcrs: Locked registers by index, 48 bytes each.
        attestation_hash: ``sha384:`` and 96 hex digits, over what is signed.
        public_key: Up to 1,024 bytes, or None.
        user_data: The same.
        nonce: The same.
        certificates: The chain, root first.
        match: Which accepted image or release it is.
    """

    status: Status
    module_id: str
    region: str
    timestamp: datetime
    pcrs: Mapping[int, bytes]
    attestation_hash: str
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    certificates: tuple[CertificateSummary, ...]
    match: Match
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        demand_verifier(seal)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnappraisedDocument:
    """A genuine document of an image that nobody has judged (steps 1 to 9): for looking only.

    It shares no base with ``VerifiedDocument`` and has no ``status``, so neither a type checker
    nor a careless line takes one for the other.

    Attributes:
        document: What the document says; its signature and chain hold.
        root: ``aws`` or ``simulated``.
        region: AWS Region in the leaf's name.
        certificates: The chain, root first.
    """

    document: UntrustedDocument
    root: str
    region: str
    certificates: tuple[CertificateSummary, ...]
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        demand_verifier(seal)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedAttestation:
    """A verified document and the manifest that it commits to (steps 1 to 13).

    Attributes:
        document: The verified document.
        binding: The manifest, its bytes and its ACI keyset digest.
    """

    document: VerifiedDocument
    binding: VerifiedManifest
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        demand_verifier(seal)

    @property
    def manifest(self) -> Manifest:
        """Keys and digests, from the bytes whose hash was signed."""
        return self.binding.manifest

    @property
    def attestation_hash(self) -> str:
        """``sha384:`` and 96 hex digits: the name of the document."""
        return self.document.attestation_hash

    @property
    def status(self) -> Status:
        """``verified`` under the AWS root, ``simulated`` under any other."""
        return self.document.status
