"""``latensgate doctor``: everything between here and the enclave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.text import Text

from latensgate.cli.doctor_enclave import Visit
from latensgate.cli.doctor_files import address_words, identity_words, modes_words, trust_words
from latensgate.cli.doctor_findings import Finding, Findings
from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.inspection import State
from latensgate.cli.session import gateway_command
from latensgate.cli.simple import plain

if TYPE_CHECKING:
    from latensgate.cli.session import Session

_CODES = (
    DONE,
    ExitCode.USAGE,
    ExitCode.UNTRUSTED,
    ExitCode.MEASUREMENTS,
    ExitCode.CLOCK,
    ExitCode.UNREACHABLE,
    ExitCode.UNAUTHENTICATED,
    ExitCode.LATER,
)
ADDRESS = "The gateway's address"
TRUST = "What you accept as an enclave"
IDENTITY = "Tenant and API key"
CONNECTION = "The gateway listens"
TLS = "TLS to the gateway"
HEALTH = "The gateway is healthy"
ATTESTED = "The enclave is proven to be one that you accept"
KEY = "The API key is accepted"


@click.command(epilog=epilog(*_CODES))
@click.option("--no-request", is_flag=True, help="Leave the sealed request out.")
@gateway_command
def doctor(session: Session, *, no_request: bool) -> ExitCode:
    """Check everything between here and the enclave, and say what to do.

    The last step seals a request with no message in it: the enclave opens it, refuses it and signs
    a receipt, so the whole way is shown and no model is asked. The exit code is that of the first
    step that failed; with --simulated, 0 means that all went well under the simulator's root.
    """
    findings = Findings(lambda number, finding: _show(session, number, finding))
    _examine(session, findings, no_request=no_request)
    session.out.data(
        {
            "format": "latensgate-doctor/1",
            "verdict": _verdict(session, findings),
            "exit_code": int(findings.code),
            "steps": [item.to_json(number) for number, item in enumerate(findings.items, 1)],
        }
    )
    session.out.show("", _summary(session, findings))
    return findings.code


def _examine(session: Session, findings: Findings, *, no_request: bool) -> None:
    look, visit = findings.look, Visit(session)
    look(ADDRESS, lambda: address_words(session))
    look(IDENTITY, lambda: identity_words(session))
    look(TRUST, lambda: trust_words(session))
    look("Nobody else reads your configuration", modes_words)
    look("The gateway's name resolves", visit.name, ADDRESS)
    look(CONNECTION, visit.connect, ADDRESS)
    look(TLS, visit.handshake, CONNECTION)
    look(HEALTH, visit.health, TLS)
    look("This clock and the gateway's agree", visit.clock, TLS)
    look(ATTESTED, visit.attest, TLS, TRUST)
    look("The gateway finds the enclave by its key", visit.route, ATTESTED)
    look(KEY, visit.key, TLS, IDENTITY)
    if not no_request:
        look("A sealed request goes all the way", visit.sealed_request, ATTESTED, KEY)


_MARKS = {
    State.PASSED: ("✓", "bold green"),
    State.FAILED: ("✗", "bold red"),
    State.NOT_RUN: ("-", "dim"),
}


def _show(session: Session, number: int, finding: Finding) -> None:
    mark, style = _MARKS[finding.state]
    quiet = finding.state is State.NOT_RUN
    told = Text.assemble((f"{mark} ", style), (f"{number:>2}  ", "dim"))
    told.append(finding.title, "dim" if quiet else "")
    session.out.show(told)
    if finding.detail:
        shown = plain(finding.detail, "red" if finding.state is State.FAILED else "dim")
        session.out.line(f"      {shown.plain}", str(shown.style))
    if finding.advice:
        session.out.line(f"      → {finding.advice}", "yellow")


def _verdict(session: Session, findings: Findings) -> str:
    if findings.code is DONE and _simulated(session):
        return ExitCode.SIMULATED.verdict
    return findings.code.verdict


def _simulated(session: Session) -> bool:
    policy = session.found.policy
    return policy is not None and policy.unsafe_accept_simulated_root_sha256 is not None


def _summary(session: Session, findings: Findings) -> Text:
    failed = findings.failed
    if failed:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        return Text(f"Not well: {failed[0].title.lower()}{more}.", "bold red")
    if _simulated(session):
        return Text("All is well, under a simulator's root: not an enclave.", "bold yellow")
    return Text("All is well.", "bold green")
