"""The ``latensgate`` command."""

from __future__ import annotations

import sys
from io import TextIOWrapper

import click

from latensgate.cli.attest import attest
from latensgate.cli.conformance import conformance
from latensgate.cli.exit_codes import ExitCode


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="latensgate", prog_name="latensgate")
def cli() -> None:
    """Latensgate: confidential inference that you can check.

    Shell completion: docs/exit-codes.md says how to switch it on.
    """


cli.add_command(attest)
cli.add_command(conformance)


def main() -> None:
    """Entry point of the ``latensgate`` script. No stack trace ever reaches a person."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 is no reason to fail
    try:
        cli(prog_name="latensgate")
    except Exception as error:  # noqa: BLE001 - the outermost frame: told in a sentence, with its own exit code
        click.echo(f"Error: internal fault ({type(error).__name__}); please report it", err=True)
        sys.exit(ExitCode.INTERNAL)


if __name__ == "__main__":
    main()
