"""An image of flavour `sim` for one simulated world: its TLS root, its deployment, our code."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latensgate_eif.image import encode_image, parse_image
from latensgate_eif.measure import measure_image
from latensgate_sim.deployment import policy_file
from latensgate_sim.measure import Measurements

if TYPE_CHECKING:
    from pathlib import Path

    from latensgate_eif.image import Image


class ImageNotBuiltError(Exception):
    """The image builder failed; its own words."""


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image in a file.

    Attributes:
        path: The file.
        image: What it holds.
    """

    path: Path
    image: Image

    @property
    def measurements(self) -> Measurements:
        """What the security module of its enclave has to state."""
        found = measure_image(self.image)
        return Measurements(found.pcr0, found.pcr1, found.pcr2)


def repository_folder() -> Path:
    """Return the checkout that is installed.

    Raises:
        FileNotFoundError: Nothing is installed from a checkout.
    """
    return policy_file().parent.parent


def build_image(config: Path, out: Path, *, names: bool = False) -> BuiltImage:
    """Have the image of a configuration folder built, as ``write_config`` makes them.

    The first time on a machine this builds the kernel, too (five minutes).

    Args:
        config: The folder.
        out: Where the image is written.
        names: Whether it carries the model that finds names.

    Raises:
        ImageNotBuiltError: With the builder's own words.
    """
    flavour = "sim-ner" if names else "sim"
    command = [sys.executable, "-m", "latensgate_eif", "assemble", "--flavour", flavour]
    command += ["--repository", str(repository_folder()), "--out", str(out)]
    command += ["--deployment", str(config / "deployment.toml"), "--ca", str(config / "ca.pem")]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 -- own arguments
    if done.returncode:
        raise ImageNotBuiltError(done.stderr.decode(errors="replace").strip())
    return BuiltImage(out, parse_image(out.read_bytes()))


def write_image(image: Image, path: Path) -> BuiltImage:
    """Write an image that was made of another one."""
    path.write_bytes(encode_image(image))
    return BuiltImage(path, image)
