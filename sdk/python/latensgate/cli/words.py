"""The verdict in words that need no specification beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from latensgate.cli.exit_codes import ExitCode
from latensgate.cli.text import printable, relative, utc
from latensgate_shared.manifest import USER_DATA_BYTES

if TYPE_CHECKING:
    from latensgate.cli.inspection import Inspection
    from latensgate_shared.manifest import Manifest

_HEADLINES: Final = {
    ExitCode.VERIFIED: "Verified: a genuine enclave that runs an image you accept.",
    ExitCode.NOT_COMPARED: "Authentic, but not judged: its image was not compared with anything.",
    ExitCode.SIMULATED: "Simulated: authentic under a root that is not Amazon's. Not an enclave.",
    ExitCode.DEBUG: "Refused: the enclave runs in debug mode.",
    ExitCode.TIME: "Refused: the document is not valid at the evaluation time.",
    ExitCode.MEASUREMENTS: "Refused: a genuine enclave, but not an image you accept.",
    ExitCode.BINDING: "Refused: the document does not belong to what you gave with it.",
    ExitCode.MALFORMED: "Refused: this is not an attestation document of a Nitro enclave.",
    ExitCode.UNTRUSTED: "Refused: nothing shows that an AWS Nitro enclave made this document.",
}

_EXPLANATIONS: Final = {
    "malformed-document": (
        "The bytes are not the strict form that AWS specifies. They may have been cut, altered or"
        " wrapped on their way, or be something else altogether."
    ),
    "not-an-enclave": (
        "It has the form of an AWS attestation document, but comes from another kind of device,"
        " not from a Nitro enclave."
    ),
    "unsigned-document": (
        "Where the signature or a certificate belongs, there are only zeros. QEMU's emulated"
        " device writes such documents. Anyone can make one; it proves nothing."
    ),
    "algorithm-refused": (
        "Its headers or its signature are not in the one form that Nitro devices write (ECDSA"
        " P-384 with SHA-384). No other algorithm is accepted."
    ),
    "untrusted-root": (
        "Its certificates lead to another root than the one trusted here. Anyone can make such a"
        " chain and give it the same names; only the fingerprint of the root counts."
    ),
    "invalid-chain": (
        "It names the trusted root, but its certificates do not lead from there to the key that"
        " signed."
    ),
    "profile-violation": (
        "Its certificates form a chain, but not one of the kind that AWS issues to this enclave."
    ),
    "invalid-signature": (
        "Its certificates are good, but the signature does not fit the content: somebody changed"
        " the document after it was signed, or took the certificates from another one."
    ),
    "debug-mode-refused": (
        "The document is genuine: AWS hardware signed it. But PCR0, PCR1 and PCR2 are all zero,"
        " which means debug mode: the operator of the machine can read the enclave's console, and"
        " nothing is said about the code inside. Never send it anything confidential."
    ),
    "measurement-mismatch": (
        "Hardware of AWS signed it, but the enclave runs other code than your policy accepts."
        " Do not send it anything before you know why."
    ),
    "release-revoked": (
        "It runs a release that your list knows and no longer accepts. Do not send it anything."
    ),
    "nonce-mismatch": (
        "The document is genuine, but was not made in answer to your nonce: it may be an old one"
        " that somebody plays back."
    ),
    "binding-mismatch": (
        "The document is genuine, but what it commits to is not this manifest with this nonce. The"
        " keys in this manifest are not the enclave's: do not use them."
    ),
    "manifest-invalid": (
        "The document commits to these bytes, but they are no manifest that this version knows."
    ),
}


def headline(inspection: Inspection) -> str:
    """The verdict in one sentence."""
    if inspection.failure is not None and inspection.failure.kind == "certificate-expired":
        return "Refused: the document has expired."
    if inspection.failure is not None and inspection.failure.kind == "release-revoked":
        return "Refused: a genuine enclave, but a release that is no longer accepted."
    return _HEADLINES[inspection.code]


def explanation(inspection: Inspection) -> list[str]:
    """What it means and what to do, in a few sentences, one list entry per paragraph."""
    failure = inspection.failure
    if failure is None:
        return _accepted(inspection)
    if inspection.code is ExitCode.TIME:
        return _time(inspection)
    known = _EXPLANATIONS.get(failure.kind)
    return [known] if known else []


def _accepted(inspection: Inspection) -> list[str]:
    paragraphs = {
        ExitCode.VERIFIED: (
            "Hardware of AWS signed this document, and the measurements are those you named."
        ),
        ExitCode.NOT_COMPARED: (
            "Hardware of AWS signed this document for an enclave that is not in debug mode. Which"
            " code runs inside was not compared with anything: any AWS customer can make such a"
            " document. Name what you accept with --pcr0, --pcr1 and --pcr2, or with --releases."
        ),
        ExitCode.SIMULATED: (
            "You told this command to trust a simulator's root in the place of Amazon's. That"
            " serves to try things out; whoever holds the simulator's key can state anything."
        ),
    }
    told = [paragraphs[inspection.code]]
    if inspection.release is not None:
        told.append(f"It is release {inspection.release.version} ({inspection.release.flavour}).")
    if inspection.question.policy is None and inspection.code is ExitCode.SIMULATED:
        told.append("The image was not compared with anything: no policy was given.")
    return told


def _time(inspection: Inspection) -> list[str]:
    told: list[str] = []
    if inspection.said is not None:
        made, at = inspection.said.timestamp, inspection.question.at
        told.append(
            f"It was made at {utc(made)}, {relative(made, at)}."
            " The certificates in a document live for three hours or less."
        )
    if inspection.good_at_its_own_time:
        told.append(
            "At its own second it was valid. To judge an archived document at that second, repeat"
            " the command with --at document; that says nothing about what runs there today."
        )
    return told


_PCR_MEANINGS: Final = {
    0: "whole image",
    1: "kernel, command line, first ramdisk",
    2: "application (other ramdisks)",
    3: "IAM role of the parent instance",
    4: "id of the parent instance",
    8: "certificate that signed the image",
}
_APPLICATION_PCRS: Final = 16


def pcr_meaning(index: int) -> str:
    """What a register measures."""
    if index >= _APPLICATION_PCRS:
        return "free for the application"
    return _PCR_MEANINGS.get(index, "not assigned by AWS")


def user_data_meaning(data: bytes, manifest: Manifest | None) -> str:
    """What ``user_data`` seems to be, or is where steps 12 and 13 passed."""
    if manifest is not None:
        return f"commits to the manifest given, version {printable(manifest.software_version)}"
    if len(data) == USER_DATA_BYTES:
        return "has the length of a manifest binding; give --manifest to check it"
    return ""
