"""Commands for Latensgate's own image: fetch, kernel, assemble."""

from __future__ import annotations

import hashlib
import shlex
from typing import TYPE_CHECKING, Final

import click

from latensgate_eif.application import Flavour
from latensgate_eif.assemble import Assembled, Recipe, assemble, first_ramdisk
from latensgate_eif.bundle import SUMS, write_bundle
from latensgate_eif.exits import EPILOG, Exit
from latensgate_eif.files import FOLDER, READABLE, read_bounded, write_whole
from latensgate_eif.image import encode_image
from latensgate_eif.inputs import BuildError, Inputs, parse_inputs
from latensgate_eif.kernel import build_kernel, obtain_kernel
from latensgate_eif.manifest import manifest_text
from latensgate_eif.measure import measure_image
from latensgate_eif.record import (
    ReleaseRecord,
    measured,
    parse_record,
    record_text,
    with_image,
)
from latensgate_eif.relock import relock
from latensgate_eif.sbom import bill_of_materials
from latensgate_eif.sizes import size_report
from latensgate_eif.store import Store, default_store
from latensgate_eif.views import show_measurements

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_FRAGMENT: Final = "eif/kernel/latensgate.config"
_LOCK: Final = "eif/inputs.lock"
_FIXED: Final = """\
What the first ramdisk holds: init, Python, distributions of others. It changes with
eif/inputs.lock, eif/init and enclave/loaded-modules*.txt, and PCR1 with it. Written by make image.
Mode, size, SHA-256 (device: numbers) and path of every entry."""
_VERSION_LINE: Final = 'VERSION: Final = "'


def _shared(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that all three have."""
    options = (
        click.option(
            "--repository", type=FOLDER, default=".", help="A checkout; by default this folder."
        ),
        click.option(
            "--store", "folder", type=FOLDER, help="Fetched and built things. [~/.cache/latensgate]"
        ),
        click.option("--offline", is_flag=True, help="Never ask a mirror: the store has it all."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def read_lock(repository: Path) -> Inputs:
    """Read the lock file of a checkout.

    Raises:
        OSError: It is not there.
        BuildError: It is malformed.
    """
    return parse_inputs((repository / _LOCK).read_bytes())


def release_version(repository: Path) -> str:
    """Return the version of the enclave's code in a checkout.

    Raises:
        OSError: It is not there.
    """
    text = (repository / "enclave/latensgate_enclave/__init__.py").read_text(encoding="utf-8")
    return text.partition(_VERSION_LINE)[2].partition('"')[0]


@click.command(epilog=EPILOG)
@_shared
@click.option("--bundle", type=FOLDER, help="Make a release's source bundle there.")
@click.option("--core", is_flag=True, help="Only what is in every flavour.")
def fetch(
    *, repository: Path, folder: Path | None, offline: bool, bundle: Path | None, core: bool
) -> int:
    """Fetch every input of eif/inputs.lock and check its hash (about 260 MB).

    Without what only the flavours that find names need: --core (170 MB).
    """
    inputs = read_lock(repository)
    store = Store(folder or default_store(), offline=offline)
    for one in inputs.core if core else inputs.all:
        click.echo(f"{one.sha256[:16]}  {store.path(one).name}")
    if bundle is not None:
        files = write_bundle(repository, inputs, store, bundle)
        click.echo(f"{len(files)} files in {bundle}; check them with: sha256sum --check {SUMS}")
    return Exit.DONE


@click.group(epilog=EPILOG)
def inputs() -> None:
    """eif/inputs.lock: everything of others that goes into an image."""


@inputs.command("lock", epilog=EPILOG)
@click.option("--repository", type=FOLDER, default=".", help="A checkout; by default this folder.")
@click.option("--check", is_flag=True, help="Write nothing; end with 1 if something has moved.")
def inputs_lock(*, repository: Path, check: bool) -> int:
    """Rewrite the lock with what apt offers today and requirements/*.lock name.

    Run apt-get update before. Kernel and images are other ones afterwards: build, test, and look at
    what changed in eif/rootfs.manifest before you commit.
    """
    lock = repository / _LOCK
    text, moved = relock(lock.read_bytes(), repository)
    for one in moved:
        click.echo(f"{one.name}: {one.old} -> {one.new}")
    if not moved:
        click.echo("nothing has moved")
    elif not check:
        write_whole(lock, text)
    return Exit.DIFFERENT if moved and check else Exit.DONE


@click.command(epilog=EPILOG)
@_shared
@click.option("--names", is_flag=True, help="Of the flavours that find names.")
@click.option("--out", type=READABLE, required=True, help="Such as eif/rootfs.manifest.")
def manifest(
    *, repository: Path, folder: Path | None, offline: bool, names: bool, out: Path
) -> int:
    """Write what the first ramdisk of every image holds. Needs no kernel; ten seconds."""
    store = Store(folder or default_store(), offline=offline)
    entries = first_ramdisk(repository, read_lock(repository), store, names=names)
    write_whole(out, manifest_text(_FIXED, [entries]).encode())
    return Exit.DONE


@click.command(epilog=EPILOG)
@_shared
@click.option("--fresh", type=FOLDER, help="Build anew in this empty folder (2 GB), keep nothing.")
@click.option("--out", type=READABLE, help="Write the kernel there.")
def kernel(
    *, repository: Path, folder: Path | None, offline: bool, fresh: Path | None, out: Path | None
) -> int:
    """Build the kernel (about five minutes), or take the one built before; print its SHA-256."""
    inputs, store = read_lock(repository), Store(folder or default_store(), offline=offline)
    fragment = (repository / _FRAGMENT).read_bytes()
    if fresh is None:
        image = obtain_kernel(store, inputs, fragment)
    else:
        fresh.mkdir(parents=True, exist_ok=True)
        image = build_kernel(store, inputs, fragment, fresh.resolve())
    if out is not None:
        write_whole(out, image)
    click.echo(f"{hashlib.sha256(image).hexdigest()}  {len(image)} bytes")
    return Exit.DONE


@click.command("assemble", epilog=EPILOG)
@_shared
@click.option(
    "--flavour",
    type=click.Choice([flavour.value for flavour in Flavour]),
    default=Flavour.CORE.value,
    show_default=True,
)
@click.option("--deployment", type=READABLE, required=True, help="Your deployment.toml.")
@click.option("--ca", type=READABLE, help="Roots of the simulator, PEM; for sim and sim-ner.")
@click.option("--kernel", "kernel_file", type=READABLE, help="Another kernel, such as AWS's.")
@click.option("--out", type=READABLE, required=True, help="Where the image is written.")
@click.option("--record", type=READABLE, help="Note the measurements in this release's record.")
@click.option("--rootfs-manifest", type=READABLE, help="Write what the first ramdisk holds there.")
@click.option("--json", "as_json", is_flag=True, help="Print the measurements for programs.")
def assemble_command(  # noqa: PLR0913  # click names one argument an option
    *,
    repository: Path,
    folder: Path | None,
    offline: bool,
    flavour: str,
    deployment: Path,
    ca: Path | None,
    kernel_file: Path | None,
    out: Path,
    record: Path | None,
    rootfs_manifest: Path | None,
    as_json: bool,
) -> int:
    """Make Latensgate's image, and beside it manifest, bill of materials and sizes.

    The same checkout and deployment.toml give the same bytes, anywhere.
    """
    inputs, store = read_lock(repository), Store(folder or default_store(), offline=offline)
    if kernel_file is None:
        bzimage = obtain_kernel(store, inputs, (repository / _FRAGMENT).read_bytes())
    else:
        bzimage = read_bounded(kernel_file)
    recipe = Recipe(
        repository=repository,
        flavour=Flavour(flavour),
        deployment=read_bounded(deployment),
        ca_pem=None if ca is None else read_bounded(ca),
        kernel=bzimage,
        version=release_version(repository),
    )
    assembled = assemble(recipe, inputs, store)
    _write_all(assembled, recipe, inputs, out)
    if record is not None:
        _note(assembled, recipe, inputs, record, _command(flavour, deployment, ca, kernel_file))
    if rootfs_manifest is not None:
        text = manifest_text(_FIXED, assembled.ramdisks[:1])
        write_whole(rootfs_manifest, text.encode())
    show_measurements(measure_image(assembled.image), as_json=as_json)
    return Exit.DONE


def _write_all(assembled: Assembled, recipe: Recipe, inputs: Inputs, out: Path) -> None:
    name = f"latensgate-{recipe.flavour.value}"
    title = f"{name} {recipe.version}: mode, size, SHA-256 and path of every entry"
    names = recipe.flavour.finds_names
    bill = bill_of_materials(inputs, assembled.image, name, recipe.version, names=names)
    write_whole(out, encode_image(assembled.image))
    write_whole(_beside(out, "manifest"), manifest_text(title, assembled.ramdisks).encode())
    write_whole(_beside(out, "cdx.json"), bill.encode())
    write_whole(_beside(out, "sizes.md"), size_report(assembled).encode())


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(f"{out.stem}.{suffix}")


def _note(assembled: Assembled, recipe: Recipe, inputs: Inputs, record: Path, command: str) -> None:
    before = ReleaseRecord(recipe.version, ())
    if record.is_file():
        before = parse_record(record.read_bytes())
    if before.version != recipe.version:
        raise BuildError(f"{record} is of release {before.version}, this is {recipe.version}")
    after = with_image(before, measured(assembled, recipe, inputs, command))
    write_whole(record, record_text(after).encode())


def _command(flavour: str, deployment: Path, ca: Path | None, kernel_file: Path | None) -> str:
    words = ["latensgate-eif", "assemble", "--flavour", flavour, "--deployment", str(deployment)]
    words += [] if ca is None else ["--ca", str(ca)]
    words += [] if kernel_file is None else ["--kernel", str(kernel_file)]
    return shlex.join([*words, "--out", f"latensgate-{flavour}.eif"])
