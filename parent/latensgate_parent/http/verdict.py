"""The gateway's own opinion of an archived document: the one verifier, at the document's second."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from cryptography import x509

from latensgate.verify import (
    STEPS,
    ChainCache,
    UntrustedDocument,
    VerificationError,
    parse_untrusted_document,
    verify_attestation,
)
from latensgate.verify.errors import (
    DebugModeRefused,
    MalformedDocument,
    MeasurementMismatch,
    NonceMismatch,
    ReleaseRevoked,
    UntrustedRoot,
)
from latensgate.verify.profile import check_module
from latensgate_parent.limits import VERDICT_CACHE_MAX_COUNT

if TYPE_CHECKING:
    from latensgate.verify import AppraisalPolicy
    from latensgate_parent.store.interfaces import ArchivedDocument

Status = Literal["verified", "simulated", "debug", "untrusted", "revoked", "invalid"]
State = Literal["passed", "failed", "not run"]

_STATUSES: Final[dict[type[VerificationError], Status]] = {
    DebugModeRefused: "debug",
    ReleaseRevoked: "revoked",
    UntrustedRoot: "untrusted",
    MeasurementMismatch: "untrusted",
}
_MODULE_STEP: Final = 6
"""From here on the leaf's name is one of Nitro, and names the Region."""
_NONCE_STEP: Final = 11


@dataclass(frozen=True, slots=True)
class StepVerdict:
    """What one step of the checklist said."""

    number: int
    title: str
    state: State
    reason: str | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the verifier says about one document and its manifest.

    Attributes:
        status: The first step that refuses decides.
        said: What the document says; None if it cannot be read.
        region: From the leaf's name; None where no step came so far.
        not_after: Of the manifest, seconds since 1970; None if it is not verified.
        steps: All thirteen.
    """

    status: Status
    said: UntrustedDocument | None
    region: str | None
    not_after: int | None
    steps: tuple[StepVerdict, ...]


class DocumentJudge:
    """Judges archived documents; a judgement never changes, so it is remembered.

    Args:
        policy: What this gateway accepts.
    """

    def __init__(self, policy: AppraisalPolicy) -> None:
        self._policy = policy
        self._chains = ChainCache()
        self._known: OrderedDict[str, Judgement] = OrderedDict()

    def judge(self, archived: ArchivedDocument) -> Judgement:
        """Return the judgement of a document."""
        found = self._known.get(archived.attestation_hash)
        if found is None:
            found = self._judge(archived)
            if len(self._known) >= VERDICT_CACHE_MAX_COUNT:
                self._known.popitem(last=False)
            self._known[archived.attestation_hash] = found
        return found

    def _judge(self, archived: ArchivedDocument) -> Judgement:
        said: UntrustedDocument | None = None
        try:
            said = parse_untrusted_document(archived.document)
            _check_name(said, archived.attestation_hash)
            verified = verify_attestation(
                archived.document,
                archived.manifest,
                policy=self._policy,
                at=said.timestamp,
                cache=self._chains,
            )
        except VerificationError as error:
            return _refused(error, said)
        if said.nonce is not None:
            return _refused(NonceMismatch("nonce: null expected in a published document"), said)
        return Judgement(
            status=verified.status,
            said=said,
            region=verified.document.region,
            not_after=verified.manifest.not_after,
            steps=tuple(_step(number, title, None) for number, title in STEPS),
        )


def _check_name(said: UntrustedDocument, attestation_hash: str) -> None:
    if said.attestation_hash != attestation_hash:
        raise MalformedDocument("document: what is archived here is not what this hash names")


def _refused(error: VerificationError, said: UntrustedDocument | None) -> Judgement:
    return Judgement(
        status=_STATUSES.get(type(error), "invalid"),
        said=said,
        region=None if said is None else _region(error, said),
        not_after=None,
        steps=tuple(_step(number, title, error) for number, title in STEPS),
    )


def _region(error: VerificationError, said: UntrustedDocument) -> str | None:
    """Read the Region again where the verifier passed that step and refused a later one."""
    if error.step <= _MODULE_STEP:
        return None
    return check_module(x509.load_der_x509_certificate(said.certificate), said)


def _step(number: int, title: str, error: VerificationError | None) -> StepVerdict:
    if error is None or number < error.step:
        reason = (
            "no challenge was sent: the document is archived" if number == _NONCE_STEP else None
        )
        return StepVerdict(number, title, "passed", reason)
    if number == error.step:
        return StepVerdict(number, title, "failed", error.detail)
    return StepVerdict(number, title, "not run", f"stopped at step {error.step}")
