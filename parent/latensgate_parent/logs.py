"""The parent's log: one JSON object a line, from closed sets of members.

Nothing of a body, a header, a key or a query can get in, because no member is made for it. JSON
escapes every control character, so no value can forge a line. Lines of requests are written some
milliseconds later, many at once; whatever else is written takes those before it along.
"""

from __future__ import annotations

import asyncio
import json
import traceback
from typing import TYPE_CHECKING, Final, TextIO

import msgspec

from latensgate_parent.clock import Clock, to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from latensgate_parent.http.observer import RequestDone


_TOGETHER_S: Final = 0.05
"""Of so long a time, lines of requests are written at once: what a kill may lose."""


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
        self._lines: list[str] = []

    def request_done(self, done: RequestDone) -> None:
        """Write the line of one request; all its members are of closed sets of ASCII texts."""
        line: dict[str, str | float | None] = {
            "time": self._now(),
            "event": "request",
            "correlation_id": done.correlation_id,
            "route": done.route,
            "status": done.status,
            "code": done.code.name if done.code is not None else None,
            "tenant_id": done.tenant_id,
            "ms": round(done.ms, 1),
        }
        self._lines.append(msgspec.json.encode(line).decode())
        if len(self._lines) == 1:
            self._write_soon()

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
        self._lines.append(json.dumps(line, ensure_ascii=True))
        self._flush()

    def _write_soon(self) -> None:
        try:
            asyncio.get_running_loop().call_later(_TOGETHER_S, self._flush)
        except RuntimeError:  # no loop runs: nobody is held up
            self._flush()

    def _flush(self) -> None:
        if not self._lines:
            return
        text = "\n".join([*self._lines, ""])
        self._lines.clear()
        try:
            self._stream.write(text)
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
