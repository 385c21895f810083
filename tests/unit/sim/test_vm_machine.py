"""What QEMU is told, and how a machine begins and ends; with a stand-in for QEMU."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from latensgate_eif.image import Architecture, Image, Section, SectionType
from latensgate_eif.measure import measure_image
from latensgate_eif.ramdisk import encode_ramdisk, file_entry
from latensgate_sim.vm import machine as machines
from latensgate_sim.vm.image import write_image
from latensgate_sim.vm.machine import (
    Heartbeat,
    Kind,
    Machine,
    MachineError,
    Plan,
    answers,
    clock_words,
    qemu_command,
    write_parts,
)
from latensgate_sim.vm.qemu import QEMU
from latensgate_sim.vm.stack import VirtualEnclave, start_enclave
from latensgate_sim.world import World

SLEEPS = "#!/bin/sh\necho it boots\nexec sleep 60\n"
FAILS = "#!/bin/sh\necho CRC mismatch\nexit 1\n"
STUBBORN = "#!/bin/sh\ntrap '' TERM\necho ready\nwhile :; do sleep 0.1; done\n"


@pytest.fixture
def image() -> Image:
    ramdisks = [encode_ramdisk({name: file_entry(b"x")}) for name in ("one", "two")]
    return Image(
        Architecture.X86_64,
        512,
        1,
        (
            Section(SectionType.KERNEL, b"kernel"),
            Section(SectionType.COMMAND_LINE, b"reboot=k panic=1"),
            *(Section(SectionType.RAMDISK, data) for data in ramdisks),
        ),
    )


def program(folder: Path, text: str) -> QEMU:
    path = folder / "qemu"
    path.write_text(text)
    path.chmod(0o755)
    return QEMU(path, folder)


def test_the_nitro_machine_gets_the_image_as_it_is(tmp_path: Path) -> None:
    plan = Plan(
        Kind.NITRO_ENCLAVE,
        tmp_path / "a.eif",
        tmp_path,
        parent_role="arn:x",
        parent_id="i-1",
        cpus=2,
    )
    command = qemu_command(QEMU(Path("/q"), Path("/f")), plan, ["tsc=reliable"])
    assert command[:3] == ["/q", "-L", "/f"]
    assert command[command.index("-accel") + 1] == "tcg"
    assert command[command.index("-smp") + 1] == "2"
    told = command[command.index("-M") + 1]
    assert told == "nitro-enclave,vsock=vsock,id=latensgate,parent-role=arn:x,parent-id=i-1"
    assert command[command.index("-kernel") + 1] == str(tmp_path / "a.eif")
    assert command[command.index("-append") + 1] == "tsc=reliable reboot=t panic=-1"
    assert "-initrd" not in command
    assert "id=nsm" not in " ".join(command)


def test_the_other_machine_gets_its_parts_and_our_module(tmp_path: Path, image: Image) -> None:
    write_parts(image, tmp_path)
    plan = Plan(Kind.MICROVM, tmp_path / "a.eif", tmp_path, module=tmp_path / "m")
    command = qemu_command(QEMU(Path("/q"), Path("/f")), plan, [])
    assert command[command.index("-append") + 1] == "reboot=k panic=1 reboot=t panic=-1"
    assert (tmp_path / "kernel").read_bytes() == b"kernel"
    assert (tmp_path / "ramdisk").read_bytes() == b"".join(image.ramdisks)
    assert any(word.startswith("vhost-user-device,virtio-id=33,") for word in command)
    assert "memory-backend-memfd,id=memory,size=512M,share=on" in command


def test_the_clock_is_told() -> None:
    words = clock_words("model name\t: x\nbogomips\t: 4200.00\n")
    assert words == ("tsc_early_khz=2100000", "tsc=reliable")
    assert clock_words("") == ()


def test_heartbeat(tmp_path: Path) -> None:
    beating = Heartbeat(tmp_path / "heartbeat")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(beating.path))
        peer.sendall(b"\xb7")
        assert peer.recv(1) == b"\xb7"
    assert [beat for _, beat in beating.beats] == [b"\xb7"]
    beating.close()
    beating.close()
    assert not beating.path.exists()


def test_who_answers(tmp_path: Path) -> None:
    path = tmp_path / "inward"
    assert not answers(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(4)

    def cut() -> None:
        peer, _ = listener.accept()
        peer.close()

    thread = threading.Thread(target=cut)
    thread.start()
    assert not answers(path)  # taken by the device, and cut: the guest has refused
    thread.join()
    assert answers(path, 0.05)  # and left open
    listener.close()


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    yield Plan(
        Kind.NITRO_ENCLAVE, tmp_path / "a.eif", tmp_path / "m", inward={tmp_path / "in": 5_005}
    )
    assert not (tmp_path / "m/heartbeat").exists()


def gone(pid: int) -> bool:
    """Whether a process has ended, be it that whoever inherited it has not yet taken notice."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_machine_leaves_nothing_behind(tmp_path: Path, plan: Plan) -> None:
    with Machine(program(tmp_path, SLEEPS), plan) as machine:
        pid = machine.process.pid
        machine.require_running()
        assert (tmp_path / "in").exists()
    assert gone(pid)
    assert not (tmp_path / "in").exists() or not answers(tmp_path / "in")


def test_a_machine_that_ends_says_why(tmp_path: Path, plan: Plan) -> None:
    with Machine(program(tmp_path, FAILS), plan) as machine:
        machine.process.wait()
        with pytest.raises(MachineError, match="ended with 1:\nCRC mismatch"):
            machine.wait_serving(tmp_path / "in", 5)


def test_a_machine_that_never_serves(tmp_path: Path, plan: Plan) -> None:
    with (
        Machine(program(tmp_path, SLEEPS), plan) as machine,
        pytest.raises(MachineError, match="nobody listens"),
    ):
        machine.wait_serving(tmp_path / "in", 0.1)


def test_a_machine_that_does_not_want_to_end(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "_STOP_TIMEOUT_S", 0.2)
    with Machine(program(tmp_path, STUBBORN), plan) as machine:
        while "ready" not in machine.console():
            time.sleep(0.01)
        pid = machine.process.pid
    assert gone(pid)


def test_a_machine_does_not_outlive_who_started_it(tmp_path: Path) -> None:
    program(tmp_path, SLEEPS)
    code = f"""
import os
from pathlib import Path
from latensgate_sim.vm.machine import Kind, Machine, Plan
from latensgate_sim.vm.qemu import QEMU
folder = Path({str(tmp_path)!r})
plan = Plan(Kind.NITRO_ENCLAVE, folder / "a.eif", folder / "m")
pid = Machine(QEMU(folder / "qemu", folder), plan).start().process.pid
while Path(f"/proc/{{pid}}/comm").read_text().strip() == "setpriv":
    pass  # it asks the kernel first, then becomes the machine
print(pid, flush=True)
os._exit(1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_device_that_does_not_come_up(tmp_path: Path, plan: Plan) -> None:
    (tmp_path / "in").touch()  # it cannot listen there
    with pytest.raises(MachineError, match="device vsock"):
        Machine(program(tmp_path, SLEEPS), plan).start()


def test_an_enclave_in_a_machine(tmp_path: Path, image: Image) -> None:
    built = write_image(image, tmp_path / "a.eif")
    assert built.measurements.pcr0 == measure_image(image).pcr0
    with World() as world:
        enclave = start_enclave(program(tmp_path, SLEEPS), world, built, "one", world.tunnel.path)
        assert isinstance(enclave, VirtualEnclave)
        assert enclave.device.nsm.pcr(2) == measure_image(image).pcr2
        with pytest.raises(MachineError):
            enclave.wait_listening(0.1)
        assert enclave.stop() != 0
        assert gone(enclave.process.pid)
        world.remove_enclave("one")
