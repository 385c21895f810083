"""Replay inputs of one target.

`replay.py NAME` runs the committed corpus (for the coverage figures).
`replay.py NAME FOLDER` adds to the corpus what in FOLDER reaches a line pair that nothing before
it reached: the corpus stays small enough to commit.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from fuzz_targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
PACKAGES = ("latensgate_shared", "latensgate_enclave", "latensgate/verify")
KEPT_MAX_BYTES = 4096
KEPT_MAX_COUNT = 120
Arc = tuple[str, int, int]


def arcs_of(run: Callable[[], None]) -> set[Arc]:
    """Return the pairs of lines that follow each other in our package while `run` runs."""
    arcs: set[Arc] = set()
    last: dict[int, int] = {}

    def trace(frame: FrameType, event: str, _argument: object) -> Any:  # noqa: ANN401  # settrace's own type
        if not any(package in frame.f_code.co_filename for package in PACKAGES):
            return None
        if event == "line":
            arcs.add((frame.f_code.co_filename, last.get(id(frame), 0), frame.f_lineno))
            last[id(frame)] = frame.f_lineno
        return trace

    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(None)
    return arcs


def inputs(folder: Path) -> Iterator[bytes]:
    """Yield the files of a folder, shortest first."""
    files = sorted(folder.iterdir(), key=lambda file: (file.stat().st_size, file.name))
    return (file.read_bytes() for file in files)


def extend_corpus(name: str, folder: Path) -> None:
    """Keep what reaches something new, within bounds."""
    corpus = CORPUS / name
    known: set[Arc] = set()
    kept = len(list(corpus.iterdir()))
    for data in inputs(corpus):
        known |= arcs_of(lambda data=data: TARGETS[name].run(data))  # type: ignore[misc]  # default binds early
    for data in inputs(folder):
        found = arcs_of(lambda data=data: TARGETS[name].run(data))  # type: ignore[misc]  # default binds early
        if found - known and len(data) <= KEPT_MAX_BYTES and kept < KEPT_MAX_COUNT:
            known |= found
            kept += 1
            (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    target, *rest = sys.argv[1:]
    if rest:
        extend_corpus(target, Path(rest[0]))
    else:
        for data in inputs(CORPUS / target):
            TARGETS[target].run(data)
