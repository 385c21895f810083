"""What ``attest inspect`` finds out: it asks the verifier and writes down every step.

There is no judgement here. A document is verified by ``latensgate.verify`` alone; this module
turns its answer, or the step at which it refused, into facts that can be shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from latensgate.cli.exit_codes import KIND_TO_CODE, ExitCode
from latensgate.verify.anchors import select_anchor
from latensgate.verify.attestation import inspect_document, verify_attestation, verify_document
from latensgate.verify.document import parse_untrusted_document
from latensgate.verify.errors import STEPS, ConfigurationError, VerificationError
from latensgate.verify.policy import AppraisalPolicy, Measurements

if TYPE_CHECKING:
    from datetime import datetime

    from latensgate.verify.document import UntrustedDocument
    from latensgate.verify.policy import Release
    from latensgate_shared.manifest import Manifest

_MEASURED, _NONCE, _USER_DATA, _KEYS = 10, 11, 12, 13


class State(Enum):
    """How far a step came."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class StepResult:
    """One numbered step of the verifier.

    Attributes:
        number: As in ``latensgate.verify.errors.STEPS``.
        title: The same.
        state: How far it came.
        reason: Why it failed or did not run; empty if it passed.
    """

    number: int
    title: str
    state: State
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What the person wants to know.

    Attributes:
        document: The bytes.
        at: Evaluation time, with time zone.
        policy: What is accepted; None: the image is compared with nothing.
        nonce: Challenge, 32 bytes, if one was sent.
        manifest: Exact manifest bytes, if given.
        simulated_root: Fingerprint of a simulator's root, if insisted on.
    """

    document: bytes
    at: datetime
    policy: AppraisalPolicy | None = None
    nonce: bytes | None = None
    manifest: bytes | None = None
    simulated_root: str | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything that is shown.

    Attributes:
        question: What was asked.
        code: The verdict, which is also the exit code.
        said: What the document says, proved only if the steps say so; None if it is unreadable.
        steps: Every step in order.
        failure: The refusal; None if there was none.
        good_at_its_own_time: Refused for its time now, but not at its own second.
        region: AWS Region in the leaf's name; None before step 6 passed.
        release: The accepted release that it is, if one.
        manifest: The manifest, once steps 12 and 13 passed.
    """

    question: Question
    code: ExitCode
    said: UntrustedDocument | None
    steps: tuple[StepResult, ...]
    failure: VerificationError | None
    good_at_its_own_time: bool = False
    region: str | None = None
    release: Release | None = None
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """What the verifier returned, and the steps that could not be run although asked for."""

    region: str
    release: Release | None = None
    manifest: Manifest | None = None
    skipped: dict[int, str] = field(default_factory=dict[int, str])


def inspect(question: Question) -> Inspection:
    """Answer a question.

    Raises:
        ConfigurationError: The question itself is wrong: a nonce of another length, a simulated
            root that is none.
    """
    said = _read(question.document)
    try:
        found = _ask(question, said)
    except VerificationError as error:
        return _refused(question, said, error)
    return Inspection(
        question=question,
        code=_success(question),
        said=said,
        steps=_steps(question, None, found.skipped),
        failure=None,
        region=found.region,
        release=found.release,
        manifest=found.manifest,
    )


def _read(document: bytes) -> UntrustedDocument | None:
    try:
        return parse_untrusted_document(document)
    except VerificationError:
        return None


def _ask(question: Question, said: UntrustedDocument | None) -> _Found:
    if question.policy is not None:
        return _verify(question, question.policy)
    genuine = inspect_document(
        question.document,
        at=question.at,
        unsafe_accept_simulated_root_sha256=question.simulated_root,
    )
    if said is None or (question.nonce is None and question.manifest is None):
        return _Found(genuine.region)
    own = _own_measurements(said, question.simulated_root)
    if own is None:
        skipped: dict[int, str] = dict.fromkeys((_NONCE, _USER_DATA, _KEYS), _NO_REGISTERS)
        return _Found(genuine.region, skipped=skipped)
    return replace(_verify(question, own), release=None)


def _verify(question: Question, policy: AppraisalPolicy) -> _Found:
    document, at, nonce = question.document, question.at, question.nonce
    if question.manifest is None:
        verified = verify_document(document, policy=policy, at=at, nonce=nonce)
        return _Found(verified.region, verified.match.release)
    bound = verify_attestation(document, question.manifest, policy=policy, at=at, nonce=nonce)
    return _Found(bound.document.region, bound.document.match.release, bound.manifest)


def _own_measurements(
    said: UntrustedDocument, simulated_root: str | None
) -> AppraisalPolicy | None:
    """Let the verifier go on to nonce and manifest where the person named no policy.

    Step 10 then compares the document with itself, which proves nothing and is never reported as
    passed. None: the document has registers that no policy can name.
    """
    try:
        pcr0, pcr1, pcr2 = (said.pcrs.get(index, b"") for index in (0, 1, 2))
        own = Measurements(pcr0, pcr1, pcr2)
    except ConfigurationError:
        return None
    return AppraisalPolicy(measurements=(own,), unsafe_accept_simulated_root_sha256=simulated_root)


def _success(question: Question) -> ExitCode:
    if select_anchor(question.simulated_root).status == "simulated":
        return ExitCode.SIMULATED
    return ExitCode.NOT_COMPARED if question.policy is None else ExitCode.VERIFIED


def _refused(
    question: Question, said: UntrustedDocument | None, error: VerificationError
) -> Inspection:
    code = KIND_TO_CODE.get(error.kind, ExitCode.UNTRUSTED)
    own_time = False
    if code is ExitCode.TIME and said is not None and question.at != said.timestamp:
        own_time = inspect(replace(question, at=said.timestamp)).failure is None
    return Inspection(
        question=question,
        code=code,
        said=said,
        steps=_steps(question, error, {}),
        failure=error,
        good_at_its_own_time=own_time,
    )


_NO_REGISTERS = "the document lacks PCR0, PCR1 or PCR2, or has zeros there"


def _unasked(question: Question) -> dict[int, str]:
    """Steps that need something which the person did not give."""
    reasons: dict[int, str] = {}
    if question.policy is None:
        reasons[_MEASURED] = "no policy given: --pcr0, --pcr1 and --pcr2, or --releases"
    if question.nonce is None:
        reasons[_NONCE] = "no --nonce given"
    if question.manifest is None:
        reasons |= dict.fromkeys((_USER_DATA, _KEYS), "no --manifest given")
    return reasons


def _steps(
    question: Question, failure: VerificationError | None, skipped: dict[int, str]
) -> tuple[StepResult, ...]:
    unasked = skipped | _unasked(question)
    return tuple(_step(number, title, failure, unasked) for number, title in STEPS)


def _step(
    number: int, title: str, failure: VerificationError | None, unasked: dict[int, str]
) -> StepResult:
    if failure is not None and number == failure.step:
        return StepResult(number, title, State.FAILED, failure.detail)
    if failure is not None and number > failure.step:
        return StepResult(number, title, State.NOT_RUN, f"stopped at step {failure.step}")
    if number in unasked:
        return StepResult(number, title, State.NOT_RUN, unasked[number])
    return StepResult(number, title, State.PASSED)
