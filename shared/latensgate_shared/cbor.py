"""A strict reader and a deterministic writer for the part of CBOR (RFC 8949) that we speak.

Spoken by NSM, by attestation documents and by our frames: integers, byte and text strings, arrays,
maps, false, true and null. Everything else (floats, tags, undefined, other simple values) is
refused, and so is every second way to write the same thing: longer heads than needed, indefinite
lengths, repeated keys, bytes after the end. Two readers can then never see different content in
the same bytes, which is what attacks on signed CBOR live on.

The one indulgence, asked for by name: the root map may have indefinite length, because the payload
of Nitro attestation documents has been written so since mid-2025.

Lengths are compared with the bytes that are really there before anything is made of them.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Final, TypeAlias

from latensgate_shared import limits
from latensgate_shared.errors import MalformedError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CBORValue: TypeAlias = (
    "int | bytes | str | bool | list[CBORValue] | dict[int | str, CBORValue] | None"
)
"""What ``decode`` returns. Test for ``bool`` before ``int``: in Python True is an int."""

CBOREncodable: TypeAlias = (
    "int | bytes | str | bool | Sequence[CBOREncodable] | _OneKeyed | _TwoKeyed | None"
)
"""What ``encode`` takes: at run time lists, tuples and dicts, the scalars of ``CBORValue``; exactly
these types, and enumerations of them."""

_OneKeyed: TypeAlias = "Mapping[int, CBOREncodable] | Mapping[str, CBOREncodable]"
_TwoKeyed: TypeAlias = "Mapping[int | str, CBOREncodable]"

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_SIMPLE_VALUES: Final = {0xF4: False, 0xF5: True, 0xF6: None}
_LONG: Final = 24
"""RFC 8949, section 3: below it the low five bits are the argument, from it on they say where."""
_SHORT_TEXT: Final = _TEXT << 5
_HEAD_SIZES: Final = {24: 1, 25: 2, 26: 4, 27: 8}
_LONG_HEAD_SIZES: Final = ((26, 4), (27, 8))
_HEAD_MINIMUM: Final = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}


class CBORError(MalformedError):
    """Bytes that are not strict CBOR, or a value that has no CBOR form here."""


def decode(data: bytes, *, max_bytes: int, indefinite_root_map: bool = False) -> CBORValue:
    """Read exactly one value.

    Args:
        data: The whole encoding; nothing may follow the value.
        max_bytes: Largest ``data`` admitted, in bytes.
        indefinite_root_map: Whether the outermost map may have indefinite length.

    Returns:
        The value. Map order is the order of the bytes.

    Raises:
        TooLargeError: ``data`` is longer than ``max_bytes``.
        CBORError: Anything else; the text names the byte offset.
    """
    if len(data) > max_bytes:
        raise TooLargeError(f"CBOR: {len(data)} bytes, at most {max_bytes} expected")
    if indefinite_root_map and data[:1] == b"\xbf":
        value, end = _indefinite_map(data)
    else:
        value, end = _item(data, 0, limits.CBOR_MAX_DEPTH)
    if end != len(data):
        raise CBORError(f"CBOR: {len(data) - end} bytes after the value, which ends at byte {end}")
    return value


def encode(value: CBOREncodable) -> bytes:
    """Write a value in the core deterministic encoding of RFC 8949, section 4.2.1.

    Map keys are sorted by their encoded bytes; heads are the shortest; lengths are definite.

    Raises:
        CBORError: A type without CBOR form here, an integer beyond 64 bits, text that is not
            Unicode (lone surrogates), or nesting deeper than ``limits.CBOR_MAX_DEPTH``.
    """
    return _write(value, limits.CBOR_MAX_DEPTH)


def _item(data: bytes, at: int, levels: int) -> tuple[CBORValue, int]:
    """Read the value at byte ``at``; return it and the offset after it."""
    if at >= len(data):
        raise _truncated(data, at)
    initial = data[at]
    if initial < _LONG:  # by far the commonest: an integer of one byte
        return initial, at + 1
    major, argument, after = initial >> 5, initial & 31, at + 1
    if major >= _TAG:
        return _simple(initial, at), after
    if argument >= _LONG:
        argument, after = _long_argument(data, at)
    if major <= _NEGATIVE:
        return (argument if major == _UNSIGNED else -1 - argument), after
    if major >= _ARRAY:
        return _container(data, at, after, argument, levels)
    end = after + argument
    if end > len(data):
        raise _truncated(data, at)
    chunk = data[after:end]
    if major == _BYTES:
        return chunk, end
    try:
        return chunk.decode(), end
    except UnicodeDecodeError:
        raise CBORError(f"CBOR: text at byte {at} is not UTF-8") from None


def _simple(initial: int, at: int) -> bool | None:
    if initial not in _SIMPLE_VALUES:
        raise _refused(initial, at)
    return _SIMPLE_VALUES[initial]


def _long_argument(data: bytes, at: int) -> tuple[int, int]:
    """Read a head of more than one byte and demand that it could not be shorter."""
    info = data[at] & 31
    size = _HEAD_SIZES.get(info)
    if size is None:
        raise _refused(data[at], at)
    after = at + 1 + size
    if after > len(data):
        raise _truncated(data, at)
    argument = int.from_bytes(data[at + 1 : after], "big")
    if argument < _HEAD_MINIMUM[info]:
        raise CBORError(f"CBOR: head at byte {at} is not in its shortest form")
    return argument, after


def _container(data: bytes, at: int, start: int, count: int, levels: int) -> tuple[CBORValue, int]:
    if levels == 0:
        raise CBORError(f"CBOR: more than {limits.CBOR_MAX_DEPTH} levels at byte {at}")
    if count > len(data) - start:  # an element has at least one byte
        raise _truncated(data, at)
    position = start
    if data[at] >> 5 == _ARRAY:
        items: list[CBORValue] = []
        for _ in range(count):
            item, position = _item(data, position, levels - 1)
            items.append(item)
        return items, position
    return _map(data, start, count, levels - 1)


def _map(data: bytes, start: int, count: int, levels: int) -> tuple[CBORValue, int]:
    """Read that many members; a key that is a short text is read here, as most are."""
    members: dict[int | str, CBORValue] = {}
    position, size = start, len(data)
    for _ in range(count):
        begin = position + 1
        length = data[position] - _SHORT_TEXT if position < size else -1
        if 0 <= length < _LONG and begin + length <= size:
            try:
                key = data[begin : begin + length].decode()
            except UnicodeDecodeError:
                raise CBORError(f"CBOR: text at byte {position} is not UTF-8") from None
            if key in members:
                raise _repeated(position)
            members[key], position = _item(data, begin + length, levels)
        else:
            position = _member(data, position, levels, members)
    return members, position


def _indefinite_map(data: bytes) -> tuple[CBORValue, int]:
    members: dict[int | str, CBORValue] = {}
    position = 1
    while data[position : position + 1] != b"\xff":
        position = _member(data, position, limits.CBOR_MAX_DEPTH - 1, members)
    return members, position + 1


def _member(data: bytes, at: int, levels: int, members: dict[int | str, CBORValue]) -> int:
    """Read one key and its value into ``members``; return the offset after them."""
    key, position = _item(data, at, 0)
    if type(key) is not str and type(key) is not int:  # exactly: a bool is no key
        raise CBORError(f"CBOR: map key at byte {at} is neither an integer nor text")
    if key in members:
        raise _repeated(at)
    members[key], position = _item(data, position, levels)
    return position


def _repeated(at: int) -> CBORError:
    return CBORError(f"CBOR: map key at byte {at} stands twice")


def _truncated(data: bytes, at: int) -> CBORError:
    return CBORError(f"CBOR: the value at byte {at} needs more than the {len(data)} bytes present")


def _refused(initial: int, at: int) -> CBORError:
    return CBORError(f"CBOR: byte {at} is 0x{initial:02x}, a kind of value that is not spoken here")


def head(major: int, argument: int) -> bytes:
    """Return the shortest head (RFC 8949, section 3).

    Args:
        major: Major type, already in the upper three bits.
        argument: Integer, length or count.

    Raises:
        CBORError: An argument beyond 64 bits.
    """
    if argument < _LONG:
        return bytes((major | argument,))
    if argument < 1 << 8:
        return bytes((major | 24, argument))
    if argument < 1 << 16:
        return bytes((major | 25, argument >> 8, argument & 0xFF))
    for info, size in _LONG_HEAD_SIZES:
        if not argument >> 8 * size:
            return bytes((major | info,)) + argument.to_bytes(size, "big")
    raise CBORError("CBOR: integer beyond 64 bits")


def _write(value: object, levels: int) -> bytes:
    scalar = _SCALARS.get(type(value))
    if scalar is not None:
        return scalar(value)
    container = _CONTAINERS.get(type(value))
    if isinstance(value, Enum):
        return _write(value.value, levels)
    if container is None:
        raise CBORError(f"CBOR: no form for a value of type {type(value).__name__}")
    if levels == 0:
        raise CBORError(f"CBOR: more than {limits.CBOR_MAX_DEPTH} levels to write")
    return container(value, levels - 1)


def _write_integer(value: int) -> bytes:
    return head(0x00, value) if value >= 0 else head(0x20, -1 - value)


def _write_bytes(value: bytes) -> bytes:
    size = len(value)
    return (_BYTES_HEADS[size] if size < _HEADS_COUNT else head(0x40, size)) + value


def _write_text(value: str) -> bytes:
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise CBORError("CBOR: text with a lone surrogate") from None
    size = len(encoded)
    return (_TEXT_HEADS[size] if size < _HEADS_COUNT else head(0x60, size)) + encoded


def _write_array(value: Sequence[object], levels: int) -> bytes:
    return head(0x80, len(value)) + b"".join([_write(item, levels) for item in value])


def _write_map(value: Mapping[object, object], levels: int) -> bytes:
    names = tuple(value)
    # By type exactly: True is equal to 1, and would find its place in the cache.
    ordered = _ordered_texts(names) if _TEXTS.issuperset(map(type, names)) else _ordered(names)
    size = len(names)
    parts = [bytes((0xA0 | size,)) if size < _LONG else head(0xA0, size)]
    for name, key in ordered:
        member = value[name]
        scalar = _SCALARS.get(type(member))  # looked up here: most members are no containers
        parts += key, scalar(member) if scalar is not None else _write(member, levels)
    return b"".join(parts)


_TEXTS: Final = frozenset({str})


@lru_cache(maxsize=256)  # the names of our own heads, over and over
def _ordered_texts(names: tuple[object, ...]) -> list[tuple[object, bytes]]:
    return _ordered(names)


def _ordered(names: tuple[object, ...]) -> list[tuple[object, bytes]]:
    """Return the keys and their encodings, in the order of these."""
    return sorted([(name, _key(name)) for name in names], key=itemgetter(1))


def _key(key: object) -> bytes:
    if type(key) is not int and type(key) is not str:  # exactly: a bool is no key
        raise CBORError(f"CBOR: map key of type {type(key).__name__}")
    return _write(key, 0)


_HEADS_COUNT: Final = 256
_BYTES_HEADS: Final = [head(0x40, size) for size in range(_HEADS_COUNT)]
_TEXT_HEADS: Final = [head(0x60, size) for size in range(_HEADS_COUNT)]

_SCALARS: Final[Mapping[type, Callable[..., bytes]]] = {
    int: _write_integer,
    bytes: _write_bytes,
    str: _write_text,
    bool: {True: b"\xf5", False: b"\xf4"}.__getitem__,
    type(None): {None: b"\xf6"}.__getitem__,
}
_CONTAINERS: Final[Mapping[type, Callable[..., bytes]]] = {
    list: _write_array,
    tuple: _write_array,
    dict: _write_map,
}
