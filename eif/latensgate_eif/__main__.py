"""The ``latensgate-eif`` command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from latensgate_eif.exits import EPILOG, Exit
from latensgate_eif.image_commands import build, diff, inspect, measure, sign
from latensgate_eif.inputs import BuildError
from latensgate_eif.release_commands import (
    assemble_command,
    fetch,
    inputs,
    kernel,
    manifest,
)
from latensgate_shared.errors import LatensgateError

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(package_name="latensgate-eif", prog_name="latensgate-eif")
def cli() -> None:
    """Nitro Enclave images: build, measure, inspect, sign, compare. No Docker, no AWS tools."""


for command in (
    *(build, diff, inspect, measure, sign),
    *(assemble_command, fetch, inputs, kernel, manifest),
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the script. No stack trace ever reaches a person."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        code = Exit.UNREADABLE
    except Exception as error:  # noqa: BLE001  # the outermost frame: told in a sentence, with its own exit code
        click.echo(f"Error: internal fault ({type(error).__name__}); please report it", err=True)
        code = Exit.INTERNAL
    sys.exit(code)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        ended = cli(arguments, prog_name="latensgate-eif", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except LatensgateError as error:
        click.echo(f"Error: {error.detail}", err=True)
        return Exit.NOT_BUILT if isinstance(error, BuildError) else Exit.MALFORMED
    except OSError as error:
        click.echo(f"Error: {error.filename}: {error.strerror}", err=True)
        return Exit.UNREADABLE
    return int(ended or 0)


if __name__ == "__main__":
    main()
