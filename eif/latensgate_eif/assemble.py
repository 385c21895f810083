"""Puts an image together: kernel, command line, three ramdisks.

| ramdisk | holds | register | changes with |
|---|---|---|---|
| first | init, Python, distributions of others | PCR0, PCR1 | `inputs.lock`, init |
| second | our code, `policy.toml`, `trust.toml`, `ca.pem` | PCR0, PCR2 | a release, the flavour |
| last | `deployment.toml` | PCR0, PCR2 | the operator |
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate_eif.application import (
    Flavour,
    Roots,
    amazon_roots,
    application_entries,
    deployment_entries,
    simulated_roots,
)
from latensgate_eif.bytecode import compile_entries
from latensgate_eif.image import Architecture, Image, Section, SectionType
from latensgate_eif.inputs import BuildError, Inputs, python_version
from latensgate_eif.names import names_files
from latensgate_eif.packages import read_deb, read_wheel
from latensgate_eif.ramdisk import Entry, encode_ramdisk
from latensgate_eif.runtime import loaded_modules, runtime_entries
from latensgate_eif.toolchain import check_toolchain, compile_init

if TYPE_CHECKING:
    from pathlib import Path

    from latensgate_eif.store import Store

COMMAND_LINE: Final = (
    b"reboot=k panic=1 oops=panic console=ttyS0 loglevel=4 rootfstype=ramfs"
    b" random.trust_cpu=off random.trust_bootloader=off"
)
"""``reboot=k``: how an enclave on Nitro ends. ``rootfstype=ramfs``: the root may use all memory
rather than half of it, and never runs full while it is unpacked. No trust in the CPU's or the
loader's random numbers: init asks the NSM before anything needs one."""
DEFAULT_MEMORY_BYTES: Final = 512 * 1024**2
"""What a launcher takes without a wish: the ramdisks twice, and room for 256 calls."""
NAMES_MEMORY_BYTES: Final = 1_536 * 1024**2
"""The same where the image carries spaCy: its ramdisk twice, the loader, and two workers at their
limit (`PII_NER_MEMORY_MAX_BYTES`)."""
DEFAULT_CPUS: Final = 2
_NEVER: Final = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image is made of.

    Attributes:
        repository: A checkout.
        flavour: Which roots it believes.
        deployment: The operator's `deployment.toml`.
        ca_pem: Roots of the simulator; for `sim` alone.
        kernel: A bzImage.
        version: Of the release, for the metadata.
    """

    repository: Path
    flavour: Flavour
    deployment: bytes = field(repr=False)
    ca_pem: bytes | None = field(repr=False)
    kernel: bytes = field(repr=False)
    version: str


@dataclass(frozen=True, slots=True)
class Assembled:
    """An image and what its ramdisks hold.

    Attributes:
        image: The image.
        ramdisks: Entries of each ramdisk, by path.
    """

    image: Image
    ramdisks: tuple[dict[str, Entry], ...]


def assemble(recipe: Recipe, inputs: Inputs, store: Store) -> Assembled:
    """Make an image: the same bytes for the same recipe and lock, anywhere.

    Raises:
        BuildError: An input or tool is missing, or the recipe contradicts itself.
    """
    roots = _roots(recipe)
    check_toolchain(inputs.toolchain)
    version = python_version(inputs)
    names = recipe.flavour.finds_names
    runtime = _runtime(recipe.repository, inputs, store, names=names)
    bare = application_entries(recipe.repository, roots, version, names=names)
    compiled = compile_entries(runtime, {**runtime, **bare}, version)
    own = {path: entry for path, entry in compiled.items() if path.startswith("usr/local/")}
    others = {path: entry for path, entry in compiled.items() if path not in own}
    ramdisks = (runtime | others, bare | own, deployment_entries(recipe.deployment))
    image = Image(
        Architecture.X86_64,
        NAMES_MEMORY_BYTES if names else DEFAULT_MEMORY_BYTES,
        DEFAULT_CPUS,
        (
            Section(SectionType.KERNEL, recipe.kernel),
            Section(SectionType.COMMAND_LINE, COMMAND_LINE),
            Section(SectionType.METADATA, metadata(recipe, inputs)),
            *(Section(SectionType.RAMDISK, encode_ramdisk(entries)) for entries in ramdisks),
        ),
    )
    return Assembled(image, ramdisks)


def first_ramdisk(
    repository: Path, inputs: Inputs, store: Store, *, names: bool = False
) -> dict[str, Entry]:
    """Return the first ramdisk's entries: the same in all images that find names, or find none.

    Raises:
        BuildError: As `assemble` does.
    """
    check_toolchain(inputs.toolchain)
    runtime = _runtime(repository, inputs, store, names=names)
    return runtime | compile_entries(runtime, runtime, python_version(inputs))


def _roots(recipe: Recipe) -> Roots:
    if recipe.flavour.is_simulated != (recipe.ca_pem is not None):
        raise BuildError(
            "roots: of the simulator for flavour sim or sim-ner, and for no other, expected"
        )
    if recipe.ca_pem is None:
        return amazon_roots(recipe.repository)
    return simulated_roots(recipe.ca_pem)


def _runtime(repository: Path, inputs: Inputs, store: Store, *, names: bool) -> dict[str, Entry]:
    modules = (repository / "enclave/loaded-modules.txt").read_text(encoding="ascii")
    worker = (repository / "enclave/loaded-modules-ner.txt").read_text(encoding="ascii")
    models = [read_wheel(store.read(wheel)) for wheel in inputs.names] if names else []
    return runtime_entries(
        compile_init(repository / "eif/init/init.c"),
        [read_deb(package.name, store.read(package)) for package in inputs.runtime],
        {wheel.name: read_wheel(store.read(wheel)) for wheel in inputs.wheels},
        loaded_modules(modules + worker) if names else loaded_modules(modules),
        names_files(models, loaded_modules(worker)),
    )


def metadata(recipe: Recipe, inputs: Inputs) -> bytes:
    """Return the metadata section: what a person wants to know of a file. Nothing measured.

    Nitro's tools expect these keys. No time stands in it, so that images are equal, not only their
    measurements.
    """
    build = {
        "BuildTime": _NEVER,
        "BuildTool": "latensgate-eif",
        "BuildToolVersion": recipe.version,
        "OperatingSystem": "Linux",
        "KernelVersion": inputs.kernel.version,
    }
    return json.dumps(
        {
            "ImageName": f"latensgate-{recipe.flavour.value}",
            "ImageVersion": recipe.version,
            "BuildMetadata": build,
            "DockerInfo": {},
            "CustomMetadata": {"InputsSHA256": inputs.digest},
        },
        separators=(",", ":"),
    ).encode()
