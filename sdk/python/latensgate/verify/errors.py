"""What a verification can end in: one base, a closed set of kinds, the step that refused.

The numbers are those of ``STEPS``; a judge that stops at step *n* has passed all steps before it.
"""

# ruff: noqa: N818 -- the classes are named for the verdict that a person reads

from __future__ import annotations

from typing import ClassVar, Final

from latensgate_shared.errors import ErrorCode, LatensgateError

STEPS: Final[tuple[tuple[int, str], ...]] = (
    (1, "Read the document as strict CBOR and COSE_Sign1"),
    (2, "Demand ES384 in the protected header, nothing in the unprotected one"),
    (3, "Read the fields and hold them to their types and sizes"),
    (4, "Find the pinned root first in the certificate bundle"),
    (5, "Build the certificate chain at the evaluation time"),
    (6, "Hold the chain to the Nitro profile and to the module id"),
    (7, "Check the signature with the leaf's key"),
    (8, "Check the document's own time"),
    (9, "Refuse debug mode"),
    (10, "Compare PCR0, PCR1 and PCR2 with the accepted measurements"),
    (11, "Compare the nonce"),
    (12, "Compare user_data with the manifest"),
    (13, "Take the keys from the signed manifest"),
)
"""Number and title of every step of ``verify_attestation``, in order."""


class ConfigurationError(LatensgateError):
    """What the caller accepts is not stated, or is stated wrongly. No document was looked at."""

    code = ErrorCode.ERR_CONFIGURATION


class VerificationError(LatensgateError):
    """A document, a manifest or a receipt was refused. Only its subclasses are raised.

    Attributes:
        kind: One of ``KINDS``; stable, for programs.
        step: Number of the step that refused.
    """

    code = ErrorCode.ERR_ATTESTATION_INVALID
    kind: ClassVar[str] = "unspecified"
    step: int = 0

    def __init__(self, detail: str, *, step: int | None = None) -> None:
        super().__init__(detail)
        if step is not None:
            self.step = step


class MalformedDocument(VerificationError):
    """Not strict CBOR, not COSE_Sign1, or fields that are not what AWS specifies."""

    kind = "malformed-document"
    step = 1


class UnsignedDocument(VerificationError):
    """Zeros stand where signature or certificate belong: an emulated device made it."""

    kind = "unsigned-document"
    step = 2


class AlgorithmRefused(VerificationError):
    """Headers or signature form are not those of ES384 as Nitro writes them."""

    kind = "algorithm-refused"
    step = 2


class NotAnEnclave(VerificationError):
    """A document of another device under the same root, for example NitroTPM."""

    kind = "not-an-enclave"
    step = 3


class UntrustedRoot(VerificationError):
    """The bundle does not begin with the pinned root."""

    kind = "untrusted-root"
    step = 4


class InvalidChain(VerificationError):
    """The certificates do not form a chain from the pinned root to the leaf."""

    kind = "invalid-chain"
    step = 5


class CertificateExpired(VerificationError):
    """A certificate ended before the evaluation time."""

    kind = "certificate-expired"
    step = 5


class CertificateNotYetValid(VerificationError):
    """A certificate begins after the evaluation time."""

    kind = "certificate-not-yet-valid"
    step = 5


class ProfileViolation(VerificationError):
    """A good chain that is not one of Nitro Enclaves, or not of this module."""

    kind = "profile-violation"
    step = 6


class InvalidSignature(VerificationError):
    """The signature is not the leaf's over these bytes: they were changed, or forged."""

    kind = "invalid-signature"
    step = 7


class DocumentTimeInvalid(VerificationError):
    """The document's timestamp lies outside the leaf's window or after the evaluation time."""

    kind = "document-time-invalid"
    step = 8


class DebugModeRefused(VerificationError):
    """The enclave runs in debug mode: its operator can read its memory."""

    kind = "debug-mode-refused"
    step = 9


class MeasurementMismatch(VerificationError):
    """The enclave runs an image that the policy does not accept."""

    kind = "measurement-mismatch"
    step = 10


class ReleaseRevoked(VerificationError):
    """The image is a known release that is revoked or past its last day."""

    kind = "release-revoked"
    step = 10


class NonceMismatch(VerificationError):
    """The document was not made for this challenge."""

    kind = "nonce-mismatch"
    step = 11


class BindingMismatch(VerificationError):
    """``user_data`` does not commit to the manifest that came with the document."""

    kind = "binding-mismatch"
    step = 12


class ManifestInvalid(VerificationError):
    """The signed manifest is not one that this version understands."""

    kind = "manifest-invalid"
    step = 13


class ManifestExpired(VerificationError):
    """The keys may not be sealed to at this moment: too old, or a clock is wrong."""

    code = ErrorCode.ERR_KEY_STALE
    kind = "manifest-expired"
    step = 13


class ReceiptInvalid(VerificationError):
    """A receipt does not verify. Its steps are those of ``verify_receipt``."""

    code = ErrorCode.ERR_RECEIPT_INVALID
    kind = "receipt-invalid"
    step = 1


VERDICTS: Final[tuple[type[VerificationError], ...]] = (
    MalformedDocument,
    UnsignedDocument,
    AlgorithmRefused,
    NotAnEnclave,
    UntrustedRoot,
    InvalidChain,
    CertificateExpired,
    CertificateNotYetValid,
    ProfileViolation,
    InvalidSignature,
    DocumentTimeInvalid,
    DebugModeRefused,
    MeasurementMismatch,
    ReleaseRevoked,
    NonceMismatch,
    BindingMismatch,
    ManifestInvalid,
    ManifestExpired,
    ReceiptInvalid,
)
"""The closed set: nothing else leaves a ``verify_`` function for a bad document or receipt."""

KINDS: Final[tuple[str, ...]] = tuple(verdict.kind for verdict in VERDICTS)
"""``kind`` of every member of ``VERDICTS``."""
