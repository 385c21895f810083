"""From JSON to the structures of an OpenAI request, and what is told where they do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from latensgate_enclave.chat import RequestInvalidError, UnsupportedError

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject

_Wire = TypeVar("_Wire", bound=msgspec.Struct)


def converted(body: JSONObject, kind: type[_Wire]) -> _Wire:
    """Return a body as its structure. A member that is null is an absent one.

    Raises:
        UnsupportedError: A member, or a variant of one, that the structure does not name.
        RequestInvalidError: A value outside the contract. Both name the field in ``param``.
    """
    given = {name: value for name, value in body.items() if value is not None}
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from None


def _refusal(text: str) -> RequestInvalidError:
    """Turn the library's words into an error of ours: only the path is taken over."""
    reason, found, path = text.rpartition(" - at `$")
    reason, path = (reason, path[:-1].lstrip(".")) if found else (text, "")
    name = reason.partition("`")[2].rpartition("`")[0]
    if reason.startswith("Object contains unknown field"):
        return UnsupportedError("a field is not supported", param=f"{path}.{name}".lstrip("."))
    if reason.startswith("Object missing required field"):
        return RequestInvalidError("a field is missing", param=f"{path}.{name}".lstrip("."))
    if reason.startswith("Invalid"):
        return UnsupportedError("a value is not supported", param=path)
    return RequestInvalidError("a value is not of the type or range expected", param=path)
