"""Flavour `ner` of the image as it is: what it holds finds names by itself, and is what is listed.

Needs the wheels of inputs.lock: LATENSGATE_NER=1 pytest tests/ner, on Debian 12.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from image_builds import DEPLOYMENT, KERNEL, SIMULATED_ROOT, demand_tools
from latensgate_eif.application import Flavour
from latensgate_eif.assemble import NAMES_MEMORY_BYTES, Assembled, Recipe, assemble
from latensgate_eif.inputs import parse_inputs
from latensgate_eif.ramdisk import Entry
from latensgate_eif.runtime import loaded_modules
from latensgate_eif.store import Store, default_store
from names_modules import LIST, listed, worker_modules
from paths import REPOSITORY

if os.environ.get("LATENSGATE_NER") != "1":
    pytest.skip("set LATENSGATE_NER=1 for tests with the model", allow_module_level=True)
pytestmark = pytest.mark.timeout(900)
SITE = "usr/lib/python3/dist-packages/"


@pytest.fixture(scope="module")
def made() -> Assembled:
    demand_tools()
    inputs = parse_inputs((REPOSITORY / "eif/inputs.lock").read_bytes())
    flavour, roots = Flavour.SIM_NER, SIMULATED_ROOT.read_bytes()
    recipe = Recipe(REPOSITORY, flavour, DEPLOYMENT.read_bytes(), roots, KERNEL, "0")
    return assemble(recipe, inputs, Store(default_store()))


@pytest.fixture(scope="module")
def root(made: Assembled, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ramdisks as files."""
    folder = tmp_path_factory.mktemp("root")
    for ramdisk in made.ramdisks:
        for path, entry in ramdisk.items():
            if stat.S_ISREG(entry.mode):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(entry.data)
                (folder / path).chmod(stat.S_IMODE(entry.mode) | stat.S_IWUSR)
    return folder


def run_inside(root: Path, program: str) -> str:
    """Run a program by the image's interpreter and libraries; nothing of this machine is found."""
    libraries = [root / "lib/x86_64-linux-gnu", root / "usr/lib/x86_64-linux-gnu"]
    command = [str(root / "lib64/ld-linux-x86-64.so.2"), "--library-path"]
    command += [":".join(map(str, libraries)), str(root / "usr/bin/python3.11")]
    done = subprocess.run(
        [*command, "-I", "-B", "-c", program], env={}, cwd="/", capture_output=True, check=False
    )
    assert not done.returncode, done.stderr.decode()
    return done.stdout.decode()


PROBE = """
import json, sys
from pathlib import Path
from latensgate_enclave.ner.nest import worker_command
from latensgate_enclave.ner.worker import load_finder
command = worker_command()
find = load_finder(Path(command[-2]), command[-1])
text = "Angela Merkel met Barack Obama in Berlin."
found = [(one.label, text[one.start:one.end]) for one in find(text)]
modules = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print(json.dumps([found, modules]))
"""


def test_image_alone_finds_names(root: Path) -> None:
    found, modules = json.loads(run_inside(root, PROBE))
    assert ["PERSON", "Angela Merkel"] in found
    assert ["PERSON", "Barack Obama"] in found
    outside = [file for file in modules.values() if file and not file.startswith(str(root))]
    assert outside == []
    committed = loaded_modules(LIST.read_text())
    loaded = {name for name, file in modules.items() if file and SITE in file}
    assert loaded <= committed
    assert not {name for name in loaded if name.startswith(("requests", "httpx", "spacy.cli"))}


def test_list_is_what_a_worker_loads() -> None:
    assert listed(worker_modules()) == LIST.read_text()


def test_first_ramdisk_is_the_committed_one(made: Assembled) -> None:
    lines = (REPOSITORY / "eif/rootfs-ner.manifest").read_text().splitlines()
    committed = {line.rpartition(" ")[2] for line in lines if line and not line.startswith("#")}
    assert set(made.ramdisks[0]) == committed


def test_of_spacy_only_listed_modules_are_there(made: Assembled) -> None:
    listed_names = loaded_modules(LIST.read_text())
    for path, entry in spacy_modules(made).items():
        name = path.removeprefix(SITE).partition(".")[0].replace("/", ".")
        assert name.removesuffix(".__init__") in listed_names, path
        assert b".debug_info" not in entry.data or path.endswith(".py"), path


def spacy_modules(made: Assembled) -> dict[str, Entry]:
    return {
        path: entry
        for path, entry in made.ramdisks[0].items()
        if path.startswith(f"{SITE}spacy/") and path.endswith((".py", ".so"))
    }


def test_image_asks_for_the_memory_that_names_need(made: Assembled) -> None:
    assert made.image.default_memory_bytes == NAMES_MEMORY_BYTES
    assert made.ramdisks[1]["etc/latensgate/policy.toml"].data.endswith(b"workers = 2\n")
