"""``latensgate approvals``: requests that wait for an approver (docs/holds.md)."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from latensgate.approver import ApproverKey
from latensgate.cli.archive import Archive, from_gateway
from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.policy_files import TenantFiles
from latensgate.cli.session import gateway_command
from latensgate.cli.simple import facts_table, list_table, plain, short_hash, state
from latensgate.cli.text import printable, utc
from latensgate.verify.errors import ConfigurationError
from latensgate_shared.hold import ApprovalError, Decision, HoldDecision
from latensgate_shared.hold_view import HoldView, verify_view
from latensgate_shared.strict_json import JSONError

if TYPE_CHECKING:
    from latensgate.cli.session import Session
    from latensgate.gateway.approvals import HeldRequestInfo
    from latensgate_shared.strict_json import JSONObject

_ONLINE: Final = epilog(
    DONE,
    ExitCode.USAGE,
    ExitCode.UNTRUSTED,
    ExitCode.MEASUREMENTS,
    ExitCode.UNREACHABLE,
    ExitCode.REFUSED,
    ExitCode.UNAUTHENTICATED,
    ExitCode.LATER,
    ExitCode.OUTCOME_UNKNOWN,
)
DECISION_LIFE_S: Final = 600
"""A decision is presented at once; should it be kept back, it counts for nothing after this."""
_key_option = click.option(
    "--approver-key",
    metavar="FILE",
    help="Your keys.  [default: tnt_….approver.json beside config.toml]",
)
_yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group()
def approvals() -> None:
    """Decide on requests that the tenant's policy holds."""


@approvals.command("keygen", epilog=epilog(DONE, ExitCode.USAGE))
@click.option("--name", default="approver", show_default=True, help="Yours, for the settings.")
@_key_option
@gateway_command
def keygen_command(session: Session, name: str, approver_key: str | None) -> ExitCode:
    """Make an approver's keys. They stay on this machine; nothing is sent."""
    path = _path(session, approver_key)
    key = ApproverKey.made(path)
    session.out.data(
        {
            "format": "latensgate-approver-public/1",
            "file": str(path),
            "name": name,
            "ed25519": key.public.hex(),
            "xwing": key.xwing.hex(),
        }
    )
    session.out.show(
        Panel(
            Text("Keep this file safe: whoever has it decides on held requests.", "bold"),
            border_style="yellow",
            expand=False,
        ),
        facts_table([("keys", plain(str(path)))]),
    )
    session.out.line("For the draft of the tenant's settings (latensgate policy edit):")
    session.out.line()
    session.out.line("[[approvers]]")
    session.out.line(f"name = {json.dumps(printable(name), ensure_ascii=False)}")
    session.out.line(f'ed25519 = "{key.public.hex()}"')
    session.out.line(f'xwing = "{key.xwing.hex()}"')
    return DONE


@approvals.command("list", epilog=_ONLINE)
@click.option("--all", "with_ended", is_flag=True, help="Those that were decided, too.")
@gateway_command
def list_command(session: Session, *, with_ended: bool) -> ExitCode:
    """List the tenant's held requests, newest first, as the gateway tells of them."""
    found = session.tenant_gateway().approvals()
    shown = [each for each in found if with_ended or each.state in {"pending", "running"}]
    session.out.data(
        {"format": "latensgate-approvals/1", "approvals": [_json(each) for each in shown]}
    )
    table = list_table("pending id", "state", "model", "held", "expires", whole=("pending id",))
    for each in shown:
        table.add_row(
            plain(each.pending_id),
            state(each.state),
            plain(each.model),
            plain(utc(each.held_at)),
            plain(utc(each.expires_at)),
        )
    if shown:
        session.out.show(table)
    else:
        session.out.line("No request waits.")
    return DONE


@approvals.command("show", epilog=_ONLINE)
@click.argument("pending_id")
@_key_option
@gateway_command
def show_command(session: Session, pending_id: str, approver_key: str | None) -> ExitCode:
    """Show what the enclave says of a held request; its signature is verified."""
    seen = _seen(session, pending_id, ApproverKey.read(_path(session, approver_key)))
    session.out.data({"format": "latensgate-approval/1", **seen.to_json()})
    _show(session, seen)
    return DONE


@approvals.command("approve", epilog=_ONLINE)
@click.argument("pending_id")
@_key_option
@_yes_option
@gateway_command
def approve_command(
    session: Session, pending_id: str, approver_key: str | None, *, yes: bool
) -> ExitCode:
    """Approve exactly what is shown. It runs once; its answer goes to who asked, sealed."""
    return _decide(session, pending_id, approver_key, Decision.APPROVE, yes=yes)


@approvals.command("deny", epilog=_ONLINE)
@click.argument("pending_id")
@_key_option
@_yes_option
@gateway_command
def deny_command(
    session: Session, pending_id: str, approver_key: str | None, *, yes: bool
) -> ExitCode:
    """Deny a held request, for ever. Who asked is told so, sealed."""
    return _decide(session, pending_id, approver_key, Decision.DENY, yes=yes)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A held request whose view was verified.

    Attributes:
        held: As the gateway tells it.
        view: As the enclave signed it.
        status: ``verified`` or ``simulated``.
    """

    held: HeldRequestInfo
    view: HoldView = field(repr=False)
    status: str

    def to_json(self) -> JSONObject:
        """Return it for programs."""
        return {
            "status": self.status,
            "state": self.held.state,
            "audit_receipt_id": self.held.audit_receipt_id,
            "attestation_hash": self.held.attestation_hash,
            "view": self.view.to_json(),
        }


def _seen(session: Session, pending_id: str, key: ApproverKey) -> _Seen:
    """Fetch and verify what is shown of a request; nothing that the gateway says is believed."""
    gateway = session.tenant_gateway()
    told = gateway.approval(pending_id, key.public)
    attestation = Archive(from_gateway(gateway), session.policy).attestation(
        told.held.attestation_hash
    )
    encoded = key.open_view(told.view, pending=pending_id) if told.sealed else told.view
    try:
        view = verify_view(encoded, attestation.manifest.receipt_public_key)
    except JSONError as error:
        raise ApprovalError(error.detail) from None
    if view.pending_id != pending_id or view.tenant_id != TenantFiles.of(session).tenant:
        raise ApprovalError("view: of another request, or another tenant's")
    return _Seen(told.held, view, attestation.status)


def _decide(
    session: Session, pending_id: str, approver_key: str | None, decision: Decision, *, yes: bool
) -> ExitCode:
    key = ApproverKey.read(_path(session, approver_key))
    seen = _seen(session, pending_id, key)
    _show(session, seen)
    if not yes:
        _ask(session, decision)
    expires_at = min(seen.view.expires_at, int(time.time()) + DECISION_LIFE_S)
    signed = key.sign(HoldDecision(pending_id, seen.view.plan_digest, decision, expires_at))
    held = session.tenant_gateway().decide(signed)
    session.out.data(
        {
            "format": "latensgate-decision/1",
            "decision": decision.value,
            **seen.to_json(),
            "state": held.state,
        }
    )
    done = "Approved" if decision is Decision.APPROVE else "Denied"
    session.out.line(f"✓ {done}: the enclave has taken the decision ({held.state}).", "green")
    return DONE


def _ask(session: Session, decision: Decision) -> None:
    if session.out.as_json:
        raise ConfigurationError("--yes expected with --json: nobody is asked there")
    click.confirm(f"{decision.value.capitalize()} exactly this?", abort=True)


def _show(session: Session, seen: _Seen) -> None:
    view = seen.view
    session.out.show(
        facts_table(
            [
                ("request", plain(view.pending_id)),
                ("tenant", plain(view.tenant_id)),
                ("model", plain(f"{view.model} ({view.operation})")),
                ("plan", plain(short_hash(view.plan_digest))),
                ("expires", plain(utc(datetime.fromtimestamp(view.expires_at, UTC)))),
                ("enclave", state(seen.status)),
            ]
        )
    )
    table = list_table("found", "where", "how often")
    for category, by_direction in sorted(view.counts.items()):
        if isinstance(by_direction, dict):
            for direction, count in sorted(by_direction.items()):
                table.add_row(plain(category), plain(direction), plain(str(count)))
    session.out.show(table)
    if view.content is None:
        session.out.note("The policy does not show what would be forwarded.")
        return
    for body in view.content:
        session.out.show(Panel(_syntax(body), title="would be forwarded", border_style="yellow"))


def _syntax(body: str) -> Syntax:
    try:
        text = json.dumps(json.loads(body), indent=1, ensure_ascii=True)
    except ValueError:
        text = printable(body)
    return Syntax(text, "json", word_wrap=True)


def _path(session: Session, given: str | None) -> Path:
    if given is not None:
        return Path(given)
    files = TenantFiles.of(session)
    return files.folder / f"{files.tenant}.approver.json"


def _json(held: HeldRequestInfo) -> JSONObject:
    return {
        "pending_id": held.pending_id,
        "state": held.state,
        "model": held.model,
        "operation": held.operation,
        "held_at": utc(held.held_at),
        "expires_at": utc(held.expires_at),
        "audit_receipt_id": held.audit_receipt_id,
        "attestation_hash": held.attestation_hash,
    }
