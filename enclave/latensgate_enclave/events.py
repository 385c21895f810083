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
    FRAME_ERROR = 12
    KMS_GATE_DENIED = 20
    KEYS_ROTATED = 21
    CREDENTIALS_ACCEPTED = 30
    CREDENTIALS_REFUSED = 31
    CHECK_FAILED = 32
    UPSTREAM_CREDENTIAL_ACCEPTED = 33
    UPSTREAM_CREDENTIAL_REFUSED = 34
    CALL_REFUSED = 40
    OVERLOADED = 41
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
