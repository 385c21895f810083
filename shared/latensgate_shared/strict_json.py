"""Strict JSON (RFC 8259, with the I-JSON refusals of RFC 7493): one text, one meaning.

Two readers of the same bytes must never see two values, because one of them may be the parent and
the other the enclave. Therefore refused: duplicate member names, NaN and Infinity (also a number
that overflows to it), lone surrogates, a byte order mark, bytes after the value, deep nesting, too
many values and integers of absurd length.

The work is done by the C scanner of the standard library; what it lets through is caught by its
hooks, and what its hooks cannot see is searched in the text by expressions that run in C too.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from math import isfinite
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, TypeAlias, cast

from latensgate_shared.errors import MalformedError, TooLargeError
from latensgate_shared.limits import (
    JSON_INTEGER_MAX_CHARS,
    JSON_MAX_DEPTH,
    JSON_MAX_VALUES,
    JSON_TEXT_MEMBERS_MAX_COUNT,
)

if TYPE_CHECKING:
    from collections.abc import Callable

JSONValue: TypeAlias = (
    "bool | int | float | str | list[JSONValue] | dict[str, JSONValue] | None"  # recursive
)
JSONObject: TypeAlias = "dict[str, JSONValue]"


class JSONError(MalformedError):
    """Bytes that are not the strict JSON, or a value that is not the JSON, that was expected."""


class JSONMember(NamedTuple):
    """One member of an object, with the text it had.

    Attributes:
        value: As parsed.
        text: Exactly as it stood in the object: needed where a hash covers what was received.
    """

    value: JSONValue
    text: str


def parse_json(data: bytes, *, max_bytes: int) -> JSONValue:
    """Parse one JSON value.

    Args:
        data: The whole text, UTF-8.
        max_bytes: Largest length that is looked at.

    Raises:
        TooLargeError: More than ``max_bytes`` bytes, or more than ``JSON_MAX_VALUES`` values.
        JSONError: Not strict JSON.
    """
    text = _checked_text(data, max_bytes)
    value, end = _value_at(text, _after_space(text, 0))
    _check_end(text, end)
    return value


def parse_json_object(data: bytes, *, max_bytes: int) -> JSONObject:
    """Parse one JSON object.

    Raises:
        TooLargeError: More than ``max_bytes`` bytes, or more than ``JSON_MAX_VALUES`` values.
        JSONError: Not strict JSON, or not an object.
    """
    value = parse_json(data, max_bytes=max_bytes)
    if type(value) is not dict:
        raise JSONError("JSON: expected an object, found another kind of value")
    return value


def parse_json_members(data: bytes, *, max_bytes: int) -> dict[str, JSONMember]:
    """Parse one JSON object and keep the text of each of its members.

    Raises:
        TooLargeError: As ``parse_json``, or more than ``JSON_TEXT_MEMBERS_MAX_COUNT`` members.
        JSONError: Not strict JSON, or not an object.
    """
    text = _checked_text(data, max_bytes)
    position = _expect(text, _after_space(text, 0), "{")
    members: dict[str, JSONMember] = {}
    if not text.startswith("}", _after_space(text, position)):
        position = _read_members(text, position, members)
    _check_end(text, _expect(text, _after_space(text, position), "}"))
    return members


def _checked_text(data: bytes, max_bytes: int) -> str:
    """Decode and refuse everything that the scanner's hooks would not notice."""
    if len(data) > max_bytes:
        raise TooLargeError(f"JSON: at most {max_bytes} bytes expected, found {len(data)}")
    try:
        text = str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise JSONError(f"JSON: not UTF-8 at byte {error.start}") from None
    if text.startswith("\ufeff"):
        raise JSONError("JSON: a byte order mark stands at byte 0")
    _check_shape(data)
    _check_surrogates(text)
    return text


_BRACKETS: Final = b"[]{}"
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(_BRACKETS))
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_STRINGS_MAX_COUNT: Final = 2 * JSON_MAX_VALUES  # a member is a name and a value
_PIECE_BYTES: Final = 4096  # so that a flood of brackets is given up early
_LEVEL_CHANGE: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def _check_shape(data: bytes) -> None:
    """Bound the number of values and their nesting before the scanner makes anything of them.

    Counting marks, also those within texts, settles nearly all real messages at once.
    """
    brackets = data.count(b"[") + data.count(b"{")
    if brackets <= JSON_MAX_DEPTH and (
        len(data) <= JSON_MAX_VALUES or brackets + data.count(b",") <= JSON_MAX_VALUES
    ):
        return
    marks, strings = _STRING.subn(b"", data, count=_STRINGS_MAX_COUNT + 1)
    values = marks.count(b",") + marks.count(b"[") + marks.count(b"{")
    if strings > _STRINGS_MAX_COUNT or values > JSON_MAX_VALUES:
        raise TooLargeError(f"JSON: at most {JSON_MAX_VALUES} values expected")
    _check_depth(marks.translate(None, _NOT_BRACKETS))


def _check_depth(brackets: bytes) -> None:
    level = 0
    for start in range(0, len(brackets), _PIECE_BYTES):
        changes = map(_LEVEL_CHANGE.__getitem__, brackets[start : start + _PIECE_BYTES])
        levels = list(accumulate(changes, initial=level))
        if max(levels) > JSON_MAX_DEPTH:
            raise JSONError(f"JSON: nested deeper than {JSON_MAX_DEPTH} levels")
        level = levels[-1]


_WITHOUT_LONE_SURROGATE: Final = re.compile(
    r"(?:[^\\]++"
    r"|\\[^u]"
    r"|\\u(?:[^dD]|[dD][0-7])"
    r"|\\u[dD][89abAB][0-9a-fA-F][0-9a-fA-F]\\u[dD][c-fC-F])*+"
)
"""No repeat stands within the last branch: where one had matched, Python before 3.11.5 went on from
there although the branch failed (its issue 106052), and the place that is told was wrong."""


def _check_surrogates(text: str) -> None:
    """Refuse an escaped surrogate without its other half (raw ones are not UTF-8 anyway).

    A text that is not JSON may be refused here with a misleading offset; it is refused either way.
    """
    if "\\u" not in text:
        return
    end = next(_WITHOUT_LONE_SURROGATE.finditer(text)).end()
    if end != len(text):
        raise JSONError(f"JSON: a lone or unfinished surrogate at character {end}")


def _integer(digits: str) -> int:
    if len(digits) > JSON_INTEGER_MAX_CHARS:
        raise JSONError(
            f"JSON: an integer of at most {JSON_INTEGER_MAX_CHARS} characters expected, "
            f"found {len(digits)}"
        )
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if not isfinite(value):
        raise JSONError("JSON: a number too large for a double")
    return value


def _constant(_name: str) -> NoReturn:
    raise JSONError("JSON: NaN or Infinity")


def _object(pairs: list[tuple[str, JSONValue]]) -> JSONObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise JSONError("JSON: a member name stands twice in one object")
    return members


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_number,
    parse_constant=_constant,
)
_SCAN: Final = cast(
    "Callable[[str, int], tuple[JSONValue, int]]",
    _DECODER.scan_once,  # type: ignore[attr-defined]  # typeshed leaves it out
)
"""What ``raw_decode`` calls; it ends with ``StopIteration`` where no value begins."""
_NOT_SPACE: Final = re.compile(r"[^ \t\n\r]")


def _after_space(text: str, position: int) -> int:
    if text[position : position + 1] not in {" ", "\t", "\n", "\r"}:
        return position  # the usual case, without an expression
    found = _NOT_SPACE.search(text, position)
    return found.start() if found else len(text)


def _check_end(text: str, position: int) -> None:
    end = _after_space(text, position)
    if end != len(text):
        raise JSONError(f"JSON: the end expected at character {end} of {len(text)}")


def _value_at(text: str, position: int) -> tuple[JSONValue, int]:
    """Scan one value; the scanner's own errors may quote the text, so they are replaced."""
    try:
        return _SCAN(text, position)
    except StopIteration as error:
        raise _no_value(cast("int", error.value), text) from None
    except json.JSONDecodeError as error:
        raise _no_value(error.pos, text) from None
    except RecursionError:  # only where the caller's own stack is nearly full
        raise JSONError("JSON: nested deeper than the stack has room for") from None


def _no_value(position: int, text: str) -> JSONError:
    return JSONError(f"JSON: no valid value at character {position} of {len(text)}")


def _expect(text: str, position: int, mark: str) -> int:
    if not text.startswith(mark, position):
        raise JSONError(f"JSON: {mark} expected at character {position} of {len(text)}")
    return position + 1


_MEMBER_NAME: Final = re.compile(r'[ \t\n\r]*+"([^"\\\x00-\x1f]*+)"[ \t\n\r]*+:[ \t\n\r]*+')
"""A name without escapes and the colon behind it: what every writer of ours makes."""


def _read_members(text: str, position: int, members: dict[str, JSONMember]) -> int:
    """Fill ``members`` from the text after ``{``; return the position of what should be ``}``."""
    while True:
        plain = _MEMBER_NAME.match(text, position)
        if plain is None:
            name, start = _escaped_name(text, position)
        else:
            name, start = plain[1], plain.end()
        value, end = _value_at(text, start)
        if name in members:
            raise JSONError("JSON: a member name stands twice in one object")
        if len(members) == JSON_TEXT_MEMBERS_MAX_COUNT:
            raise TooLargeError(f"JSON: at most {JSON_TEXT_MEMBERS_MAX_COUNT} members expected")
        members[name] = JSONMember(value, text[start:end])
        position = _after_space(text, end)
        if not text.startswith(",", position):
            return position
        position += 1


def _escaped_name(text: str, position: int) -> tuple[str, int]:
    """Read a name in any spelling, or say what is wrong there."""
    start = _after_space(text, position)
    _expect(text, start, '"')
    name, end = _value_at(text, start)
    return cast("str", name), _after_space(text, _expect(text, _after_space(text, end), ":"))
