"""What is inside a running enclave, seen by a probe that only the tests' image has."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from latensgate_sim.vm.image import BuiltImage
from latensgate_sim.vm.qemu import QEMU
from latensgate_sim.vm.stack import start_enclave
from latensgate_sim.world import World
from loaded_modules import committed, sections
from paths import REPOSITORY
from qemu_machines import (
    ECHO_PORT,
    MODULES_PORT,
    PROBE_PORT,
    Probe,
    opened,
    read_all,
    with_probe,
)
from soak_driver import MIX, Driver, Tally
from stack import Stack

REQUESTS = 1_000
BULK = 64 * 1024**2
DIALLED = 7_000
NOBODY = 7_001
TMPFS = "/tmp"  # noqa: S108 -- the declared one
MEMORY_MAX_KB = 200 * 1024
GROWTH_MAX_KB = 32 * 1024
"""Request ids of ten minutes, caches that fill once; make soak looks closer."""


@dataclass
class Inside:
    """A running enclave with a probe, after its gate was opened."""

    stack: Stack
    probe: Probe
    host: socket.socket
    built: BuiltImage
    console: Path
    tally: Tally = field(default_factory=Tally)


@pytest.fixture(scope="module")
def inside(
    qemu: QEMU,
    world: World,
    built: BuiltImage,
    config: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Inside]:
    probed = with_probe(built, tmp_path_factory.mktemp("probed") / "probed.eif")
    places = {name: world.folder / f"{name}.sock" for name in ("probe", "echo", "modules", "host")}
    host = socket.socket(socket.AF_UNIX)
    host.bind(str(places["host"]))
    host.listen(8)
    host.settimeout(300)
    enclave = start_enclave(
        qemu,
        world,
        probed,
        "probed",
        world.tunnel.path,
        inward={
            places["probe"]: PROBE_PORT,
            places["echo"]: ECHO_PORT,
            places["modules"]: MODULES_PORT,
        },
        outward={DIALLED: places["host"], NOBODY: world.folder / "nobody"},
    )
    try:
        stack = opened(world, enclave, config)
        probe = Probe(places["probe"], places["echo"], places["modules"])
        yield Inside(stack, probe, host, probed, enclave.machine.plan.console)
    finally:
        enclave.stop()
        host.close()
        world.remove_enclave("probed")


@pytest.fixture(scope="module")
def facts(inside: Inside) -> dict[str, Any]:
    return inside.probe.ask("facts")


def enclave_process(facts: dict[str, Any]) -> dict[str, Any]:
    (found,) = (one for one in facts["processes"] if "latensgate_enclave" in one["arguments"])
    process: dict[str, Any] = found
    return process


# --- the image with the probe is another image ---


def test_the_probe_is_measured(inside: Inside, built: BuiltImage) -> None:
    shipped, probed = built.measurements.hex(), inside.built.measurements.hex()
    assert all(shipped[name] != probed[name] for name in ("PCR0", "PCR1", "PCR2"))


# --- what is inside ---


def test_processes_are_the_committed_ones(facts: dict[str, Any]) -> None:
    lines = (REPOSITORY / "eif/processes.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    found = [
        " ".join([one["Uid"].split()[0], *one["arguments"]])
        for one in sorted(facts["processes"], key=lambda one: one["pid"])
        if "/probe" not in one["arguments"]
    ]
    assert found == wanted


def test_the_enclave_has_no_privileges(facts: dict[str, Any]) -> None:
    process = enclave_process(facts)
    assert set(process["Uid"].split()) == {"1000"}
    assert int(process["CapEff"], 16) == 0
    assert process["NoNewPrivs"] == "1"


def test_nothing_listens_on_a_network(facts: dict[str, Any]) -> None:
    for table in ("tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6", "packet", "unix"):
        said = str(facts["net"][table])
        rows = [] if said.startswith("errno") else [row.split() for row in said.splitlines()[1:]]
        if table == "unix":  # asyncio wakes its loop with a pair that has no name
            rows = [row for row in rows if len(row) > 7 or row[3] != "00000000"]
        assert rows == [], table
    assert facts["interfaces"] == ["lo"]


def test_there_is_no_shell_and_one_interpreter(facts: dict[str, Any]) -> None:
    programs = [path for path in facts["executables"] if ".so" not in path.rpartition("/")[2]]
    assert programs == ["/init", "/usr/bin/python3.11"]


def test_nothing_can_be_written_outside_of_the_declared_tmpfs(facts: dict[str, Any]) -> None:
    assert set(facts["writable_by_user"]) == {TMPFS}
    # devtmpfs belongs to root, and no process of root is left but init
    assert set(facts["writable_by_root"]) <= {TMPFS, "/dev"}


def test_file_systems_are_the_declared_ones(facts: dict[str, Any]) -> None:
    mounts = [line.split() for line in facts["mounts"].splitlines()]
    found = {place: (kind, set(options.split(","))) for _, place, kind, options, *_ in mounts}
    assert set(found) == {"/", "/dev", "/proc", "/sys", TMPFS}
    assert "ro" in found["/"][1]
    assert {"nosuid", "nodev", "noexec"} <= found[TMPFS][1]
    assert found[TMPFS][0] == "tmpfs"


def test_the_kernel_has_no_modules(facts: dict[str, Any]) -> None:
    assert facts["kernel_modules"].startswith("errno")


def test_clock_and_entropy(facts: dict[str, Any]) -> None:
    assert (facts["clock"], facts["entropy"]) == ("tsc", "nsm-hwrng")


# --- work ---


def resident_kb(probe: Probe) -> int:
    return int(enclave_process(probe.ask("facts"))["VmRSS"].split()[0])


def drive(inside: Inside, count: int) -> int:
    """Put load on it; returns how many calls have ended."""

    def nothing(_: Tally) -> None:
        pass

    before = inside.tally.count
    path = inside.stack.process.listen
    asyncio.run(Driver(path, count, lanes=4, on_call=nothing, tally=inside.tally).run())
    return inside.tally.count - before


@pytest.fixture(scope="module")
def worked(inside: Inside) -> tuple[int, int]:
    """Put every kind of call to it; returns its memory after 200 calls and after all, KB."""
    drive(inside, 200)
    early = resident_kb(inside.probe)
    drive(inside, REQUESTS - 200)
    assert set(inside.tally.calls) == set(MIX)
    return early, resident_kb(inside.probe)


def test_memory_after_a_thousand_requests(worked: tuple[int, int]) -> None:
    early, late = worked
    assert late < MEMORY_MAX_KB
    assert late - early < GROWTH_MAX_KB


@pytest.mark.usefixtures("worked")
def test_loaded_modules_are_the_committed_ones(inside: Inside) -> None:
    found = sections(inside.probe.modules())
    expected = committed()
    # The list is of a process that a test wraps; here Python itself runs the package.
    as_module = {"latensgate_enclave.__main__"}
    assert set(found["own"]) == set(expected["own"]) - as_module
    assert found["third party"] == expected["third party"]
    standard = next(names for title, names in expected.items() if title.startswith("standard"))
    (seen,) = (names for title, names in found.items() if title.startswith("standard"))
    assert set(seen) - {"runpy"} == set(standard)


# --- AF_VSOCK of the guest's kernel over our device ---


def test_64_mib_there_and_back(inside: Inside) -> None:
    block = hashlib.sha512(b"bulk").digest() * 1_024
    seen = hashlib.sha256()
    with inside.probe.connect(inside.probe.echo) as peer:

        def write() -> None:
            for _ in range(BULK // len(block)):
                peer.sendall(block)
            peer.shutdown(socket.SHUT_WR)

        writer = threading.Thread(target=write)
        writer.start()
        count = 0
        while piece := peer.recv(1 << 16):
            seen.update(piece)
            count += len(piece)
        writer.join()
    assert count == BULK
    assert seen.digest() == hashlib.sha256(block * (BULK // len(block))).digest()


def test_half_close_by_the_host(inside: Inside) -> None:
    with inside.probe.start("digest") as peer:
        peer.sendall(b"all I have")
        peer.shutdown(socket.SHUT_WR)
        assert hashlib.sha256(b"all I have").hexdigest() in read_all(peer).decode()


def test_half_close_by_the_guest(inside: Inside) -> None:
    with inside.probe.start("dial", port=DIALLED, text="all I have") as asked:
        peer, _ = inside.host.accept()
        with peer:
            assert read_all(peer) == b"all I have"
            peer.sendall(b"and more")
        assert b"and more" in read_all(asked)


def test_where_nobody_listens(inside: Inside) -> None:
    refused = inside.probe.ask("dial", port=NOBODY)
    assert refused == {"errno": 104}  # ECONNRESET: what Linux makes of the refusal
    assert inside.probe.ask("dial", port=7_002) == {"errno": 104}


def test_a_slow_reader_in_the_guest(inside: Inside) -> None:
    data = bytes(range(256)) * 16_384
    with inside.probe.start("digest", block=65_536, pause_s=0.01) as peer:
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        assert hashlib.sha256(data).hexdigest() in read_all(peer).decode()


def test_a_slow_reader_on_the_host(inside: Inside) -> None:
    count = 4 * 1024**2
    with inside.probe.start("send", bytes=count) as peer:
        received = 0
        while received < count:
            received += len(peer.recv(min(1 << 16, count - received)))
            time.sleep(0.002)
        assert b"seconds" in read_all(peer)


def test_the_guest_cuts(inside: Inside) -> None:
    with inside.probe.start("cut") as peer:
        assert peer.recv(1) == b""


def test_the_host_cuts_while_the_guest_sends(inside: Inside) -> None:
    before = inside.console.read_text(errors="replace").count("probe: told")
    with inside.probe.start("flood") as peer:
        assert peer.recv(1 << 16)
    deadline = time.monotonic() + 60
    while inside.console.read_text(errors="replace").count("probe: told") == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_after_all_this_the_enclave_serves(inside: Inside) -> None:
    assert drive(inside, 5) == 5
