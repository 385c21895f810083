"""A QEMU with Nitro's machine: built once from Debian's source package, then kept.

No binary package has it: Debian builds QEMU without libcbor, and then ``nitro-enclave`` is left
out. The mirror is that of this machine's apt; a version is never named, as old ones vanish. What is
built is kept under the source's version and the digest of everything below that shapes it. A build
that fails is an error: the tests that need it do not pass without it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SUITE: Final = "trixie"
"""Debian 13: its QEMU 10.0 is the first stable one with the machine."""
PACKAGES: Final = (
    *("gcc", "libc6-dev", "make", "ninja-build", "pkg-config", "python3", "python3-venv"),
    *("libglib2.0-dev", "libcbor-dev", "libgnutls28-dev", "zlib1g-dev", "libfdt-dev"),
    *("flex", "bison", "xz-utils", "dpkg-dev"),
)
"""What the build needs, from the machine's own suites."""
FIRMWARE_PACKAGE: Final = "qemu-system-data"
FIRMWARE: Final = ("qboot.rom", "linuxboot_dma.bin")
TARGET: Final = "qemu-system-x86_64"
DEVICES: Final = "CONFIG_MICROVM=y\nCONFIG_NITRO_ENCLAVE=y\nCONFIG_PCI=y\nCONFIG_ISAPC=n\n"
OPTIONS: Final = (
    "--python=/usr/bin/python3",
    "--target-list=x86_64-softmmu",
    *(
        "--without-default-features",
        "--without-default-devices",
        "--with-devices-x86_64=latensgate",
    ),
    *("--enable-system", "--enable-tcg", "--enable-vhost-user", "--enable-libcbor"),
    *("--enable-gnutls", "--enable-fdt=system"),
    *("--disable-werror", "--disable-docs", "--disable-install-blobs", "--disable-debug-info"),
)
GENERIC_DEVICE: Final = "hw/virtio/vhost-user-device.c"
REFUSAL: Final = re.compile(r"^.*user_creatable\s*=\s*false;.*\n", re.MULTILINE)
"""QEMU has a device that is wholly outside, and does not let anyone use it; this line goes."""
_EDK2: Final = re.compile(r"edk2-[a-z0-9_-]+\.fd\.bz2|edk2-[a-z0-9_-]+\.fd(?=')")
_LOCK: Final = "requirements/qemu.lock"
_FORM: Final = 1
"""Raise it when the steps below change what comes out."""
_SHOWN_LINES: Final = 25
_TIMEOUT_S: Final = 3_600


class QEMUBuildError(Exception):
    """QEMU cannot be built; the text says at which step and why."""


@dataclass(frozen=True, slots=True)
class QEMU:
    """A QEMU.

    Attributes:
        program: ``qemu-system-x86_64``.
        firmware: Folder with ``FIRMWARE``.
    """

    program: Path
    firmware: Path


def recipe_digest(lock: bytes) -> str:
    """Return a digest of everything of ours that shapes the build, 16 hex digits."""
    parts = (SUITE, TARGET, DEVICES, *OPTIONS, GENERIC_DEVICE, REFUSAL.pattern, str(_FORM))
    digest = hashlib.sha256(lock)
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part.encode())
    return digest.hexdigest()[:16]


def kept_qemu(store: Path, digest: str) -> QEMU | None:
    """Return what was built before by this recipe, the newest source first; None if nothing was."""
    folders = sorted((store / "qemu").glob(f"*-{digest}"), key=lambda path: path.stat().st_mtime)
    for folder in reversed(folders):
        found = QEMU(folder / TARGET, folder)
        if all((folder / name).is_file() for name in (TARGET, *FIRMWARE)):
            return found
    return None


def obtain_qemu(
    store: Path, repository: Path, say: Callable[[str], None], *, fresh: bool = False
) -> QEMU:
    """Return the kept QEMU, built now if there is none.

    Args:
        store: Folder of built things.
        repository: A checkout.
        say: Told what goes on.
        fresh: Build from the newest source, whatever is kept.

    Raises:
        QEMUBuildError: A step failed.
    """
    lock = (repository / _LOCK).read_bytes()
    digest = recipe_digest(lock)
    kept = None if fresh else kept_qemu(store, digest)
    if kept is not None:
        return kept
    (store / "qemu").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store / "qemu", prefix="build-") as name:
        return Build(Path(name), repository / _LOCK, say).run(store / "qemu", digest)


class Build:
    """One build, in a folder of its own (1.5 GB).

    Args:
        folder: Empty.
        lock: Python tools that QEMU configures itself with, by hash.
        say: Told what goes on.
    """

    def __init__(self, folder: Path, lock: Path, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._lock = lock
        self._say = say

    def run(self, kept: Path, digest: str) -> QEMU:
        """Do all steps and keep what comes out.

        Raises:
            QEMUBuildError: A step failed.
        """
        self._say("QEMU: installing what its build needs ...")
        self._install_packages()
        self._say("QEMU: fetching its source from Debian ...")
        version, source = self._fetch_source()
        self._prepare(source)
        self._say(f"QEMU {version}: configuring ...")
        output = source / "build"
        output.mkdir(exist_ok=True)
        self._do("configure", ["../configure", *OPTIONS], output)
        self._say(f"QEMU {version}: compiling (4 minutes on two idle cores) ...")
        self._do("ninja", ["ninja", f"-j{os.cpu_count() or 1}", TARGET], output)
        result = self._folder / "result"
        result.mkdir()
        shutil.copy2(output / TARGET, result)
        self._do("strip", ["strip", TARGET], result)
        self._fetch_firmware(result)
        self._check(result)
        return _keep(result, kept / f"{version}-{digest}")

    # --- steps ---

    def _install_packages(self) -> None:
        self._do("apt-get update", ["apt-get", "update", "-qq"], self._folder)
        wanted = [name for name in PACKAGES if not _is_installed(name)]
        if wanted:
            command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted]
            self._do("apt-get install", command, self._folder)

    def _fetch_source(self) -> tuple[str, Path]:
        form = "$(SITE) $(RELEASE) $(CREATED_BY)"
        command = ["apt-get", "indextargets", "--no-release-info", "--format", form]
        targets = self._do("apt-get indextargets", command, self._folder)
        os_release = Path("/etc/os-release").read_text(encoding="utf-8")
        mirror = main_mirror(targets, codename(os_release))
        apt = private_apt(self._folder / "apt", mirror)
        self._do("apt-get update", ["apt-get", *apt, "update", "-qq"], self._folder)
        fetch = ["apt-get", *apt, "source", "-qq", "--download-only", f"qemu/{SUITE}"]
        self._do("apt-get source", fetch, self._folder)
        (archive,) = sorted(self._folder.glob("qemu_*.orig.tar.xz"))
        self._do("tar", ["tar", "--extract", "--file", archive.name], self._folder)
        (source,) = (path for path in self._folder.glob("qemu-*") if path.is_dir())
        (description,) = self._folder.glob("qemu_*.dsc")
        return description.name.removeprefix("qemu_").removesuffix(".dsc"), source

    def _prepare(self, source: Path) -> None:
        """Change the source where the build needs it; see this module's constants."""
        (source / "configs/devices/x86_64-softmmu/latensgate.mak").write_text(DEVICES)
        generic = source / GENERIC_DEVICE
        generic.write_text(usable_device(generic.read_text(encoding="utf-8")), encoding="utf-8")
        blobs = source / "pc-bios"
        for name in firmware_names((blobs / "meson.build").read_text(encoding="utf-8")):
            if not (blobs / name).exists():
                (blobs / name).touch()  # Debian strips them; the build only wants the names
        wheels = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        wheels += ["--disable-pip-version-check", "--require-hashes", "--only-binary=:all:"]
        wheels += ["--dest", str(source / "python/wheels"), "--requirement", str(self._lock)]
        self._do("pip download", wheels, self._folder)

    def _fetch_firmware(self, result: Path) -> None:
        download = ["apt-get", "download", "-qq", FIRMWARE_PACKAGE]
        self._do("apt-get download", download, self._folder)
        (package,) = self._folder.glob(f"{FIRMWARE_PACKAGE}_*.deb")
        unpacked = self._folder / "firmware"
        self._do("dpkg-deb", ["dpkg-deb", "-x", package.name, unpacked.name], self._folder)
        for name in FIRMWARE:
            shutil.copyfile(unpacked / "usr/share/qemu" / name, result / name)

    def _check(self, result: Path) -> None:
        machines = self._do("qemu", [str(result / TARGET), "-M", "help"], result)
        for name in ("nitro-enclave", "microvm"):
            if not re.search(rf"^{name}\b", machines, re.MULTILINE):
                raise QEMUBuildError(f"the built QEMU has no machine {name}")

    def _do(self, step: str, command: Sequence[str], folder: Path) -> str:
        """Run one step.

        Raises:
            QEMUBuildError: It failed; with its last words.
        """
        try:
            done = subprocess.run(  # noqa: S603 -- own arguments, no shell
                command,
                cwd=folder,
                env=_environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise QEMUBuildError(f"{step}: {error}") from None
        said = done.stdout.decode(errors="replace")
        if done.returncode:
            words = "\n".join(said.splitlines()[-_SHOWN_LINES:])
            raise QEMUBuildError(f"{step} ended with {done.returncode}:\n{words}")
        return said


def _environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the machine's own environment without what leads tools elsewhere."""
    wrong = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "CFLAGS", "LDFLAGS", "CC")
    kept = {name: value for name, value in inherited.items() if name not in wrong}
    return {**kept, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}


def _is_installed(package: str) -> bool:
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 -- as above
    return done.stdout == b"installed"


def _keep(result: Path, kept: Path) -> QEMU:
    if kept.exists():
        shutil.rmtree(kept)
    result.rename(kept)
    return QEMU(kept / TARGET, kept)


def codename(os_release: str) -> str:
    """Return the name of this machine's Debian release.

    Raises:
        QEMUBuildError: It is no Debian.
    """
    match = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', os_release, re.MULTILINE)
    if match is None or not re.search(r'^ID="?debian"?$', os_release, re.MULTILINE):
        raise QEMUBuildError("a Debian machine expected: QEMU is built from Debian's packages")
    return match[1]


def main_mirror(targets: str, release: str) -> str:
    """Return the mirror of Debian's main archive that apt is set up with.

    Args:
        targets: Lines of ``SITE RELEASE CREATED_BY``.
        release: Of this machine.

    Raises:
        QEMUBuildError: There is none.
    """
    for line in targets.splitlines():
        site, _, rest = line.partition(" ")
        if rest == f"{release} Packages" and re.fullmatch(r"[a-z+]+:\S+", site):
            return site
    raise QEMUBuildError(f"no mirror of {release} in apt's configuration")


def private_apt(folder: Path, mirror: str) -> list[str]:
    """Return apt's options for a state of its own, with the suite of the source alone."""
    (folder / "lists/partial").mkdir(parents=True)
    (folder / "cache/archives/partial").mkdir(parents=True)
    listed = folder / "sources.list"
    listed.write_text(f"deb-src {mirror} {SUITE} main\n", encoding="ascii")
    settings = {
        "Dir::Etc::SourceList": listed,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def usable_device(text: str) -> str:
    """Return QEMU's generic vhost-user device with the line gone that forbids its use.

    Raises:
        QEMUBuildError: The source is not as this recipe knows it.
    """
    changed, count = REFUSAL.subn("", text)
    if count != 1:
        raise QEMUBuildError(f"{GENERIC_DEVICE}: one line to take out expected, found {count}")
    return changed


def firmware_names(meson: str) -> list[str]:
    """Return the names of packed firmware that the build looks for.

    Raises:
        QEMUBuildError: The source is not as this recipe knows it.
    """
    names = {match.removesuffix(".bz2") + ".bz2" for match in _EDK2.findall(meson)}
    if not names:
        raise QEMUBuildError("pc-bios/meson.build: names of edk2 firmware expected")
    return sorted(names)
