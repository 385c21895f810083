"""Data keys of the tenant's own KMS key (docs/spec/wire.md section 5, ``kms_envelope``).

The application makes them with its own AWS credentials; the enclave gets them back from KMS only
if the tenant's key policy accepts its measurements. Without a provider nothing is sent: never
unwrapped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.kms_envelope import DATA_KEY_BYTES
from latensgate_shared.limits import KMS_CIPHERTEXT_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    class _KMSClient(Protocol):
        def generate_data_key(
            self,
            *,
            KeyId: str,  # noqa: N803 -- the name that boto3 has
            KeySpec: str,  # noqa: N803 -- the name that boto3 has
            EncryptionContext: Mapping[str, str],  # noqa: N803 -- the name that boto3 has
        ) -> Mapping[str, object]: ...


class DataKeyError(LatensgateError):
    """No data key could be made, so nothing was sent."""

    code = ErrorCode.ERR_KMS_ENVELOPE


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key, in the clear and wrapped.

    Attributes:
        plaintext: 32 bytes.
        wrapped: KMS's ``CiphertextBlob``, 1 to 6,144 bytes.
    """

    plaintext: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)


def checked_data_key(made: object) -> DataKey:
    """Return what a provider made.

    Raises:
        DataKeyError: It is no data key.
    """
    if isinstance(made, DataKey):
        plaintext, wrapped = made.plaintext, made.wrapped
        if len(plaintext) == DATA_KEY_BYTES and 1 <= len(wrapped) <= KMS_CIPHERTEXT_MAX_BYTES:
            return made
    raise DataKeyError(
        f"KMS envelope: a DataKey of {DATA_KEY_BYTES} bytes, wrapped in at most"
        f" {KMS_CIPHERTEXT_MAX_BYTES}, expected from the data_key_provider"
    )


class DataKeyProvider(Protocol):
    """Makes data keys. It is called for every sealing, in a thread of its own under asyncio."""

    def data_key(self, key_arn: str, context: Mapping[str, str]) -> DataKey:
        """Make a 256-bit data key under ``key_arn`` and this encryption context.

        Raises:
            DataKeyError: There is none to be had.
        """
        ...


class Boto3DataKeys:
    """Data keys through boto3 (``pip install latensgate[kms]``) and its credential chain."""

    __slots__ = ("_client",)

    def __init__(self, client: object = None) -> None:
        """Take a boto3 KMS client, or make one for the key's Region at the first call."""
        self._client = client

    def data_key(self, key_arn: str, context: Mapping[str, str]) -> DataKey:
        """Call ``GenerateDataKey``.

        Raises:
            DataKeyError: boto3 is missing, or KMS refused.
        """
        client = cast("_KMSClient", self._client or _make_client(key_arn))
        try:
            answer = client.generate_data_key(
                KeyId=key_arn, KeySpec="AES_256", EncryptionContext=context
            )
            plaintext, wrapped = answer["Plaintext"], answer["CiphertextBlob"]
        except Exception as error:  # boto3 makes its classes at run time
            raise DataKeyError(f"KMS envelope: no data key ({type(error).__name__})") from error
        if not isinstance(plaintext, bytes) or not isinstance(wrapped, bytes):
            raise DataKeyError("KMS envelope: KMS answered no data key")
        self._client = client
        return DataKey(plaintext, wrapped)


def _make_client(key_arn: str) -> object:
    parts = key_arn.split(":")
    try:
        boto3 = import_module("boto3")
    except ImportError:
        raise DataKeyError(
            "KMS envelope: kms_key_arn needs boto3 (pip install latensgate[kms]) or a"
            " data_key_provider of your own"
        ) from None
    region = parts[3] if len(parts) > 3 else None  # noqa: PLR2004 -- arn:partition:kms:REGION:…
    return cast("object", boto3.client("kms", region_name=region))
