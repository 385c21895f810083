"""``latensgate verify sha384:…``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latensgate.cli.exit_codes import ExitCode
from latensgate.cli.inspection import inspect
from latensgate.cli.live import own_second_question
from latensgate.cli.machine import inspection_json
from latensgate.cli.render import report
from latensgate.cli.simple import plain, state

if TYPE_CHECKING:
    from latensgate.cli.inspection import Inspection
    from latensgate.cli.session import Session
    from latensgate.gateway import ArchivedDocument


def verify_hash(session: Session, attestation_hash: str) -> ExitCode:
    """Fetch the archived document of a name and judge it at its own second."""
    policy = session.policy
    archived = session.gateway().attest(attestation_hash)
    question = own_second_question(archived.document, archived.manifest, policy, None)
    inspection = inspect(question)
    code = _code(inspection, attestation_hash)
    session.out.data(
        {
            "format": "latensgate-verification/1",
            "of": "document",
            "verdict": code.verdict,
            "exit_code": int(code),
            "attestation_hash": attestation_hash,
            "gateway_says": archived.claimed_status,
            "fresh": archived.fresh,
            "inspection": inspection_json(inspection),
        }
    )
    session.out.show(report(inspection))
    _compare(session, archived, inspection, code)
    return code


def _code(inspection: Inspection, attestation_hash: str) -> ExitCode:
    """A document of another name was not asked for, however good it is."""
    said = inspection.said
    if inspection.failure is None and (said is None or said.attestation_hash != attestation_hash):
        return ExitCode.BINDING
    return inspection.code


def _compare(
    session: Session, archived: ArchivedDocument, inspection: Inspection, code: ExitCode
) -> None:
    out = session.out
    if code is ExitCode.BINDING and inspection.failure is None:
        out.show(plain("✗ The gateway gave a document of another attestation_hash.", "bold red"))
    told = plain("The gateway itself says: ", "dim")
    told.append_text(state(archived.claimed_status))
    told.append(". Only the judgement above counts.", "dim")
    out.show(told)
    if not archived.fresh:
        out.show(plain("Archived: its keys have ended. It shows what ran then.", "dim"))
