"""``latensgate models``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.session import gateway_command
from latensgate.cli.simple import list_table, plain

if TYPE_CHECKING:
    from latensgate.cli.session import Session


@click.command(epilog=epilog(DONE, ExitCode.UNREACHABLE, ExitCode.UNAUTHENTICATED))
@gateway_command
def models(session: Session) -> ExitCode:
    """List the model names that you can ask for."""
    found = session.tenant_gateway().models()
    session.out.data(
        {
            "format": "latensgate-models/1",
            "models": [
                {
                    "id": item.model_id,
                    "owned_by": item.owned_by,
                    "kind": item.kind,
                    "shutdown_date": item.shutdown_date,
                }
                for item in found
            ],
        }
    )
    table = list_table("model", "for", "of", "until")
    for item in found:
        until = item.shutdown_date or ""
        table.add_row(plain(item.model_id), item.kind, plain(item.owned_by), plain(until))
    session.out.show(table if found else "The operator names no models.")
    return DONE
