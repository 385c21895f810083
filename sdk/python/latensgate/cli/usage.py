"""``latensgate usage``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.session import gateway_command
from latensgate.cli.simple import count, list_table, plain
from latensgate.cli.text import utc

if TYPE_CHECKING:
    from latensgate.cli.session import Session
    from latensgate.gateway import UsageReport
    from latensgate.gateway.reports import UsageCounts
    from latensgate_shared.strict_json import JSONObject


@click.command(epilog=epilog(DONE, ExitCode.UNREACHABLE, ExitCode.UNAUTHENTICATED))
@gateway_command
def usage(session: Session) -> ExitCode:
    """Show what the enclaves have counted for the tenant, from their last signed totals."""
    report = session.tenant_gateway().usage()
    session.out.data(_json(report))
    table = list_table("enclave", "counted until")
    for name in ("requests", "prompt tokens", "completion tokens"):
        table.add_column(name, justify="right")
    for item in report.enclaves:
        table.add_row(item.receipt_key[:16] + "…", utc(item.issued_at), *_row(item.usage))
    table.add_section()
    table.add_row("all", "", *_row(report.usage), style="bold")
    session.out.show(
        table, plain(f"Tenant {report.tenant_id}. Enclaves state totals hourly.", "dim")
    )
    return DONE


def _row(counts: UsageCounts) -> tuple[str, str, str]:
    return (
        count(counts.requests),
        count(counts.prompt_tokens),
        count(counts.completion_tokens),
    )


def _counts(counts: UsageCounts) -> JSONObject:
    return {
        "requests": counts.requests,
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
    }


def _json(report: UsageReport) -> JSONObject:
    return {
        "format": "latensgate-usage/1",
        "tenant_id": report.tenant_id,
        "usage": _counts(report.usage),
        "enclaves": [
            {
                "receipt_key": item.receipt_key,
                "issued_at": utc(item.issued_at),
                "usage": _counts(item.usage),
                "totals_hash": item.totals_hash,
                "signature": item.signature,
            }
            for item in report.enclaves
        ],
    }
