"""``latensgate dev``: the developer's stack, in a process of its own."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import click

from latensgate.cli.exit_codes import DONE, ExitCode, epilog

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

MODULE: Final = "latensgate_sim"
_MISSING: Final = (
    "the developer's stack (latensgate-sim) is not installed here. In a clone of the repository:"
    " make run, or: pip install -e ./shared -e ./enclave -e ./sdk/python -e ./parent -e ./sim"
)
STOP_TIMEOUT_S: Final = 30.0
"""Enclaves drain for 10 s at most, one after the other."""


@click.command(
    epilog=epilog(DONE, ExitCode.STACK, ExitCode.INTERRUPTED),
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.option(
    "--model",
    type=click.Choice(["auto", "local", "scripted"]),
    help="What answers: a small model on this machine, or replies by script.",
)
@click.option("--bedrock", is_flag=True, help="Real Bedrock, with your own AWS credentials.")
@click.option("--enclaves", type=click.IntRange(1, 8), help="Enclave processes.")
@click.option("--fault", "faults", multiple=True, metavar="NAME", help="Break something.")
@click.argument("more", nargs=-1, type=click.UNPROCESSED)
def dev(
    model: str | None,
    enclaves: int | None,
    faults: tuple[str, ...],
    more: tuple[str, ...],
    *,
    bedrock: bool,
) -> None:
    """Run gateway, enclaves and a simulated AWS on this machine until Ctrl-C.

    Other options go to python -m latensgate_sim as they are; its --help lists them, the names of
    faults too. Clients on this machine then find it with --simulated.
    """
    if importlib.util.find_spec(MODULE) is None:
        click.echo(f"Error: {_MISSING}", err=True)
        sys.exit(ExitCode.STACK)
    arguments: list[str] = []
    for name, value in (("--model", model), ("--enclaves", enclaves)):
        arguments += [] if value is None else [name, str(value)]
    arguments += ["--bedrock"] if bedrock else []
    arguments += [part for name in faults for part in ("--fault", name)]
    sys.exit(run_child([sys.executable, "-m", MODULE, *arguments, *more]))


def run_child(command: Sequence[str]) -> ExitCode:
    """Run the stack in this terminal; signals reach it, and it is waited for."""
    child = subprocess.Popen(command)  # noqa: S603 -- own interpreter, options of the caller, no shell

    def stop(_number: int, _frame: FrameType | None) -> None:
        child.terminate()

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        return _ended(child.wait())
    except KeyboardInterrupt:
        return _wait_stopped(child)  # the terminal told the child as well
    finally:
        signal.signal(signal.SIGTERM, previous)


def _wait_stopped(child: subprocess.Popen[bytes]) -> ExitCode:
    try:
        return _ended(child.wait(STOP_TIMEOUT_S))
    except subprocess.TimeoutExpired:
        child.kill()
    except KeyboardInterrupt:
        child.kill()  # asked twice
    child.wait()
    return ExitCode.INTERRUPTED


def _ended(status: int) -> ExitCode:
    return ExitCode.STACK if status else DONE
