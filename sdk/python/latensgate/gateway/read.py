"""Forms that only the gateway's own routes have. Their checks raise ``JSONError`` as all others."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from latensgate_shared import formats
from latensgate_shared.limits import NAME_MAX_CHARS
from latensgate_shared.strict_json import JSONError

if TYPE_CHECKING:
    from collections.abc import Collection

    from latensgate_shared.strict_json import JSONValue

_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_KEY_ID: Final = re.compile(r"key_[0-9a-f]{16}")


def moment(value: JSONValue, what: str) -> datetime:
    """RFC 3339 in UTC, whole seconds, ``Z``."""
    text = formats.matching(value, what, _TIME, "RFC 3339 in UTC with whole seconds and Z")
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise JSONError(f"{what}: no date of the calendar") from None


def moment_or_none(value: JSONValue, what: str) -> datetime | None:
    """The same, or null."""
    return None if value is None else moment(value, what)


def api_key_id(value: JSONValue, what: str) -> str:
    """``key_`` and 16 lower hex digits."""
    return formats.matching(value, what, _KEY_ID, "key_ and 16 lower-case hex digits")


def name(value: JSONValue, what: str) -> str:
    """A name that people or programs gave."""
    return formats.text(value, what, NAME_MAX_CHARS)


def one_of(value: JSONValue, what: str, allowed: Collection[str]) -> str:
    """One name of a closed set."""
    if type(value) is not str or value not in allowed:
        raise JSONError(f"{what}: one of {', '.join(sorted(allowed))} expected")
    return value


def array(value: JSONValue, what: str) -> list[JSONValue]:
    """An array, whatever is in it."""
    if type(value) is not list:
        raise JSONError(f"{what}: an array expected")
    return value


def names(value: JSONValue, what: str) -> tuple[str, ...]:
    """An array of names."""
    return tuple(name(item, what) for item in array(value, what))


def rfc3339(at: datetime) -> str:
    """Write a moment as the gateway reads it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
