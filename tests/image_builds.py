"""Real images over a stand-in for the kernel: what takes minutes to build, no assembly looks at.

Two builds that are to be the same have little in common: folder, order and times of files, date,
user, umask, time zone, locale, home (docs/adr/0041).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from latensgate_eif.inputs import BuildError, parse_inputs
from latensgate_eif.store import Store, default_store
from latensgate_eif.toolchain import check_toolchain
from paths import REPOSITORY

KERNEL = b"".join(hashlib.sha512(bytes([number])).digest() for number in range(256)) * 128
"""Two megabytes, as the real one; it takes part in every register."""
KERNEL_SHA256 = "53b8beaa8be0f22043b04543f7ee5dea392a34026ad7c87ee3cbd83be9fdaf9d"
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
        for one in inputs.core[1:]:
            store.path(one)  # all but the kernel's sources
    except BuildError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"images are built on Debian 12, x86-64: {error.detail}")


def copy_checkout(
    target: Path, source: Path = REPOSITORY, *, reverse: bool = False, at_s: int | None = None
) -> Path:
    """Copy what an image is made of.

    Args:
        target: Where to.
        source: A checkout.
        reverse: In the other order of files.
        at_s: Time that the files get, in Unix seconds.
    """
    files = [file for part in _PARTS for file in (source / part).rglob("*") if file.is_file()]
    for file in sorted(files, reverse=reverse):
        if "__pycache__" not in file.parts:
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            if at_s is not None:
                os.utime(copy, (at_s, at_s))
    (target / "kernel").write_bytes(KERNEL)
    return target


@dataclass(frozen=True)
class Surroundings:
    """What must not matter.

    Attributes:
        environment: All of it.
        umask: Of the process.
        before: A command that starts another as somebody else.
    """

    environment: Mapping[str, str]
    umask: int = 0o022
    before: Sequence[str] = field(default=())


def start_assembly(
    checkout: Path, out: Path, *arguments: str, within: Surroundings
) -> subprocess.Popen[bytes]:
    """Start the command in a checkout."""
    command = [*within.before, sys.executable, "-m", "latensgate_eif", "assemble", "--offline"]
    command += ["--store", str(default_store()), "--kernel", "kernel", "--out", str(out)]
    command += ["--deployment", str(DEPLOYMENT), *arguments]
    return subprocess.Popen(
        command,
        cwd=checkout,
        env=dict(within.environment),
        umask=within.umask,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def another_user() -> list[str]:
    """Return what starts a command under another user id, with the same files to read.

    Raises:
        CalledProcessError: The kernel does not let this user have a namespace.
    """
    before = ["unshare", "--user", "--map-user=4242", "--map-group=4242"]
    said = subprocess.run([*before, "id", "-u"], check=True, capture_output=True).stdout
    assert said == b"4242\n"
    return before


_CLOCK = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += 1000000000;
    return (int)failed;
}
time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}
"""


def another_date(folder: Path) -> dict[str, str]:
    """Return the environment in which Python's clock is 31 years ahead."""
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(_CLOCK)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    ahead = {"LD_PRELOAD": str(library)}
    asked = [sys.executable, "-c", "import time; print(time.gmtime().tm_year, time.time())"]
    said = subprocess.run(asked, env=ahead, check=True, capture_output=True).stdout
    year, seconds = said.split()
    assert int(year) > 2050
    assert float(seconds) > 2_700_000_000
    return ahead
