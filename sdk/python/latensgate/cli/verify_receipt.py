"""``latensgate verify aud_…`` and ``latensgate verify FILE``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from latensgate.cli.archive import Archive, Evidence, from_gateway
from latensgate.cli.evidence import UnreadableError
from latensgate.cli.exit_codes import DONE, ExitCode
from latensgate.cli.failures import failure_of
from latensgate.cli.kept import read_kept
from latensgate.cli.receipt_view import Check, receipt_facts, show_checks
from latensgate.gateway import AuditQuery
from latensgate.gateway.audit import MAX_LIMIT
from latensgate.verify import VerificationError, verify_receipt, verify_receipt_chain
from latensgate_shared.receipts import COARSE_TIME_S, receipt_hash

if TYPE_CHECKING:
    from latensgate.cli.kept import KeptReceipt
    from latensgate.cli.session import Session
    from latensgate.gateway import AuditEntry, GatewayClient
    from latensgate.verify import VerifiedPublicPart
    from latensgate_shared.receipts import PublicPart
    from latensgate_shared.strict_json import JSONObject

SEARCHED_MAX_COUNT: Final = 5_000
"""Receipts looked through for the one before: 50 pages; beyond that use audit check."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A judgement as it is told."""

    code: ExitCode
    public: PublicPart
    checks: tuple[Check, ...]
    private: JSONObject | None = None


def verify_entry(session: Session, receipt_id: str) -> ExitCode:
    """Verify one receipt of the log, and that the one before it is there."""
    gateway = session.tenant_gateway()
    archive = Archive(from_gateway(session.gateway()), session.policy)
    entry = gateway.audit_entry(receipt_id)
    return _tell(session, _judge_entry(gateway, archive, entry))


def _judge_entry(gateway: GatewayClient, archive: Archive, entry: AuditEntry) -> _Found:
    public = entry.public
    checks = [Check("The gateway has the receipt and it is well formed")]
    try:
        attestation = archive.attestation(public.attestation_hash)
        checks.append(Check("Its document verifies under your policy", attestation.status))
        signed = archive.verified(entry)
    except VerificationError as error:
        return _refused(public, checks, error, named=len(checks))
    checks.append(Check("Its key, signature and time are those of this document"))
    chain = _chain(gateway, archive, signed)
    code = _ending(signed.status) if chain.good else ExitCode.GAPS
    return _Found(code, public, (*checks, chain))


def _refused(
    public: PublicPart, checks: list[Check], error: VerificationError, *, named: int
) -> _Found:
    titles = (
        "",
        "Its document verifies under your policy",
        "Its key, signature and time are those of this document",
    )
    failed = Check(titles[named], f"step {error.step}: {error.detail}", good=False)
    return _Found(failure_of(error).exit_code, public, (*checks, failed))


def _chain(gateway: GatewayClient, archive: Archive, signed: VerifiedPublicPart) -> Check:
    title = "The receipt before it is in the log, and it names that one"
    if signed.public.sequence == 0:
        return Check(title, "it is the first of its enclave")
    before = _before(gateway, signed.public)
    if before is None:
        return Check(title, "the gateway does not show it", good=False)
    try:
        verify_receipt_chain([archive.verified(before), signed])
    except VerificationError as error:
        return Check(title, error.detail, good=False)
    return Check(title, before.public.receipt_id)


def _before(gateway: GatewayClient, public: PublicPart) -> AuditEntry | None:
    until = datetime.fromtimestamp(0, UTC) + timedelta(seconds=public.issued_at + COARSE_TIME_S)
    query = AuditQuery(until=until, limit=MAX_LIMIT)
    for number, entry in enumerate(gateway.audit_entries(query)):
        if receipt_hash(entry.public) == public.previous_receipt_hash:
            return entry
        if number >= SEARCHED_MAX_COUNT:
            break
    return None


def verify_file(session: Session, name: str) -> ExitCode:
    """Verify a receipt that was kept; its document comes from the file, or from the gateway."""
    kept = read_kept(name)
    return _tell(session, _judge_kept(session, kept))


def _judge_kept(session: Session, kept: KeptReceipt) -> _Found:
    public = kept.public
    tenant_id = kept.tenant_id or session.found.tenant or public.tenant_id
    checks = [Check("The receipt in the file is well formed")]
    archive = Archive(_source(session, kept), session.policy)
    try:
        attestation = archive.attestation(public.attestation_hash)
        checks.append(Check("Its document verifies under your policy", attestation.status))
        verified = verify_receipt(
            kept.receipt,
            attestation=attestation,
            tenant_id=tenant_id,
            request_hash=kept.request_hash,
            response_hash=kept.response_hash,
        )
    except VerificationError as error:
        return _refused(public, checks, error, named=len(checks))
    checks += [
        Check("Its key, signature and time are those of this document"),
        Check("The private part is the one that the public part commits to"),
        Check("It is of this request, this answer and this tenant", _compared(kept)),
    ]
    return _Found(_ending(verified.status), public, tuple(checks), verified.private)


def _source(session: Session, kept: KeptReceipt) -> _Fetch:
    return _Fetch(session, kept.evidence)


@dataclass(frozen=True, slots=True)
class _Fetch:
    """The document of the file, or else the gateway's."""

    session: Session
    evidence: Evidence | None

    def __call__(self, attestation_hash: str) -> Evidence:
        if self.evidence is not None:
            return self.evidence
        if self.session.found.base_url is None:
            raise UnreadableError(
                "the receipt comes without its document, and no gateway is named to ask for it"
            )
        return from_gateway(self.session.gateway())(attestation_hash)


def _compared(kept: KeptReceipt) -> str:
    return "" if kept.request_hash is not None else "hashes were not kept: not compared"


def _ending(status: str) -> ExitCode:
    return DONE if status == "verified" else ExitCode.SIMULATED


def _tell(session: Session, found: _Found) -> ExitCode:
    public = found.public
    session.out.data(
        {
            "format": "latensgate-verification/1",
            "of": "receipt",
            "verdict": found.code.verdict,
            "exit_code": int(found.code),
            "receipt_id": public.receipt_id,
            "outcome": public.outcome,
            "public": public.to_json(),
            "private": found.private,
            "checks": [check.to_json() for check in found.checks],
        }
    )
    session.out.show(receipt_facts(public, found.private), "")
    show_checks(session.out, found.checks, found.code)
    return found.code
