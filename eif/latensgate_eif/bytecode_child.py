"""Compiles sources to bytecode. Run by the image's own interpreter, as a file; never imported.

    python3.11 bytecode_child.py FOLDER

FOLDER mirrors the image's root. Each source gets an "unchecked hash" file (PEP 552): at run time
neither times nor sources are looked at. Every file is compiled in a process forked from the same
state: marshalled code has flags that depend on which texts its process has seen before.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import sys
from pathlib import Path

_UNCHECKED_HASH = (1).to_bytes(4, "little")
_FAILED = 1


def compile_one(root: Path, source: Path) -> None:
    """Write the bytecode of one file; in it stands the path that the file has in the image."""
    text = source.read_bytes()
    code = compile(text, f"/{source.relative_to(root)}", "exec", dont_inherit=True, optimize=0)
    target = Path(importlib.util.cache_from_source(str(source)))
    target.parent.mkdir(exist_ok=True)
    head = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + importlib.util.source_hash(text)
    target.write_bytes(head + marshal.dumps(code))


def main(root: Path) -> int:
    """Compile everything below a folder, in the order of names."""
    for source in sorted(root.rglob("*.py")):
        child = os.fork()
        if not child:
            status = _FAILED
            try:
                compile_one(root, source)
                status = 0
            finally:
                os._exit(status)
        if os.waitpid(child, 0)[1]:
            sys.stderr.write(f"/{source.relative_to(root)} cannot be compiled\n")
            return _FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
