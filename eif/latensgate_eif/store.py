"""Where inputs lie once they have been fetched: a folder of files, each checked by its hash.

The folder stands outside the repository and survives a clean. What a release's source bundle holds
can be copied into it; nothing is asked of a mirror then.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from latensgate_eif.inputs import BuildError, Package, Wheel

if TYPE_CHECKING:
    from collections.abc import Sequence

_PLATFORMS: Final = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
"""glibc of Debian 12 is 2.36; pip does not conclude from a newer one that older ones will do."""
_FETCH_TIMEOUT_S: Final = 1_800
"""The kernel's sources have 153 MB; a slow mirror gives 100 KB a second."""


def default_store() -> Path:
    """Return the folder of fetched and built things, below the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "latensgate"


class Store:
    """Hands out inputs by hash, and fetches those that are not there yet.

    Args:
        folder: Made if it is not there.
        offline: Never ask a mirror.
    """

    def __init__(self, folder: Path, *, offline: bool = False) -> None:
        self.folder = folder
        self._offline = offline

    def path(self, wanted: Package | Wheel) -> Path:
        """Return the file of an input, with the content that the lock demands.

        Raises:
            BuildError: It is not in the store, and the mirror does not have it any more.
        """
        kept = self.folder / "inputs" / wanted.file
        if _is(kept, wanted):
            return kept
        if self._offline:
            raise BuildError(f"{_named(wanted)} is not in {kept.parent}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as name:
            scratch = Path(name)
            said = _fetch(wanted, scratch)
            for found in scratch.iterdir():
                if _is(found, wanted):
                    found.replace(kept)
                    return kept
        raise BuildError(
            f"{_named(wanted)} is not to be had: {said}. If the mirror has moved on, put the file"
            f" from the release's source bundle into {kept.parent}"
        )

    def read(self, wanted: Package | Wheel) -> bytes:
        """Return an input's content; raises as `path` does."""
        return self.path(wanted).read_bytes()

    def bundle(self, wanted: tuple[Package | Wheel, ...], folder: Path) -> list[Path]:
        """Copy inputs into a folder: the source bundle of a release.

        Raises:
            BuildError: As `path` does.
        """
        folder.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copyfile(self.path(one), folder / one.file)) for one in wanted]


def _named(wanted: Package | Wheel) -> str:
    return f"{wanted.name} {wanted.version} (sha256 {wanted.sha256})"


def _is(file: Path, wanted: Package | Wheel) -> bool:
    if not file.is_file() or file.stat().st_size != wanted.bytes:
        return False
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == wanted.sha256


def _fetch(wanted: Package | Wheel, folder: Path) -> str:
    """Ask apt or pip for one file; returns what they said."""
    if isinstance(wanted, Package):
        return _run(["apt-get", "download", "-qq", f"{wanted.name}={wanted.version}"], folder)
    return pip_download(wanted.name, wanted.version, [wanted.sha256], folder)


def pip_download(name: str, version: str, hashes: Sequence[str], folder: Path) -> str:
    """Have pip put the wheel that suits the image into a folder; returns what it said.

    Args:
        name: Of the distribution.
        version: Exactly this.
        hashes: SHA-256, hex: one of them the file has to have.
        folder: Where to.
    """
    locked = folder / "wanted.txt"
    named = "".join(f" --hash=sha256:{each}" for each in hashes)
    locked.write_text(f"{name}=={version}{named}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"]
    command += ["--python-version=3.11", "--implementation=cp"]
    command += [f"--platform={each}_x86_64" for each in _PLATFORMS]
    command += ["--platform=any", "--dest=.", "--requirement", locked.name]
    return _run(command, folder)


def _run(command: Sequence[str], folder: Path) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # own arguments, values checked by the lock's patterns
            command, cwd=folder, capture_output=True, timeout=_FETCH_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    wrong = [line for line in lines if not line.startswith(("W:", "WARNING"))]
    return wrong[-1] if wrong else "another content came under its name"
