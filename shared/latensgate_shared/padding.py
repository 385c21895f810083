"""The ``pad`` member of sealed JSON: zeros up to the Padmé length (docs/spec/wire.md section 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from latensgate_shared.chunks import padme
from latensgate_shared.strict_json import JSONError

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONValue

_PAD_OPEN: Final = b',"pad":"'
_PAD_CLOSE: Final = b'"}'


def append_pad(unfinished: bytes, *, pad: bool, step_bytes: int = 0) -> bytes:
    """Close a JSON object with its ``pad`` member.

    Args:
        unfinished: An object without its last brace, with at least one member.
        pad: False leaves ``pad`` empty.
        step_bytes: Fill up to a multiple of it in place of the Padmé length; 0 for Padmé.

    Returns:
        The whole JSON text; its length is the Padmé value of its length with an empty ``pad``, or
        the multiple.
    """
    bare = len(unfinished) + len(_PAD_OPEN) + len(_PAD_CLOSE)
    if not pad:
        return b"".join((unfinished, _PAD_OPEN, _PAD_CLOSE))
    more = -bare % step_bytes if step_bytes else padme(bare) - bare
    return b"".join((unfinished, _PAD_OPEN, b"0" * more, _PAD_CLOSE))


def check_pad(value: JSONValue, what: str) -> None:
    """Accept any number of zeros; anything else could carry a message.

    Raises:
        JSONError: Not text, or another character.
    """
    if type(value) is not str or value.strip("0"):
        raise JSONError(f"{what}: nothing but 0 expected")
