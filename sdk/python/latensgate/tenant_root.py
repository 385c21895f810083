"""The tenant's root key: an Ed25519 key in a file of its own, which never leaves its owner.

It signs tenant settings and nothing else. The gateway never sees it; applications know its public
half (`tenant_root`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from latensgate.state import OpenToOthersError, read_private, write_private
from latensgate.verify.errors import ConfigurationError
from latensgate_shared.settings import encode_settings, settings_to_sign

if TYPE_CHECKING:
    from pathlib import Path

    from latensgate_shared.strict_json import JSONObject

_FILE_MAX_BYTES: Final = 4_096
"""A key in PEM form has 119 bytes."""


class TenantRoot:
    """A root key in memory; never printed.

    Args:
        private: The key.
    """

    __slots__ = ("_private", "public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    @classmethod
    def made(cls, path: Path) -> TenantRoot:
        """Make a new key in a file that only its owner may read.

        Raises:
            ConfigurationError: The file is there already, or cannot be written.
        """
        private = Ed25519PrivateKey.generate()
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        try:
            write_private(path, pem, replace=False)
        except FileExistsError:
            raise ConfigurationError(
                f"root key: {path} is there already, and is never overwritten"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"root key: {path}: {_why(error)}") from None
        return cls(private)

    @classmethod
    def read(cls, path: Path) -> TenantRoot:
        """Read a key from its file.

        Raises:
            ConfigurationError: It cannot be read, others may read it, or it holds no Ed25519 key.
        """
        try:
            data = read_private(path, _FILE_MAX_BYTES)
        except OpenToOthersError:
            raise ConfigurationError(
                f"root key: others may read {path}; chmod 600 expected"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"root key: {path}: {_why(error)}") from None
        try:
            private = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError):
            private = None
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigurationError(f"root key: {path}: an Ed25519 key in PEM form expected")
        return cls(private)

    def sign(self, settings: JSONObject) -> bytes:
        """Return the signed document of settings.

        Raises:
            JSONError: They have no canonical form.
        """
        return encode_settings(settings, self._private.sign(settings_to_sign(settings)))


def _why(error: OSError) -> str:
    return error.strerror or "cannot be used"
