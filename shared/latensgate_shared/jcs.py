"""The JSON Canonicalization Scheme (RFC 8785): one value, one byte string.

Own code because the enclave canonicalises several times for each request and the usual library
takes several times as long (ADR 0004); the library is the oracle in the tests.
"""

from __future__ import annotations

from json.encoder import encode_basestring as _quoted  # in C: escapes as section 3.2.2.2 demands
from math import isfinite
from typing import TYPE_CHECKING, Final

from latensgate_shared.limits import JSON_MAX_DEPTH, JSON_MAX_SAFE_INTEGER
from latensgate_shared.strict_json import JSONError

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate_shared.strict_json import JSONValue


def canonicalize(value: JSONValue) -> bytes:
    """Return the canonical form of a JSON value, UTF-8.

    Types are taken exactly: a tuple, an enumeration or another subclass is refused, because a
    value that is not JSON has no canonical form.

    Raises:
        JSONError: NaN, an infinity, a lone surrogate, an integer beyond 2^53 - 1, a member name
            that is not text, a type that is not JSON, or more than ``JSON_MAX_DEPTH`` levels.
    """
    text = _write(value, JSON_MAX_DEPTH)
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise JSONError("JCS: a lone surrogate in a text") from None


def _write(value: object, levels: int) -> str:
    scalar = _SCALARS.get(type(value))
    if scalar is not None:
        return scalar(value)
    container = _CONTAINERS.get(type(value))
    if container is None:
        raise JSONError(f"JCS: a JSON value expected, found {type(value).__name__}")
    if levels == 0:
        raise JSONError(f"JCS: nested deeper than {JSON_MAX_DEPTH} levels")
    return container(value, levels - 1)


def _write_integer(value: int) -> str:
    if not -JSON_MAX_SAFE_INTEGER <= value <= JSON_MAX_SAFE_INTEGER:
        raise JSONError("JCS: an integer within 2^53 - 1 expected (RFC 8785, 3.2.2.3)")
    return str(value)


def _write_array(value: list[object], levels: int) -> str:
    return "[" + ",".join([_write(item, levels) for item in value]) + "]"


def _write_object(value: dict[str, object], levels: int) -> str:
    members: list[str] = []
    for name in _sorted(value):
        member = value[name]
        scalar = _SCALARS.get(type(member))  # looked up here: most members are no containers
        text = scalar(member) if scalar is not None else _write(member, levels)
        members.append(f"{_quoted(name)}:{text}")
    return "{" + ",".join(members) + "}"


def _sorted(value: dict[str, object]) -> list[str]:
    """Order member names by UTF-16 code units (section 3.2.3)."""
    try:
        if "".join(value).isascii():  # the same as by code points
            return sorted(value)
    except TypeError:
        raise JSONError("JCS: a member name that is not text") from None
    return sorted(value, key=_utf16)


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")  # refused later, when the bytes are made


_PLAIN_MAX_EXPONENT: Final = 21
_PLAIN_MIN_EXPONENT: Final = -6


def _write_float(value: float) -> str:
    """Write a double as ECMAScript's Number::toString does (ECMA-262, 6.1.6.1.20).

    Python's repr gives the same shortest digits; only their layout differs.
    """
    if not isfinite(value):
        raise JSONError("JCS: NaN or an infinity")
    if value == 0:
        return "0"  # also minus zero
    sign, digits, point = _decimal(value)
    count = len(digits)
    if count <= point <= _PLAIN_MAX_EXPONENT:
        return sign + digits.ljust(point, "0")
    if 0 < point <= _PLAIN_MAX_EXPONENT:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if _PLAIN_MIN_EXPONENT < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    fraction = "." + digits[1:] if count > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{point - 1:+d}"


def _decimal(value: float) -> tuple[str, str, int]:
    """Return sign, digits and n of the value 0.digits x 10^n, digits without zeros around."""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    leading_zeros = len(whole) + len(fraction) - len(digits)
    point = len(whole) - leading_zeros + int(exponent or 0)
    return "-" if value < 0 else "", digits.rstrip("0"), point


_SCALARS: Final[dict[type, Callable[..., str]]] = {
    str: _quoted,
    bool: {True: "true", False: "false"}.__getitem__,
    type(None): {None: "null"}.__getitem__,
    int: _write_integer,
    float: _write_float,
}
_CONTAINERS: Final[dict[type, Callable[..., str]]] = {list: _write_array, dict: _write_object}
