"""One device as a process, which ends with its machine.

``python -m latensgate_sim.vhost vsock`` or ``nsm``, with the options below.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latensgate_sim.vhost.backend import Backend
from latensgate_sim.vhost.errors import VhostError
from latensgate_sim.vhost.nsm import NSMDevice, over_socket
from latensgate_sim.vhost.reactor import Reactor
from latensgate_sim.vhost.virtqueue import check_machine
from latensgate_sim.vhost.vsock import VsockDevice
from latensgate_sim.vhost.vsock_ports import Ports, parse_port

if TYPE_CHECKING:
    from latensgate_sim.vhost.backend import Device

_PATH = click.Path(path_type=Path)
_LAST_CID = 0xFFFF_FFFE


@click.group()
def cli() -> None:
    """Virtual devices of a machine that QEMU runs."""


@cli.command()
@click.option("--socket", "path", type=_PATH, required=True, help="Where QEMU connects.")
@click.option("--cid", type=click.IntRange(4, _LAST_CID), required=True, help="Of the guest.")
@click.option("--outward", multiple=True, metavar="PORT=PATH", help="Guest to UNIX socket.")
@click.option("--inward", multiple=True, metavar="PATH=PORT", help="UNIX socket to guest.")
def vsock(*, path: Path, cid: int, outward: tuple[str, ...], inward: tuple[str, ...]) -> None:
    """Connect ports of a guest with UNIX sockets of this machine."""
    reactor = Reactor()
    out = (pair.partition("=") for pair in outward)
    into = (pair.rpartition("=") for pair in inward)
    ports = Ports(
        {parse_port(port): Path(to) for port, _, to in out},
        {Path(at): parse_port(port) for at, _, port in into},
    )
    device = VsockDevice(reactor, cid, ports)
    try:
        _serve(device, reactor, path)
    finally:
        device.close()


@cli.command()
@click.option("--socket", "path", type=_PATH, required=True, help="Where QEMU connects.")
@click.option("--module", type=_PATH, required=True, help="Socket of a simulated module.")
def nsm(*, path: Path, module: Path) -> None:
    """Hand a guest's requests to a simulated security module."""
    _serve(NSMDevice(over_socket(module)), Reactor(), path)


def _serve(device: Device, reactor: Reactor, path: Path) -> None:
    check_machine()
    broken: list[VhostError] = []

    def ended(reason: VhostError | None) -> None:
        broken.extend([] if reason is None else [reason])
        reactor.stop()

    Backend(device, reactor, ended).listen(path)
    reactor.run()
    if broken:
        raise broken[0]


def main() -> int:
    """Run a device; 1 if the machine broke the protocol."""
    try:
        cli(standalone_mode=False)
    except VhostError as error:
        click.echo(f"device: {error}", err=True)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
