"""Bytecode for the image, made by the interpreter that will run it."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from latensgate_eif import bytecode_child
from latensgate_eif.ramdisk import Entry, file_entry
from latensgate_eif.toolchain import run_tool

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOADER: Final = "lib64/ld-linux-x86-64.so.2"
_LIBRARIES: Final = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")


def compile_entries(
    runtime: Mapping[str, Entry], sources: Mapping[str, Entry], version: str
) -> dict[str, Entry]:
    """Compile every source and return the bytecode files.

    Args:
        runtime: The first ramdisk: its interpreter does the work, unpacked, by its own loader.
        sources: The entries whose ``.py`` files are compiled.
        version: Of the interpreter, such as ``3.11``.

    Raises:
        BuildError: The interpreter does not run here, or a source is not Python.
    """
    with tempfile.TemporaryDirectory() as name:
        root, work = Path(name, "root"), Path(name, "sources")
        _unpack(runtime, root)
        _unpack({p: e for p, e in sources.items() if p.endswith(".py")}, work)
        libraries = ":".join(str(root / folder) for folder in _LIBRARIES)
        command = [str(root / _LOADER), "--library-path", libraries]
        command += [str(root / f"usr/bin/python{version}"), "-s", "-S", "-B", "-W", "ignore"]
        command += [bytecode_child.__file__, str(work)]
        run_tool(command, Path(name), {"PYTHONHASHSEED": "0"})
        return {
            str(file.relative_to(work)): file_entry(file.read_bytes())
            for file in work.rglob("*.pyc")
        }


def _unpack(entries: Mapping[str, Entry], folder: Path) -> None:
    for path, entry in entries.items():
        if stat.S_ISREG(entry.mode):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(entry.data)
            target.chmod(stat.S_IMODE(entry.mode) | stat.S_IWUSR)
