"""``latensgate usage``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from latensgate.cli.audit_filters import Moment
from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.session import gateway_command
from latensgate.cli.simple import count, list_table, plain
from latensgate.cli.text import utc
from latensgate.gateway.daily import MAX_DAYS_LIMIT, DayReport
from latensgate.verify.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import datetime

    from latensgate.cli.session import Session
    from latensgate.gateway import UsageReport
    from latensgate.gateway.reports import UsageCounts
    from latensgate_shared.strict_json import JSONObject, JSONValue


@click.command(epilog=epilog(DONE, ExitCode.UNREACHABLE, ExitCode.UNAUTHENTICATED))
@click.option("--days", "by_day", is_flag=True, help="Receipts by day and outcome in their place.")
@click.option("--since", type=Moment(), metavar="TIME|24h|7d", help="With --days: from then on.")
@click.option("--until", type=Moment(), metavar="TIME|24h|7d", help="With --days: before that.")
@gateway_command
def usage(
    session: Session, *, by_day: bool, since: datetime | None, until: datetime | None
) -> ExitCode:
    """Show what the enclaves have counted for the tenant, from their last signed totals.

    What was found in requests the gateway cannot count: see latensgate audit stats.
    """
    if by_day:
        return _days(session, since, until)
    if since or until:
        raise ConfigurationError("usage: --since and --until go with --days")
    report = session.tenant_gateway().usage()
    session.out.data(_json(report))
    table = list_table("enclave", "counted until")
    for name in ("requests", "prompt tokens", "completion tokens"):
        table.add_column(name, justify="right")
    for item in report.enclaves:
        table.add_row(item.receipt_key[:16] + "…", utc(item.issued_at), *_row(item.usage))
    table.add_section()
    table.add_row("all", "", *_row(report.usage), style="bold")
    when = "Enclaves state totals hourly; what ran since then is not in them yet."
    session.out.show(table, plain(f"Tenant {report.tenant_id}. {when}", "dim"))
    return DONE


def _days(session: Session, since: datetime | None, until: datetime | None) -> ExitCode:
    gateway, found, page = session.tenant_gateway(), list[DayReport](), 1
    while True:
        told = gateway.usage_days(since=since, until=until, page=page, limit=MAX_DAYS_LIMIT)
        found += told.entries
        if not told.entries or page * told.limit >= told.total:
            break
        page += 1
    entries: list[JSONValue] = [each.to_json() for each in found]
    session.out.data({"format": "latensgate-usage-days/1", "days": entries})
    table = list_table("day (UTC)", "receipts", "for the auditor", "outcomes")
    for each in found:
        outcomes = ", ".join(f"{name} {count(number)}" for name, number in each.outcomes.items())
        row = (each.day, count(each.receipts), count(each.private_sealed), plain(outcomes))
        table.add_row(*row)
    session.out.show(table if found else "No receipts here.")
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
