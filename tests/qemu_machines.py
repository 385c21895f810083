"""Virtual machines for tests: the image, an image with a probe, and what the probe says."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from latensgate_eif.image import Image, Section, SectionType
from latensgate_eif.ramdisk import encode_ramdisk, file_entry
from latensgate_sim.deployment import create_release_key, deployment_toml, write_config
from latensgate_sim.vm.image import BuiltImage, build_image, write_image
from latensgate_sim.vm.stack import BOOT_TIMEOUT_S, VirtualEnclave
from latensgate_sim.world import World
from paths import REPOSITORY
from stack import ParentLink, Stack

GUEST: Final = REPOSITORY / "tests/qemu/guest"
PROBE_PORT: Final = 5_999
ECHO_PORT: Final = 5_998
MODULES_PORT: Final = 5_997
ANSWER_TIMEOUT_S: Final = 300.0
"""An emulated guest beside a busy machine; no test measures time."""
RDINIT: Final = b" rdinit=/usr/bin/python3.11 /probe"
"""The kernel hands words that it does not know to init; so the second is
Python's argument. It takes a word with a dot for a parameter of a module."""


def simulated_image(world: World, folder: Path, *, names: bool = False) -> tuple[BuiltImage, Path]:
    """Build the image of a world; returns it and the folder of its measured files."""
    config = write_config(folder / "measured", world, deployment_toml())
    return build_image(config, folder / "image.eif", names=names), config


def with_probe(built: BuiltImage, path: Path) -> BuiltImage:
    """Make an image that differs in its command line and in one more ramdisk."""
    probe = {name: (GUEST / name).read_bytes() for name in ("probe.py", "sitecustomize.py")}
    entries = {
        "probe": file_entry(probe["probe.py"]),
        "usr/lib/python3/dist-packages/sitecustomize.py": file_entry(probe["sitecustomize.py"]),
    }
    line = Section(SectionType.COMMAND_LINE, built.image.command_line + RDINIT)
    sections = [
        line if section.type is SectionType.COMMAND_LINE else section
        for section in built.image.sections
    ]
    sections.append(Section(SectionType.RAMDISK, encode_ramdisk(entries)))
    image: Image = replace(built.image, sections=tuple(sections))
    return write_image(image, path)


@dataclass
class Probe:
    """What a test asks of the probe.

    Attributes:
        path: UNIX socket that leads to it.
        echo: UNIX socket that leads to its echo.
        modules_path: UNIX socket that leads into the enclave's process.
    """

    path: Path
    echo: Path
    modules_path: Path

    def connect(self, path: Path | None = None) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(ANSWER_TIMEOUT_S)
        peer.connect(str(path or self.path))
        return peer

    def start(self, order: str, **words: object) -> socket.socket:
        """Give an order; what comes back is the caller's to read."""
        peer = self.connect()
        peer.sendall(json.dumps({"order": order, **words}).encode() + b"\n")
        return peer

    def ask(self, order: str, **words: object) -> dict[str, Any]:
        """Give an order and wait for its answer."""
        with self.start(order, **words) as peer:
            said: dict[str, Any] = json.loads(read_all(peer))
            return said

    def modules(self) -> list[str]:
        """Ask the enclave's process what it has loaded."""
        with self.connect(self.modules_path) as peer:
            return read_all(peer).decode().split("\n")


def read_all(peer: socket.socket, told: Callable[[int], None] | None = None) -> bytes:
    """Read to the end."""
    pieces: list[bytes] = []
    while piece := peer.recv(1 << 16):
        pieces.append(piece)
        if told is not None:
            told(len(piece))
    return b"".join(pieces)


def opened(world: World, enclave: VirtualEnclave, config: Path) -> Stack:
    """Do what an operator and an honest parent do until the enclave serves."""
    enclave.wait_listening(BOOT_TIMEOUT_S)
    key_arn = create_release_key(world, enclave.device.measurements, config)
    stack = Stack(world, enclave, config, key_arn)
    with patient(enclave.listen) as link:
        stack.open_gate(link)
    return stack


def patient(path: Path) -> ParentLink:
    """Return a parent's connection that waits as long as an emulated guest needs."""
    link = ParentLink.connect(path)
    link.peer.settimeout(ANSWER_TIMEOUT_S)
    return link
