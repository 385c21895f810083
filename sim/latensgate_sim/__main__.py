"""``python -m latensgate_sim``: everything but the parent, on this machine, until Ctrl-C."""

from __future__ import annotations

import json
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from latensgate_sim import local_model
from latensgate_sim.deployment import (
    ALIASES,
    create_release_key,
    deployment_toml,
    launch_enclave,
    write_config,
)
from latensgate_sim.launcher import LISTEN_TIMEOUT_S, EnclaveNotStartedError
from latensgate_sim.world import World, WorldConfig

if TYPE_CHECKING:
    from types import FrameType

    from latensgate_sim.launcher import EnclaveProcess
    from latensgate_sim.models import Model


@click.command()
@click.option(
    "--model",
    type=click.Choice(["auto", "local", "scripted"]),
    default="auto",
    help="What answers; auto is local where it is installed.",
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
    "--nitro-root",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that keeps the attestation root over restarts.",
)
def main(model: str, count: int, regions: tuple[str, ...], nitro_root: Path | None) -> None:
    """Start NSM, KMS, STS, Bedrock and enclaves on this machine until Ctrl-C."""
    console = Console()
    stop = _stop_on_signals()
    engine = load_model(model, console)
    config = WorldConfig(
        regions=regions,
        default_engine="scripted" if engine is None else "local",
        local=engine,
        nitro_root_path=nitro_root,
    )
    with World(config) as world, ExitStack() as processes:
        folder = write_config(world.folder / "measured", world, deployment_toml(regions))
        enclaves: list[EnclaveProcess] = []
        with console.status("Starting the enclaves ..."):
            for number in range(count):
                enclave = launch_enclave(world, folder, f"enclave-{number}")
                processes.callback(enclave.stop)
                enclaves.append(enclave)
            wait_for(enclaves)
        key_arn = create_release_key(world, enclaves[0].device.measurements, folder)
        write_credentials(world)
        show(world, enclaves, key_arn, console)
        stop.wait()
        console.print("Stopping ...")
    console.print("Stopped; nothing is left running.")


def wait_for(enclaves: list[EnclaveProcess]) -> None:
    """Wait until every enclave listens.

    Raises:
        ClickException: One did not start; its own line on standard error says why.
    """
    for enclave in enclaves:
        try:
            enclave.wait_listening(LISTEN_TIMEOUT_S)
        except EnclaveNotStartedError as error:
            raise click.ClickException(str(error)) from error


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()

    def stopped(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stopped)
    return stop


def load_model(model: str, console: Console) -> Model | None:
    """Load the local model if asked for or there, showing that it takes a moment."""
    if model == "scripted" or (model == "auto" and not local_model.installed()):
        return None
    try:
        with console.status("Loading SmolLM2-135M (about a second) ..."):
            return local_model.load()
    except local_model.ModelNotInstalledError as error:
        raise click.ClickException(str(error)) from error


def write_credentials(world: World) -> Path:
    """Write the service role's simulated credentials for a parent (mode 0600)."""
    path = world.folder / "service-credentials.json"
    path.touch(mode=0o600)
    held = world.service
    members = {
        "AccessKeyId": held.access_key_id,
        "SecretAccessKey": held.secret_access_key,
        "Token": held.session_token,
    }
    path.write_text(json.dumps(members), encoding="ascii")
    return path


def show(world: World, enclaves: list[EnclaveProcess], key_arn: str, console: Console) -> None:
    """Print what runs and where."""
    table = Table(title="Simulated AWS (not Amazon's: trust its roots on purpose only)")
    table.add_column("what")
    table.add_column("where", overflow="fold")
    for enclave in enclaves:
        table.add_row(f"{enclave.name} (process {enclave.process.pid})", str(enclave.listen))
    for name, value in enclaves[0].device.measurements.hex().items():
        table.add_row(name, value)
    for host, port in world.ports.items():
        table.add_row(host, f"https://127.0.0.1:{port}")
    table.add_row("egress tunnel", str(world.tunnel.path))
    table.add_row("KMS key of this release", key_arn)
    table.add_row("credentials for the parent", str(world.folder / "service-credentials.json"))
    table.add_row("TLS authority", str(world.ca_path))
    table.add_row("attestation root", str(world.folder / "nitro-root.pem"))
    table.add_row("attestation root SHA-256", world.nitro_root_sha256)
    table.add_row("models", ", ".join(ALIASES))
    table.add_row("answers", world.config.default_engine)
    console.print(table)
    console.print("The enclaves wait for a parent: credentials, the KMS key, then requests.")
    console.print("Ctrl-C stops it.")


if __name__ == "__main__":
    main()
