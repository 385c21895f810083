"""``latensgate audit``: the receipts that the gateway stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.text import Text

from latensgate.cli.audit_check import check_command
from latensgate.cli.audit_export import export_command
from latensgate.cli.audit_filters import audit_filters
from latensgate.cli.audit_open import keygen_command, open_command, stats_command
from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.session import gateway_command
from latensgate.cli.simple import count, facts_table, list_table, plain, short_hash, state
from latensgate.cli.text import coarse, printable
from latensgate.gateway.audit import DEFAULT_LIMIT, MAX_LIMIT
from latensgate_shared import formats

if TYPE_CHECKING:
    from rich.table import Table

    from latensgate.cli.audit_filters import Filters
    from latensgate.cli.session import Session
    from latensgate.gateway import AuditEntry

_EPILOG = epilog(DONE, ExitCode.UNREACHABLE, ExitCode.REFUSED, ExitCode.UNAUTHENTICATED)


@click.group()
def audit() -> None:
    """List, show, export and check the receipts that the gateway stores for the tenant."""


audit.add_command(check_command)
audit.add_command(export_command)
audit.add_command(keygen_command)
audit.add_command(open_command)
audit.add_command(stats_command)


@audit.command("list", epilog=_EPILOG)
@click.option("--page", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--limit", type=click.IntRange(1, MAX_LIMIT), default=DEFAULT_LIMIT, show_default=True
)
@audit_filters
@gateway_command
def list_command(session: Session, page: int, limit: int, filters: Filters) -> ExitCode:
    """List receipts, newest first. Nothing is verified here: see audit check."""
    told = session.tenant_gateway().audit_page(filters.query(limit), page=page)
    session.out.data(
        {
            "format": "latensgate-audit/1",
            "page": told.page,
            "limit": told.limit,
            "total": told.total,
            "entries": [entry.to_json() for entry in told.entries],
        }
    )
    table = list_table(
        "receipt", "minute (UTC)", "outcome", "place", "document", whole=("receipt", "minute (UTC)")
    )
    for entry in told.entries:
        public = entry.public
        table.add_row(
            public.receipt_id,
            coarse(public.issued_at),
            state(public.outcome),
            count(public.sequence),
            short_hash(public.attestation_hash, 8),
        )
    pages = -(-told.total // told.limit)
    session.out.show(
        table if told.entries else "No receipts here.",
        Text(f"Page {told.page} of {max(pages, 1)}, {told.total:,} receipts in all.", "dim"),
    )
    return DONE


@audit.command("show", epilog=_EPILOG)
@click.argument("receipt_id")
@gateway_command
def show_command(session: Session, receipt_id: str) -> ExitCode:
    """Show one receipt as it is stored. To verify it: latensgate verify RECEIPT_ID."""
    entry = session.tenant_gateway().audit_entry(receipt_id)
    session.out.data({"format": "latensgate-audit-entry/1", "entry": entry.to_json()})
    session.out.show(entry_facts(entry))
    session.out.line("Not verified. To verify it:", "dim")
    session.out.line(f"  {session.verify_command(printable(receipt_id))}")
    return DONE


def entry_facts(entry: AuditEntry) -> Table:
    """Return everything that an entry says."""
    public, sealed = entry.public, entry.private_sealed
    held = "not stored" if sealed is None else f"sealed, {len(formats.to_base64(sealed)):,} chars"
    rows = [
        ("receipt", plain(public.receipt_id)),
        ("tenant", plain(public.tenant_id)),
        ("outcome", state(public.outcome)),
        ("issued in minute", plain(coarse(public.issued_at))),
        ("place in chain", plain(count(public.sequence))),
        ("receipt before it", plain(public.previous_receipt_hash or "none: the first one")),
        ("sealed to key", plain(public.key_id)),
        ("request_hash", plain(public.request_hash)),
        ("response_hash", plain(public.response_hash)),
        ("attestation_hash", plain(public.attestation_hash)),
        ("private_digest", plain(public.private_digest)),
        ("private part", plain(held)),
        ("signature", plain(entry.signature)),
    ]
    return facts_table(rows)
