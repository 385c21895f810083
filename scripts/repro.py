"""Build kernel and images twice, in surroundings as different as one machine allows, and compare.

python scripts/repro.py [--without-kernel]

Folder, length of its name, umask, time zone, locale, user name, home and order of files differ
between the two. It says what it compared, and ends with 1 at the
first byte that differs. `--without-kernel` compares images over the kernel that was built before.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[1]
PARTS: Final = ("shared/latensgate_shared", "enclave", "eif")
DEPLOYMENT: Final = "eif/examples/deployment.toml"
SIMULATED_ROOT: Final = "eif/examples/sim-ca.pem"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What must not matter."""

    folder: Path
    umask: int
    environment: dict[str, str]


def surroundings(scratch: Path) -> tuple[Surroundings, Surroundings]:
    """Return two that have little in common."""
    first = {"TZ": "UTC", "LC_ALL": "C", "USER": "one", "HOME": str(scratch)}
    second = {"TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8", "USER": "another", "HOME": "/nowhere"}
    path = {"PATH": os.environ["PATH"]}
    return (
        Surroundings(scratch / "a", 0o022, path | first),
        Surroundings(scratch / "a-folder-of-a-longer-name", 0o077, path | second),
    )


def checkout(place: Surroundings, source: Path, *, reverse: bool) -> Path:
    """Copy what an image is made of, in another order of files."""
    target = place.folder / "checkout"
    files = [file for part in PARTS for file in (source / part).rglob("*") if file.is_file()]
    for file in sorted(files, reverse=reverse):
        if "__pycache__" not in file.parts:
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    return target


def run(place: Surroundings, *arguments: str) -> None:
    """Run the image tool in these surroundings."""
    subprocess.run(  # noqa: S603  # our own tool, own arguments
        [sys.executable, "-m", "latensgate_eif", *arguments],
        cwd=place.folder / "checkout",
        env=place.environment,
        umask=place.umask,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def compare(what: str, one: Path, other: Path) -> None:
    """Say that two files are the same, or end."""
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (one, other)]
    if digests[0] != digests[1]:
        sys.exit(f"DIFFERENT: {what}: {digests[0]} and {digests[1]}")
    print(f"same: {what}: {digests[0]}", flush=True)


def main() -> None:
    """Build and compare."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--without-kernel", action="store_true")
    parsed = parser.parse_args()
    store = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latensgate"
    with tempfile.TemporaryDirectory() as name:
        places = surroundings(Path(name))
        first = checkout(places[0], REPOSITORY, reverse=False)
        checkout(places[1], first, reverse=True)
        kept = ["--store", str(store)]
        if not parsed.without_kernel:
            for place in places:
                fresh = place.folder / "kernel-build"
                run(place, "kernel", *kept, "--fresh", str(fresh), "--out", "../kernel")
                shutil.rmtree(fresh)
            compare("kernel", *(place.folder / "kernel" for place in places))
        for flavour, roots in (("core", ()), ("sim", ("--ca", SIMULATED_ROOT))):
            for place in places:
                given = ["--flavour", flavour, "--deployment", DEPLOYMENT, *roots]
                built = () if parsed.without_kernel else ("--kernel", "../kernel")
                run(place, "assemble", *kept, *given, *built, "--out", f"../{flavour}.eif")
            for suffix in ("eif", "manifest", "cdx.json", "sizes.md"):
                compare(f"{flavour}.{suffix}", *(p.folder / f"{flavour}.{suffix}" for p in places))


if __name__ == "__main__":
    main()
