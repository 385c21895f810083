"""The commands for Latensgate's own image, over an assembly that takes no time."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from eif_examples import FIRST, SECOND, example_image
from latensgate_eif import __main__ as command
from latensgate_eif import release_commands
from latensgate_eif.assemble import Assembled, Recipe
from latensgate_eif.bundle import download_tool
from latensgate_eif.exits import Exit
from latensgate_eif.image import parse_image
from latensgate_eif.inputs import BuildError, Package, Wheel
from latensgate_eif.store import Store
from paths import REPOSITORY

Run = Callable[..., int]


@pytest.fixture
def recipes() -> list[Recipe]:
    return []


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipes: list[Recipe]) -> Run:
    monkeypatch.chdir(tmp_path)
    for name in ("eif/inputs.lock", "eif/kernel/latensgate.config", "eif/examples/deployment.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, tmp_path / name)
    version = tmp_path / "enclave/latensgate_enclave/__init__.py"
    version.parent.mkdir(parents=True)
    version.write_text('VERSION: Final = "1.2.3"\n')

    def assemble(recipe: Recipe, _inputs: object, _store: object) -> Assembled:
        recipes.append(recipe)
        return Assembled(example_image(), (FIRST, SECOND))

    def obtain(*_: object) -> bytes:
        return b"kept kernel"

    def build(_store: object, _inputs: object, _fragment: object, folder: Path) -> bytes:
        assert folder.is_absolute()
        return b"fresh kernel"

    monkeypatch.setattr(release_commands, "assemble", assemble)
    monkeypatch.setattr(release_commands, "obtain_kernel", obtain)
    monkeypatch.setattr(release_commands, "build_kernel", build)

    def call(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            command.main(arguments)
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return call


def test_assemble_writes_everything(
    run: Run, recipes: list[Recipe], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["assemble", "--deployment", "eif/examples/deployment.toml", "--out", "core.eif"]
    notes = ["--record", "1.2.3.json", "--rootfs-manifest", "rootfs.manifest", "--json"]
    assert run(*arguments, *notes) == Exit.DONE
    said = json.loads(capsys.readouterr().out)["Measurements"]
    assert parse_image(Path("core.eif").read_bytes()) == example_image()
    assert {path.name for path in Path().glob("core.*")} == {
        "core.eif",
        "core.manifest",
        "core.cdx.json",
        "core.sizes.md",
    }
    record = json.loads(Path("1.2.3.json").read_text())
    assert record["version"] == "1.2.3"
    assert record["images"][0]["PCR0"] == said["PCR0"]
    assert "policy.toml" not in Path("rootfs.manifest").read_text()
    (recipe,) = recipes
    assert (recipe.kernel, recipe.version, recipe.ca_pem) == (b"kept kernel", "1.2.3", None)
    # A second note of the same kind takes the place of the first.
    assert run(*arguments, *notes) == Exit.DONE
    assert len(json.loads(Path("1.2.3.json").read_text())["images"]) == 1


def test_record_of_another_release_is_refused(run: Run) -> None:
    Path("old.json").write_text('{"version": "1.2.2", "images": []}')
    arguments = ["assemble", "--deployment", "eif/examples/deployment.toml", "--out", "core.eif"]
    assert run(*arguments, "--record", "old.json") == Exit.NOT_BUILT
    assert json.loads(Path("old.json").read_text())["images"] == []


def test_assemble_with_other_parts(run: Run, recipes: list[Recipe]) -> None:
    Path("vendor").write_bytes(b"kernel of a vendor")
    Path("ca.pem").write_bytes(b"roots")
    arguments = ["assemble", "--deployment", "eif/examples/deployment.toml", "--out", "sim.eif"]
    arguments += ["--flavour", "sim", "--ca", "ca.pem", "--kernel", "vendor"]
    assert run(*arguments, "--record", "r.json") == Exit.DONE
    assert (recipes[0].kernel, recipes[0].ca_pem) == (b"kernel of a vendor", b"roots")
    said = json.loads(Path("r.json").read_text())["images"][0]["command"]
    assert said.endswith("--flavour sim --deployment eif/examples/deployment.toml --ca ca.pem"
                         " --kernel vendor --out latensgate-sim.eif")  # fmt: skip


def test_kernel(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("kernel", "--out", "bzImage") == Exit.DONE
    assert Path("bzImage").read_bytes() == b"kept kernel"
    assert "11 bytes" in capsys.readouterr().out
    assert run("kernel", "--fresh", "folder") == Exit.DONE
    assert "12 bytes" in capsys.readouterr().out


def test_fetch(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def path(_: Store, wanted: Package | Wheel) -> Path:
        file = Path(wanted.file)
        file.write_bytes(b"")
        return file

    def download(lock: Path, folder: Path) -> None:
        assert lock == Path("requirements/eif.lock")
        folder.mkdir()
        (folder / "click.whl").write_bytes(b"a wheel")

    monkeypatch.setattr(Store, "path", path)
    monkeypatch.setattr("latensgate_eif.bundle.download_tool", download)
    assert run("fetch", "--bundle", "bundle") == Exit.DONE
    *listed, last = capsys.readouterr().out.splitlines()
    assert len(listed) == len(list(Path("bundle/inputs").iterdir())) > 15
    assert "SHA256SUMS" in last
    sums = Path("bundle/SHA256SUMS").read_text().splitlines()
    assert len(sums) == len(listed) + 2
    wheel = hashlib.sha256(b"a wheel").hexdigest()
    assert f"{wheel}  tool/click.whl" in sums
    assert Path("bundle/inputs.lock").read_bytes() == Path("eif/inputs.lock").read_bytes()


def test_bundle_without_what_the_tool_runs_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "eif.lock"
    lock.write_text("unheard-of==1 --hash=sha256:" + "0" * 64 + "\n")

    def refuse(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        assert "--require-hashes" in command
        return subprocess.CompletedProcess(command, 1, b"", b"ERROR: no unheard-of\n")

    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(BuildError, match="no unheard-of"):
        download_tool(lock, tmp_path / "tool")

    def late(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("pip", 1)

    monkeypatch.setattr(subprocess, "run", late)
    with pytest.raises(BuildError, match="timed out"):
        download_tool(lock, tmp_path / "tool")


def test_the_builder_runs_on_what_the_tests_run_on() -> None:
    """Nothing in eif.lock that dev.lock does not have, so one set of versions is tested."""
    named = re.compile(r"^([a-z0-9-]+==[^ ]+)", re.MULTILINE)
    tool, everything = (
        set(named.findall((REPOSITORY / f"requirements/{name}.lock").read_text()))
        for name in ("eif", "dev")
    )
    assert {"click", "cryptography", "msgspec", "rich"} <= {one.split("==")[0] for one in tool}
    assert tool <= everything


def test_folder_that_is_no_checkout(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert run("fetch", "--repository", "empty") == Exit.UNREADABLE
    assert "empty/eif/inputs.lock" in capsys.readouterr().err


def test_offline_names_what_is_missing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fetch", "--offline", "--store", "nothing") == Exit.NOT_BUILT
    assert "linux-source-6.12" in capsys.readouterr().err
