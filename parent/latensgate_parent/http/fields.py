"""Reading single header fields of a request: each at most once, never guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from latensgate_parent.http.errors import GatewayError
from latensgate_shared.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_parent.http.errors import Header


def single(headers: Sequence[Header], name: bytes) -> bytes | None:
    """Return the value of a field, None if it is not there.

    Two readers of one request must never see two values, so a field that stands twice is refused.

    Args:
        headers: As ASGI gives them: names in lower case.
        name: In lower case.

    Raises:
        GatewayError: ``ERR_REQUEST_INVALID``: it stands there more than once.
    """
    found: bytes | None = None
    for each, value in headers:
        if each == name:
            if found is not None:
                raise _repeated(name, sum(each == name for each, _ in headers))
            found = value
    return found


def _repeated(name: bytes, times: int) -> GatewayError:
    title = name.decode("ascii").title()
    return GatewayError(
        ErrorCode.ERR_REQUEST_INVALID,
        f"Header {title}: expected once, found {times} times.",
        param=title,
    )


_PARAMETER_SHOWN_MAX_CHARS: Final = 64


def parameter_name(name: str) -> str:
    """Return a name that a caller made up, fit to be shown to it."""
    shown = "".join(mark if mark.isprintable() else "?" for mark in name)
    return shown[:_PARAMETER_SHOWN_MAX_CHARS] or "(empty)"
