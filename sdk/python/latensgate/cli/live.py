"""A live attestation: fetched with a fresh nonce, judged by the SDK's own attester, told in steps.

The judgement is ``latensgate.attested.Attester.judge``, the one that every sealed request rests
on. What is added here says which of its steps refused.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from latensgate.attested import Attester
from latensgate.cli.failures import failure_of
from latensgate.cli.inspection import Question, State, StepResult, inspect
from latensgate.cli.text import duration, utc
from latensgate.exchange_failure import ClocksDifferError
from latensgate.exchange_steps import Received
from latensgate.verify import parse_untrusted_document
from latensgate.verify.errors import ManifestExpired, VerificationError
from latensgate.verify.manifest import sealable_until
from latensgate_shared import formats
from latensgate_shared.errors import LatensgateError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import NONCE_BYTES
from latensgate_shared.manifest import SUITES

if TYPE_CHECKING:
    from latensgate.attested import Attested
    from latensgate.cli.exit_codes import ExitCode
    from latensgate.cli.inspection import Inspection
    from latensgate.gateway import GatewayClient, UntrustedEvidence
    from latensgate.verify import AppraisalPolicy

_HINT, _FRESH, _MODULE, _NOW, _LIFE = 14, 15, 16, 17, 18
_TITLES: Final = {
    _HINT: "Compare the name that the gateway gave the document",
    _FRESH: "Verify a second document over the same manifest, made for our nonce",
    _MODULE: "Demand that both documents are of one enclave",
    _NOW: "Demand that it was made now",
    _LIFE: "Take a key that may still be sealed to",
}


@dataclass(frozen=True, slots=True)
class LiveAttestation:
    """What was found.

    Attributes:
        inspection: Of the published document; its steps are 1 to 13.
        steps: All steps, 1 to 18.
        code: ``VERIFIED``, ``SIMULATED``, or that of the step that refused.
        error: Why it was refused; None: it was not.
        attested: What may be sealed to, if nothing refused.
        evidence: As served.
        fetched_ms: How long the gateway took.
    """

    inspection: Inspection
    steps: tuple[StepResult, ...]
    code: ExitCode
    error: LatensgateError | None
    attested: Attested | None
    evidence: UntrustedEvidence
    fetched_ms: int


def attest_live(
    gateway: GatewayClient, policy: AppraisalPolicy, *, key_id: str | None = None
) -> LiveAttestation:
    """Fetch a fresh proof and judge it.

    Raises:
        GatewayClientError: It could not be fetched.
    """
    attester = Attester(policy, frozenset(SUITES.values()), time.time, _nonce)
    nonce, sent, began = _nonce(), attester.now(), time.perf_counter()
    evidence = gateway.attestation(nonce=nonce, key_id=key_id)
    took_ms = round((time.perf_counter() - began) * 1000)
    error: LatensgateError | None = None
    attested: Attested | None = None
    try:
        attested = attester.judge(_received(evidence), nonce=nonce, sent=sent, at=attester.now())
    except LatensgateError as refused:
        error = refused
    inspection = inspect(own_second_question(evidence.document, evidence.manifest, policy, None))
    return LiveAttestation(
        inspection,
        (*_published_steps(inspection), *_more_steps(evidence, nonce, inspection, error, attested)),
        _code(inspection, error),
        error,
        attested,
        evidence,
        took_ms,
    )


def _nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


def _received(evidence: UntrustedEvidence) -> Received:
    """Hand the answer, which was parsed to be shown, to the judge as it came."""
    members = {
        "attestation_hash": evidence.attestation_hash,
        "document": formats.to_base64(evidence.document),
        "manifest": formats.to_base64(evidence.manifest),
        "nonce_document": formats.to_base64(evidence.nonce_document or b""),
    }
    return Received(200, {}, canonicalize({**members}))


def own_second_question(
    document: bytes, manifest: bytes, policy: AppraisalPolicy, nonce: bytes | None
) -> Question:
    """Ask about an archived document and its manifest, at the document's own second."""
    return Question(
        document=document,
        at=_own_second(document),
        policy=policy,
        nonce=nonce,
        manifest=manifest,
        simulated_root=policy.unsafe_accept_simulated_root_sha256,
    )


def _own_second(document: bytes) -> datetime:
    try:
        return parse_untrusted_document(document).timestamp
    except VerificationError:
        return datetime.now(UTC)  # it will be refused before any time is looked at


def _code(inspection: Inspection, error: LatensgateError | None) -> ExitCode:
    if inspection.failure is not None:
        return inspection.code
    return inspection.code if error is None else failure_of(error).exit_code


def _published_steps(inspection: Inspection) -> tuple[StepResult, ...]:
    """The published document answers no nonce: that is step 15's matter."""
    nonce_step = 11
    return tuple(
        StepResult(step.number, step.title, State.NOT_RUN, "the published document has none")
        if step.number == nonce_step and inspection.failure is None
        else step
        for step in inspection.steps
    )


def _more_steps(
    evidence: UntrustedEvidence,
    nonce: bytes,
    inspection: Inspection,
    error: LatensgateError | None,
    attested: Attested | None,
) -> list[StepResult]:
    stopped = 0
    if inspection.failure is not None:
        stopped = inspection.failure.step
    elif error is not None:
        stopped = _refusing_step(evidence, nonce, inspection, error)
    reasons = {} if attested is None else _details(evidence, attested)
    return [_step(number, stopped, error, reasons.get(number, "")) for number in _TITLES]


def _step(number: int, stopped: int, error: LatensgateError | None, detail: str) -> StepResult:
    title = _TITLES[number]
    if not stopped or number < stopped:
        return StepResult(number, title, State.PASSED, detail)
    if number == stopped and error is not None:
        return StepResult(number, title, State.FAILED, error.detail)
    return StepResult(number, title, State.NOT_RUN, f"stopped at step {stopped}")


def _refusing_step(
    evidence: UntrustedEvidence, nonce: bytes, inspection: Inspection, error: LatensgateError
) -> int:
    """Find the step that an error of the judge belongs to. It labels; it judges nothing."""
    said, policy = inspection.said, inspection.question.policy
    if isinstance(error, ClocksDifferError):
        return _NOW
    if isinstance(error, ManifestExpired) or said is None or policy is None:
        return _LIFE
    if said.attestation_hash != evidence.attestation_hash or said.nonce is not None:
        return _HINT
    fresh = evidence.nonce_document or b""
    proof = inspect(own_second_question(fresh, evidence.manifest, policy, nonce))
    if proof.failure is not None or proof.said is None:
        return _FRESH
    return _MODULE if proof.said.module_id != said.module_id else _LIFE


def _details(evidence: UntrustedEvidence, attested: Attested) -> dict[int, str]:
    made = parse_untrusted_document(evidence.nonce_document or b"").timestamp
    until = sealable_until(attested.attestation.manifest)
    suite = SUITES[attested.sealing_key.suite]
    return {
        _NOW: f"made at {utc(made)}",
        _LIFE: f"{suite}, until {utc(until)} ({duration(until - made)})",
    }
