"""``latensgate health``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.session import gateway_command
from latensgate.cli.simple import facts_table, plain, state
from latensgate.cli.text import utc

if TYPE_CHECKING:
    from latensgate.cli.session import Session
    from latensgate.gateway import HealthReport
    from latensgate_shared.strict_json import JSONObject


@click.command(epilog=epilog(DONE, ExitCode.UNREACHABLE, ExitCode.LATER, ExitCode.PROTOCOL))
@gateway_command
def health(session: Session) -> ExitCode:
    """Show what the gateway says of enclaves, KMS and Bedrock. Nothing of it is proven."""
    report = session.gateway().health()
    session.out.data(health_json(report))
    session.out.show(
        facts_table(
            [
                ("gateway", plain(session.base_url)),
                ("status", state(report.status)),
                ("enclaves", f"{report.ready} of {report.total} ready"),
                ("best enclave", state(report.enclave)),
                ("KMS", state(report.kms)),
                ("Bedrock", state(report.bedrock)),
                ("checked at", "never" if report.checked_at is None else utc(report.checked_at)),
            ]
        )
    )
    return DONE if report.serves else ExitCode.LATER


def health_json(report: HealthReport) -> JSONObject:
    """Return the report for programs."""
    return {
        "format": "latensgate-health/1",
        "status": report.status,
        "enclave": report.enclave,
        "ready": report.ready,
        "total": report.total,
        "kms": report.kms,
        "bedrock": report.bedrock,
        "checked_at": None if report.checked_at is None else utc(report.checked_at),
    }
