"""The image as it is: the same everywhere, and holding what it should."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from image_builds import (
    DEPLOYMENT,
    KERNEL,
    KERNEL_SHA256,
    SIMULATED_ROOT,
    Surroundings,
    another_date,
    another_user,
    copy_checkout,
    demand_tools,
    start_assembly,
)
from latensgate_eif.application import Flavour
from latensgate_eif.assemble import COMMAND_LINE, Recipe
from latensgate_eif.assemble import assemble as assemble_here
from latensgate_eif.compare import compare_images
from latensgate_eif.elf import is_elf, needed_libraries
from latensgate_eif.image import Image, parse_image
from latensgate_eif.inputs import BuildError, parse_inputs
from latensgate_eif.measure import measure_image
from latensgate_eif.ramdisk import Entry
from latensgate_eif.ramdisk_reader import decode_ramdisk
from latensgate_eif.release_commands import release_version
from latensgate_eif.runtime import loaded_modules
from latensgate_eif.store import Store, default_store
from latensgate_enclave import VERSION
from latensgate_enclave.measured import load_measured_configuration
from paths import REPOSITORY

pytestmark = pytest.mark.timeout(600)  # three builds stand before the first test
SITE = "usr/local/lib/python3.11/dist-packages/"
OTHERS = "usr/lib/python3/dist-packages/"


class Built(NamedTuple):
    core: Path
    again: Path
    sim: Path
    checkout: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Three images, made once for all test processes of a run."""
    demand_tools()
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, done = base / "images", base / "images-are-built"
    images = Built(
        folder / "core.eif", folder / "again.eif", folder / "sim.eif", folder / "one checkout"
    )
    with (base / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            folder.mkdir(exist_ok=True)
            build(images, folder)
            done.touch()
    return images


def build(images: Built, folder: Path) -> None:
    """Build all at once; the two of `core` in surroundings that have little in common."""
    one = copy_checkout(images.checkout, at_s=1_000_000_000)
    other = copy_checkout(folder / "another one", one, reverse=True, at_s=1_900_000_000)
    plain = {"TZ": "UTC", "LC_ALL": "C", "HOME": str(folder), "PATH": "/usr/bin:/bin"}
    strange = {"TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8", "HOME": "/nowhere", "USER": "another"}
    first = Surroundings(plain)
    second = Surroundings(strange | another_date(folder), 0o077, another_user())
    roots = ("--flavour", "sim", "--ca", str(SIMULATED_ROOT))
    running = [
        start_assembly(one, images.core, within=first),
        start_assembly(other, images.again, within=second),
        start_assembly(one, images.sim, *roots, within=first),
    ]
    for process in running:
        _, said = process.communicate()
        assert not process.returncode, said.decode()


@pytest.fixture(scope="module")
def image(built: Built) -> Image:
    return parse_image(built.core.read_bytes())


@pytest.fixture(scope="module")
def ramdisks(image: Image) -> tuple[dict[str, Entry], ...]:
    return tuple(decode_ramdisk(ramdisk) for ramdisk in image.ramdisks)


def test_two_builds_are_the_same(built: Built) -> None:
    for suffix in ("eif", "manifest", "cdx.json", "sizes.md"):
        one, other = (path.with_suffix(f".{suffix}").read_bytes() for path in built[:2])
        assert hashlib.sha256(one).digest() == hashlib.sha256(other).digest(), suffix


def test_flavours_differ_in_their_roots_alone(built: Built) -> None:
    core, sim = (parse_image(path.read_bytes()) for path in (built.core, built.sim))
    difference = compare_images(core, sim)
    assert [change.what for change in difference.files] == [
        "ramdisk 1: etc/latensgate/ca.pem",
        "ramdisk 1: etc/latensgate/trust.toml",
    ]
    assert [change.what for change in difference.sections] == ["metadata"]
    assert [change.what for change in difference.registers] == ["PCR0", "PCR2"]
    assert not difference.header


def test_sections(image: Image) -> None:
    assert hashlib.sha256(KERNEL).hexdigest() == KERNEL_SHA256
    assert image.kernel == KERNEL
    assert image.command_line == COMMAND_LINE
    assert len(image.ramdisks) == 3


def test_last_ramdisk_is_the_operators_file_alone(ramdisks: tuple[dict[str, Entry], ...]) -> None:
    files = {path: entry.data for path, entry in ramdisks[2].items() if not is_folder(entry)}
    assert files == {"etc/latensgate/deployment.toml": DEPLOYMENT.read_bytes()}


def is_folder(entry: Entry) -> bool:
    return stat.S_ISDIR(entry.mode)


def test_second_ramdisk_is_ours(ramdisks: tuple[dict[str, Entry], ...], built: Built) -> None:
    places = {path.split("/")[0] for path in ramdisks[1]}
    assert places == {"etc", "usr"}
    code = [path for path, entry in ramdisks[1].items() if not is_folder(entry)]
    assert all(path.startswith((SITE, "etc/latensgate/")) for path in code)
    sources = {path.removeprefix(SITE) for path in code if path.endswith(".py")}
    expected = {
        str(file.relative_to(built.checkout / top))
        for top, package in (("shared", "latensgate_shared"), ("enclave", "latensgate_enclave"))
        for file in (built.checkout / top / package).rglob("*.py")
    }
    assert sources == expected
    assert f"{SITE}latensgate_shared/kms_key_policy.json.tftpl" in code


def test_first_ramdisk_knows_nothing_of_us(ramdisks: tuple[dict[str, Entry], ...]) -> None:
    assert not [path for path in ramdisks[0] if "latensgate" in path]
    assert not {*ramdisks[0]} & {p for p, e in ramdisks[1].items() if not is_folder(e)}


def test_no_shell_no_tool_nothing_to_write_to(ramdisks: tuple[dict[str, Entry], ...]) -> None:
    everything = {path: entry for ramdisk in ramdisks for path, entry in ramdisk.items()}
    programs = {
        path
        for path, entry in everything.items()
        if stat.S_ISREG(entry.mode) and entry.mode & 0o111 and ".so" not in path
    }
    assert programs == {"init", "usr/bin/python3.11"}
    for path, entry in everything.items():
        allowed = 0o755 if is_folder(entry) else 0o600 if path == "dev/console" else 0o555
        assert not stat.S_IMODE(entry.mode) & ~allowed, path
        assert not stat.S_ISLNK(entry.mode), path


def test_all_libraries_are_there(ramdisks: tuple[dict[str, Entry], ...]) -> None:
    offered = {path.rsplit("/", 1)[-1] for path in ramdisks[0]}
    for path, entry in ramdisks[0].items():
        if is_elf(entry.data):
            assert not set(needed_libraries(entry.data)) - offered, path


def test_every_source_has_its_bytecode(ramdisks: tuple[dict[str, Entry], ...]) -> None:
    for ramdisk in ramdisks:
        for path, entry in ramdisk.items():
            if path.endswith(".py"):
                folder, name = path.rsplit("/", 1)
                code = ramdisk[f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-311.pyc"]
                assert code.data[4:8] == (1).to_bytes(4, "little"), "not an unchecked hash"
                assert b"/tmp" not in code.data or b"/tmp" in entry.data


def test_image_alone_runs_the_enclave(
    ramdisks: tuple[dict[str, Entry], ...], tmp_path: Path
) -> None:
    """Its interpreter, its libraries, its modules: nothing of this machine, nothing unlisted."""
    for ramdisk in ramdisks:
        write(tmp_path, ramdisk)
    libraries = [tmp_path / "lib/x86_64-linux-gnu", tmp_path / "usr/lib/x86_64-linux-gnu"]
    command = [str(tmp_path / "lib64/ld-linux-x86-64.so.2"), "--library-path"]
    command += [":".join(map(str, libraries)), str(tmp_path / "usr/bin/python3.11")]
    done = subprocess.run(
        [*command, "-I", "-B", "-c", PROBE], env={}, cwd="/", capture_output=True, check=False
    )
    assert not done.returncode, done.stderr.decode()
    modules: dict[str, str | None] = json.loads(done.stdout)
    outside = {name: file for name, file in modules.items() if file and not inside(file, tmp_path)}
    assert not outside
    listed = loaded_modules((REPOSITORY / "enclave/loaded-modules.txt").read_text())
    assert set(modules) - listed <= NOT_LISTED
    assert len(modules) > 300


PROBE = """
import json, sys
import latensgate_enclave.__main__
from latensgate_enclave.pii import Tier1Engine
Tier1Engine()
modules = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print(json.dumps(modules))
"""
NOT_LISTED = {"__main__", "latensgate_enclave.__main__"}
"""The list names what `-m` runs otherwise."""


def inside(file: str, folder: Path) -> bool:
    return Path(file).is_relative_to(folder)


def test_configuration_is_one_that_the_enclave_loads(
    ramdisks: tuple[dict[str, Entry], ...], tmp_path: Path
) -> None:
    write(tmp_path, {**ramdisks[1], **ramdisks[2]}, "etc/latensgate/")
    configuration = load_measured_configuration(tmp_path / "etc/latensgate")
    digest = hashlib.sha384(DEPLOYMENT.read_bytes()).hexdigest()
    assert configuration.deployment_digest == f"sha384:{digest}"
    assert configuration.trust.flavour == "production"
    assert len(configuration.trust.tls_root_sha256) == 5


def write(folder: Path, entries: Mapping[str, Entry], prefix: str = "") -> None:
    for path, entry in entries.items():
        if path.startswith(prefix) and stat.S_ISREG(entry.mode):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(entry.data)
            (folder / path).chmod(stat.S_IMODE(entry.mode))


def test_manifest_and_bill_stand_beside(
    built: Built, ramdisks: tuple[dict[str, Entry], ...]
) -> None:
    manifest = built.core.with_suffix(".manifest").read_text().splitlines()
    assert sum(line.startswith("100") for line in manifest) == sum(
        stat.S_ISREG(entry.mode) for ramdisk in ramdisks for entry in ramdisk.values()
    )
    bill = json.loads(built.core.with_suffix(".cdx.json").read_text())
    assert bill["metadata"]["component"]["name"] == "latensgate-core"


def test_committed_manifest_of_the_first_ramdisk(built: Built) -> None:
    """Packages, wheels, init and pruning: whoever changes them sees here what moved."""
    made = first_part(built.core.with_suffix(".manifest").read_text())
    committed = first_part((REPOSITORY / "eif/rootfs.manifest").read_text())
    assert made == committed, "if that is meant: make image, and commit eif/rootfs.manifest"


def first_part(manifest: str) -> list[str]:
    return manifest.split("# ramdisk 0\n")[1].split("\n\n", maxsplit=1)[0].splitlines()


def test_recipe_that_contradicts_itself() -> None:
    demand_tools()
    inputs = parse_inputs((REPOSITORY / "eif/inputs.lock").read_bytes())
    for flavour, ca in ((Flavour.CORE, b"pem"), (Flavour.SIM, None)):
        recipe = Recipe(REPOSITORY, flavour, b"", ca, KERNEL, "1")
        with pytest.raises(BuildError, match="for flavour sim"):
            assemble_here(recipe, inputs, Store(default_store()))


def test_version_is_the_enclaves() -> None:
    assert release_version(REPOSITORY) == VERSION


def test_registers_follow_the_table_of_the_design(built: Built) -> None:
    core, sim = (measure_image(parse_image(p.read_bytes())) for p in (built.core, built.sim))
    assert core.pcr1 == sim.pcr1
    assert core.pcr0 != sim.pcr0
