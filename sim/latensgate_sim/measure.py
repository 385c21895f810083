"""Measurements of an enclave that runs as a process: the launcher measures what it loads.

The formula is that of an EIF (facts D2), ``ext(x) = SHA384(48 zero bytes ‖ SHA384(x))``, over the
files in place of kernel and ramdisks:

* PCR0 = ext(runtime ‖ application), PCR1 = ext(runtime), PCR2 = ext(application)
* runtime = every file of the code folders, sorted by name; application = the operator's files
* a file goes in as: name length u32 ‖ name ‖ content length u64 ‖ content. Unlike in an EIF the
  lengths are hashed, so bytes cannot move from one file to the next.

Names are relative to the folder's own name, so a measurement does not depend on where a checkout
lies. Compiled files (``__pycache__``) are left out: start_process runs Python without them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

PCR_BYTES: Final = 48
ZERO_PCR: Final = bytes(PCR_BYTES)


@dataclass(frozen=True, slots=True)
class Measurements:
    """PCR0, PCR1 and PCR2, 48 bytes each."""

    pcr0: bytes
    pcr1: bytes
    pcr2: bytes

    def hex(self) -> dict[str, str]:
        """Return ``{"PCR0": "…", …}`` as nitro-cli prints it."""
        return {"PCR0": self.pcr0.hex(), "PCR1": self.pcr1.hex(), "PCR2": self.pcr2.hex()}


@dataclass(frozen=True, slots=True)
class EnclaveFiles:
    """What is measured.

    Attributes:
        runtime: Code folders (or files) common to all operators, with ``policy.toml`` and
            ``trust.toml``.
        application: The operator's own files: ``deployment.toml``.
    """

    runtime: Sequence[Path]
    application: Sequence[Path]


def extend(pcr: bytes, data: bytes) -> bytes:
    """Extend a PCR as the NSM does: SHA384(old ‖ data)."""
    return hashlib.sha384(pcr + data).digest()


def measure_enclave_files(paths: EnclaveFiles) -> Measurements:
    """Measure the files an enclave process is started with.

    Raises:
        OSError: A path is missing or cannot be read.
    """
    runtime = list(_records(paths.runtime))
    application = list(_records(paths.application))
    return Measurements(
        pcr0=_measure(runtime + application), pcr1=_measure(runtime), pcr2=_measure(application)
    )


def _measure(records: Iterable[bytes]) -> bytes:
    digest = hashlib.sha384()
    for record in records:
        digest.update(record)
    return extend(ZERO_PCR, digest.digest())


def _records(roots: Sequence[Path]) -> Iterator[bytes]:
    for root in sorted(roots, key=lambda path: path.name):
        for path in _files(root):
            label = path.relative_to(root.parent).as_posix().encode()
            content = path.read_bytes()
            head = len(label).to_bytes(4, "big") + label + len(content).to_bytes(8, "big")
            yield head + content


def _files(root: Path) -> list[Path]:
    if not root.is_dir():
        return [root]
    found = (path for path in root.rglob("*") if path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts)
