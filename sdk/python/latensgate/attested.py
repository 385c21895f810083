"""Attesting a gateway's enclave (docs/spec/http.md sections 1 and 2), without I/O.

``attest`` is a generator that yields one request; what it returns was verified whole.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from latensgate.exchange_failure import (
    ClocksDifferError,
    Failure,
    GatewayRefusalError,
    outside_failure,
    parse_refusal,
)
from latensgate.exchange_steps import Received, Send
from latensgate.verify import parse_untrusted_document, verify_attestation, verify_sealable
from latensgate.verify.errors import ManifestExpired
from latensgate.verify.manifest import renew_at, sealable_until
from latensgate_shared import formats, limits
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.manifest import SUITES
from latensgate_shared.sealed import SealingKey
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from latensgate.verify import AppraisalPolicy, VerifiedAttestation
    from latensgate.verify.anchors import Status

_OK: Final = 200
_ANSWER_MAX_BYTES: Final = 4 * limits.ATTESTATION_DOCUMENT_MAX_BYTES
"""Two documents and a manifest in base64: at most 110 KiB."""
_MEMBERS: Final = frozenset({"attestation_hash", "document", "manifest", "nonce_document"})
RENEWAL_PAUSE_S: Final = 30
"""After a renewal that failed, the next one waits so long: requests go on under the old keys."""


class AttestationRefusedError(LatensgateError):
    """The attestation answer does not hold together."""

    code = ErrorCode.ERR_ATTESTATION_INVALID


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was served, as bytes: enough to verify it again.

    Attributes:
        document: The published document.
        manifest: The manifest's exact bytes.
    """

    document: bytes = field(repr=False)
    manifest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Attested:
    """A verified attestation and the key to seal to.

    Attributes:
        attestation: Of the published document.
        evidence: Its bytes.
        sealing_key: First of the manifest whose suite is admitted.
    """

    attestation: VerifiedAttestation
    evidence: Evidence = field(repr=False)
    sealing_key: SealingKey = field(repr=False)

    def sealable(self, at: datetime) -> bool:
        """Whether its keys may be sealed to at this moment."""
        try:
            verify_sealable(self.attestation.binding, at=at)
        except ManifestExpired:
            return False
        return True

    def due(self, at: datetime) -> bool:
        """Whether it is time to attest again."""
        return at >= renew_at(self.attestation.manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationProof:
    """What a client has just proven of the enclave behind its gateway, with a fresh nonce.

    Attributes:
        status: ``verified`` under the AWS root, ``simulated`` under any other.
        attestation_hash: ``sha384:…`` of the published document.
        enclave_image_sha: ``sha384:`` and PCR0, one that the client accepts.
        module_id: The enclave, as Nitro names it.
        region: Of AWS, from the certificate.
        suite: Requests are sealed with: ``xwing`` or ``x25519``.
        key_id: 16 hex digits: the key that they are sealed to.
        attested_at: Second of the published document.
        renew_at: From then on the client attests again in the background.
        sealable_until: From then on it seals nothing to this key.
        attestation: Everything that was verified.
        document: The published document, to be verified later.
        manifest: The manifest that it commits to.
    """

    status: Status
    attestation_hash: str
    enclave_image_sha: str
    module_id: str
    region: str
    suite: str
    key_id: str
    attested_at: datetime
    renew_at: datetime
    sealable_until: datetime
    attestation: VerifiedAttestation = field(repr=False)
    document: bytes = field(repr=False)
    manifest: bytes = field(repr=False)

    @classmethod
    def of(cls, attested: Attested) -> AttestationProof:
        """Tell what was verified."""
        proven, key = attested.attestation, attested.sealing_key
        document, manifest = proven.document, proven.manifest
        return cls(
            status=proven.status,
            attestation_hash=proven.attestation_hash,
            enclave_image_sha=f"sha384:{document.pcrs[0].hex()}",
            module_id=document.module_id,
            region=document.region,
            suite=SUITES[key.suite],
            key_id=next(one.key_id for one in manifest.hpke_keys if one.suite == key.suite),
            attested_at=document.timestamp,
            renew_at=renew_at(manifest),
            sealable_until=sealable_until(manifest),
            attestation=proven,
            document=attested.evidence.document,
            manifest=attested.evidence.manifest,
        )


def verify_evidence(
    evidence: Evidence, *, policy: AppraisalPolicy, admitted: frozenset[str], at: datetime
) -> Attested:
    """Verify a published document, judge the life of its manifest and choose a key.

    Args:
        evidence: As served or stored.
        policy: What is trusted.
        admitted: Names of suites, of ``manifest.SUITES``.
        at: The client's time. The document itself is judged at its own second, because its leaf
            certificate may have ended while the manifest lives on.

    Raises:
        VerificationError: Any step of the checklist, or the manifest's life.
        AttestationRefusedError: It is not a published document, or has no key of an admitted suite.
    """
    return _usable(_published(evidence, policy), evidence, admitted=admitted, at=at)


def _published(evidence: Evidence, policy: AppraisalPolicy) -> VerifiedAttestation:
    """Verify a published document at its own second."""
    document = parse_untrusted_document(evidence.document)
    if document.nonce is not None:
        raise AttestationRefusedError("attestation: the published document has a nonce")
    return verify_attestation(
        evidence.document, evidence.manifest, policy=policy, at=document.timestamp
    )


def _usable(
    attestation: VerifiedAttestation, evidence: Evidence, *, admitted: frozenset[str], at: datetime
) -> Attested:
    """Judge the life of the manifest and choose a key."""
    verify_sealable(attestation.binding, at=at)
    for key in attestation.manifest.hpke_keys:
        if SUITES[key.suite] in admitted:
            return Attested(attestation, evidence, SealingKey(key.suite, key.public_key))
    raise AttestationRefusedError(f"attestation: no key of {', '.join(sorted(admitted))} in it")


@dataclass(frozen=True, slots=True)
class Attester:
    """How one client attests.

    Attributes:
        policy: What is trusted.
        admitted: Names of admitted suites.
        clock: The client's time, seconds since 1970.
        nonce: Makes fresh challenges, ``limits.NONCE_BYTES`` long.
    """

    policy: AppraisalPolicy
    admitted: frozenset[str]
    clock: Callable[[], float]
    nonce: Callable[[], bytes]

    def now(self) -> datetime:
        """Return the client's time."""
        return datetime.fromtimestamp(self.clock(), UTC)

    def attest(self, headers: tuple[tuple[str, str], ...]) -> Generator[Send, Received, Attested]:
        """Ask for a fresh proof and verify it.

        Raises:
            GatewayRefusalError: The gateway answered an error.
            ClocksDifferError: Client and enclave disagree about the time.
            VerificationError: A step of the checklist.
            AttestationRefusedError: The answer does not hold together.
        """
        nonce, sent = self.nonce(), self.now()
        received = yield Send(
            "GET",
            f"/api/attestation?nonce={nonce.hex()}",
            headers,
            max_bytes=_ANSWER_MAX_BYTES,
        )
        return self.judge(received, nonce=nonce, sent=sent, at=self.now())

    def judge(self, received: Received, *, nonce: bytes, sent: datetime, at: datetime) -> Attested:
        """Judge the answer to a challenge (docs/spec/http.md section 1, in its order).

        Raises:
            LatensgateError: As ``attest``.
        """
        served = _parse(received)
        published = _published(served.evidence, self.policy)
        if published.attestation_hash != served.attestation_hash:
            raise AttestationRefusedError("attestation: attestation_hash names another document")
        self._judge_fresh(served, published, nonce=nonce, sent=sent, at=at)
        return _usable(published, served.evidence, admitted=self.admitted, at=at)

    def _judge_fresh(
        self,
        served: _Served,
        published: VerifiedAttestation,
        *,
        nonce: bytes,
        sent: datetime,
        at: datetime,
    ) -> None:
        said = parse_untrusted_document(served.nonce_document)
        proof = verify_attestation(
            served.nonce_document,
            served.evidence.manifest,
            policy=self.policy,
            at=said.timestamp,
            nonce=nonce,
        )
        if proof.document.module_id != published.document.module_id:
            raise AttestationRefusedError(
                "attestation: the two documents are of different enclaves"
            )
        made, leeway = said.timestamp.timestamp(), limits.ATTESTATION_DOCUMENT_SKEW_S
        if not sent.timestamp() - leeway <= made <= at.timestamp() + leeway:
            raise ClocksDifferError(sent, said.timestamp)


@dataclass(frozen=True, slots=True)
class _Served:
    attestation_hash: str
    evidence: Evidence
    nonce_document: bytes


def _parse(received: Received) -> _Served:
    if received.status != _OK:
        refusal = parse_refusal(received)
        raise GatewayRefusalError(
            refusal if isinstance(refusal, Failure) else outside_failure(received, refusal)
        )
    try:
        told = formats.members(
            parse_json_object(received.body, max_bytes=_ANSWER_MAX_BYTES), "attestation", _MEMBERS
        )
        document_max = limits.ATTESTATION_DOCUMENT_MAX_BYTES
        return _Served(
            formats.sha384_digest(told["attestation_hash"], "attestation.attestation_hash"),
            Evidence(
                formats.base64_bytes(told["document"], "attestation.document", document_max),
                formats.base64_bytes(
                    told["manifest"], "attestation.manifest", limits.MANIFEST_MAX_BYTES
                ),
            ),
            formats.base64_bytes(
                told["nonce_document"], "attestation.nonce_document", document_max
            ),
        )
    except JSONError as error:
        raise AttestationRefusedError(error.detail) from error


class AttestedCell:
    """The attestation that a client holds at the moment. Shared by threads and tasks."""

    __slots__ = ("_held", "_lock", "_pid", "_renewing", "_wait_until")

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._held: Attested | None = None
        self._renewing = False
        self._wait_until: datetime | None = None

    def in_this_process(self) -> None:
        """Take a new lock in a forked process: who held it, or renewed, is not there."""
        if self._pid != os.getpid():
            self._pid, self._lock, self._renewing = os.getpid(), threading.Lock(), False

    def usable(self, at: datetime, stale: Attested | None) -> Attested | None:
        """Return what may be sealed to now, if it is not the stale one."""
        with self._lock:
            held = self._held
            if held is None or held is stale or not held.sealable(at):
                return None
            return held

    def keep(self, attested: Attested) -> Attested:
        """Hold a new one."""
        with self._lock:
            self._held, self._wait_until = attested, None
            return attested

    def peek(self) -> Attested | None:
        """Return what is held, usable or not."""
        with self._lock:
            return self._held

    @property
    def renewing(self) -> bool:
        """Whether somebody holds the claim."""
        return self._renewing

    def begin_renewal(self, at: datetime) -> bool:
        """Claim the renewal that is due; at most one runs, and a failed one is followed late."""
        with self._lock:
            held, wait_until = self._held, self._wait_until
            if self._renewing or held is None or not held.due(at):
                return False
            if wait_until is not None and at < wait_until:
                return False
            self._renewing = True
            return True

    def end_renewal(self, at: datetime, *, failed: bool) -> None:
        """Give the claim back.

        The next one waits: after a failure for a moment; after a success, which may have brought
        the same keys, until the enclave rotates them.
        """
        with self._lock:
            self._renewing = False
            wait_until_s = at.timestamp() + RENEWAL_PAUSE_S
            if not failed and self._held is not None:
                rotates_s = self._held.attestation.manifest.not_before + limits.KEY_ROTATION_S
                wait_until_s = max(wait_until_s, rotates_s)
            self._wait_until = datetime.fromtimestamp(wait_until_s, UTC)


def until(attested: Attested) -> datetime:
    """Return when its keys must not be sealed to any more."""
    return sealable_until(attested.attestation.manifest)
