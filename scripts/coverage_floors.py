"""Fail where branch coverage is below its floor: 100 % for what is trusted, 90 % elsewhere.

Reads the data that `make test` has just written (coverage's own JSON report), so one test run
serves all floors.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

FLOORS_PERCENT = {
    "shared/latensgate_shared": 100.0,
    "enclave/latensgate_enclave": 100.0,
    "sdk/python/latensgate/verify": 100.0,
    "sdk/python/latensgate": 90.0,
    "parent/latensgate_parent": 90.0,
    "sim/latensgate_sim": 90.0,
    "eif/latensgate_eif": 90.0,
}
"""Folder → floor; a file counts for the longest folder that holds it."""


class Summary(TypedDict):
    """The counts of one file in coverage's JSON report."""

    covered_lines: int
    num_statements: int
    covered_branches: int
    num_branches: int


class File(TypedDict):
    """One file in coverage's JSON report."""

    summary: Summary
    missing_lines: list[int]
    missing_branches: list[list[int]]


def load_files() -> dict[str, File]:
    """Combine the data of all test processes and return the files of the report."""
    combine = [sys.executable, "-m", "coverage", "combine", "--quiet"]
    subprocess.run(combine, check=False)  # noqa: S603  # fixed arguments
    with TemporaryDirectory() as folder:
        report = Path(folder, "coverage.json")
        command = [sys.executable, "-m", "coverage", "json", "--quiet", "-o", str(report)]
        subprocess.run(command, check=True)  # noqa: S603  # fixed arguments
        files: dict[str, File] = json.loads(report.read_bytes())["files"]
    return files


def folder_of(name: str) -> str | None:
    """Return the longest folder with a floor that holds this file."""
    holding = [folder for folder in FLOORS_PERCENT if name.startswith(folder + "/")]
    return max(holding, key=len, default=None)


def main() -> int:
    """Print a line a folder, and every gap where a floor is missed; exit 1 if one is."""
    files = load_files()
    failed = False
    for folder, floor in FLOORS_PERCENT.items():
        own = {name: file for name, file in files.items() if folder_of(name) == folder}
        total = sum(
            f["summary"]["num_statements"] + f["summary"]["num_branches"] for f in own.values()
        )
        hit = sum(
            f["summary"]["covered_lines"] + f["summary"]["covered_branches"] for f in own.values()
        )
        if not total:
            continue
        percent = 100 * hit / total
        below = percent < floor
        failed |= below
        print(f"{'BELOW ' if below else ''}{folder}: {percent:.2f} % (floor {floor:.0f} %)")
        for name, file in own.items() if below else ():
            if file["missing_lines"] or file["missing_branches"]:
                print(
                    f"  {name}: lines {file['missing_lines']} branches {file['missing_branches']}"
                )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
