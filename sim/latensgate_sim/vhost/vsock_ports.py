"""Which ports of a guest lead where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from latensgate_sim.vhost.errors import VhostError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_ANY: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Ports:
    """What is connected with what.

    Attributes:
        outward: Port that the guest connects to, and the UNIX socket behind it.
        inward: UNIX socket of this device, and the guest's port behind it.
    """

    outward: Mapping[int, Path]
    inward: Mapping[Path, int]


def parse_port(text: str) -> int:
    """Read a vsock port.

    Raises:
        VhostError: Not a number of 1 to 2**32 - 2.
    """
    if not (text.isascii() and text.isdigit() and 1 <= int(text) < _ANY):
        raise VhostError(f"a vsock port expected, found {text!r}")
    return int(text)
