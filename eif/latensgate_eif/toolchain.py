"""Runs the compiler: the same version, the same flags, an environment without the builder's own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from latensgate_eif.inputs import BuildError, Toolchain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SEARCH_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
FIXED_ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": _SEARCH_PATH,  # the distribution's own tools, whatever a builder has put before them
    "LC_ALL": "C",
    "TZ": "UTC",
    "SOURCE_DATE_EPOCH": "1700000000",
}
_INIT_FLAGS: Final = (
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Os",
    "-static",
    "-nostdlib",
    "-ffreestanding",
    "-fno-pie",
    "-no-pie",
    "-fno-stack-protector",  # its guard is the C library's, and init has none
    "-fno-asynchronous-unwind-tables",
    "-fno-ident",
    "-Wl,--build-id=none",
    "-Wl,-z,noexecstack",
    "-Wl,--strip-all",
)
_TIMEOUT_S: Final = 3_600
"""A kernel takes four minutes on two idle cores."""
_SHOWN_LINES: Final = 12


def run_tool(command: Sequence[str], folder: Path, extra: Mapping[str, str] | None = None) -> bytes:
    """Run a tool of the distribution and return what it prints.

    Args:
        command: Name and arguments.
        folder: Where it runs.
        extra: Environment beside the fixed one.

    Raises:
        BuildError: It is not installed, or it failed; with its last words.
    """
    program = shutil.which(command[0], path=_SEARCH_PATH)
    if program is None:
        raise BuildError(f"{command[0]} is not installed; docs/runbooks/build-image.md lists tools")
    done = subprocess.run(  # noqa: S603  # own arguments, found on a fixed path
        [program, *command[1:]],
        cwd=folder,
        env={**FIXED_ENVIRONMENT, **(extra or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        words = done.stderr.decode(errors="replace").splitlines()[-_SHOWN_LINES:]
        raise BuildError(f"{command[0]} ended with {done.returncode}: " + "\n".join(words))
    return done.stdout


def check_toolchain(expected: Toolchain) -> None:
    """Compare the installed compiler and linker with the locked ones.

    Raises:
        BuildError: Another version, which would make another image.
    """
    for tool, wanted in (("gcc", expected.gcc), ("ld", expected.ld)):
        found = run_tool([tool, "--version"], Path("/")).decode().partition("\n")[0]
        if found != wanted:
            raise BuildError(f"{tool}: inputs.lock expects {wanted!r}, found {found!r}")


def without_debugging(libraries: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return shared libraries without what is for debuggers alone; it is never mapped.

    Args:
        libraries: By path.

    Raises:
        BuildError: One is none.
    """
    with tempfile.TemporaryDirectory() as name:
        files = {path: Path(name, str(number)) for number, path in enumerate(libraries)}
        for path, file in files.items():
            file.write_bytes(libraries[path])
        if files:
            run_tool(
                ["strip", "--strip-debug", *(str(file) for file in files.values())], Path(name)
            )
        return {path: file.read_bytes() for path, file in files.items()}


def compile_init(source: Path) -> bytes:
    """Return the static init, made from one C file.

    Raises:
        BuildError: The compiler refused.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # By a name without folders: nothing of the builder's paths can get in.
        shutil.copyfile(source, folder / "init.c")
        run_tool(["gcc", *_INIT_FLAGS, "-o", "init", "init.c"], folder)
        return (folder / "init").read_bytes()
