"""The command behind `make qemu` and `make run-qemu`, and the stack it starts, without machines."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock

import pytest
from click.testing import CliRunner, Result

from eif_examples import example_image
from latensgate_eif.image import encode_image
from latensgate_eif.measure import measure_image
from latensgate_sim.dev_stack import StackNotStartedError, StackOptions
from latensgate_sim.vm import __main__ as command
from latensgate_sim.vm import stack as stacks
from latensgate_sim.vm.image import BuiltImage, ImageNotBuiltError, build_image, repository_folder
from latensgate_sim.vm.machine import MachineError, Plan
from latensgate_sim.vm.qemu import QEMU, QEMUBuildError
from latensgate_sim.vm.stack import BOOT_TIMEOUT_S, EGRESS_PORT, LINK_PORT, start_enclave
from paths import REPOSITORY

BUILT = QEMU(Path("/kept/qemu-system-x86_64"), Path("/kept"))


class Stopped(threading.Event):
    """As after Ctrl-C."""

    def wait(self, timeout: float | None = None) -> bool:
        _ = timeout
        return True


class Stack:
    """In the place of the stack of machines."""

    made: list[StackOptions]
    fails = False

    def __init__(self, qemu: QEMU, options: StackOptions, _: object) -> None:
        assert qemu is BUILT
        self.made.append(options)

    def __enter__(self) -> Self:
        if self.fails:
            raise StackNotStartedError("no machine listens")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        assert error is None, kind


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    Stack.made, Stack.fails = [], False

    def obtain(*_: object, fresh: bool) -> QEMU:
        if fresh:
            raise QEMUBuildError("ninja ended with 1")
        return BUILT

    def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(command, "obtain_qemu", obtain)
    monkeypatch.setattr(command, "MachineStack", Stack)
    monkeypatch.setattr(command, "stop_on_signals", Stopped)
    for name in ("show_stack", "show_next", "first_chat"):
        monkeypatch.setattr(command, name, nothing)

    def call(*words: str) -> Result:
        return CliRunner().invoke(command.main, words)

    return call


def test_building_alone_starts_nothing(run: Callable[..., Result]) -> None:
    said = run("--build-only")
    assert said.exit_code == 0, said.output
    assert "qemu-system-x86_64" in said.output.replace("\n", "")
    assert not Stack.made


def test_it_runs_until_it_is_told_to_stop(run: Callable[..., Result]) -> None:
    said = run("--model", "scripted", "--enclaves", "2", "--port", "1234")
    assert said.exit_code == 0, said.output
    assert "nothing is left running" in said.output
    (options,) = Stack.made
    assert (options.model, options.enclaves, options.port) == ("scripted", 2, 1234)


def test_failures_are_sentences(run: Callable[..., Result]) -> None:
    said = run("--fresh")
    assert (said.exit_code, "ninja ended with 1" in said.output) == (1, True)
    Stack.fails = True
    said = run("--no-chat")
    assert (said.exit_code, "no machine listens" in said.output) == (1, True)


# --- the image of a world ---


def test_image_is_built_by_the_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def build(words: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        commands.append(words)
        (tmp_path / "out.eif").write_bytes(encode_image(example_image()))
        return subprocess.CompletedProcess(words, 0, b"", b"")

    monkeypatch.setattr(subprocess, "run", build)
    built = build_image(tmp_path, tmp_path / "out.eif")
    assert built.image == example_image()
    assert built.measurements.pcr0 == measure_image(example_image()).pcr0
    assert commands[0][-2:] == ["--ca", str(tmp_path / "ca.pem")]
    assert repository_folder() == REPOSITORY


def test_builders_words_are_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(words: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(words, 9, b"", b"Error: libc6 is not to be had\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(ImageNotBuiltError, match="libc6 is not to be had"):
        build_image(tmp_path, tmp_path / "out.eif")


# --- an enclave in a machine ---


class Machine:
    """In the place of QEMU."""

    def __init__(self, _: QEMU, plan: Plan) -> None:
        self.plan, self.process, self.stopped = plan, mock.Mock(), False
        self.process.wait.return_value = -15

    def start(self) -> Self:
        return self

    def stop(self) -> None:
        self.stopped = True

    def wait_serving(self, path: Path, timeout_s: float) -> None:
        assert (self.plan.inward[path], timeout_s) == (LINK_PORT, BOOT_TIMEOUT_S)
        raise MachineError("nobody listens")


def test_an_enclave_can_be_started_again_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacks, "Machine", Machine)
    world: Any = mock.Mock(folder=tmp_path)
    built = BuiltImage(tmp_path / "image.eif", example_image())
    first, second = (
        start_enclave(BUILT, world, built, "enclave-0", tmp_path / "egress") for _ in range(2)
    )
    assert first.listen == second.listen == tmp_path / "enclave-0.sock"
    assert first.machine.plan.folder != second.machine.plan.folder
    assert first.machine.plan.outward == {EGRESS_PORT: tmp_path / "egress"}
    with pytest.raises(MachineError, match="nobody listens"):
        first.wait_listening(BOOT_TIMEOUT_S)
    assert first.stop() == -15
    assert world.add_enclave.call_args.args == ("enclave-0", built.measurements)
