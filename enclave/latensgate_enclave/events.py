"""The enclave's only log: event codes and counts, never text from outside.

An event is one of a closed enumeration plus integers. Nothing that a caller, the parent or AWS
sent can reach the log, because there is no way to pass a string.
"""

from __future__ import annotations

from enum import Enum
from typing import TextIO


class Event(Enum):
    """Everything the enclave ever says about itself; numbers are stable."""

    STARTED = 1
    TIME_SET = 2
    LISTENING = 3
    CONNECTION_OPENED = 10
    CONNECTION_CLOSED = 11
    CONNECTION_REFUSED = 12
    FRAME_ERROR = 13
    KMS_GATE_OPEN = 20
    KMS_GATE_DENIED = 21
    KMS_UNREACHABLE = 22
    KMS_KEY_UNFIT = 23
    KEYS_ROTATED = 24
    CREDENTIALS_ACCEPTED = 30
    CREDENTIALS_REFUSED = 31
    IDENTITY_CHECKED = 32
    IDENTITY_REFUSED = 33
    CALL_ANSWERED = 40
    CALL_REFUSED = 41
    CALL_FAILED = 42
    CALL_CANCELLED = 43
    OVERLOADED = 44
    INTERNAL = 50
    DRAINING = 60
    STOPPED = 61


class EventLog:
    """Writes events as `event=NAME n=…` lines to one stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def emit(self, event: Event, **counts: int) -> None:
        """Write one event.

        Args:
            event: What happened.
            **counts: Numbers only (counts, milliseconds, error numbers); names are ours.

        Raises:
            TypeError: A value is not an integer; text must not reach the log.
        """
        if any(type(value) is not int for value in counts.values()):
            raise TypeError(f"{event.name}: an event carries integers only")
        fields = "".join(f" {name}={value}" for name, value in counts.items())
        self._stream.write(f"event={event.name}{fields}\n")
        self._stream.flush()
