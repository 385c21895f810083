"""Real images over a stand-in for the kernel: what takes minutes to build, no assembly looks at."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from latensgate_eif.inputs import BuildError, parse_inputs
from latensgate_eif.store import Store, default_store
from latensgate_eif.toolchain import check_toolchain
from paths import REPOSITORY

KERNEL = b"a stand-in for the kernel"
DEPLOYMENT = REPOSITORY / "eif/examples/deployment.toml"
SIMULATED_ROOT = REPOSITORY / "eif/examples/sim-ca.pem"
_PARTS = ("shared/latensgate_shared", "enclave", "eif")


def demand_tools() -> None:
    """Skip where images cannot be built; in CI that is a failure.

    Only Debian 12 on x86-64 has the compiler and the packages that the lock names.
    """
    inputs = parse_inputs((REPOSITORY / "eif/inputs.lock").read_bytes())
    store = Store(default_store())
    try:
        check_toolchain(inputs.toolchain)
        for one in inputs.all[1:]:
            store.path(one)  # all but the kernel's sources
    except BuildError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"images are built on Debian 12, x86-64: {error.detail}")


def copy_checkout(target: Path, source: Path = REPOSITORY, *, reverse: bool = False) -> Path:
    """Copy what an image is made of, in this order of files or the other."""
    files = [file for part in _PARTS for file in (source / part).rglob("*") if file.is_file()]
    for file in sorted(files, reverse=reverse):
        if "__pycache__" not in file.parts:
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    (target / "kernel").write_bytes(KERNEL)
    return target


def assemble(checkout: Path, out: Path, *arguments: str, **environment: str) -> None:
    """Run the command in a checkout; the environment is these names and no others.

    Raises:
        CalledProcessError: It failed.
    """
    command = [sys.executable, "-m", "latensgate_eif", "assemble", "--offline"]
    command += ["--store", str(default_store()), "--kernel", "kernel", "--out", str(out)]
    command += ["--deployment", str(DEPLOYMENT), *arguments]
    subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True)
