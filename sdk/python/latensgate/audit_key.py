"""The auditor's key: opens the private parts of the tenant's receipts, which the gateway cannot.

Its public half stands in the tenant's signed settings; the private one never leaves its owner.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING, Final

from latensgate.state import OpenToOthersError, read_private, write_private
from latensgate.verify.errors import ConfigurationError
from latensgate_shared.audit_seal import open_private_part
from latensgate_shared.hpke import XWING

if TYPE_CHECKING:
    from pathlib import Path

    from latensgate_shared.receipts import PrivatePart, PublicPart

_BEGIN: Final = "-----BEGIN LATENSGATE AUDIT KEY-----"
_END: Final = "-----END LATENSGATE AUDIT KEY-----"
_FILE_MAX_BYTES: Final = 1_024
"""A key in its file has 118 bytes."""


class AuditKey:
    """An audit key in memory; never printed.

    Args:
        seed: 32 bytes.
    """

    __slots__ = ("_private", "public")

    def __init__(self, seed: bytes) -> None:
        self._private = XWING.load_private_key(seed)
        self.public = self._private.public_key.raw

    @classmethod
    def made(cls, path: Path) -> AuditKey:
        """Make a new key in a file that only its owner may read.

        Raises:
            ConfigurationError: The file is there already, or cannot be written.
        """
        seed = os.urandom(XWING.private_key_bytes)
        text = f"{_BEGIN}\n{base64.b64encode(seed).decode('ascii')}\n{_END}\n"
        try:
            write_private(path, text.encode("ascii"), replace=False)
        except FileExistsError:
            raise ConfigurationError(
                f"audit key: {path} is there already, and is never overwritten"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"audit key: {path}: {_why(error)}") from None
        return cls(seed)

    @classmethod
    def read(cls, path: Path) -> AuditKey:
        """Read a key from its file.

        Raises:
            ConfigurationError: It cannot be read, others may read it, or it holds no audit key.
        """
        try:
            data = read_private(path, _FILE_MAX_BYTES)
        except OpenToOthersError:
            raise ConfigurationError(
                f"audit key: others may read {path}; chmod 600 expected"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"audit key: {path}: {_why(error)}") from None
        seed = _seed(data)
        if seed is None:
            raise ConfigurationError(
                f"audit key: {path}: a key of `latensgate audit keygen` expected"
            )
        return cls(seed)

    def open(self, public: PublicPart, sealed: bytes) -> PrivatePart:
        """Open the private part of a receipt whose public part was verified.

        Raises:
            AuditSealError: Sealed to another key, of another receipt, or changed.
        """
        return open_private_part(self._private, public, sealed)


def _seed(data: bytes) -> bytes | None:
    lines = data.decode("ascii", "replace").split()
    text = " ".join(lines)
    if not (text.startswith(f"{_BEGIN} ") and text.endswith(f" {_END}")):
        return None
    try:
        seed = base64.b64decode(text[len(_BEGIN) + 1 : -len(_END) - 1], validate=True)
    except binascii.Error:
        return None
    return seed if len(seed) == XWING.private_key_bytes else None


def _why(error: OSError) -> str:
    return error.strerror or "cannot be used"
