"""What pool and workers say to one another over pipes: length-prefixed frames, nothing more.

A request is one piece of text. An answer is a status byte and, for findings, twelve bytes each.
Both ends are this release's own code in one enclave; the pool checks answers all the same, since a
worker works on hostile text in native code.
"""

from __future__ import annotations

import os
import struct
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_LENGTH: Final = struct.Struct("<I")
_FINDING: Final = struct.Struct("<III")
HEADER_BYTES: Final = _LENGTH.size
FRAME_MAX_BYTES: Final = 1_048_576
"""Of one frame: a piece of text is 16 KB at most, and has fewer names than characters."""
_TEXT_ENCODING: Final = "utf-8", "surrogatepass"

_LABELS: Final = (
    "PERSON NORP FAC ORG GPE LOC PRODUCT EVENT WORK_OF_ART LAW LANGUAGE DATE TIME PERCENT MONEY"
    " QUANTITY ORDINAL CARDINAL PER MISC"
)
LABELS: Final = tuple(_LABELS.split())
"""Entity labels of spaCy's models; what a model says beyond them is not reported."""
_NUMBER_OF: Final = {label: number for number, label in enumerate(LABELS)}


class Status(Enum):
    """First byte of an answer."""

    READY = b"H"
    FOUND = b"F"
    FOUND_LAST = b"R"
    """Findings, and the worker ends: it has grown."""
    NO_MEMORY = b"M"
    FAILED = b"E"


class Entity(NamedTuple):
    """A name in a piece of text, in code points of the piece."""

    start: int
    end: int
    label: str


class WireError(Exception):
    """The other end broke the protocol."""


def encode_text(piece: str) -> bytes:
    """Return a request frame."""
    return framed(piece.encode(*_TEXT_ENCODING))


def decode_text(payload: bytes) -> str:
    """Return the text of a request."""
    return payload.decode(*_TEXT_ENCODING)


def encode_found(status: Status, entities: Iterable[Entity]) -> bytes:
    """Return an answer frame with findings."""
    packed = [
        _FINDING.pack(entity.start, entity.end, _NUMBER_OF[entity.label])
        for entity in entities
        if entity.label in _NUMBER_OF
    ]
    return framed(b"".join([status.value, *packed]))


def decode_answer(payload: bytes, piece_chars: int) -> tuple[Status, list[Entity]]:
    """Return status and findings of an answer.

    Raises:
        WireError: An unknown status, or a finding that does not lie in the piece.
    """
    try:
        status = Status(payload[:1])
        entities = [
            Entity(start, end, LABELS[label])
            for start, end, label in _FINDING.iter_unpack(payload[1:])
        ]
    except (ValueError, IndexError, struct.error):
        raise WireError("an answer of another form") from None
    if any(not 0 <= entity.start < entity.end <= piece_chars for entity in entities):
        raise WireError("a finding outside its text")
    return status, entities


def framed(payload: bytes) -> bytes:
    """Return a payload behind its length."""
    return _LENGTH.pack(len(payload)) + payload


def frame_length(header: bytes) -> int:
    """Return the length that a header states.

    Raises:
        WireError: More than a frame may have, or nothing.
    """
    (length,) = _LENGTH.unpack(header)
    if not 0 < length <= FRAME_MAX_BYTES:
        raise WireError("a frame of another length")
    return int(length)


def read_frame(descriptor: int) -> bytes | None:
    """Read one frame, waiting for it; None where the other end is closed.

    Raises:
        WireError: The other end closed within a frame, or states a wrong length.
    """
    header = _read(descriptor, HEADER_BYTES)
    if not header:
        return None
    if len(header) == HEADER_BYTES:
        length = frame_length(header)
        payload = _read(descriptor, length)
        if len(payload) == length:
            return payload
    raise WireError("the end within a frame")


def _read(descriptor: int, count: int) -> bytes:
    """Read so many bytes; fewer only where the other end closes, and none if it closes at once."""
    parts: list[bytes] = []
    while count > 0:
        part = os.read(descriptor, count)
        if not part:
            return b"".join(parts)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything, waiting where the pipe is full."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
