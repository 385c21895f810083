"""The form of heads: the base of every class of ``calls``, and checks of single fields."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from latensgate_shared import formats
from latensgate_shared.errors import ErrorCode, MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from latensgate_shared.cbor import CBORValue
    from latensgate_shared.frames import HeadMap

_MessageT = TypeVar("_MessageT", bound="Message")
_StateT = TypeVar("_StateT", bound=StrEnum)


class Operation(StrEnum):
    """What the parent may ask."""

    INFERENCE = "inference"
    ATTESTATION = "attestation"
    HEALTH = "health"
    CREDENTIALS = "credentials"
    CONFIGURE_KMS = "configure_kms"
    USAGE = "usage"
    DRAIN = "drain"
    UPSTREAM_CREDENTIAL = "upstream_credential"
    HOLD_DECIDE = "hold_decide"
    HOLD_VIEW = "hold_view"


class CallError(MalformedError):
    """A head that is not of the form that its operation has."""


@dataclass(frozen=True, slots=True)
class Message:
    """Base of all heads: its fields are the names in the frame."""

    def to_head(self) -> dict[str, CBORValue]:
        """Return the fields for a frame; those that are None are left out."""
        names, _ = _names(type(self))  # type: ignore[arg-type]  # mypy 12190: a class is hashable
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @classmethod
    def from_head(cls, head: HeadMap) -> Self:
        """Read the fields from a frame.

        Raises:
            MalformedError: A field is missing, unknown, or not of its form.
        """
        check_names(cls.__name__, head, cls)
        return construct(cls, head)


def construct(make: Callable[..., _MessageT], values: Mapping[str, object]) -> _MessageT:
    """Call a class with fields from outside; its ``__post_init__`` checks their types."""
    return make(**values)


def check_names(what: str, head: HeadMap, message: type[Message]) -> None:
    """Refuse a missing, an unknown and a null field."""
    names, required = _names(message)  # type: ignore[arg-type]  # as above
    formats.check_names(head.keys(), what, required, frozenset(names))
    if None in head.values():
        raise CallError(f"{what}: a field is null; optional ones are left out")


@cache  # one entry for each class of ``calls``
def _names(message: type[Message]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the names of all fields that travel, and of those that must be there."""
    travelling = [item for item in fields(message) if item.init]
    required = frozenset(item.name for item in travelling if item.default is MISSING)
    return tuple(item.name for item in travelling), required


def binary(value: object, what: str, max_bytes: int, absent: object = MISSING) -> None:
    """1 to ``max_bytes`` bytes, or the value that stands for an absent field."""
    if value is absent:
        return
    if type(value) is not bytes or not 1 <= len(value) <= max_bytes:
        raise CallError(f"{what}: 1 to {max_bytes} bytes expected")


def exactly(value: object, what: str, size: int, absent: object = MISSING) -> None:
    """As ``binary``, but of one length only."""
    binary(value, what, size, absent)
    if isinstance(value, bytes) and len(value) != size:
        raise CallError(f"{what}: {size} bytes expected, found {len(value)}")


def error_name(value: object, what: str) -> None:
    """The name of a code of the closed enumeration."""
    if type(value) is not str or value not in ErrorCode.__members__:
        raise CallError(f"{what}: the name of an error code expected")


def member(states: type[_StateT], head: HeadMap, name: str) -> _StateT:
    """Return the state of this name."""
    value = head[name]
    for state in states:
        if state.value == value:
            return state
    raise CallError(f"{name}: a state outside its closed set")


def state(value: object, what: str, states: type[StrEnum]) -> None:
    """A member of the enumeration itself; the text of one is none."""
    if type(value) is not states:
        raise CallError(f"{what}: a member of {states.__name__} expected")
