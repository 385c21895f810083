"""Where the AWS credentials come from that are delivered to enclaves.

They must be temporary ones, with a session token: what enclaves use are sessions of the service
role, and a KMS key policy names nobody else.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from latensgate_parent.limits import CREDENTIALS_ASSUMED_S, CREDENTIALS_FILE_MAX_BYTES
from latensgate_shared.calls import CredentialsCall
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from pathlib import Path

    from botocore.credentials import Credentials as BotoCredentials

    from latensgate_shared.strict_json import JSONObject

_REQUIRED: Final = ("AccessKeyId", "SecretAccessKey", "Token")
_EXPIRATION: Final = "Expiration"


class CredentialsError(LatensgateError):
    """No credentials can be had now."""

    code = ErrorCode.ERR_CONFIGURATION


@dataclass(frozen=True, slots=True)
class AWSCredentials:
    """Temporary credentials.

    Attributes:
        expires_at_s: Seconds since 1970; an assumption where the source does not say.
    """

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at_s: int = field(compare=False)

    def to_call(self) -> CredentialsCall:
        """Return the call that delivers them.

        Raises:
            CredentialsError: A value that no enclave takes.
        """
        try:
            return CredentialsCall(
                self.access_key_id, self.secret_access_key, self.session_token, self.expires_at_s
            )
        except MalformedError as error:
            raise CredentialsError(f"credentials: {error.detail}") from None


class CredentialsProvider(Protocol):
    """Gives credentials that are valid now."""

    async def credentials(self) -> AWSCredentials:
        """Return them; newer ones before the last ones expire.

        Raises:
            CredentialsError: There are none.
        """
        ...


class FileCredentials:
    """A JSON file ``{AccessKeyId, SecretAccessKey, Token, Expiration?}``, read every time.

    Whoever renews it replaces it by rename, so that it is never half there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def credentials(self) -> AWSCredentials:
        """Read the file.

        Raises:
            CredentialsError: It is not there, or not of this form.
        """
        try:
            raw = await asyncio.to_thread(self._read)
            return _parse(parse_json_object(raw, max_bytes=CREDENTIALS_FILE_MAX_BYTES))
        except OSError as error:
            raise CredentialsError(f"{self._path}: errno {error.errno}") from None
        except MalformedError as error:
            raise CredentialsError(f"{self._path}: {error.detail}") from None

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            return file.read(CREDENTIALS_FILE_MAX_BYTES + 1)


def _parse(value: JSONObject) -> AWSCredentials:
    texts = [value.get(name) for name in _REQUIRED]
    access_key_id, secret_access_key, session_token = texts
    if not (
        isinstance(access_key_id, str)
        and isinstance(secret_access_key, str)
        and isinstance(session_token, str)
        and value.keys() <= {*_REQUIRED, _EXPIRATION}
    ):
        raise MalformedError(f"texts {', '.join(_REQUIRED)} and at most {_EXPIRATION} expected")
    expires_at_s = _expiration(value.get(_EXPIRATION))
    return AWSCredentials(access_key_id, secret_access_key, session_token, expires_at_s)


def _expiration(value: object) -> int:
    if value is None:
        return int(time.time()) + CREDENTIALS_ASSUMED_S
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise MalformedError(f"{_EXPIRATION}: a time as in RFC 3339 expected")
    return int(at.timestamp())


class BotoCredentialsProvider:
    """The default chain of boto3: environment, profile, container, instance role.

    It renews by itself what can be renewed, ten to fifteen minutes before it expires.
    """

    def __init__(self) -> None:
        self._chain: BotoCredentials | None = None

    async def credentials(self) -> AWSCredentials:
        """Ask the chain, in a thread: it may ask the network.

        Raises:
            CredentialsError: It has none, or none with a session token.
        """
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> AWSCredentials:
        # Imported here: a parent that reads a file never loads the AWS library.
        import boto3  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            if self._chain is None:
                self._chain = boto3.Session().get_credentials()
            if self._chain is None:
                raise CredentialsError("boto3: its default chain finds no credentials")
            frozen = self._chain.get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:
            raise CredentialsError(f"boto3: {type(error).__name__}") from None
        if not (frozen.access_key and frozen.secret_key and frozen.token):
            raise CredentialsError("boto3: credentials of a role, with a session token, expected")
        expires_at_s = int(time.time()) + CREDENTIALS_ASSUMED_S
        return AWSCredentials(frozen.access_key, frozen.secret_key, frozen.token, expires_at_s)
