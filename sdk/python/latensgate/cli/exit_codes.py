"""Exit codes of ``latensgate`` (docs/exit-codes.md): stable, one meaning each."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """How a command ended. A code keeps its meaning; new ones are only added."""

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
    RECEIPT = 12
    GAPS = 13
    ANSWER = 14
    CLOCK = 15
    UNREACHABLE = 20
    REFUSED = 21
    UNAUTHENTICATED = 22
    LATER = 23
    PROTOCOL = 24
    OUTCOME_UNKNOWN = 25
    STACK = 30
    OUTPUT = 31
    INTERNAL = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141

    @property
    def meaning(self) -> str:
        """One sentence, as --help and docs/exit-codes.md say it."""
        return _MEANINGS[self]

    @property
    def verdict(self) -> str:
        """Stable name for programs."""
        return self.name.lower().replace("_", "-")


DONE: Final = ExitCode.VERIFIED
"""The same 0, for commands that do something: it was done, and what had to verify did."""

_MEANINGS: Final = {
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
    ExitCode.RECEIPT: "A receipt does not verify: keep it as evidence.",
    ExitCode.GAPS: "Every receipt that is there verifies, but some are missing.",
    ExitCode.ANSWER: "The answer is not the enclave's, or it was cut: do not use it.",
    ExitCode.CLOCK: "This clock and the enclave's are too far apart.",
    ExitCode.UNREACHABLE: "No answer from the gateway: name, connection, TLS or time.",
    ExitCode.REFUSED: "Refused by the gateway or the enclave; asking again will not help.",
    ExitCode.UNAUTHENTICATED: "No API key, or one that is not accepted or lacks the scope.",
    ExitCode.LATER: "Not now: limited, overloaded or unavailable; it may succeed later.",
    ExitCode.PROTOCOL: "What answers there does not speak as a gateway does.",
    ExitCode.OUTCOME_UNKNOWN: "The request may have run; its answer is lost.",
    ExitCode.STACK: "The developer's stack is not installed, did not start, or broke.",
    ExitCode.OUTPUT: "The output could not be written whole: a full disk, most likely.",
    ExitCode.INTERNAL: "A fault of this program; please report it.",
    ExitCode.INTERRUPTED: "Ended by Ctrl-C.",
    ExitCode.BROKEN_PIPE: "Whoever read the output went away.",
}

INSPECTION_CODES: Final = tuple(
    code for code in ExitCode if code <= ExitCode.SIMULATED or code is ExitCode.INTERNAL
)
"""What ``attest inspect`` can end in."""


def epilog(*codes: ExitCode) -> str:
    """Return the end of a command's --help: its exit codes."""
    lines = [f"  {code:>3}  {code.meaning if code else 'Done.'}" for code in codes]
    return "\b\nExit codes (all: docs/exit-codes.md):\n" + "\n".join(lines)


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
    "manifest-expired": ExitCode.TIME,
    "receipt-invalid": ExitCode.RECEIPT,
}
"""Exit code of each kind of refusal; a kind that is not here is ``UNTRUSTED`` (fail closed)."""
