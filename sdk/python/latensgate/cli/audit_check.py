"""``latensgate audit check``: every receipt, every chain, every gap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
from rich.text import Text

from latensgate.cli.archive import Archive, Evidence, from_gateway
from latensgate.cli.audit_export import parse_export
from latensgate.cli.audit_filters import audit_filters
from latensgate.cli.evidence import read_file
from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.kept import read_kept
from latensgate.cli.receipt_log import LogCheck
from latensgate.cli.session import gateway_command
from latensgate.cli.simple import count, list_table, plain, short_hash, state
from latensgate.gateway.audit import MAX_LIMIT
from latensgate.verify.errors import ConfigurationError
from latensgate_shared.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latensgate.cli.audit_filters import Filters
    from latensgate.cli.receipt_log import LogReport
    from latensgate.cli.session import Session
    from latensgate.gateway import AuditEntry
    from latensgate_shared.strict_json import JSONObject

EXPORT_MAX_BYTES: Final = 1024 * MIB
"""A receipt takes about 1.5 KB: some 700,000 of them."""
SHOWN_PROBLEMS: Final = 20
"""Problems told one by one; beyond it --json has them all."""
_CODES = (
    DONE,
    ExitCode.SIMULATED,
    ExitCode.RECEIPT,
    ExitCode.GAPS,
    ExitCode.UNREACHABLE,
    ExitCode.UNAUTHENTICATED,
)


@click.command("check", epilog=epilog(*_CODES))
@click.argument("file", required=False)
@click.option(
    "--kept",
    multiple=True,
    metavar="FILE",
    help="A receipt that you kept: the log must hold the same one. May stand more than once.",
)
@audit_filters
@gateway_command
def check_command(
    session: Session, file: str | None, kept: tuple[str, ...], filters: Filters
) -> ExitCode:
    """Verify every receipt of the tenant, and that none is missing.

    Fetches all receipts and the documents behind them, judges the documents under your own policy
    and the receipts under the documents, and follows each chain. With FILE, an export is judged and
    no gateway is asked. Receipts after the newest one cannot be missed here: keep your own.
    """
    entries, archive = _source(session, file, filters)
    check = LogCheck(archive, session.found.tenant)
    for number, entry in enumerate(entries, 1):
        check.take(entry)
        if number % (10 * MAX_LIMIT) == 0:
            session.out.note(f"{number:,} receipts ...")
    check.compare_kept(read_kept(name).public for name in kept)
    report = check.report()
    session.out.data(_json(report))
    _show(session, report)
    return report.code


def _source(
    session: Session, file: str | None, filters: Filters
) -> tuple[Iterable[AuditEntry], Archive]:
    query = filters.query(MAX_LIMIT)
    if file is None:
        entries = session.tenant_gateway().audit_entries(query)
        return entries, Archive(from_gateway(session.gateway()), session.policy)
    if query.parameters(1).keys() > {"page", "limit"}:
        raise ConfigurationError("audit check: with a file, all of it is judged; no filters")
    export = parse_export(read_file(file, EXPORT_MAX_BYTES), file, EXPORT_MAX_BYTES)

    def fetch(attestation_hash: str) -> Evidence:
        return export.documents.get(attestation_hash, Evidence(b"", b""))

    return export.entries, Archive(fetch, session.policy)


def _show(session: Session, report: LogReport) -> None:
    out = session.out
    if not report.receipts:
        out.show("There are no receipts to check.")
    table = list_table("enclave (receipt key)", "receipts", "places", "newest", "")
    for chain in report.chains:
        table.add_row(
            chain.receipt_key[:16] + "…",
            count(chain.count),
            f"{chain.first_sequence} to {chain.last_sequence}",
            short_hash(chain.last_hash),
            state(chain.status),
        )
    if report.chains:
        out.show(table)
    for problem in report.problems[:SHOWN_PROBLEMS]:
        out.show(
            Text.assemble(("✗ ", "bold red"), f"{problem.what}: ", plain(problem.where, "bold"))
        )
        out.show(plain(f"  {problem.detail}", "dim"))
    if len(report.problems) > SHOWN_PROBLEMS:
        out.line(f"… and {len(report.problems) - SHOWN_PROBLEMS} more; --json has them all")
    out.show(_verdict(report))


def _verdict(report: LogReport) -> Text:
    if report.problems:
        code = report.code
        what = "some receipts are missing" if code is ExitCode.GAPS else "the log does not verify"
        return Text(f"{len(report.problems):,} problem(s): {what}.", "bold red")
    checked = f"{report.receipts:,} receipts, {len(report.chains)} chain(s), no gap."
    if report.code is ExitCode.SIMULATED:
        return Text(f"✓ {checked} Under a simulated root: not an enclave.", "bold yellow")
    return Text(f"✓ {checked}", "bold green")


def _json(report: LogReport) -> JSONObject:
    return {
        "format": "latensgate-audit-check/1",
        "verdict": report.code.verdict,
        "exit_code": int(report.code),
        "receipts": report.receipts,
        "chains": [
            {
                "receipt_key": chain.receipt_key,
                "tenant_id": chain.tenant_id,
                "receipts": chain.count,
                "first_sequence": chain.first_sequence,
                "last_sequence": chain.last_sequence,
                "last_hash": chain.last_hash,
                "status": chain.status,
            }
            for chain in report.chains
        ],
        "problems": [
            {"what": item.what, "where": item.where, "detail": item.detail}
            for item in report.problems
        ],
    }
