"""In what shape a streamed answer leaves: how long its records are, and when they go (wire.md 5.4).

Whoever watches the connection sees the length and the time of every record. Padmé lengths and
tokens that leave as they come tell most of what an answer looks like; records of one length on the
ticks of a clock tell little more than how long it took.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

from latensgate_shared import formats
from latensgate_shared.limits import STREAM_COALESCE_MAX_MS, STREAM_FIXED_STEP_BYTES
from latensgate_shared.strict_json import JSONError

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject, JSONValue

StreamPad = Literal["padme", "fixed"]
PADS: Final = ("padme", "fixed")
"""From the looser to the stricter."""


@dataclass(frozen=True, slots=True)
class StreamShape:
    """The shape of a streamed answer; what is left out asks for nothing.

    Attributes:
        pad: ``padme``: each record is filled up to its Padmé length. ``fixed``: to a multiple of
            ``STREAM_FIXED_STEP_BYTES``, which nearly always is that itself.
        coalesce_ms: Milliseconds between two ticks on which content leaves, what came in between
            as one; 0 to ``STREAM_COALESCE_MAX_MS``, and 0 lets every piece leave as it comes.

    Raises:
        JSONError: Another value.
    """

    pad: StreamPad = "padme"
    coalesce_ms: int = 0

    def __post_init__(self) -> None:
        if self.pad not in PADS:
            raise JSONError(f"stream.pad: {' or '.join(PADS)} expected")
        formats.integer(self.coalesce_ms, "stream.coalesce_ms", 0, STREAM_COALESCE_MAX_MS)

    @property
    def step_bytes(self) -> int:
        """What the length of every content record is a multiple of; 0 for Padmé."""
        return STREAM_FIXED_STEP_BYTES if self.pad == "fixed" else 0

    def joined(self, other: StreamShape | None) -> StreamShape:
        """Return the stricter of both in each regard: so neither loosens the other."""
        if other is None:
            return self
        pad: StreamPad = "fixed" if "fixed" in {self.pad, other.pad} else "padme"
        return StreamShape(pad, max(self.coalesce_ms, other.coalesce_ms))

    def document(self) -> JSONObject:
        """Return it as it stands in a sealed request."""
        return {"pad": self.pad, "coalesce_ms": self.coalesce_ms}


def parse_stream_shape(value: JSONValue) -> StreamShape:
    """Read ``stream`` of a sealed request.

    Raises:
        JSONError: Not docs/spec/wire.md section 5.4.
    """
    members = formats.members(value, "stream", frozenset(), frozenset({"pad", "coalesce_ms"}))
    return StreamShape(
        cast("StreamPad", members.get("pad", "padme")),  # both are checked by the class
        cast("int", members.get("coalesce_ms", 0)),
    )
