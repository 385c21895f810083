"""What a case is, how its input is read, and when an answer agrees with it."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from latensgate_shared.strict_json import JSONObject, JSONValue

CASE_MAX_BYTES: Final = 32 * 1024 * 1024
"""One line of the protocol, or one vector file: above the largest sealed request in base64."""

UNSUPPORTED: Final = "unsupported-operation"
INVALID_CASE: Final = "invalid-case"
ANY_ERROR: Final = "any error"


class CaseError(Exception):
    """A case that is not what docs/spec/conformance.md says: the fault of who wrote it."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What an implementation must answer.

    Attributes:
        output: Members that must be there and equal; None if it must refuse.
        error: Kind of the refusal; None if any kind will do, or if it must accept.
    """

    output: Mapping[str, JSONValue] | None = None
    error: str | None = None

    def __str__(self) -> str:
        if self.output is None:
            return f"refuse with {self.error or ANY_ERROR}"
        return "accept"


@dataclass(frozen=True, slots=True)
class Case:
    """One question and its answer.

    Attributes:
        folder: Where it came from, for the table.
        case_id: Unique within a run.
        operation: Name in docs/spec/conformance.md.
        input: Its arguments.
        expect: Its answer.
        why: What it shows, in a sentence.
    """

    folder: str
    case_id: str
    operation: str
    input: JSONObject
    expect: Expectation
    why: str = ""
    source: Path | None = field(default=None, compare=False)


class Arguments:
    """The input of a case, read by name and kind.

    Every method raises :class:`CaseError` where the member is missing or of another kind.
    """

    def __init__(self, members: JSONObject) -> None:
        self._members = members

    def has(self, name: str) -> bool:
        """Whether the member is there and not null."""
        return self._members.get(name) is not None

    def value(self, name: str) -> JSONValue:
        """The member, whatever it is."""
        if name not in self._members:
            raise CaseError(f"input: '{name}' is missing")
        return self._members[name]

    def text(self, name: str) -> str:
        """A text."""
        value = self.value(name)
        if not isinstance(value, str):
            raise CaseError(f"input: '{name}' is not text")
        return value

    def integer(self, name: str) -> int:
        """An integer."""
        value = self.value(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise CaseError(f"input: '{name}' is not an integer")
        return value

    def boolean(self, name: str) -> bool:
        """True or false."""
        value = self.value(name)
        if not isinstance(value, bool):
            raise CaseError(f"input: '{name}' is not a boolean")
        return value

    def object(self, name: str) -> Arguments:
        """An object."""
        value = self.value(name)
        if not isinstance(value, dict):
            raise CaseError(f"input: '{name}' is not an object")
        return Arguments(value)

    def objects(self, name: str) -> list[Arguments]:
        """An array of objects."""
        return [Arguments({"item": item}).object("item") for item in self._array(name)]

    def hex(self, name: str) -> bytes:
        """Bytes from hexadecimal text."""
        try:
            return bytes.fromhex(self.text(name))
        except ValueError:
            raise CaseError(f"input: '{name}' is not hexadecimal") from None

    def optional_hex(self, name: str) -> bytes | None:
        """Bytes from hexadecimal text, or None where the member is null or missing."""
        return self.hex(name) if self.has(name) else None

    def hexes(self, name: str) -> list[bytes]:
        """An array of hexadecimal texts."""
        return [Arguments({"item": item}).hex("item") for item in self._array(name)]

    def base64(self, name: str) -> bytes:
        """Bytes from base64 text."""
        try:
            return base64.b64decode(self.text(name), validate=True)
        except (binascii.Error, ValueError):
            raise CaseError(f"input: '{name}' is not base64") from None

    def members(self) -> JSONObject:
        """All members."""
        return self._members

    def _array(self, name: str) -> list[JSONValue]:
        value = self.value(name)
        if not isinstance(value, list):
            raise CaseError(f"input: '{name}' is not an array")
        return value


@dataclass(frozen=True, slots=True)
class Answer:
    """What an implementation said.

    Attributes:
        output: What it returned; None if it refused.
        error: With what kind it refused; None if it accepted.
    """

    output: JSONObject | None = None
    error: str | None = None

    def __str__(self) -> str:
        return "accepted" if self.output is not None else f"refused with {self.error}"


def disagreement(expect: Expectation, answer: Answer) -> str | None:
    """Say in a sentence how an answer differs from what is expected; None if it agrees."""
    if expect.output is None:
        if answer.output is not None:
            return f"expected to {expect}, but it accepted"
        if answer.error in {UNSUPPORTED, INVALID_CASE}:
            return f"expected to {expect}, but it {answer}"
        if expect.error not in {None, answer.error}:
            return f"expected to {expect}, but it {answer}"
        return None
    if answer.output is None:
        return f"expected to accept, but it {answer}"
    return _difference(expect.output, answer.output)


def _difference(expected: Mapping[str, JSONValue], found: JSONObject) -> str | None:
    for name, value in expected.items():
        if name not in found:
            return f"output: '{name}' is missing"
        if found[name] != value or type(found[name]) is not type(value):
            return f"output: '{name}' is {_short(found[name])}, expected {_short(value)}"
    return None


def _short(value: JSONValue) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - one line of a table
