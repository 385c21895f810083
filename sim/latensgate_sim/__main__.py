"""``python -m latensgate_sim``: the whole product on this machine, until Ctrl-C.

`make run` and `latensgate dev` are this. With ``--no-parent`` everything but the parent runs, for
people who work on the parent.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console

from latensgate_sim import local_model
from latensgate_sim.dev_stack import DevStack, StackNotStartedError, StackOptions
from latensgate_sim.named_faults import NAMED_FAULTS, UnknownUpstreamError
from latensgate_sim.show import show_next, show_stack

if TYPE_CHECKING:
    from types import FrameType

QUESTION: Final = "In one sentence: why is the sky blue?"


@click.command()
@click.option(
    "--model",
    type=click.Choice(["auto", "local", "scripted"]),
    default="auto",
    help="What answers; auto is local where it is installed.",
)
@click.option(
    "--bedrock", is_flag=True, help="Ask the real Bedrock, with your own AWS credentials."
)
@click.option(
    "--alias",
    "aliases",
    multiple=True,
    metavar="NAME=MODEL_ID",
    help="A model name of applications and the Bedrock model id it leads to.",
)
@click.option(
    "--openai-alias",
    "openai_aliases",
    multiple=True,
    metavar="NAME=MODEL_ID",
    help="A model name that a simulated OpenAI-compatible upstream answers.",
)
@click.option(
    "--openai-forward",
    metavar="URL",
    help="A plain server of that interface which answers it, such as http://127.0.0.1:8000.",
)
@click.option(
    "--enclaves",
    "count",
    type=click.IntRange(1, 8),
    default=2,
    show_default=True,
    help="Enclave processes.",
)
@click.option("--region", "regions", multiple=True, default=("us-east-1",), show_default=True)
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port of the gateway, 0: any.  [default: 8700]"
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    type=click.Choice(sorted(NAMED_FAULTS)),
    help="Switched on after the first chat.",
)
@click.option("--question", default=QUESTION, show_default=True, help="What the first chat asks.")
@click.option("--no-chat", is_flag=True, help="Skip the first chat.")
@click.option("--no-parent", is_flag=True, help="Start everything but the parent.")
@click.option(
    "--nitro-root",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that keeps the attestation root over restarts.",
)
@click.option("--verbose", is_flag=True, help="Show the lines that parent and enclaves log.")
def main(  # noqa: PLR0913 -- a command's options
    *,
    model: str,
    bedrock: bool,
    aliases: tuple[str, ...],
    openai_aliases: tuple[str, ...],
    openai_forward: str | None,
    count: int,
    regions: tuple[str, ...],
    port: int | None,
    faults: tuple[str, ...],
    question: str,
    no_chat: bool,
    no_parent: bool,
    nitro_root: Path | None,
    verbose: bool,
) -> None:
    """Start gateway, enclaves and a simulated AWS on this machine until Ctrl-C."""
    console = Console()
    stop = stop_on_signals()
    options = StackOptions(
        model=model,
        bedrock=bedrock,
        aliases=_parse_aliases(aliases),
        openai_aliases=_parse_aliases(openai_aliases),
        openai_forward=openai_forward,
        enclaves=count,
        regions=regions,
        port=port,
        parent=not no_parent,
        nitro_root=nitro_root,
        verbose=verbose,
    )
    try:
        with ExitStack() as life:
            stack = life.enter_context(DevStack(options, console))
            show_stack(stack, console)
            if not no_parent and not no_chat:
                first_chat(stack, question, console)
            for name in faults:
                NAMED_FAULTS[name](stack.world)
                console.print(f"Fault switched on: [bold]{name}[/bold]")
            show_next(stack, console)
            stop.wait()
            console.print("Stopping ...")
    except (
        StackNotStartedError,
        UnknownUpstreamError,
        local_model.ModelNotInstalledError,
    ) as error:
        raise click.ClickException(str(error)) from error
    console.print("Stopped; nothing is left running.")


def first_chat(stack: DevStack, question: str, console: Console) -> None:
    """Send a sealed chat as a user would, with the installed command; its words are the proof."""
    console.rule("A confidential chat, by the SDK, in a process of its own")
    console.file.flush()
    command = [sys.executable, "-m", "latensgate.cli", "chat", "--simulated", "--explain", question]
    done = subprocess.run(command, check=False, env=stack.client_environment)  # noqa: S603 -- own interpreter and arguments, no shell
    if done.returncode:
        console.print(f"[red]The first chat failed with exit code {done.returncode}.[/red]")


def _parse_aliases(pairs: tuple[str, ...]) -> dict[str, str]:
    parsed: dict[str, str] = {}
    for pair in pairs:
        name, equals, model_id = pair.partition("=")
        if not (name and equals and model_id):
            raise click.BadParameter(f"{pair}: NAME=MODEL_ID expected", param_hint="--alias")
        parsed[name] = model_id
    return parsed


def stop_on_signals() -> threading.Event:
    """Return an event that is set when somebody asks this process to end."""
    stop = threading.Event()

    def stopped(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stopped)
    return stop


if __name__ == "__main__":
    main()
