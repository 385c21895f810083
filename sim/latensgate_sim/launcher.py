"""Starts an enclave as a process beside a world: measures its files, gives it its device.

The order is what makes the measurements worth something: measure, make the device with exactly
these PCRs, then start the process from the same files. The process is given paths of sockets and
nothing that says what it is.
"""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from latensgate_sim.measure import EnclaveFiles, measure_enclave_files

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from latensgate_sim.world import SimulatedEnclave, World

MODULE: Final = "latensgate_enclave"
STOP_TIMEOUT_S: Final = 10.0
LISTEN_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.02


class EnclaveNotStartedError(Exception):
    """The enclave process did not come up; it says why on its standard error."""


@dataclass(frozen=True, slots=True)
class EnclaveLaunch:
    """What an enclave process is started with.

    Attributes:
        name: For the log.
        files: What is measured: code, ``policy.toml``, ``trust.toml``, ``deployment.toml``.
        arguments: Command line after the sockets; it must name the measured files only.
        debug: Zero PCRs, as in ``--debug-mode``.
        log: File that gets its event lines; None: the terminal.
        egress: UNIX socket of the way out; None is the world's own tunnel.
        program: What Python runs; tests start a stand-in.
    """

    name: str
    files: EnclaveFiles
    arguments: Sequence[str] = ()
    debug: bool = False
    egress: Path | None = None
    log: Path | None = None
    program: Sequence[str] = ("-m", MODULE)


@dataclass(frozen=True, slots=True)
class EnclaveProcess:
    """A started enclave.

    Attributes:
        device: Its NSM.
        listen: The UNIX socket it listens on for the parent.
        process: The process.
    """

    name: str
    device: SimulatedEnclave
    listen: Path
    process: subprocess.Popen[bytes]

    def wait_listening(self, timeout_s: float) -> None:
        """Wait until the process accepts connections.

        Raises:
            EnclaveNotStartedError: It ended, or did not listen in time.
        """
        deadline_s = time.monotonic() + timeout_s
        while not _accepts(self.listen):
            status = self.process.poll()
            if status is not None:
                raise EnclaveNotStartedError(f"{self.name} ended with status {status}")
            if time.monotonic() > deadline_s:
                raise EnclaveNotStartedError(f"{self.name} does not listen after {timeout_s} s")
            time.sleep(_POLL_S)

    def stop(self) -> int:
        """Ask it to drain, wait, and kill it if it does not; returns its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def code_folders() -> list[Path]:
    """Return the code of the image: shared, and the enclave where it is installed."""
    folders: list[Path] = []
    for name in ("latensgate_shared", MODULE):
        spec = importlib.util.find_spec(name)
        locations = spec.submodule_search_locations if spec is not None else None
        folders += [Path(location) for location in locations or []][:1]
    return folders


def start_process(world: World, launch: EnclaveLaunch) -> EnclaveProcess:
    """Measure the files, make the device, start the process.

    The command line is ``--nsm PATH --egress unix:PATH --listen unix:PATH`` and the launch's
    arguments. The environment is empty.

    Raises:
        OSError: A file to measure is missing, or the process does not start.
    """
    measurements = measure_enclave_files(launch.files)
    device = world.add_enclave(launch.name, measurements, debug=launch.debug)
    listen = world.folder / f"{launch.name}.sock"
    command = [
        sys.executable,
        "-I",  # neither the environment nor the working folder choose what is imported
        "-B",
        *launch.program,
        "--nsm",
        str(device.socket),
        "--egress",
        f"unix:{launch.egress or world.tunnel.path}",
        "--listen",
        f"unix:{listen}",
        *launch.arguments,
    ]
    with opened_log(launch.log) as log:
        process = subprocess.Popen(  # noqa: S603 -- own interpreter and arguments, no shell
            command,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return EnclaveProcess(launch.name, device, listen, process)


@contextmanager
def opened_log(path: Path | None) -> Generator[IO[bytes] | None]:
    """Open a log for a child process, which keeps it; None leaves the child the terminal."""
    if path is None:
        yield None
        return
    with path.open("ab") as log:
        yield log
