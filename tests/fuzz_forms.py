"""What fuzz targets share: how one is described, and how bytes become edits of a good example.

A parser of deep formats refuses random bytes at its first step. So most targets take their input
as a script: which part of a good example is replaced by what. The steps behind the first are then
in reach, and the fuzzer's small changes of the script are small changes of the example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import NamedTuple, TypeAlias, cast

Node: TypeAlias = "dict[object, Node] | list[Node] | bytes | str | int | float | None"
Place: TypeAlias = "tuple[dict[object, Node] | list[Node], object]"

MAX_BYTES = 4096
EDITS_MAX_COUNT = 8


class Target(NamedTuple):
    """A function to feed, the modules whose branches it is to reach, and inputs to begin with."""

    run: Callable[[bytes], None]
    modules: tuple[str, ...]
    seeds: tuple[bytes, ...]


class Script:
    """Reads an input from the front; behind its end everything is zero."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def byte(self) -> int:
        return self.take(1)[0] if self.left else 0

    def number(self) -> int:
        """Two bytes."""
        return self.byte() << 8 | self.byte()

    def take(self, count: int) -> bytes:
        """At most so many bytes."""
        start, self._at = self._at, min(len(self._data), self._at + count)
        return self._data[start : self._at]

    def sized(self) -> bytes:
        """A byte that says how many, and so many."""
        return self.take(self.byte())

    def rest(self) -> bytes:
        return self.take(self.left)

    def pick(self, choices: Sequence[Node]) -> Node:
        return choices[self.byte() % len(choices)]


TEXTS: tuple[Node, ...] = ("", "a", "\u0000", "é", "sha384:" + "ab" * 48, "0" * 96)
NUMBERS: tuple[Node, ...] = (0, 1, -1, 2**31, 2**53 - 1, 2**53, 2**63, 1.5, True, False)
OTHERS: tuple[Node, ...] = (None, [], {}, [[]], {"a": None})
JSON_ATOMS = TEXTS + NUMBERS + OTHERS


def edited(example: Node, script: Script, atoms: Sequence[Node] = JSON_ATOMS) -> Node:
    """Return a copy of the example, changed as the script says."""
    root: list[Node] = [deepcopy(example)]
    for _ in range(min(script.byte() % 16, EDITS_MAX_COUNT)):
        places = list(_places(root))
        _edit(places, places[script.number() % len(places)], script, atoms)
    return root[0]


def _places(container: dict[object, Node] | list[Node]) -> Iterator[Place]:
    names: list[object] = [*container] if isinstance(container, dict) else [*range(len(container))]
    for name in names:
        place = container, name
        yield place
        value = _get(place)
        if isinstance(value, dict | list):
            yield from _places(value)


def _get(place: Place) -> Node:
    container, name = place
    return container[name] if isinstance(container, dict) else container[cast("int", name)]


def _set(place: Place, value: Node) -> None:
    container, name = place
    if isinstance(container, dict):
        container[name] = value
    else:
        container[cast("int", name)] = value


def _edit(places: list[Place], place: Place, script: Script, atoms: Sequence[Node]) -> None:
    container, name = place
    match script.byte() % 6:
        case 0:
            _set(place, deepcopy(script.pick(atoms)))
        case 1:
            _set(place, _like(_get(place), script))
        case 2:
            _set(place, deepcopy(_get(places[script.number() % len(places)])))
        case 3 if isinstance(container, dict):
            del container[name]
        case 4 if isinstance(container, dict):
            container[script.sized().decode("latin-1")] = deepcopy(script.pick(atoms))
        case _:
            _set(place, [deepcopy(_get(place)), _get(place)])


def _like(old: Node, script: Script) -> Node:
    """Return a value of the same kind, near the old one where it is text or bytes."""
    match old:
        case bytes():
            return _spliced(old, script)
        case str():
            return _spliced(old.encode(), script).decode("utf-8", "replace")
        case bool() | None:
            return bool(script.byte() & 1)
        case int():
            return int.from_bytes(script.take(1 + script.byte() % 9), "big", signed=True)
        case _:
            return script.sized().decode("latin-1")


def _spliced(old: bytes, script: Script) -> bytes:
    """Cut some bytes out and put others in."""
    start = script.number() % (len(old) + 1)
    return old[:start] + script.sized() + old[start + script.byte() :]
