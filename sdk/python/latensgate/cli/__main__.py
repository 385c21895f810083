"""The ``latensgate`` command."""

from __future__ import annotations

import errno
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Final

import click

from latensgate.cli.approvals import approvals
from latensgate.cli.attest import attest
from latensgate.cli.audit import audit
from latensgate.cli.chat import chat
from latensgate.cli.completion import completion
from latensgate.cli.config_show import config
from latensgate.cli.conformance import conformance
from latensgate.cli.dev import dev
from latensgate.cli.doctor import doctor
from latensgate.cli.exit_codes import DONE, ExitCode
from latensgate.cli.health import health
from latensgate.cli.keys import keys
from latensgate.cli.models import models
from latensgate.cli.policy import policy
from latensgate.cli.proxy import proxy
from latensgate.cli.tenant import tenant
from latensgate.cli.upstream_credential import upstream_credential
from latensgate.cli.usage import usage
from latensgate.cli.verify import verify


class _Commands(click.Group):
    """A group that leaves a reader who went away to ``main``: click would end with 1."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a broken pipe loses the number by which click knows it."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise BrokenPipeError from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="latensgate", prog_name="latensgate")
def cli() -> None:
    """Latensgate: confidential inference that you can check.

    Where the gateway is, who asks and what is trusted comes from the command line, then
    LATENSGATE_KEY, LATENSGATE_TENANT and LATENSGATE_BASE_URL, then config.toml: see config show.
    """


for command in (
    approvals,
    attest,
    audit,
    chat,
    completion,
    config,
    conformance,
    dev,
    doctor,
    health,
    keys,
    models,
    policy,
    proxy,
    upstream_credential,
    tenant,
    usage,
    verify,
):
    cli.add_command(command)


def main() -> None:
    """Entry point of the ``latensgate`` script. No stack trace ever reaches a person."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 is no reason to fail
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:
        _close_output()
        code = ExitCode.BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the outermost frame: told in a sentence, with its own exit code
        code = _told(error)
    sys.exit(code)


def _told(error: Exception) -> ExitCode:
    if isinstance(error, OSError) and error.errno in _UNWRITTEN:
        _close_output()
        click.echo(f"Error: the output is not whole: {error.strerror}", err=True)
        return ExitCode.OUTPUT
    click.echo(f"Error: internal fault ({type(error).__name__}); please report it", err=True)
    return ExitCode.INTERNAL


_UNWRITTEN: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What a disk says that takes no more."""


def _open_closed_streams() -> None:
    """Let the exit code tell the verdict where the shell closed the output (``>&-``)."""
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()


def _nowhere() -> TextIOWrapper:
    return Path(os.devnull).open("w", encoding="utf-8")


def _run() -> int:
    try:
        ended = cli(prog_name="latensgate", standalone_mode=False)
    except SystemExit as stopped:  # how commands end; what they printed is still to be written
        ended = stopped.code
    except click.ClickException as error:
        error.show()
        ended = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(err=True)  # the line on which ^C stands
        ended = ExitCode.INTERRUPTED
    return ended if isinstance(ended, int) else DONE


def _close_output() -> None:
    """Nobody reads any more: the interpreter must not try to write its last bytes either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())


if __name__ == "__main__":
    main()
