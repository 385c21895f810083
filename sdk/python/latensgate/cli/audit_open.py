"""``latensgate audit keygen``, ``open`` and ``stats``: what the tenant's auditor can read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.panel import Panel
from rich.text import Text

from latensgate.audit_key import AuditKey
from latensgate.cli.archive import Archive, from_gateway
from latensgate.cli.audit_filters import audit_filters
from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.policy_files import TenantFiles
from latensgate.cli.receipt_view import receipt_facts
from latensgate.cli.session import gateway_command
from latensgate.cli.simple import count, facts_table, list_table, plain, state
from latensgate.gateway.audit import MAX_LIMIT
from latensgate_shared.audit_seal import AuditSealError
from latensgate_shared.errors import LatensgateError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from latensgate.cli.audit_filters import Filters
    from latensgate.cli.session import Session
    from latensgate.gateway import AuditEntry
    from latensgate_shared.receipts import PrivatePart
    from latensgate_shared.strict_json import JSONObject, JSONValue

_DRY_RUN = "dry_run"
_key_option = click.option(
    "--audit-key", metavar="FILE", help="Audit key.  [default: tnt_….audit.key beside config.toml]"
)
_ONLINE = (
    DONE,
    ExitCode.USAGE,
    ExitCode.UNTRUSTED,
    ExitCode.RECEIPT,
    ExitCode.UNREACHABLE,
    ExitCode.REFUSED,
    ExitCode.UNAUTHENTICATED,
)


@click.command("keygen", epilog=epilog(DONE, ExitCode.USAGE))
@_key_option
@gateway_command
def keygen_command(session: Session, audit_key: str | None) -> ExitCode:
    """Make the auditor's key. It stays on this machine; nothing is sent.

    The public half goes into the tenant's settings (audit_key). From then on the enclave seals the
    private part of each receipt to it, for requests that demand these settings.
    """
    files = TenantFiles.of(session)
    path = files.audit_key if audit_key is None else Path(audit_key)
    key = AuditKey.made(path)
    session.out.data(
        {
            "format": "latensgate-audit-key/1",
            "tenant": files.tenant,
            "audit_key": key.public.hex(),
            "file": str(path),
        }
    )
    session.out.show(
        Panel(
            Text("Keep this file safe and backed up: without it nothing sealed opens.", "bold"),
            border_style="yellow",
            expand=False,
        ),
        facts_table([("audit key", plain(str(path)))]),
    )
    session.out.line("For the draft of the settings, above its first table:")
    session.out.line(f'audit_key = "{key.public.hex()}"')
    return DONE


@click.command("open", epilog=epilog(*_ONLINE))
@click.argument("receipt_id")
@_key_option
@gateway_command
def open_command(session: Session, receipt_id: str, audit_key: str | None) -> ExitCode:
    """Open the private part of one receipt, and hold it against what the enclave signed."""
    key = _key(session, audit_key)
    entry = session.tenant_gateway().audit_entry(receipt_id)
    archive = Archive(from_gateway(session.gateway()), session.policy)
    signed = archive.verified(entry)
    private = _opened(key, entry)
    session.out.data(
        {
            "format": "latensgate-audit-open/1",
            "status": signed.status,
            "entry": entry.to_json(),
            "private": private.value,
        }
    )
    session.out.show(receipt_facts(entry.public, private.value))
    session.out.line("✓ Opened: it is what the enclave's receipt commits to.", "bold green")
    if signed.status != "verified":
        session.out.line("Under a simulated root: not an enclave.", "bold yellow")
    return DONE


def _key(session: Session, name: str | None) -> AuditKey:
    return AuditKey.read(TenantFiles.of(session).audit_key if name is None else Path(name))


def _opened(key: AuditKey, entry: AuditEntry) -> PrivatePart:
    if entry.private_sealed is None:
        raise AuditSealError(
            f"private part: {entry.public.receipt_id} has none: its request demanded no settings"
            " that name an audit key"
        )
    return key.open(entry.public, entry.private_sealed)


@dataclass(slots=True)
class _Statistics:
    """What was counted.

    Attributes:
        outcomes: Of all receipts.
        cells: Findings by category, direction and action.
        detected: Receipts that tell of any.
        opened: Receipts whose private part was counted.
        sealed_to_nobody: Receipts that have none.
        problems: Receipts that could not be counted, and why.
    """

    outcomes: Counter[str] = field(default_factory=Counter[str])
    cells: Counter[tuple[str, str, str]] = field(default_factory=Counter[tuple[str, str, str]])
    detected: int = 0
    opened: int = 0
    sealed_to_nobody: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def take(self, private: PrivatePart) -> None:
        """Count one private part."""
        self.opened += 1
        pii = private.value["pii"]
        cells = [*_cells(pii)]
        self.detected += bool(cells)
        for cell, number in cells:
            self.cells[cell] += number

    def to_json(self) -> JSONObject:
        """Return it for programs."""
        return {
            "receipts": self.outcomes.total(),
            "outcomes": dict(sorted(self.outcomes.items())),
            "opened": self.opened,
            "without_private_part": self.sealed_to_nobody,
            "detected": self.detected,
            "findings": [
                {"category": category, "direction": way, "action": action, "count": number}
                for (category, way, action), number in sorted(self.cells.items())
            ],
            "problems": [{"receipt_id": name, "detail": why} for name, why in self.problems],
        }


def _cells(pii: JSONValue) -> Iterator[tuple[tuple[str, str, str], int]]:
    """Yield what a verdict counts; older receipts tell no actions."""
    told = pii if isinstance(pii, dict) else {}
    counts, actions = told.get("counts"), told.get("actions")
    for category, ways in counts.items() if isinstance(counts, dict) else ():
        asked = actions.get(category) if isinstance(actions, dict) else None
        for way, number in ways.items() if isinstance(ways, dict) else ():
            action = asked.get(way) if isinstance(asked, dict) else None
            if isinstance(number, int):
                yield (category, way, action if isinstance(action, str) else "not told"), number


@click.command("stats", epilog=epilog(*_ONLINE))
@_key_option
@audit_filters
@gateway_command
def stats_command(session: Session, audit_key: str | None, filters: Filters) -> ExitCode:
    """Count findings by category, direction and action over the tenant's receipts.

    Which categories were found stands in the private parts alone: the gateway cannot count them,
    and this command does it here, with the audit key. Every receipt is verified first; one that
    does not verify or open is told, and not counted. Findings of dry runs count where
    --outcome dry_run asks for them.
    """
    key = _key(session, audit_key)
    archive = Archive(from_gateway(session.gateway()), session.policy)
    found = _Statistics()
    for number, entry in enumerate(
        session.tenant_gateway().audit_entries(filters.query(MAX_LIMIT)), 1
    ):
        is_counted = entry.public.outcome != _DRY_RUN or filters.outcome == _DRY_RUN
        _count(found, archive, key, entry, is_counted=is_counted)
        if number % (10 * MAX_LIMIT) == 0:
            session.out.note(f"{number:,} receipts ...")
    code = ExitCode.RECEIPT if found.problems else DONE
    session.out.data(
        {
            "format": "latensgate-audit-stats/1",
            "verdict": code.verdict,
            "exit_code": int(code),
            **found.to_json(),
        }
    )
    _show(session, found)
    return code


def _count(
    found: _Statistics, archive: Archive, key: AuditKey, entry: AuditEntry, *, is_counted: bool
) -> None:
    public = entry.public
    try:
        archive.verified(entry)
        found.outcomes[public.outcome] += 1
        if entry.private_sealed is None:
            found.sealed_to_nobody += 1
        elif is_counted:
            found.take(key.open(public, entry.private_sealed))
    except LatensgateError as error:
        if error.code.retryable:
            raise  # nothing is wrong with the receipt
        found.problems.append((public.receipt_id, error.detail))


def _show(session: Session, found: _Statistics) -> None:
    out = session.out
    out.show(
        _findings_table(found) if found.cells else "Nothing was found in what could be opened."
    )
    outcomes = Text(", ").join(
        Text.assemble(state(name), f" {count(number)}")
        for name, number in sorted(found.outcomes.items())
    )
    out.show(
        facts_table(
            [
                ("receipts", outcomes),
                ("opened", plain(count(found.opened))),
                ("no private part", plain(count(found.sealed_to_nobody))),
                ("with findings", plain(count(found.detected))),
            ]
        )
    )
    for name, why in found.problems:
        out.show(Text.assemble(("✗ ", "bold red"), plain(f"{name}: {why}")))


def _findings_table(found: _Statistics) -> Table:
    table = list_table("category", "direction", "action")
    table.add_column("findings", justify="right")
    for (category, way, action), number in sorted(found.cells.items()):
        table.add_row(plain(category), plain(way), plain(action), count(number))
    return table
