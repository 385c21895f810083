"""Rewriting the lock, with stand-ins for apt and pip."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from latensgate_eif import __main__ as command
from latensgate_eif import relock as relocking
from latensgate_eif.exits import Exit
from latensgate_eif.inputs import BuildError, Package, Toolchain, Wheel, parse_inputs
from latensgate_eif.relock import (
    installed_toolchain,
    lock_text,
    offered_package,
    offered_wheel,
    relock,
)
from latensgate_eif.store import Store
from paths import REPOSITORY

LOCK = (REPOSITORY / "eif/inputs.lock").read_bytes()
INPUTS = parse_inputs(LOCK)
WHEEL = INPUTS.wheels[0]


class Apt:
    """Offers what the lock names, but for the changes that it is given."""

    def __init__(self, **changed: str) -> None:
        self.changed = changed

    def __call__(self, command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        assert command[:-1] == ["apt-get", "download", "--print-uris", "-qq"]
        packages = {one.name: one for one in (INPUTS.kernel, *INPUTS.runtime)}
        one = packages[command[-1]]
        version = self.changed.get(one.name, one.version).replace(":", "%3a")
        digest = "0" * 64 if one.name in self.changed else one.sha256
        file = f"{one.name}_{version}_{one.architecture}.deb"
        line = f"'mirror/pool/{file}' {file} {one.bytes} SHA256:{digest}\n"
        return subprocess.CompletedProcess(command, 0, line.encode(), b"")


def kept_wheel(old: Wheel, _: Path) -> Wheel:
    return old


def kept_tools() -> Toolchain:
    return INPUTS.toolchain


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr(relocking, "offered_wheel", kept_wheel)
    monkeypatch.setattr(relocking, "installed_toolchain", kept_tools)

    def set_apt(**changed: str) -> None:
        monkeypatch.setattr(subprocess, "run", Apt(**changed))

    return set_apt


def test_lock_that_nothing_moves_stays_the_same_bytes(offer: Callable[..., None]) -> None:
    offer()
    assert relock(LOCK, REPOSITORY) == (LOCK, [])


def test_what_moves_is_named_and_nothing_else_changes(offer: Callable[..., None]) -> None:
    offer(libc6="2.36-9+deb12u15", zlib1g="1:1.3")
    text, moved = relock(LOCK, REPOSITORY)
    assert [(one.name, one.new) for one in moved] == [
        ("libc6", "2.36-9+deb12u15"),
        ("zlib1g", "1:1.3"),
    ]
    read = parse_inputs(text)
    changed = [new for old, new in zip(INPUTS.all, read.all, strict=True) if new != old]
    assert [one.name for one in changed] == ["libc6", "zlib1g"]
    assert changed[1].file == "zlib1g_1%3a1.3_amd64.deb"
    assert {one.sha256 for one in changed} == {"0" * 64}
    assert text.startswith(LOCK.partition(b"[toolchain]")[0])


def test_another_compiler_is_named(
    offer: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    offer()

    def other() -> Toolchain:
        return Toolchain("gcc 99", INPUTS.toolchain.ld)

    monkeypatch.setattr(relocking, "installed_toolchain", other)
    text, moved = relock(LOCK, REPOSITORY)
    assert [one.name for one in moved] == ["gcc"]
    assert parse_inputs(text).toolchain.gcc == "gcc 99"


def test_text_of_a_lock_reads_back() -> None:
    text = lock_text(
        INPUTS.toolchain, [INPUTS.kernel, *INPUTS.runtime], [*INPUTS.wheels, *INPUTS.names]
    )
    assert parse_inputs(text.encode()).all == INPUTS.all


@pytest.mark.parametrize("said", [b"", b"'x' libx_1_amd64.deb 9 MD5Sum:00\n"])
def test_package_that_apt_does_not_offer(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, 100, said, b"")

    monkeypatch.setattr(subprocess, "run", silent)
    with pytest.raises(BuildError, match=r"linux-source-6\.12: apt offers no package"):
        offered_package(INPUTS.kernel)


def test_machine_without_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "no such file", "apt-get")

    monkeypatch.setattr(subprocess, "run", missing)
    package: Package = INPUTS.runtime[0]
    with pytest.raises(BuildError, match=package.name):
        offered_package(package)


def test_wheel_comes_in_the_version_that_the_requirements_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def download(name: str, version: str, hashes: list[str], folder: Path) -> str:
        assert (name, version) == (WHEEL.name, WHEEL.version)
        assert WHEEL.sha256 in hashes
        (folder / WHEEL.file).write_bytes(b"content")
        return ""

    monkeypatch.setattr(relocking, "pip_download", download)
    found = offered_wheel(WHEEL, REPOSITORY)
    assert found == Wheel(
        WHEEL.name, WHEEL.version, WHEEL.file, "runtime", 7, hashlib.sha256(b"content").hexdigest()
    )


def test_wheel_that_is_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object) -> str:
        return "no such distribution"

    monkeypatch.setattr(relocking, "pip_download", download)
    with pytest.raises(BuildError, match=f"{WHEEL.name} .* no such distribution"):
        offered_wheel(WHEEL, REPOSITORY)


def test_wheel_that_no_requirement_names() -> None:
    with pytest.raises(BuildError, match=r"unheard-of: a version in requirements/dev\.lock"):
        offered_wheel(Wheel("unheard-of", "1", "x-1.whl", "runtime", 1, "0" * 64), REPOSITORY)
    with pytest.raises(BuildError, match=r"unheard-of: a version in requirements/ner\.lock"):
        offered_wheel(Wheel("unheard-of", "1", "x-1.whl", "names", 1, "0" * 64), REPOSITORY)


def test_tools_of_this_machine() -> None:
    found = installed_toolchain()
    assert "ld" in found.ld
    assert "gcc" in found.gcc.lower()


# --- the commands ---


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "eif").mkdir()
    (tmp_path / "eif/inputs.lock").write_bytes(LOCK)
    return tmp_path


def test_command_writes_what_moved(
    offer: Callable[..., None], checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offer()
    repository = ("--repository", str(checkout))
    assert call("inputs", "lock", *repository) == Exit.DONE
    assert capsys.readouterr().out == "nothing has moved\n"
    assert call("inputs", "lock", "--check", *repository) == Exit.DONE
    offer(libc6="3")
    assert call("inputs", "lock", "--check", *repository) == Exit.DIFFERENT
    assert (checkout / "eif/inputs.lock").read_bytes() == LOCK
    assert call("inputs", "lock", *repository) == Exit.DONE
    assert "libc6: 2.36-9+deb12u14 -> 3" in capsys.readouterr().out
    assert parse_inputs((checkout / "eif/inputs.lock").read_bytes()).runtime[1].version == "3"


def test_manifest_needs_no_kernel(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _ = capsys

    asked: list[bool] = []

    def ramdisk(
        repository: Path, _inputs: object, store: Store, *, names: bool
    ) -> dict[str, object]:
        assert (repository, store.folder) == (checkout, checkout / "store")
        asked.append(names)
        return {}

    monkeypatch.setattr("latensgate_eif.release_commands.first_ramdisk", ramdisk)
    out = checkout / "manifest"
    arguments = ["--repository", str(checkout), "--store", str(checkout / "store")]
    assert call("manifest", *arguments, "--out", str(out)) == Exit.DONE
    assert call("manifest", *arguments, "--names", "--out", str(out)) == Exit.DONE
    assert asked == [False, True]
    assert out.read_text().endswith("# ramdisk 0\n")
