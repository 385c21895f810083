"""Reads what commands are given and writes what they make."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from latensgate_eif import limits
from latensgate_eif.image import Image, parse_image
from latensgate_shared.errors import TooLargeError

READABLE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


def read_bounded(path: Path, most: int = limits.IMAGE_MAX_BYTES) -> bytes:
    """Read a file of at most so many bytes, also where its size is not known before.

    Raises:
        OSError: It cannot be read.
        TooLargeError: It is larger.
    """
    with path.open("rb") as opened:
        data = opened.read(most + 1)
    if len(data) > most:
        raise TooLargeError(f"{path}: at most {most} bytes expected")
    return data


def read_image(path: Path) -> Image:
    """Read an image.

    Raises:
        OSError: It cannot be read.
        MalformedError: It is no image.
    """
    return parse_image(read_bounded(path))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as scratch:
        try:
            scratch.write(data)
            scratch.flush()
            Path(scratch.name).chmod(0o644)
            Path(scratch.name).replace(path)
        except OSError:
            Path(scratch.name).unlink()
            raise
