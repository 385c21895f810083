"""The forms that single members of protocol objects have (docs/spec): one check for each form.

Every check takes the value as it came out of strict JSON and a name for it, returns the value with
its type, and raises ``JSONError`` otherwise. Error texts name the member and the form, never what
stood there.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Final

from latensgate_shared.limits import JSON_MAX_SAFE_INTEGER
from latensgate_shared.strict_json import JSONError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from latensgate_shared.strict_json import JSONObject, JSONValue

NO_MEMBERS: Final[frozenset[str]] = frozenset()

_SHA384_DIGEST: Final = re.compile(r"sha384:[0-9a-f]{96}")
_TENANT_ID: Final = re.compile(r"tnt_[0-9a-f]{8}")
_RECEIPT_ID: Final = re.compile(r"aud_[0-9a-f]{16}")
_HEX: Final = re.compile(r"[0-9a-f]*")
_UUID7: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"  # RFC 9562, 5.7
)
_BASE64_QUANTUM_BYTES: Final = 3
_BASE64_QUANTUM_CHARS: Final = 4


def members(
    value: JSONValue,
    what: str,
    required: AbstractSet[str],
    optional: AbstractSet[str] = NO_MEMBERS,
) -> JSONObject:
    """Return the object if it has all required members and no unknown one."""
    if type(value) is not dict:
        raise JSONError(f"{what}: an object expected")
    check_names(value.keys(), what, required, optional)
    return value


def check_names(
    names: AbstractSet[str],
    what: str,
    required: AbstractSet[str],
    optional: AbstractSet[str] = NO_MEMBERS,
) -> None:
    """Refuse a missing required name and every unknown one."""
    if names == required:
        return
    missing = required - names
    if missing:
        raise JSONError(f"{what}: members missing: {', '.join(sorted(missing))}")
    unknown = len(names - required - optional)
    if unknown:
        raise JSONError(
            f"{what}: {unknown} unknown member(s); allowed: {_list(required | optional)}"
        )


def _list(names: AbstractSet[str]) -> str:
    return ", ".join(sorted(names))


def text(value: object, what: str, max_chars: int) -> str:
    """1 to ``max_chars`` characters."""
    if type(value) is not str or not 1 <= len(value) <= max_chars:
        raise JSONError(f"{what}: text of 1 to {max_chars} characters expected")
    return value


def matching(value: object, what: str, form: re.Pattern[str], expected: str) -> str:
    """Text that the whole of ``form`` matches; ``expected`` says it in words."""
    if type(value) is not str or form.fullmatch(value) is None:
        raise JSONError(f"{what}: {expected} expected")
    return value


def integer(
    value: object, what: str, minimum: int = 0, maximum: int = JSON_MAX_SAFE_INTEGER
) -> int:
    """An integer within bounds; a boolean is none."""
    if type(value) is not int or not minimum <= value <= maximum:
        raise JSONError(f"{what}: an integer from {minimum} to {maximum} expected")
    return value


def boolean(value: object, what: str) -> bool:
    """``true`` or ``false``."""
    if type(value) is not bool:
        raise JSONError(f"{what}: true or false expected")
    return value


def sha384_digest(value: object, what: str) -> str:
    """``sha384:`` and 96 lower hex digits."""
    # Most of the checks of one request are these: not by way of ``matching``.
    if type(value) is not str or _SHA384_DIGEST.fullmatch(value) is None:
        raise JSONError(f"{what}: sha384: and 96 lower-case hex digits expected")
    return value


def tenant_id(value: object, what: str = "tenant_id") -> str:
    """``tnt_`` and 8 lower hex digits."""
    return matching(value, what, _TENANT_ID, "tnt_ and 8 lower-case hex digits")


def receipt_id(value: object, what: str = "receipt_id") -> str:
    """``aud_`` and 16 lower hex digits."""
    return matching(value, what, _RECEIPT_ID, "aud_ and 16 lower-case hex digits")


def uuid7(value: object, what: str) -> str:
    """A UUID of version 7 (RFC 9562), lower case with hyphens."""
    return matching(value, what, _UUID7, "a UUID of version 7 in lower case")


def hex_text(value: object, what: str, length_bytes: int) -> str:
    """Lower hex digits of exactly ``length_bytes`` bytes, kept as text."""
    found = matching(value, what, _HEX, "lower-case hex digits")
    if len(found) != 2 * length_bytes:
        raise JSONError(f"{what}: {2 * length_bytes} hex digits expected, found {len(found)}")
    return found


def hex_bytes(value: object, what: str, length_bytes: int) -> bytes:
    """Lower hex digits of exactly ``length_bytes`` bytes, decoded."""
    return bytes.fromhex(hex_text(value, what, length_bytes))


def base64_bytes(value: object, what: str, max_bytes: int) -> bytes:
    """RFC 4648, section 4: padded, nothing but the alphabet, unused bits zero; decoded.

    One byte string has one spelling only; otherwise a hash over the text and a hash over the bytes
    could tell two stories.
    """
    max_chars = -(-max_bytes // _BASE64_QUANTUM_BYTES) * _BASE64_QUANTUM_CHARS
    if type(value) is not str or len(value) > max_chars:
        raise JSONError(f"{what}: base64 of at most {max_bytes} bytes expected")
    try:
        data = binascii.a2b_base64(value, strict_mode=True)
    except ValueError:
        raise JSONError(f"{what}: strict base64 expected (RFC 4648, section 4)") from None
    tail = len(data) - (len(data) - 1) % _BASE64_QUANTUM_BYTES - 1 if data else 0
    if to_base64(data[tail:]) != value[-_BASE64_QUANTUM_CHARS:] or len(data) > max_bytes:
        raise JSONError(f"{what}: base64 of at most {max_bytes} bytes, unused bits zero, expected")
    return data


def to_base64(data: bytes) -> str:
    """RFC 4648, section 4, with padding."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")
