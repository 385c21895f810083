"""`inputs.lock`: everything of others that goes into an image, by hash, and the toolchain.

Only names and hashes stand in it. Where a file comes from is the business of the machine that
builds (its apt and pip are set up with mirrors), and does not matter: the hash decides.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from latensgate_shared.errors import ErrorCode, LatensgateError

_Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9.+-]{0,100}\\Z")]
_Version = Annotated[str, Meta(pattern="^[0-9][A-Za-z0-9.+:~-]{0,100}\\Z")]
_File = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_.+-]{0,200}\\.whl\\Z")]
_SHA256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}\\Z")]
_Size = Annotated[int, Meta(ge=1)]


class BuildError(LatensgateError):
    """An image cannot be built; the text names the input or tool and what was expected of it."""

    code = ErrorCode.ERR_CONFIGURATION


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A TOML table with exactly these keys."""


class Package(_Table, frozen=True):
    """A Debian package.

    Attributes:
        use: What it is for: sources of the kernel, or files of the first ramdisk.
    """

    name: _Name
    version: _Version
    architecture: Literal["all", "amd64"]
    use: Literal["kernel", "runtime"]
    bytes: _Size
    sha256: _SHA256

    @property
    def file(self) -> str:
        """The name that apt gives to the file."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


class Wheel(_Table, frozen=True):
    """A Python distribution, built.

    Attributes:
        use: ``runtime`` is in every image, ``names`` where names are looked for.
    """

    name: _Name
    version: _Version
    file: _File
    use: Literal["runtime", "names"]
    bytes: _Size
    sha256: _SHA256


class Toolchain(_Table, frozen=True):
    """First lines of what ``--version`` says."""

    gcc: str
    ld: str


class _Lock(_Table, frozen=True):
    toolchain: Toolchain
    package: tuple[Package, ...]
    wheel: tuple[Wheel, ...]


@dataclass(frozen=True, slots=True)
class Inputs:
    """The lock file, read.

    Attributes:
        kernel: The package with the kernel's sources.
        runtime: Packages whose files go into the first ramdisk.
        wheels: Distributions that go there, too.
        names: Those that only flavour `ner` takes.
        toolchain: What compiles kernel and init.
        digest: SHA-256 of the lock file, hex.
    """

    kernel: Package
    runtime: tuple[Package, ...]
    wheels: tuple[Wheel, ...]
    names: tuple[Wheel, ...]
    toolchain: Toolchain
    digest: str

    @property
    def all(self) -> tuple[Package | Wheel, ...]:
        """Every file."""
        return (*self.core, *self.names)

    @property
    def core(self) -> tuple[Package | Wheel, ...]:
        """Every file that is in all flavours."""
        return (self.kernel, *self.runtime, *self.wheels)


def parse_inputs(raw: bytes) -> Inputs:
    """Read `inputs.lock`.

    Raises:
        BuildError: Names what was expected.
    """
    try:
        lock = msgspec.convert(tomllib.loads(raw.decode()), _Lock, strict=True)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BuildError(f"inputs.lock: {error}") from None
    kernels = [package for package in lock.package if package.use == "kernel"]
    if len(kernels) != 1:
        raise BuildError(f'inputs.lock: one package of use "kernel" expected, not {len(kernels)}')
    names = [package.name for package in lock.package] + [wheel.name for wheel in lock.wheel]
    if len(set(names)) != len(names):
        raise BuildError("inputs.lock: a name stands twice")
    runtime = tuple(package for package in lock.package if package.use == "runtime")
    wheels = tuple(wheel for wheel in lock.wheel if wheel.use == "runtime")
    models = tuple(wheel for wheel in lock.wheel if wheel.use == "names")
    digest = hashlib.sha256(raw).hexdigest()
    return Inputs(kernels[0], runtime, wheels, models, lock.toolchain, digest)


def python_version(inputs: Inputs) -> str:
    """Return the major and minor version of the interpreter, such as ``3.11``.

    Raises:
        BuildError: No package is an interpreter.
    """
    for package in inputs.runtime:
        if match := re.fullmatch(r"python(3\.[0-9]+)-minimal", package.name):
            return match[1]
    raise BuildError("inputs.lock: a package python3.N-minimal expected")
