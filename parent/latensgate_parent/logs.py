"""The parent's log: one JSON object a line, from closed sets of members.

Nothing of a body, a header, a key or a query can get in, because no member is made for it. JSON
escapes every control character, so no value can forge a line.
"""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, TextIO

from latensgate_parent.clock import Clock, to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from latensgate_parent.http.observer import RequestDone


class JSONLog:
    """Writes lines to one stream. Implements ``Observer``.

    Args:
        stream: Where to.
        clock: Seconds since 1970.
    """

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._second = -1
        self._time = ""

    def request_done(self, done: RequestDone) -> None:
        """Write the line of one request."""
        self._write(
            "request",
            {
                "correlation_id": done.correlation_id,
                "route": done.route,
                "status": done.status,
                "code": done.code.name if done.code is not None else None,
                "tenant_id": done.tenant_id,
                "ms": round(done.ms, 1),
            },
        )

    def failed_unexpectedly(self, correlation_id: str, error: BaseException) -> None:
        """Write type and place of what should not happen; its text might quote a caller."""
        self._write(
            "fault",
            {
                "correlation_id": correlation_id,
                "type": type(error).__name__,
                "at": [_place(*each) for each in traceback.walk_tb(error.__traceback__)][-5:],
            },
        )

    def event(self, name: str, **facts: str | float | None) -> None:
        """Write something about the process itself; ``facts`` are the program's own words."""
        self._write(name, facts)

    def _write(self, event: str, members: Mapping[str, object]) -> None:
        line = {"time": self._now(), "event": event, **members}
        try:
            self._stream.write(json.dumps(line, ensure_ascii=True) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # a closed or full log must not end service
            return

    def _now(self) -> str:
        """Return the time, which is written once a second and not once a line."""
        at_s = int(self._clock())
        if at_s != self._second:
            self._second, self._time = at_s, to_rfc3339(at_s)
        return self._time


def _place(frame: FrameType, line: int) -> str:
    """Return module and line; where this machine keeps its files is nobody's business."""
    return f"{frame.f_globals.get('__name__', '?')}:{line}"
