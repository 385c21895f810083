"""Rewrites `inputs.lock`: the same names, in the versions that are offered today.

Debian's packages come in the version that apt offers, checked by the archive's signature; wheels in
the version and with the hashes that `requirements/*.lock` name, so that the image runs what the
tests run. What is in the lock, a person decides by adding or taking out an entry.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from latensgate_eif.inputs import BuildError, Inputs, Package, Toolchain, Wheel, parse_inputs
from latensgate_eif.store import pip_download
from latensgate_eif.toolchain import run_tool

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUIREMENTS: Final = {
    "runtime": ("requirements/dev.lock", "requirements/bare.lock"),
    "names": ("requirements/ner.lock",),
}
"""Where versions and hashes of wheels stand, by their use."""
_OFFER: Final = re.compile(
    r"^'[^']+' (?P<file>[^ ]+)\.deb (?P<bytes>[0-9]+) SHA256:(?P<sha256>[0-9a-f]{64})$",
    re.MULTILINE,
)
_TIMEOUT_S: Final = 300


@dataclass(frozen=True, slots=True)
class Moved:
    """An input whose version changes.

    Attributes:
        name: Of the package or distribution, or the tool.
        old: What the lock named.
        new: What it names now.
    """

    name: str
    old: str
    new: str


def relock(raw: bytes, repository: Path) -> tuple[bytes, list[Moved]]:
    """Return the lock file anew, and what has moved.

    Args:
        raw: The lock file.
        repository: A checkout, for its requirements.

    Raises:
        BuildError: An input is offered by nobody, named; or the lock is malformed.
    """
    old = parse_inputs(raw)
    packages = [offered_package(one) for one in (old.kernel, *old.runtime)]
    wheels = [offered_wheel(one, repository) for one in (*old.wheels, *old.names)]
    tools = installed_toolchain()
    head = raw.decode().partition("[toolchain]")[0]
    text = head + lock_text(tools, packages, wheels)
    moved = list(_moved(old, tools, packages, wheels))
    return text.encode(), moved


def offered_package(old: Package) -> Package:
    """Ask apt which version it offers; nothing is downloaded.

    Raises:
        BuildError: None.
    """
    command = ["apt-get", "download", "--print-uris", "-qq", old.name]
    try:
        done = subprocess.run(  # noqa: S603  # own arguments, the name checked by the lock's pattern
            command, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{old.name}: {error}") from None
    found = _OFFER.search(done.stdout.decode(errors="replace"))
    if found is None:
        raise BuildError(f"{old.name}: apt offers no package of this name with a SHA-256")
    _, version, architecture = found["file"].split("_")
    return msgspec.structs.replace(
        old,
        version=version.replace("%3a", ":"),
        architecture=architecture,
        bytes=int(found["bytes"]),
        sha256=found["sha256"],
    )


def offered_wheel(old: Wheel, repository: Path) -> Wheel:
    """Take the version that the requirements name, in the file that suits the image.

    Raises:
        BuildError: The requirements do not name it, or the index does not have it.
    """
    version, hashes = _required(old, repository)
    with tempfile.TemporaryDirectory() as name:
        said = pip_download(old.name, version, hashes, Path(name))
        for file in Path(name).glob("*.whl"):
            data = file.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            return Wheel(old.name, version, file.name, old.use, len(data), digest)
    raise BuildError(f"{old.name} {version} is not to be had: {said}")


def _required(wheel: Wheel, repository: Path) -> tuple[str, list[str]]:
    files = REQUIREMENTS[wheel.use]
    for file in files:
        text = (repository / file).read_text(encoding="utf-8")
        block = re.search(rf"^{re.escape(wheel.name)}==([^ ]+)[^#]*", text, re.MULTILINE)
        if block is not None:
            return block[1], re.findall(r"sha256:([0-9a-f]{64})", block[0])
    raise BuildError(f"{wheel.name}: a version in {' or '.join(files)} expected")


def installed_toolchain() -> Toolchain:
    """Return what compiler and linker of this machine say of themselves.

    Raises:
        BuildError: One is not installed.
    """
    first = [run_tool([tool, "--version"], Path("/")).decode() for tool in ("gcc", "ld")]
    gcc, ld = (said.partition("\n")[0] for said in first)
    return Toolchain(gcc, ld)


def lock_text(tools: Toolchain, packages: list[Package], wheels: list[Wheel]) -> str:
    """Return the tables of a lock file."""
    note = "first lines of --version; another compiler or linker makes another image"
    parts = [f"[toolchain] # {note}\n" + _lines(tools)]
    parts += ["[[package]]\n" + _lines(package) for package in packages]
    parts += ["[[wheel]]\n" + _lines(wheel) for wheel in wheels]
    return "\n".join(parts)


def _lines(table: msgspec.Struct) -> str:
    values: dict[str, str | int] = msgspec.to_builtins(table)
    return "".join(
        f"{name} = {value}\n" if isinstance(value, int) else f'{name} = "{value}"\n'
        for name, value in values.items()
    )


def _moved(
    old: Inputs, tools: Toolchain, packages: list[Package], wheels: list[Wheel]
) -> Iterator[Moved]:
    for tool in ("gcc", "ld"):
        before, after = str(getattr(old.toolchain, tool)), str(getattr(tools, tool))
        if before != after:
            yield Moved(tool, before, after)
    offered: tuple[Package | Wheel, ...] = (*packages, *wheels)
    for was, now in zip(old.all, offered, strict=True):
        if was.sha256 != now.sha256:
            yield Moved(was.name, was.version, now.version)
