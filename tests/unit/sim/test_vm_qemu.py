"""The recipe of QEMU's build, without building it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from latensgate_sim.vm import qemu
from latensgate_sim.vm.qemu import (
    FIRMWARE,
    GENERIC_DEVICE,
    OPTIONS,
    TARGET,
    Build,
    QEMUBuildError,
    codename,
    firmware_names,
    kept_qemu,
    main_mirror,
    obtain_qemu,
    private_apt,
    recipe_digest,
    usable_device,
)
from paths import REPOSITORY

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12"\nVERSION_CODENAME=bookworm\nID=debian\n'


def keep(store: Path, name: str, *, whole: bool = True, age_s: int = 0) -> Path:
    folder = store / "qemu" / name
    folder.mkdir(parents=True)
    for file in (TARGET, *FIRMWARE) if whole else FIRMWARE:
        (folder / file).touch()
    then = time.time() - age_s
    os.utime(folder, (then, then))
    return folder


def test_what_was_built_by_the_same_recipe_is_taken(tmp_path: Path) -> None:
    lock = (REPOSITORY / "requirements/qemu.lock").read_bytes()
    digest = recipe_digest(lock)
    keep(tmp_path, f"1.0-{digest}", age_s=100)
    newest = keep(tmp_path, f"1.1-{digest}")
    keep(tmp_path, f"1.2-{digest}", whole=False)
    keep(tmp_path, "1.3-0123456789abcdef")
    found = obtain_qemu(tmp_path, REPOSITORY, pytest.fail)
    assert (found.program, found.firmware) == (newest / TARGET, newest)


def test_nothing_is_taken_that_another_recipe_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = recipe_digest(b"lock")
    keep(tmp_path, f"1.0-{before}")
    assert kept_qemu(tmp_path, before) is not None
    assert recipe_digest(b"another lock") != before
    for name, value in (("SUITE", "x"), ("DEVICES", "x"), ("OPTIONS", ("x",)), ("_FORM", 99)):
        with monkeypatch.context() as changed:
            changed.setattr(qemu, name, value)
            assert kept_qemu(tmp_path, recipe_digest(b"lock")) is None


def test_a_build_that_fails_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess([], 100, b"E: Unable to fetch some archives")

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(QEMUBuildError, match="Unable to fetch"):
        obtain_qemu(tmp_path, REPOSITORY, lambda _: None)
    assert list((tmp_path / "qemu").iterdir()) == []


def test_a_tool_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(QEMUBuildError):
        obtain_qemu(tmp_path, REPOSITORY, lambda _: None, fresh=True)


class Faked:
    """Stands in for apt, tar, configure and ninja: makes the files that they would make."""

    def __init__(self, machines: bytes = b"microvm  x\nnitro-enclave  y\n") -> None:
        self.commands: list[list[str]] = []
        self.machines = machines

    def __call__(
        self, command: list[str], *, cwd: Path | None = None, **_: object
    ) -> subprocess.CompletedProcess[bytes]:
        self.commands.append(command)
        said = b""
        if command[0] == "dpkg-query":
            said = b"installed" if command[-1] == "gcc" else b""
        elif "indextargets" in command:
            said = b"mirror+file:/m bookworm Packages\n"
        elif cwd is not None:
            self._work(command, cwd)
        if command[-2:] == ["-M", "help"]:
            said = self.machines
        return subprocess.CompletedProcess(command, 0, said)

    def _work(self, command: list[str], cwd: Path) -> None:
        if "source" in command:
            (cwd / "qemu_9.9+ds.orig.tar.xz").touch()
            (cwd / "qemu_9.9+ds-1.dsc").touch()
        elif command[0] == "tar":
            source = cwd / "qemu-9.9"
            for name in ("configs/devices/x86_64-softmmu", "hw/virtio", "pc-bios", "python/wheels"):
                (source / name).mkdir(parents=True)
            (source / GENERIC_DEVICE).write_text("a;\n    dc->user_creatable = false;\nb;\n")
            (source / "pc-bios/meson.build").write_text("fds = ['edk2-x86_64-code.fd',]")
        elif command[0] == "ninja":
            (cwd / TARGET).touch()
        elif "download" in command and command[0] == "apt-get":
            (cwd / "qemu-system-data_1_all.deb").touch()
        elif command[0] == "dpkg-deb":
            share = cwd / command[-1] / "usr/share/qemu"
            share.mkdir(parents=True)
            for name in FIRMWARE:
                (share / name).touch()


def bookworm(_os_release: str) -> str:
    return "bookworm"


def yes(_package: str) -> bool:
    return True


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Faked:
    made = Faked()
    monkeypatch.setattr(subprocess, "run", made)
    monkeypatch.setattr(qemu, "codename", bookworm)
    return made


def test_all_steps(tmp_path: Path, faked: Faked) -> None:
    said: list[str] = []
    found = obtain_qemu(tmp_path, REPOSITORY, said.append)
    assert found.program.parent.name.startswith("9.9+ds-1-")
    assert found.program.is_file()
    assert all((found.firmware / name).is_file() for name in FIRMWARE)
    assert any("9.9+ds-1: compiling" in line for line in said)
    install = next(command for command in faked.commands if "install" in command)
    assert "gcc" not in install
    assert "libcbor-dev" in install
    assert next(command for command in faked.commands if "configure" in command[0])[1:] == [
        *OPTIONS
    ]
    again = obtain_qemu(tmp_path, REPOSITORY, pytest.fail)
    assert again == found
    anew = obtain_qemu(tmp_path, REPOSITORY, said.append, fresh=True)
    assert anew == found


def test_a_build_without_the_machine_is_not_kept(tmp_path: Path, faked: Faked) -> None:
    faked.machines = b"microvm  x\n"
    with pytest.raises(QEMUBuildError, match="no machine nitro-enclave"):
        obtain_qemu(tmp_path, REPOSITORY, lambda _: None)
    assert list((tmp_path / "qemu").iterdir()) == []


def test_the_mirror_is_that_of_the_machine() -> None:
    targets = """\
http://one/security bookworm-security Packages
http://two/debian bookworm DEP-11
https://mirror.example/debian bookworm Packages
http://three/debian bookworm Packages
"""
    assert main_mirror(targets, "bookworm") == "https://mirror.example/debian"
    with pytest.raises(QEMUBuildError, match="no mirror of trixie"):
        main_mirror(targets, "trixie")


def test_apt_gets_a_state_of_its_own(tmp_path: Path) -> None:
    options = private_apt(tmp_path / "apt", "http://mirror.example/debian")
    assert "Dir::Etc::SourceParts=/dev/null" in options
    listed = (tmp_path / "apt/sources.list").read_text()
    assert listed == "deb-src http://mirror.example/debian trixie main\n"


def test_other_systems_are_refused() -> None:
    assert codename(DEBIAN) == "bookworm"
    for other in ("ID=fedora\n", "ID=debian\n", DEBIAN.replace("ID=debian", "ID=ubuntu")):
        with pytest.raises(QEMUBuildError, match="Debian machine"):
            codename(other)


def test_the_source_must_be_as_the_recipe_knows_it() -> None:
    line = "    dc->user_creatable = false;\n"
    assert usable_device(f"a\n{line}b\n") == "a\nb\n"
    for text in ("a\nb\n", line + line):
        with pytest.raises(QEMUBuildError, match="one line"):
            usable_device(text)
    names = firmware_names("'edk2-arm-code.fd',\n 'edk2-x86_64-secure-code.fd.bz2'")
    assert names == ["edk2-arm-code.fd.bz2", "edk2-x86_64-secure-code.fd.bz2"]
    with pytest.raises(QEMUBuildError, match="edk2"):
        firmware_names("")


def test_the_builders_own_variables_do_not_reach_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFLAGS", "-O0")
    seen: dict[str, str] = {}

    def run(*_: object, env: dict[str, str], **__: object) -> subprocess.CompletedProcess[bytes]:
        seen.update(env)
        return subprocess.CompletedProcess([], 1, b"")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(qemu, "_is_installed", yes)
    with pytest.raises(QEMUBuildError):
        Build(tmp_path, tmp_path / "lock", lambda _: None).run(tmp_path, "x")
    assert "CFLAGS" not in seen
    assert seen["LC_ALL"] == "C"
