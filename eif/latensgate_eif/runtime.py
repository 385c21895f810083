"""The first ramdisk: init, Python, and the distributions of others. Common to every operator.

Nothing gets in because it lies in a package: libraries are named here, modules by the committed
list of what an enclave process loads (`enclave/loaded-modules.txt`), whole packages at a time, as
a branch that no test has taken may import a neighbour. No shell, no tool, no interpreter but one.
"""

from __future__ import annotations

import re
import stat
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from latensgate_eif.elf import is_elf, needed_libraries
from latensgate_eif.inputs import BuildError
from latensgate_eif.ramdisk import Entry, device_entry, file_entry, folder_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SITE: Final = "usr/lib/python3/dist-packages"
"""Where Debian's Python looks for distributions that do not come with it."""
_LIBRARY_FOLDERS: Final = ("lib/x86_64-linux-gnu/", "usr/lib/x86_64-linux-gnu/", "lib64/")
_MOUNT_POINTS: Final = ("dev", "proc", "sys", "tmp")
_CONSOLE: Final = device_entry(5, 1)
_WITHOUT: Final = {
    # Names of places, carriers and time zones: 20 MB that number plans do not use.
    "phonenumbers": ("geodata", "carrierdata", "tzdata"),
}
_EXACTLY: Final = frozenset({"presidio_analyzer"})
"""Distributions of which only loaded modules are taken: their neighbours import half of the world
(docs/adr/0011)."""
_FLAT: Final = frozenset({"cffi"})
"""Distributions of which only the extension module beside their package is used."""


def loaded_modules(text: str) -> frozenset[str]:
    """Read `enclave/loaded-modules.txt`: one name a line, comments apart."""
    lines = (line.strip() for line in text.splitlines())
    return frozenset(line for line in lines if line and not line.startswith("#"))


def runtime_entries(
    init: bytes,
    packages: Iterable[Mapping[str, Entry]],
    wheels: Mapping[str, Mapping[str, bytes]],
    modules: frozenset[str],
    names: Mapping[str, bytes] = MappingProxyType({}),
) -> dict[str, Entry]:
    """Choose what goes into the first ramdisk.

    Args:
        init: PID 1.
        packages: Files of each Debian package.
        wheels: Files of each wheel, by the name of its distribution.
        modules: What an enclave process loads, and the worker that finds names if there is one.
        names: What `names.names_files` has chosen, by path below ``dist-packages``.

    Raises:
        BuildError: A library that is needed is in no package.
    """
    offered: dict[str, Entry] = {}
    for package in packages:
        offered.update(package)
    entries = {path: folder_entry() for path in _MOUNT_POINTS}
    entries |= {"init": file_entry(init, executable=True), "dev/console": _CONSOLE}
    entries |= _python(offered, modules)
    for name, files in wheels.items():
        chosen = {path: data for path, data in files.items() if _wanted(name, path, modules)}
        entries |= {f"{SITE}/{path}": file_entry(data) for path, data in chosen.items()}
    entries |= {f"{SITE}/{path}": file_entry(data) for path, data in names.items()}
    return entries | _libraries(offered, entries)


def _python(offered: Mapping[str, Entry], modules: frozenset[str]) -> dict[str, Entry]:
    tops = {name.partition(".")[0] for name in modules}
    chosen: dict[str, Entry] = {}
    for path, entry in offered.items():
        found = _LIBRARY.fullmatch(path)
        if _INTERPRETER.fullmatch(path):
            chosen[path] = entry
        elif found and stat.S_ISREG(entry.mode) and _standard(found[1].split("/"), tops):
            chosen[path] = file_entry(entry.data)  # some are marked executable
    return chosen


_INTERPRETER: Final = re.compile(r"usr/bin/python3\.[0-9]+")
_LIBRARY: Final = re.compile(r"usr/lib/python3\.[0-9]+/(.+\.(?:py|so))")


def _standard(parts: Sequence[str], tops: set[str]) -> bool:
    if parts[0] == "lib-dynload":
        return parts[-1].partition(".")[0] in tops
    if parts[0].startswith("_sysconfigdata"):  # read by sysconfig, under a name of the machine's
        return "sysconfig" in tops
    return parts[0].removesuffix(".py") in tops


def _wanted(name: str, path: str, modules: frozenset[str]) -> bool:
    parts = PurePosixPath(path).parts
    if path.endswith(".so"):
        return True
    if name in _FLAT or not path.endswith(".py") or parts[0].endswith((".dist-info", ".data")):
        return False
    if parts[0] in _EXACTLY:
        module = ".".join(parts).removesuffix(".py").removesuffix(".__init__")
        return module in modules
    return not (len(parts) > 1 and parts[1] in _WITHOUT.get(parts[0], ()))


def _libraries(offered: Mapping[str, Entry], chosen: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the shared libraries that the chosen files need, and those that these need."""
    found: dict[str, Entry] = {}
    bundled = {PurePosixPath(path).name for path in chosen if is_bundled(path)}
    waiting = [entry.data for entry in chosen.values() if is_elf(entry.data)]
    while waiting:
        for name in set(needed_libraries(waiting.pop())) - bundled:
            path = _library(name, offered)
            if path not in found:
                found[path] = file_entry(_resolved(path, offered), executable=True)
                waiting.append(found[path].data)
    loader = _LIBRARY_FOLDERS[-1] + _LOADER
    return {**found, loader: file_entry(_resolved(loader, offered), executable=True)}


_LOADER: Final = "ld-linux-x86-64.so.2"


def is_bundled(path: str) -> bool:
    """Whether a file is a library that a wheel brings for its own extension modules."""
    return any(part.endswith(".libs") for part in PurePosixPath(path).parts[:-1])


def _library(name: str, offered: Mapping[str, Entry]) -> str:
    for folder in _LIBRARY_FOLDERS:
        if folder + name in offered:
            return folder + name
    raise BuildError(f"{name} is needed, and no package of inputs.lock has it")


def _resolved(path: str, offered: Mapping[str, Entry]) -> bytes:
    """Follow links inside the packages, so that an image holds files alone."""
    entry = offered[path]
    if not stat.S_ISLNK(entry.mode):
        return entry.data
    target = PurePosixPath("/", path).parent / entry.data.decode()
    return _resolved(str(target).removeprefix("/"), offered)
