"""The one certificate that everything rests on, pinned by fingerprint.

A fingerprint pins the whole certificate, so the bytes may come from the document's own bundle:
only a bundle whose first entry *is* the pinned certificate has one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from latensgate.verify.errors import ConfigurationError

AWS_NITRO_ROOT_G1_SHA256: Final = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"
"""SHA-256 of the DER of CN=aws.nitro-enclaves (G1), as AWS publishes it in "Verifying the root of
trust" of the Nitro Enclaves user guide. Valid 2019-10-28 to 2049-10-28."""

Status = Literal["verified", "simulated"]

_HEX_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """A root and what a document under it may be called.

    Attributes:
        sha256: SHA-256 of the root's DER, 32 bytes.
        status: ``verified`` for the AWS root and for nothing else.
    """

    sha256: bytes
    status: Status

    def __post_init__(self) -> None:
        is_aws = self.sha256 == AWS_ANCHOR_SHA256
        if is_aws != (self.status == "verified"):
            raise ConfigurationError(
                "trust anchor: 'verified' is for the AWS root, 'simulated' for every other one"
            )


AWS_ANCHOR_SHA256: Final = bytes.fromhex(AWS_NITRO_ROOT_G1_SHA256)
AWS_ANCHOR: Final = TrustAnchor(AWS_ANCHOR_SHA256, "verified")


def select_anchor(unsafe_accept_simulated_root_sha256: str | None) -> TrustAnchor:
    """Return the AWS root, or the simulated one that the caller insists on.

    Args:
        unsafe_accept_simulated_root_sha256: 64 lower-case hex digits, or None.

    Raises:
        ConfigurationError: Not such a fingerprint, or that of the AWS root, which is no simulation.
    """
    if unsafe_accept_simulated_root_sha256 is None:
        return AWS_ANCHOR
    if not _HEX_SHA256.fullmatch(unsafe_accept_simulated_root_sha256):
        raise ConfigurationError("simulated root: 64 lower-case hex digits (SHA-256) expected")
    if unsafe_accept_simulated_root_sha256 == AWS_NITRO_ROOT_G1_SHA256:
        raise ConfigurationError(
            "simulated root: this is the AWS root; leave the option out to trust it"
        )
    return TrustAnchor(bytes.fromhex(unsafe_accept_simulated_root_sha256), "simulated")
