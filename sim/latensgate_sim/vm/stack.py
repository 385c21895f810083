"""The developer's stack with its enclaves in virtual machines.

Client, parent and simulated AWS are processes of this machine, as in `make run`; an enclave is the
real image under the real init, and whatever goes in or out of it goes over AF_VSOCK.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from latensgate_sim.dev_stack import DevStack, StackOptions
from latensgate_sim.gateway import start_gateway
from latensgate_sim.launcher import EnclaveProcess
from latensgate_sim.vm.image import build_image
from latensgate_sim.vm.machine import MEMORY_BYTES, Kind, Machine, Plan, write_parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from latensgate_sim.vm.image import BuiltImage
    from latensgate_sim.vm.qemu import QEMU
    from latensgate_sim.world import World

LINK_PORT: Final = 5005
"""Where the enclave listens; its init says so."""
EGRESS_PORT: Final = 8443
"""Where it expects the parent's tunnel."""
BOOT_TIMEOUT_S: Final = 300.0
"""Boot to listening takes some 20 s of processor time under emulation, on a machine that may be
busy with other things."""
READY_TIMEOUT_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class VirtualEnclave(EnclaveProcess):
    """An enclave whose process is QEMU's.

    Attributes:
        machine: The machine it runs in.
    """

    machine: Machine

    def wait_listening(self, timeout_s: float) -> None:
        """Wait until the enclave listens in its machine.

        Raises:
            MachineError: It ended, or does not listen in time.
        """
        self.machine.wait_serving(self.listen, timeout_s)

    def stop(self) -> int:
        """End the machine at once, as a parent that terminates an enclave."""
        self.machine.stop()
        return self.process.wait()


def start_enclave(  # noqa: PLR0913 -- what an enclave is made of, and its sockets
    qemu: QEMU,
    world: World,
    built: BuiltImage,
    name: str,
    egress: Path,
    *,
    inward: Mapping[Path, int] | None = None,
    outward: Mapping[int, Path] | None = None,
) -> VirtualEnclave:
    """Give an enclave its module with the image's measurements, and boot it.

    Args:
        qemu: Which QEMU.
        world: Its AWS.
        built: Its image.
        name: Unique in its world.
        egress: UNIX socket of its way out.
        inward: More UNIX sockets that lead to ports of the guest.
        outward: More ports of the guest that lead to UNIX sockets.

    Raises:
        MachineError: QEMU or a device does not come up.
    """
    device = world.add_enclave(name, built.measurements)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=world.folder))  # also of a second boot
    write_parts(built.image, folder)
    listen = world.folder / f"{name}.sock"
    plan = Plan(
        kind=Kind.MICROVM,
        image=built.path,
        folder=folder,
        outward={EGRESS_PORT: egress, **(outward or {})},
        inward={listen: LINK_PORT, **(inward or {})},
        module=device.socket,
        memory_bytes=built.image.default_memory_bytes or MEMORY_BYTES,
    )
    machine = Machine(qemu, plan).start()
    return VirtualEnclave(name, device, listen, machine.process, machine)


class MachineStack(DevStack):
    """A running stack whose enclaves are virtual machines.

    Args:
        qemu: Which QEMU.
        options: As of the developer's stack.
        console: Shown what goes on.

    Attributes:
        built: The image of all its enclaves.
    """

    built: BuiltImage

    def __init__(self, qemu: QEMU, options: StackOptions, console: Console) -> None:
        super().__init__(replace(options, enclaves=max(1, options.enclaves)), console)
        self._qemu = qemu

    def _config(self) -> Path:
        config = super()._config()
        with self._console.status("Building the image (the first time with its kernel) ..."):
            self.built = build_image(config, self.world.folder / "image.eif")
        return config

    def _launch(self, name: str, config: Path) -> EnclaveProcess:
        _ = config  # it is in the image
        egress = self.plan.egress if self.options.parent else self.world.tunnel.path
        return start_enclave(self._qemu, self.world, self.built, name, egress)

    def _start_enclaves(self, config: Path) -> None:
        self._life.callback(self._stop_enclaves)
        for name in (f"enclave-{number}" for number in range(self.options.enclaves)):
            self.enclaves.append(self._launch(name, config))
        for enclave in self.enclaves:
            enclave.wait_listening(BOOT_TIMEOUT_S)

    def start_parent(self) -> None:
        """Start the parent and wait until all is healthy, which takes its time under emulation.

        Raises:
            GatewayNotStartedError: It is not.
        """
        self.gateway = start_gateway(self.plan, log=self._log("parent"))
        self.gateway.wait_ready(READY_TIMEOUT_S)
