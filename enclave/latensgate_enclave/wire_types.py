"""The library's descriptions of our wire types, all made while there is one thread.

msgspec describes a structure to itself at its first use. Two threads that do so at once read half
a description: the process dies of a segmentation fault (msgspec 0.22, seen when a long request,
which is read in a thread, and a short one were an enclave's first two).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from latensgate_enclave.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

_OURS = __name__.partition(".")[0]


def describe_wire_types() -> None:
    """Have every structure of the enclave described; called before the first thread starts."""
    for kind in wire_types(msgspec.Struct):
        if kind.__module__.partition(".")[0] == _OURS:
            msgspec.json.Decoder(kind)


def wire_types(base: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    """Yield every structure below a base, of all modules that are loaded; values are none.

    Nothing is read into a `Value`, so nobody asks the library to describe one.
    """
    for kind in base.__subclasses__():
        if kind is not Value:
            yield kind
            yield from wire_types(kind)
