"""`make bench-qemu`: figures of the emulated machine, into a section of docs/benchmarks.md."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from latensgate_eif.store import default_store
from latensgate_shared import calls
from latensgate_sim.vm.image import BuiltImage
from latensgate_sim.vm.qemu import QEMU, obtain_qemu
from latensgate_sim.vm.stack import VirtualEnclave, start_enclave
from latensgate_sim.world import World
from paths import REPOSITORY
from qemu_machines import (
    ECHO_PORT,
    MODULES_PORT,
    PROBE_PORT,
    Probe,
    opened,
    patient,
    simulated_image,
    with_probe,
)
from soak_driver import Driver, Tally
from stack import running_stack

PAGE: Final = REPOSITORY / "docs/benchmarks.md"
BEGIN, END = "<!-- begin: written by make bench-qemu -->", "<!-- end of make bench-qemu -->"
TEXT: Final = """\
## image in QEMU

This is emulation (TCG: no KVM, one virtual processor, 512 MB) and says nothing about Nitro
hardware: neither how fast an enclave boots there nor what vsock costs there. Ratios within one run
are what counts.

"""
BOOTS: Final = 3
BOOT_TIMEOUT_S: Final = 600.0
MIB: Final = 1024**2
BULK_BYTES: Final = 16 * MIB
ROUNDS: Final = {16: 200, 4_096: 100, 65_536: 40}
"""Bytes of an echo and how often."""
HEALTH_ROUNDS: Final = 200
CALLS: Final = 1_000


@dataclass
class Bench:
    """One run."""

    qemu: QEMU
    world: World
    folder: Path
    rows: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])

    def add(self, label: str, value: float | str, meaning: str) -> None:
        shown = value if isinstance(value, str) else f"{value:,.2f}"
        self.rows.append((label, shown, meaning))
        print(f"{label}: {shown} {meaning}", flush=True)  # noqa: T201  # a command

    def run(self) -> None:
        built, config = simulated_image(self.world, self.folder)
        self.sizes(built)
        self.boots(built, config)
        self.inside(with_probe(built, self.folder / "probed.eif"), config)
        self.add("load of the machine", os.getloadavg()[0], "processes, mean of a minute")

    def sizes(self, built: BuiltImage) -> None:
        self.add("image of flavour sim", built.path.stat().st_size / MIB, "MiB")
        kernel, ramdisks = built.image.kernel, built.image.ramdisks
        parts = [len(part) / MIB for part in (kernel, *ramdisks)]
        shown = " + ".join(f"{part:.1f}" for part in parts)
        self.add("kernel and ramdisks", shown, "MiB, not compressed but for the kernel")

    # --- boot ---

    def boots(self, built: BuiltImage, config: Path) -> None:
        times = [self.boot(f"boot-{number}", built, config) for number in range(BOOTS)]
        labels = ("init's heartbeat", "the enclave listens", "first answer, gate opened before")
        for label, values in zip(labels, zip(*times, strict=True), strict=True):
            self.add(f"boot to {label}", statistics.median(values), f"s, median of {BOOTS}")

    def boot(self, name: str, built: BuiltImage, config: Path) -> tuple[float, float, float]:
        enclave = start_enclave(self.qemu, self.world, built, name, self.world.tunnel.path)
        try:
            began_s = enclave.machine.started
            enclave.wait_listening(BOOT_TIMEOUT_S)
            listening_s = time.monotonic() - began_s
            opened(self.world, enclave, config)
            with patient(enclave.listen) as link:
                link.call(calls.AttestationCall())
            answered_s = time.monotonic() - began_s
            beat_s = enclave.machine.heartbeat.beats[0][0] - began_s
            return beat_s, listening_s, answered_s
        finally:
            enclave.stop()
            self.world.remove_enclave(name)

    # --- a running one ---

    def inside(self, probed: BuiltImage, config: Path) -> None:
        names = {"probe": PROBE_PORT, "echo": ECHO_PORT, "modules": MODULES_PORT}
        places = {name: self.world.folder / f"{name}.sock" for name in names}
        inward = {places[name]: port for name, port in names.items()}
        enclave = start_enclave(
            self.qemu, self.world, probed, "probed", self.world.tunnel.path, inward=inward
        )
        try:
            opened(self.world, enclave, config)
            probe = Probe(places["probe"], places["echo"], places["modules"])
            self.memory(enclave, probe, "after the boot")
            self.echoes(probe)
            self.bulk(probe)
            self.health(enclave.listen, config)
            asyncio.run(Driver(enclave.listen, CALLS, lanes=4, on_call=_counted).run())
            self.memory(enclave, probe, f"after {CALLS:,} calls of all kinds")
        finally:
            enclave.stop()
            self.world.remove_enclave("probed")

    def memory(self, enclave: VirtualEnclave, probe: Probe, when: str) -> None:
        facts = probe.ask("facts")
        named = dict(line.split(":") for line in str(facts["meminfo"]).splitlines())
        for name in ("MemTotal", "MemAvailable"):
            kb = int(named[name].split()[0])
            self.add(f"memory of the guest, {name}", kb / 1024, f"MiB, {when}")
        for process in facts["processes"]:
            if "latensgate_enclave" in process["arguments"]:
                kb = int(process["VmRSS"].split()[0])
                self.add("memory of the enclave's process", kb / 1024, f"MiB resident, {when}")
        status = Path(f"/proc/{enclave.process.pid}/status").read_text(encoding="ascii")
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        self.add("memory of QEMU", int(peak.split()[1]) / 1024, f"MiB, peak resident, {when}")

    def echoes(self, probe: Probe) -> None:
        with unix_echo(self.folder / "echo") as beside:
            for size, rounds in ROUNDS.items():
                over_vsock = median_ms(echo(probe.echo, size), rounds)
                over_unix = median_ms(echo(beside, size), rounds)
                self.add(f"echo of {size} B, vsock", over_vsock, "ms, median")
                self.add(f"echo of {size} B, UNIX socket", over_unix, "ms, median")
                self.add(f"echo of {size} B, ratio", over_vsock / over_unix, "vsock / UNIX socket")

    def bulk(self, probe: Probe) -> None:
        with probe.start("send", bytes=BULK_BYTES) as peer:
            began_s, received = time.monotonic(), 0
            while received < BULK_BYTES:
                received += len(peer.recv(min(1 << 18, BULK_BYTES - received)))
            out_s = time.monotonic() - began_s
        with probe.start("digest") as peer:
            began_s = time.monotonic()
            peer.sendall(bytes(BULK_BYTES))
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(1 << 16):
                pass
            in_s = time.monotonic() - began_s
        self.add("out of the guest", BULK_BYTES / MIB / out_s, "MiB/s")
        self.add("into the guest, with SHA-256 there", BULK_BYTES / MIB / in_s, "MiB/s")

    def health(self, listen: Path, config: Path) -> None:
        """Time the same call to an enclave in the machine and to one that is a process here."""
        _ = config
        emulated = health_ms(listen)
        with running_stack(self.folder / "beside", self.world) as stack:
            with stack.link() as link:
                stack.open_gate(link)
            native = health_ms(stack.process.listen)
        self.add("health call, enclave in the machine", emulated, "ms, median")
        self.add("health call, enclave as a process", native, "ms, median, UNIX socket")
        self.add("health call, ratio", emulated / native, "emulated processor and vsock / native")


def median_ms(once: Callable[[], None], rounds: int) -> float:
    times: list[float] = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        once()
        times.append((time.perf_counter() - began_s) * 1000)
    return statistics.median(times)


def echo(path: Path, size: int) -> Callable[[], None]:
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(path))
    data = bytes(size)

    def once() -> None:
        peer.sendall(data)
        left = size
        while left:
            left -= len(peer.recv(left))

    return once


@contextmanager
def unix_echo(path: Path) -> Generator[Path]:
    """Serve the same echo on this machine."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(8)

    def answer(peer: socket.socket) -> None:
        while data := peer.recv(65_536):
            peer.sendall(data)

    def serve() -> None:
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=answer, args=(peer,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield path


def health_ms(listen: Path) -> float:
    with patient(listen) as link:
        return median_ms(lambda: _asked(link.call(calls.HealthCall())), HEALTH_ROUNDS)


def _asked(_: object) -> None:
    pass


def _counted(_: Tally) -> None:
    pass


def write(rows: list[tuple[str, str, str]]) -> None:
    """Put the section into the page, in place of the last one or behind everything."""
    when = dt.datetime.now(dt.UTC).date().isoformat()
    table = "".join(f"| {label} | {value} | {meaning} |\n" for label, value, meaning in rows)
    head = f"{when}.\n\n| benchmark | value | meaning |\n|---|---:|---|\n"
    section = f"{BEGIN}\n\n{TEXT}{head}{table}\n{END}\n"
    page = PAGE.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    after = rest.partition(END)[2].lstrip("\n") if begin else ""
    PAGE.write_text(before.rstrip("\n") + "\n\n" + section + after, encoding="utf-8")


def main() -> None:
    """Measure and write."""
    qemu = obtain_qemu(default_store(), REPOSITORY, print)
    with tempfile.TemporaryDirectory() as name, World() as world:
        bench = Bench(qemu, world, Path(name))
        bench.run()
    write(bench.rows)


if __name__ == "__main__":
    main()
