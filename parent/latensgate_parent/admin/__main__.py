"""The ``latensgate-admin`` command."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from latensgate_parent.admin.check import check
from latensgate_parent.admin.drain import drain
from latensgate_parent.admin.exit_codes import ExitCode
from latensgate_parent.admin.keys import key
from latensgate_parent.admin.place import Place
from latensgate_parent.admin.tenants import tenant


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="latensgate-parent", prog_name="latensgate-admin")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The parent's settings.  [default: LATENSGATE_PARENT_CONFIG]",
)
@click.option("--database", help="Database URL in place of the settings'.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.pass_context
def cli(
    context: click.Context, config: Path | None, database: str | None, *, as_json: bool
) -> None:
    """Run a Latensgate gateway: tenants, keys, and the running parent.

    Exit codes: docs/exit-codes.md.
    """
    context.obj = Place(config, database, as_json)


for _command in (tenant, key, drain, check):
    cli.add_command(_command)


def main() -> None:
    """Entry point of the ``latensgate-admin`` script. No stack trace ever reaches a person."""
    try:
        cli(prog_name="latensgate-admin")
    except Exception as error:  # noqa: BLE001 -- the outermost frame: told in a sentence, with its own exit code
        click.echo(f"Error: internal fault ({type(error).__name__}); please report it", err=True)
        sys.exit(ExitCode.INTERNAL)


if __name__ == "__main__":
    main()
