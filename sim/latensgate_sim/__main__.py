"""``python -m latensgate_sim``: start the simulated AWS, show where it is, stop it on Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from latensgate_sim import local_model
from latensgate_sim.launcher import code_folders
from latensgate_sim.measure import EnclaveFiles, measure_enclave_files
from latensgate_sim.world import World, WorldConfig

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

    from latensgate_sim.models import Model


@click.command()
@click.option(
    "--model",
    type=click.Choice(["auto", "local", "scripted"]),
    default="auto",
    help="What answers; auto is local where it is installed.",
)
@click.option("--region", "regions", multiple=True, default=("us-east-1",), show_default=True)
@click.option(
    "--nitro-root",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that keeps the attestation root over restarts.",
)
def main(model: str, regions: tuple[str, ...], nitro_root: Path | None) -> None:
    """Start NSM, KMS, STS and Bedrock on this machine until Ctrl-C."""
    console = Console()
    engine = load_model(model, console)
    config = WorldConfig(
        regions=regions,
        default_engine="scripted" if engine is None else "local",
        local=engine,
        nitro_root_path=nitro_root,
    )
    with stop_signal() as stop, World(config) as world:
        files = EnclaveFiles(runtime=code_folders(), application=())
        world.add_enclave("enclave", measure_enclave_files(files))
        show(world, console)
        stop.wait()
        console.print("Stopping ...")
    console.print("Stopped; nothing is left running.")


@contextlib.contextmanager
def stop_signal() -> Generator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event, for as long as the context lasts."""
    stop = threading.Event()

    def stopped(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stopped) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def load_model(model: str, console: Console) -> Model | None:
    """Load the local model if asked for or there, showing that it takes a moment."""
    if model == "scripted" or (model == "auto" and not local_model.installed()):
        return None
    try:
        with console.status("Loading SmolLM2-135M (about a second) ..."):
            return local_model.load()
    except local_model.ModelNotInstalledError as error:
        raise click.ClickException(str(error)) from error


def show(world: World, console: Console) -> None:
    """Print what runs and where."""
    table = Table(title="Simulated AWS (not Amazon's: trust its roots on purpose only)")
    table.add_column("what")
    table.add_column("where", overflow="fold")
    for host, port in world.ports.items():
        table.add_row(host, f"https://127.0.0.1:{port}")
    table.add_row("egress tunnel", str(world.tunnel.path))
    table.add_row("NSM of the enclave", str(world.enclave("enclave").socket))
    for name, value in world.enclave("enclave").measurements.hex().items():
        table.add_row(name, value)
    table.add_row("TLS authority", str(world.ca_path))
    table.add_row("attestation root", str(world.folder / "nitro-root.pem"))
    table.add_row("attestation root SHA-256", world.nitro_root_sha256)
    table.add_row("answers", world.config.default_engine)
    console.print(table)
    console.print("Ctrl-C stops it.")


if __name__ == "__main__":
    main()
