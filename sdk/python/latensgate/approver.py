"""An approver's keys: one that signs decisions, one that what is shown is sealed to.

They stand in a file of their own, mode 0600, and never leave their owner. The tenant's signed
settings name the public halves.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from latensgate.state import OpenToOthersError, read_private, write_private
from latensgate.verify.errors import ConfigurationError
from latensgate_shared import formats
from latensgate_shared.errors import MalformedError
from latensgate_shared.hold import SignedDecision
from latensgate_shared.hold_view import open_view
from latensgate_shared.hpke_primitives import Concealed
from latensgate_shared.sealed import SUITE_XWING, OpeningKey
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from pathlib import Path

    from latensgate_shared.hold import HoldDecision

FORMAT: Final = "latensgate-approver/1"
_SEED_BYTES: Final = 32
_FILE_MAX_BYTES: Final = 4_096
_MEMBERS: Final = frozenset({"format", "ed25519_seed", "xwing_seed"})


class ApproverKey(Concealed):
    """An approver's keys in memory; never printed.

    Args:
        signing_seed: Of the Ed25519 key, 32 bytes.
        opening_seed: Of the X-Wing key, 32 bytes.

    Attributes:
        public: Ed25519, 32 bytes.
        xwing: X-Wing, 1,216 bytes.
    """

    __slots__ = ("_opening", "_private", "public", "xwing")

    def __init__(self, signing_seed: bytes, opening_seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(signing_seed)
        self._opening = OpeningKey(SUITE_XWING, opening_seed)
        self.public = self._private.public_key().public_bytes_raw()
        self.xwing = self._opening.sealing_key.public_key.raw

    @classmethod
    def made(cls, path: Path) -> ApproverKey:
        """Make new keys in a file that only its owner may read.

        Raises:
            ConfigurationError: The file is there already, or cannot be written.
        """
        signing, opening = os.urandom(_SEED_BYTES), os.urandom(_SEED_BYTES)
        members = {
            "format": FORMAT,
            "ed25519_seed": signing.hex(),
            "xwing_seed": opening.hex(),
        }
        try:
            write_private(path, json.dumps(members, indent=1).encode(), replace=False)
        except FileExistsError:
            raise ConfigurationError(
                f"approver key: {path} is there already, and is never overwritten"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"approver key: {path}: {_why(error)}") from None
        return cls(signing, opening)

    @classmethod
    def read(cls, path: Path) -> ApproverKey:
        """Read keys from their file.

        Raises:
            ConfigurationError: It cannot be read, others may read it, or it holds no such keys.
        """
        try:
            data = read_private(path, _FILE_MAX_BYTES)
        except OpenToOthersError:
            raise ConfigurationError(
                f"approver key: others may read {path}; chmod 600 expected"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"approver key: {path}: {_why(error)}") from None
        try:
            value = parse_json_object(data, max_bytes=_FILE_MAX_BYTES)
            members = formats.members(value, "approver key", _MEMBERS)
            if members["format"] != FORMAT:
                raise ConfigurationError(f"approver key: {path}: {FORMAT} expected")
            return cls(
                formats.hex_bytes(members["ed25519_seed"], "ed25519_seed", _SEED_BYTES),
                formats.hex_bytes(members["xwing_seed"], "xwing_seed", _SEED_BYTES),
            )
        except MalformedError as error:
            raise ConfigurationError(f"approver key: {path}: {error.detail}") from None

    def sign(self, decision: HoldDecision) -> SignedDecision:
        """Sign a decision."""
        return SignedDecision.sign(decision, self.public, self._private.sign)

    def open_view(self, wire: bytes, *, pending: str) -> bytes:
        """Open what is sealed to this approver; whose it is says ``verify_view``.

        Raises:
            LatensgateError: It does not open.
        """
        return open_view(self._opening, wire, pending=pending)


def _why(error: OSError) -> str:
    return error.strerror or "cannot be used"
