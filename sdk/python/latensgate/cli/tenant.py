"""``latensgate tenant``: the root key of a tenant's administrator, and what it signs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.panel import Panel
from rich.text import Text

from latensgate.cli import policy
from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.policy_files import TenantFiles
from latensgate.cli.session import gateway_command
from latensgate.cli.simple import facts_table, plain
from latensgate.tenant_root import TenantRoot

if TYPE_CHECKING:
    from latensgate.cli.session import Session


@click.group()
def tenant() -> None:
    """The tenant's root key, and the settings that it signs."""


@tenant.command("init", epilog=epilog(DONE, ExitCode.USAGE))
@click.option(
    "--root-key",
    metavar="FILE",
    help="Where the key goes.  [default: tnt_….root.pem beside config.toml]",
)
@gateway_command
def init_command(session: Session, root_key: str | None) -> ExitCode:
    """Make the tenant's root key. It stays on this machine; nothing is sent."""
    files = TenantFiles.of(session)
    path = files.root if root_key is None else Path(root_key)
    root = TenantRoot.made(path)
    session.out.data(
        {
            "format": "latensgate-tenant-root/1",
            "tenant": files.tenant,
            "tenant_root": root.public.hex(),
            "file": str(path),
        }
    )
    session.out.show(
        Panel(
            Text("Keep this file safe and backed up: whoever has it decides the policy.", "bold"),
            border_style="yellow",
            expand=False,
        ),
        facts_table([("root key", plain(str(path))), ("tenant_root", plain(root.public.hex()))]),
    )
    session.out.line("Applications pass tenant_root; next: latensgate policy edit")
    return DONE


tenant.add_command(policy.policy)
for command in (
    policy.edit_command,
    policy.sign_command,
    policy.push_command,
    policy.show_command,
):
    tenant.add_command(command)
