"""Making API keys: their secrets, their ends, and what is kept of them."""

from __future__ import annotations

import base64
import re
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal

from latensgate_parent.limits import KEY_LIFE_MAX_S, KEY_NAME_MAX_CHARS
from latensgate_parent.store.interfaces import APIKey

if TYPE_CHECKING:
    from collections.abc import Collection

_SECRET_BYTES: Final = 32
_HINT_CHARS: Final = len("lg_live_") + 4
"""24 of 256 bits: enough for a person to recognise a key, no help in guessing it."""
_TEST: Final = "lg_test_"
_LIVE: Final = "lg_live_"
_DURATION: Final = re.compile(r"([1-9][0-9]{0,4})([hd])", re.ASCII)
_UNITS_S: Final = {"h": 3_600, "d": 86_400}

KeyStatus = Literal["active", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made.

    Attributes:
        full: The key itself; shown once, and kept nowhere.
        stored: What is kept.
    """

    full: str = field(repr=False)
    stored: APIKey


def make_key(  # noqa: PLR0913 -- what a key is
    tenant_id: str,
    name: str,
    scopes: Collection[str],
    *,
    now_s: int,
    life_s: int | None,
    test: bool = False,
) -> NewKey:
    """Make a key of 256 random bits.

    Args:
        tenant_id: Whose it is.
        name: For people.
        scopes: What it permits.
        now_s: Seconds since 1970.
        life_s: How long it works; None: it does not end.
        test: ``lg_test_`` in place of ``lg_live_``.
    """
    random = base64.urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).rstrip(b"=")
    full = (_TEST if test else _LIVE) + random.decode("ascii")
    stored = APIKey(
        key_id=f"key_{secrets.token_hex(8)}",
        tenant_id=tenant_id,
        name=name,
        digest=sha256(full.encode("ascii")).digest(),
        hint=full[:_HINT_CHARS] + "…",
        scopes=tuple(sorted(set(scopes))),
        created_at_s=now_s,
        expires_at_s=None if life_s is None else now_s + life_s,
    )
    return NewKey(full, stored)


def is_test(key: APIKey) -> bool:
    """Whether a key is one of ``lg_test_``."""
    return key.hint.startswith(_TEST)


def status_of(key: APIKey, now_s: float) -> KeyStatus:
    """Return where a key stands at a moment."""
    if key.revoked_at_s is not None:  # whatever the clock says: it may be set back
        return "revoked"
    if key.expires_at_s is not None and key.expires_at_s <= now_s:
        return "expired"
    return "active"


def parse_duration(text: str, max_s: int = KEY_LIFE_MAX_S) -> int:
    """Return the seconds of ``12h`` or ``90d``.

    Raises:
        ValueError: Another form, or longer than ``max_s``; the text says what was expected.
    """
    found = _DURATION.fullmatch(text)
    seconds = int(found[1]) * _UNITS_S[found[2]] if found else None
    if seconds is None or seconds > max_s:
        raise ValueError(
            f"hours or days such as 12h or 90d, at most {max_s // _UNITS_S['d']}d, expected"
        )
    return seconds


def check_name(name: str) -> str:
    """Return a name that people can read.

    Raises:
        ValueError: Empty, too long, white space around it, or characters that are not printable.
    """
    if not 1 <= len(name) <= KEY_NAME_MAX_CHARS or not name.isprintable() or name != name.strip():
        raise ValueError(
            f"1 to {KEY_NAME_MAX_CHARS} printable characters without white space around expected"
        )
    return name
