"""The newest version of tenant settings that a receipt has told of, remembered.

A gateway that stores signed settings could serve older ones, which the same root signed. Whoever
has seen version 7 demands 7 from then on, also in the next process. A folder that cannot be
written costs the memory over processes and nothing else.
"""

from __future__ import annotations

import contextlib
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from latensgate.state import read_private, write_private

if TYPE_CHECKING:
    from pathlib import Path

    from latensgate_shared.strict_json import JSONObject

_TOLD: Final = re.compile(r"([0-9]{1,15}) sha384:[0-9a-f]{96}")
_NUMBER: Final = re.compile(rb"[0-9]{1,15}")
_FILE_MAX_BYTES: Final = 64


class SettingsPin:
    """The pin of one tenant and root.

    Args:
        path: Where it is kept.
    """

    __slots__ = ("_path", "_version")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = _read(path)

    @classmethod
    def of(cls, folder: Path, tenant: str, root: bytes) -> SettingsPin:
        """Name the file for a tenant and its root; another root begins anew."""
        name = sha256(f"{tenant}\n{root.hex()}".encode()).hexdigest()
        return cls(folder / "settings" / f"{name}.version")

    def at_least(self, version: int | None) -> int | None:
        """Return what is to be demanded: what the application says, or what was seen if later."""
        return version if not self._version else max(version or 0, self._version)

    def seen(self, receipt: JSONObject) -> None:
        """Take what a verified receipt says of settings."""
        private = receipt.get("private")
        pii = private.get("pii") if isinstance(private, dict) else None
        told = pii.get("settings") if isinstance(pii, dict) else None
        match = _TOLD.fullmatch(told) if isinstance(told, str) else None
        if match is None or int(match[1]) <= self._version:
            return
        self._version = int(match[1])
        with contextlib.suppress(OSError):
            stored = _read(self._path)
            if stored < self._version:
                write_private(self._path, b"%d" % self._version)


def _read(path: Path) -> int:
    try:
        data = read_private(path, _FILE_MAX_BYTES)
    except OSError:
        return 0
    return int(data) if _NUMBER.fullmatch(data) else 0
