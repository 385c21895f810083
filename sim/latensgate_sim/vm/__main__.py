"""``python -m latensgate_sim.vm``: the whole product with its enclave in a virtual machine.

`make run-qemu` is this; with ``--build-only`` it builds QEMU and stops.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack

import click
from rich.console import Console

from latensgate_eif.store import default_store
from latensgate_sim import local_model
from latensgate_sim.__main__ import QUESTION, first_chat, stop_on_signals
from latensgate_sim.dev_stack import StackNotStartedError, StackOptions
from latensgate_sim.show import show_next, show_stack
from latensgate_sim.vm.image import ImageNotBuiltError, repository_folder
from latensgate_sim.vm.qemu import QEMUBuildError, obtain_qemu
from latensgate_sim.vm.stack import MachineStack


@click.command()
@click.option(
    "--model",
    type=click.Choice(["auto", "local", "scripted"]),
    default="auto",
    help="What answers; auto is local where it is installed.",
)
@click.option("--enclaves", "count", type=click.IntRange(1, 2), default=1, show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the gateway.  [default: 8700]")
@click.option("--question", default=QUESTION, show_default=True, help="What the first chat asks.")
@click.option("--no-chat", is_flag=True, help="Skip the first chat.")
@click.option("--verbose", is_flag=True, help="Show the lines that the parent logs.")
@click.option("--build-only", is_flag=True, help="Build QEMU if there is none yet, and stop.")
@click.option("--fresh", is_flag=True, help="Build QEMU from Debian's newest source.")
def main(  # noqa: PLR0913 -- a command's options
    *,
    model: str,
    count: int,
    port: int | None,
    question: str,
    no_chat: bool,
    verbose: bool,
    build_only: bool,
    fresh: bool,
) -> None:
    """Boot the enclave image in QEMU behind the gateway and a simulated AWS, until Ctrl-C.

    This is emulation: it says nothing about Nitro hardware, its isolation or its speed.
    """
    console = Console()
    stop = stop_on_signals()
    options = StackOptions(model=model, enclaves=count, port=port, verbose=verbose)
    try:
        qemu = obtain_qemu(default_store(), repository_folder(), console.print, fresh=fresh)
        console.print(f"QEMU: {qemu.program}")
        if build_only:
            return
        began_s = time.monotonic()
        with ExitStack() as life:
            stack = life.enter_context(MachineStack(qemu, options, console))
            console.print(f"Ready after {time.monotonic() - began_s:.0f} s.")
            show_stack(stack, console)
            if not no_chat:
                first_chat(stack, question, console)
            show_next(stack, console)
            stop.wait()
            console.print("Stopping ...")
    except (
        StackNotStartedError,
        QEMUBuildError,
        ImageNotBuiltError,
        local_model.ModelNotInstalledError,
    ) as error:
        raise click.ClickException(str(error)) from error
    console.print("Stopped; nothing is left running.")


if __name__ == "__main__":
    sys.exit(main())
