"""Exit codes of ``latensgate`` (docs/exit-codes.md): stable, one meaning each."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What ``latensgate attest inspect`` found."""

    VERIFIED = 0
    USAGE = 2
    UNREADABLE = 3
    MALFORMED = 4
    UNTRUSTED = 5
    TIME = 6
    DEBUG = 7
    MEASUREMENTS = 8
    BINDING = 9
    NOT_COMPARED = 10
    SIMULATED = 11
    INTERNAL = 70

    @property
    def meaning(self) -> str:
        """One sentence, as --help and docs/exit-codes.md say it."""
        return _MEANINGS[self]

    @property
    def verdict(self) -> str:
        """Stable name for programs."""
        return self.name.lower().replace("_", "-")


_MEANINGS = {
    ExitCode.VERIFIED: "Verified: every step passed, your policy included.",
    ExitCode.USAGE: "The command line or the policy in it is wrong; nothing was looked at.",
    ExitCode.UNREADABLE: "A file cannot be read.",
    ExitCode.MALFORMED: "Not an attestation document of a Nitro enclave.",
    ExitCode.UNTRUSTED: "Unsigned, changed or forged, or not under the trusted root.",
    ExitCode.TIME: "Expired or not yet valid at the evaluation time.",
    ExitCode.DEBUG: "An enclave in debug mode.",
    ExitCode.MEASUREMENTS: "Authentic, but not an image that your policy accepts.",
    ExitCode.BINDING: "Authentic, but not for this nonce or this manifest.",
    ExitCode.NOT_COMPARED: "Authentic, but you named no policy, so no image was judged.",
    ExitCode.SIMULATED: "Authentic under a simulated root: worth nothing in production.",
    ExitCode.INTERNAL: "A fault of this program; please report it.",
}

KIND_TO_CODE = {
    "malformed-document": ExitCode.MALFORMED,
    "not-an-enclave": ExitCode.MALFORMED,
    "unsigned-document": ExitCode.UNTRUSTED,
    "algorithm-refused": ExitCode.UNTRUSTED,
    "untrusted-root": ExitCode.UNTRUSTED,
    "invalid-chain": ExitCode.UNTRUSTED,
    "profile-violation": ExitCode.UNTRUSTED,
    "invalid-signature": ExitCode.UNTRUSTED,
    "certificate-expired": ExitCode.TIME,
    "certificate-not-yet-valid": ExitCode.TIME,
    "document-time-invalid": ExitCode.TIME,
    "debug-mode-refused": ExitCode.DEBUG,
    "measurement-mismatch": ExitCode.MEASUREMENTS,
    "release-revoked": ExitCode.MEASUREMENTS,
    "nonce-mismatch": ExitCode.BINDING,
    "binding-mismatch": ExitCode.BINDING,
    "manifest-invalid": ExitCode.BINDING,
}
"""Exit code of each kind of refusal; a kind that is not here is ``UNTRUSTED`` (fail closed)."""
