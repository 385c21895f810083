"""A release's source bundle: every input, and what the builder itself runs on.

    BUNDLE/inputs.lock, SHA256SUMS
    BUNDLE/inputs/*             a store: `--store BUNDLE --offline` builds from it
    BUNDLE/tool/*.whl           for `pip install --no-index --find-links BUNDLE/tool`

With it, a checkout and Debian 12's compiler an image can be built after every mirror has moved on.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from latensgate_eif.inputs import BuildError

if TYPE_CHECKING:
    from pathlib import Path

    from latensgate_eif.inputs import Inputs
    from latensgate_eif.store import Store

TOOL_LOCK: Final = "requirements/eif.lock"
SUMS: Final = "SHA256SUMS"
_TIMEOUT_S: Final = 1_800


def write_bundle(repository: Path, inputs: Inputs, store: Store, folder: Path) -> list[Path]:
    """Write the bundle; returns its files, each named in its list of sums.

    Args:
        repository: A checkout.
        inputs: Its lock.
        store: Where the inputs are, or come to be.
        folder: Made if it is not there.

    Raises:
        BuildError: An input is not to be had, named.
    """
    store.bundle(inputs.all, folder / "inputs")
    shutil.copyfile(repository / "eif/inputs.lock", folder / "inputs.lock")
    download_tool(repository / TOOL_LOCK, folder / "tool")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [f"{_sha256(path)}  {path.relative_to(folder)}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    return files


def download_tool(lock: Path, folder: Path) -> None:
    """Fetch the wheels that the builder needs on Debian 12, by their hashes.

    Raises:
        BuildError: pip fails; with its last words.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--require-hashes", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    command += ["--requirement", str(lock)]
    try:
        done = subprocess.run(  # noqa: S603  # own arguments
            command, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{lock}: {error}") from None
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise BuildError(f"{lock}: {words[-1] if words else 'pip failed'}")


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
