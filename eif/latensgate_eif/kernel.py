"""The kernel: Debian's sources, our configuration, the same bytes on every machine.

It is built once for a fragment, a source package and a compiler, and kept. Whoever does not want to
wait can take AWS's kernel instead; measurements then are those of that kernel.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from latensgate_eif.inputs import BuildError
from latensgate_eif.packages import read_deb
from latensgate_eif.toolchain import check_toolchain, run_tool

if TYPE_CHECKING:
    from latensgate_eif.inputs import Inputs
    from latensgate_eif.store import Store

KERNEL_ENVIRONMENT: Final = {
    "KBUILD_BUILD_TIMESTAMP": "Tue Nov 14 22:13:20 UTC 2023",
    "KBUILD_BUILD_USER": "latensgate",
    "KBUILD_BUILD_HOST": "latensgate",
    "KBUILD_BUILD_VERSION": "1",
}
_BZIMAGE: Final = "arch/x86/boot/bzImage"


def fragment_lines(fragment: bytes) -> list[str]:
    """Return the settings of a configuration fragment, without comments.

    Raises:
        BuildError: A line is neither a setting nor a comment, or a symbol stands twice.
    """
    lines = [line.strip() for line in fragment.decode().splitlines()]
    settings = [line for line in lines if line and not line.startswith("#")]
    for line in settings:
        if not line.startswith("CONFIG_") or "=" not in line:
            raise BuildError(f"kernel configuration: CONFIG_NAME=value expected, found {line!r}")
    names = [line.partition("=")[0] for line in settings]
    if len(set(names)) != len(names):
        raise BuildError("kernel configuration: a symbol stands twice")
    return settings


def check_configuration(fragment: bytes, resulting: str) -> None:
    """See that every setting of the fragment has survived its dependencies.

    Raises:
        BuildError: Names the settings that are not in the resulting ``.config``.
    """
    found = set(resulting.splitlines())
    lost = [line for line in fragment_lines(fragment) if line not in found]
    if lost:
        raise BuildError(f"kernel configuration: lost for want of a dependency: {', '.join(lost)}")


def kernel_key(inputs: Inputs, fragment: bytes) -> str:
    """Return the name under which a kernel is kept: a digest of all that decides its bytes."""
    digest = hashlib.sha256()
    for part in (
        fragment,
        inputs.kernel.sha256.encode(),
        inputs.toolchain.gcc.encode(),
        inputs.toolchain.ld.encode(),
        repr(sorted(KERNEL_ENVIRONMENT.items())).encode(),
    ):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def kept_kernel(store: Store, inputs: Inputs, fragment: bytes) -> Path:
    """Return where the kernel of these inputs lies, or would lie."""
    return store.folder / "kernels" / kernel_key(inputs, fragment) / "bzImage"


def obtain_kernel(store: Store, inputs: Inputs, fragment: bytes) -> bytes:
    """Return the kernel, built now if it was not before.

    Raises:
        BuildError: An input or a tool is missing, or the build failed.
    """
    kept = kept_kernel(store, inputs, fragment)
    if kept.is_file():
        return kept.read_bytes()
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        built = build_kernel(store, inputs, fragment, Path(folder))
        scratch = Path(folder, "bzImage")
        scratch.write_bytes(built)
        scratch.replace(kept)
    return built


def build_kernel(store: Store, inputs: Inputs, fragment: bytes, folder: Path) -> bytes:
    """Build the kernel in an empty folder (2 GB), whatever was built before.

    Raises:
        BuildError: As `obtain_kernel` does.
    """
    check_toolchain(inputs.toolchain)
    settings = folder / "fragment"
    settings.write_text("\n".join(fragment_lines(fragment)) + "\n")
    source = unpack_sources(store, inputs, folder)
    output = folder / "output"
    output.mkdir()
    make = ["make", "--silent", f"O={output}", "ARCH=x86_64"]
    run_tool([*make, f"KCONFIG_ALLCONFIG={settings}", "allnoconfig"], source, KERNEL_ENVIRONMENT)
    check_configuration(fragment, (output / ".config").read_text())
    run_tool([*make, f"-j{os.cpu_count() or 1}", "bzImage"], source, KERNEL_ENVIRONMENT)
    return (output / _BZIMAGE).read_bytes()


def unpack_sources(store: Store, inputs: Inputs, folder: Path) -> Path:
    """Unpack the kernel's sources and return their folder.

    Raises:
        BuildError: The package holds no archive of sources.
    """
    name = inputs.kernel.name
    files = read_deb(name, store.read(inputs.kernel))
    archive = files.get(f"usr/src/{name}.tar.xz")
    if archive is None:
        raise BuildError(f"{name}: usr/src/{name}.tar.xz expected in the package")
    packed = folder / "sources.tar.xz"
    packed.write_bytes(archive.data)
    run_tool(["tar", "--extract", "--file", packed.name], folder)
    packed.unlink()
    return folder / name
