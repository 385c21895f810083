"""The newest version of tenant settings that a receipt has told of, remembered.

A gateway that stores signed settings could serve older ones, which the same root signed. Whoever
has seen version 7 demands 7 from then on, also in the next process. A folder that cannot be
written costs the memory over processes and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
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

    __slots__ = ("_lock", "_path", "_pid", "_version")

    def __init__(self, path: Path) -> None:
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._path = path
        self._version = _read(path)

    def in_this_process(self) -> None:
        """Take a new lock in a forked process: who held it is not there."""
        if self._pid != os.getpid():
            self._pid, self._lock = os.getpid(), threading.Lock()

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
        if match is not None and int(match[1]) > self._version:
            with self._lock:  # or an older version could be written over a newer one
                self._keep(int(match[1]))

    def _keep(self, version: int) -> None:
        if version <= self._version:
            return
        self._version = version
        with contextlib.suppress(OSError):
            if _read(self._path) < version:
                write_private(self._path, b"%d" % version)


def _read(path: Path) -> int:
    try:
        data = read_private(path, _FILE_MAX_BYTES)
    except OSError:
        return 0
    return int(data) if _NUMBER.fullmatch(data) else 0
