"""Starts QEMU with an image: what it is told, the devices it gets, and its end.

Two machines. ``nitro-enclave`` takes the image as it is, measures it by itself and brings its own
security module, whose documents are not signed. ``microvm`` is given the image's kernel, command
line and ramdisks, and our own module, whose documents are signed under the simulator's root; its
measurements are then ours. Both get our socket device.
Source: QEMU ``docs/system/i386/nitro-enclave.rst``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from latensgate_sim.launcher import EnclaveNotStartedError, opened_log
from latensgate_sim.vhost.nsm import VIRTIO_ID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latensgate_eif.image import Image
    from latensgate_sim.vm.qemu import QEMU

CID: Final = 16
"""The first that nitro-cli gives out."""
HEARTBEAT_PORT: Final = 9_000
HEARTBEAT: Final = b"\xb7"
MEMORY_BYTES: Final = 512 * 1024**2
_DEVICE_TIMEOUT_S: Final = 20.0
_STOP_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.01
_MORTAL: Final = ("setpriv", "--pdeathsig", "TERM")
"""Whoever is killed without a chance to clean up takes the machine along (prctl(2))."""
_MB: Final = 1024**2
_LAST_WORDS: Final = ("reboot=t", "panic=-1")
"""After ``reboot=k`` of the image, which QEMU does not take for an end (it boots a second time)."""


class MachineError(EnclaveNotStartedError):
    """A virtual machine did not come up, or ended; the text has the end of its console."""


class Kind(Enum):
    """Which machine QEMU emulates."""

    NITRO_ENCLAVE = "nitro-enclave"
    MICROVM = "microvm"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a machine is made of.

    Attributes:
        kind: Which machine.
        image: File with the image.
        folder: For sockets and the console; paths below it must fit into a UNIX socket's name.
        outward: Port that the guest connects to, and the UNIX socket behind it.
        inward: UNIX socket that appears here, and the guest's port behind it.
        module: Socket of a simulated security module; for ``microvm`` alone.
        memory_bytes: Of the guest.
        cpus: Of the guest.
        parent_role: ARN that QEMU's own module makes PCR3 of; for ``nitro-enclave`` alone.
        parent_id: Instance id that it makes PCR4 of.
    """

    kind: Kind
    image: Path
    folder: Path
    outward: Mapping[int, Path] = field(default_factory=dict[int, Path])
    inward: Mapping[Path, int] = field(default_factory=dict["Path", int])
    module: Path | None = None
    memory_bytes: int = MEMORY_BYTES
    cpus: int = 1
    parent_role: str | None = None
    parent_id: str | None = None

    @property
    def console(self) -> Path:
        """What the guest and QEMU have said."""
        return self.folder / "console"


def clock_words(cpuinfo: str) -> tuple[str, ...]:
    """Return what a guest's kernel is told about its clock: the host's rate, which TCG hands on.

    Beside other work it would measure the rate wrongly, and its clock would run some percent slow.
    """
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "bogomips":
            return f"tsc_early_khz={round(float(value) * 500)}", "tsc=reliable"
    return ()


def qemu_command(qemu: QEMU, plan: Plan, words: Sequence[str]) -> list[str]:
    """Return QEMU's command line.

    Args:
        qemu: Which QEMU.
        plan: What is booted; for ``microvm`` its parts lie beside it (``write_parts``).
        words: For the kernel, behind the image's own and outside of what is measured.
    """
    memory = f"{plan.memory_bytes // _MB}M"
    common = [str(qemu.program), "-L", str(qemu.firmware), "-accel", "tcg", "-cpu", "max"]
    common += ["-m", memory, "-smp", str(plan.cpus), "-nographic", "-nodefaults", "-no-reboot"]
    common += ["-serial", "stdio", "-chardev", f"socket,id=vsock,path={plan.folder}/vsock"]
    append = " ".join([*words, *_LAST_WORDS])
    if plan.kind is Kind.NITRO_ENCLAVE:
        machine = "nitro-enclave,vsock=vsock,id=latensgate"
        machine += f",parent-role={plan.parent_role}" if plan.parent_role else ""
        machine += f",parent-id={plan.parent_id}" if plan.parent_id else ""
        return [*common, "-M", machine, "-kernel", str(plan.image), "-append", append]
    line = (plan.folder / "command-line").read_text(encoding="ascii")
    return [
        *common,
        *("-M", "microvm,memory-backend=memory,acpi=off"),
        *("-object", f"memory-backend-memfd,id=memory,size={memory},share=on"),
        *("-kernel", str(plan.folder / "kernel"), "-initrd", str(plan.folder / "ramdisk")),
        *("-append", f"{line} {append}"),
        *("-device", "vhost-user-vsock-device,chardev=vsock"),
        *("-chardev", f"socket,id=nsm,path={plan.folder}/nsm"),
        "-device",
        f"vhost-user-device,virtio-id={VIRTIO_ID},num_vqs=1,config_size=0,chardev=nsm",
    ]


def write_parts(image: Image, folder: Path) -> None:
    """Write an image's kernel, command line and joined ramdisks, as ``microvm`` takes them."""
    (folder / "kernel").write_bytes(image.kernel)
    (folder / "command-line").write_bytes(image.command_line)
    (folder / "ramdisk").write_bytes(b"".join(image.ramdisks))


class Heartbeat:
    """What nitro-cli does for an enclave that starts: it gives the byte of its init back.

    Attributes:
        path: UNIX socket; the guest's port 9000 leads there.
        beats: When they came, on the monotonic clock, and what came.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.beats: list[tuple[float, bytes]] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(4)
        self._thread = threading.Thread(target=self._serve, name="heartbeat", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            with peer:
                beat = peer.recv(1)
                self.beats.append((time.monotonic(), beat))
                peer.sendall(beat)

    def close(self) -> None:
        """Stop; safe to call again."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        self.path.unlink(missing_ok=True)


class Machine:
    """A virtual machine, from start to stop; a context manager that leaves no process behind.

    Args:
        qemu: Which QEMU.
        plan: What is booted.
        words: For the kernel, besides those that set its clock.

    Attributes:
        plan: As given.
        process: QEMU.
        heartbeat: Tells when init has got so far.
        started: When QEMU was started, on the monotonic clock.
    """

    def __init__(self, qemu: QEMU, plan: Plan, words: Sequence[str] = ()) -> None:
        self.plan = plan
        self._qemu = qemu
        self._words = (*clock_words(Path("/proc/cpuinfo").read_text(encoding="ascii")), *words)
        self._life = ExitStack()

    def __enter__(self) -> Self:
        with self._life:
            self._start()
            self._life = self._life.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Start it for longer than a block; ``stop`` ends it."""
        return self.__enter__()

    def _start(self) -> None:
        folder = self.plan.folder
        folder.mkdir(parents=True, exist_ok=True)
        self.heartbeat = Heartbeat(folder / "heartbeat")
        self._life.callback(self.heartbeat.close)
        self._start_device("vsock", self._vsock_options())
        if self.plan.kind is Kind.MICROVM:
            self._start_device("nsm", ["--module", str(self.plan.module)])
        self.started = time.monotonic()
        command = qemu_command(self._qemu, self.plan, self._words)
        self.process = self._spawn(command, self.plan.console)

    def _vsock_options(self) -> list[str]:
        outward = {HEARTBEAT_PORT: self.heartbeat.path, **self.plan.outward}
        options = ["--cid", str(CID)]
        for port, path in outward.items():
            options += ["--outward", f"{port}={path}"]
        for path, port in self.plan.inward.items():
            options += ["--inward", f"{path}={port}"]
        return options

    def _start_device(self, name: str, options: Sequence[str]) -> None:
        path = self.plan.folder / name
        command = [sys.executable, "-m", "latensgate_sim.vhost", name, "--socket", str(path)]
        log = self.plan.folder / f"{name}.log"
        device = self._spawn([*command, *options], log)
        deadline_s = time.monotonic() + _DEVICE_TIMEOUT_S
        while not path.exists():
            if device.poll() is not None or time.monotonic() > deadline_s:
                raise MachineError(f"device {name} is not there: {log.read_text()}")
            time.sleep(_POLL_S)

    def _spawn(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        with opened_log(log) as sink:
            process = subprocess.Popen(  # noqa: S603 -- own arguments, no shell
                [*_MORTAL, *command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        self._life.callback(end_process, process)
        return process

    def console(self) -> str:
        """Return what the guest and QEMU have said so far."""
        return self.plan.console.read_text(encoding="utf-8", errors="replace")

    def require_running(self) -> None:
        """See that the machine has not ended.

        Raises:
            MachineError: It has.
        """
        status = self.process.poll()
        if status is not None:
            raise MachineError(f"QEMU ended with {status}:\n{self.console()[-2_000:]}")

    def wait_serving(self, path: Path, timeout_s: float) -> None:
        """Wait until the guest listens behind one of the plan's inward sockets.

        Raises:
            MachineError: It ended, or does not listen in time.
        """
        deadline_s = time.monotonic() + timeout_s
        # Before its heartbeat the guest is too busy for a silence to say anything.
        while not self.heartbeat.beats or not answers(path):
            time.sleep(_POLL_S)
            self.require_running()
            if time.monotonic() > deadline_s:
                raise MachineError(
                    f"nobody listens in the guest after {timeout_s} s:\n{self.console()[-2_000:]}"
                )

    def stop(self) -> None:
        """End it at once, as a parent that terminates an enclave; safe to call again."""
        self._life.close()


def answers(path: Path, patience_s: float = 1.0) -> bool:
    """Say whether somebody in the guest has taken a connection.

    The device takes every connection, and cuts it when the guest does not.
    """
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(patience_s)
        try:
            peer.connect(str(path))
            return peer.recv(1) != b""
        except TimeoutError:
            return True
        except OSError:
            return False


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a process of its own session: politely, then not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
