"""API keys as the gateway lists them, and as it shows them once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate.gateway import read
from latensgate_shared import formats
from latensgate_shared.strict_json import JSONError

if TYPE_CHECKING:
    from datetime import datetime

    from latensgate_shared.strict_json import JSONObject, JSONValue

_LISTED: Final = frozenset(
    {"id", "name", "hint", "scopes", "status", "created_at", "expires_at", "revoked_at"}
)
_MADE: Final = _LISTED | {"key"}
_ROTATED: Final = _MADE | {"replaces"}
_STATUSES: Final = ("active", "expired", "revoked")


@dataclass(frozen=True, slots=True)
class APIKeyInfo:
    """One API key, without its secret.

    Attributes:
        key_id: ``key_`` and 16 hex digits: what is revoked and rotated.
        name: For people.
        hint: The first characters of the key.
        scopes: What it permits.
        status: ``active``, ``expired`` or ``revoked``, as the gateway says.
        created_at: When it was made.
        expires_at: From then on it is refused; None: never.
        revoked_at: From then on it is refused; None: not revoked.
    """

    key_id: str
    name: str
    hint: str
    scopes: tuple[str, ...]
    status: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewAPIKey:
    """A key that was just made: the only moment at which its secret is known.

    Attributes:
        info: What is listed.
        secret: The full key.
        replaces: Id of the key that a rotation ends; None for a key of its own.
    """

    info: APIKeyInfo
    secret: str = field(repr=False)
    replaces: str | None = None


def parse_key(value: JSONValue) -> APIKeyInfo:
    """Read one key of the list.

    Raises:
        JSONError: Another form.
    """
    return _info(formats.members(value, "key", _LISTED))


def parse_keys(value: JSONObject) -> tuple[APIKeyInfo, ...]:
    """Read the list.

    Raises:
        JSONError: Another form.
    """
    members = formats.members(value, "keys", frozenset({"keys"}))
    return tuple(parse_key(item) for item in read.array(members["keys"], "keys.keys"))


def parse_new_key(value: JSONObject, *, rotated: bool = False) -> NewAPIKey:
    """Read a key that was just made.

    Args:
        value: The answer.
        rotated: Whether it is to name the key that it replaces.

    Raises:
        JSONError: Another form.
    """
    members = formats.members(value, "key", _ROTATED if rotated else _MADE)
    secret = read.name(members["key"], "key.key")
    if not secret.isascii() or not secret.isprintable():
        raise JSONError("key.key: visible ASCII characters expected")
    replaces = read.api_key_id(members["replaces"], "key.replaces") if rotated else None
    return NewAPIKey(_info(members), secret, replaces)


def _info(members: JSONObject) -> APIKeyInfo:
    return APIKeyInfo(
        key_id=read.api_key_id(members["id"], "key.id"),
        name=read.name(members["name"], "key.name"),
        hint=read.name(members["hint"], "key.hint"),
        scopes=read.names(members["scopes"], "key.scopes"),
        status=read.one_of(members["status"], "key.status", _STATUSES),
        created_at=read.moment(members["created_at"], "key.created_at"),
        expires_at=read.moment_or_none(members["expires_at"], "key.expires_at"),
        revoked_at=read.moment_or_none(members["revoked_at"], "key.revoked_at"),
    )
