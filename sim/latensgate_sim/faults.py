"""What a test may break at one simulated service."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import Enum

from latensgate_sim.errors import AWSError, CutConnectionError
from latensgate_sim.http_server import Response


class FaultKind(Enum):
    """How it breaks."""

    ERROR = "an error answer"
    SLOW = "a delay, then the true answer"
    CUT = "the connection is torn down"
    END = "the stream ends early, in good order"
    GARBAGE = "an answer that no codec reads"


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to fail.

    Attributes:
        kind: How.
        error: The answer of ``ERROR``.
        seconds: The delay of ``SLOW``.
        after_events: On a stream: break after so many events instead of before the answer.
        operation: Only for this operation, for example ``Decrypt``; None is every one.
        times: How often; None until cleared.
    """

    kind: FaultKind
    error: AWSError | None = None
    seconds: float = 0.0
    after_events: int | None = None
    operation: str | None = None
    times: int | None = 1


def throttled(*, after_events: int | None = None, times: int | None = 1) -> Fault:
    """Make the fault that Bedrock shows most."""
    text = "Too many requests, please wait before trying again."
    error = AWSError(429, "ThrottlingException", text)
    return Fault(FaultKind.ERROR, error, after_events=after_events, times=times)


class FaultSwitch:
    """The faults that are on; the first that fits is used."""

    def __init__(self) -> None:
        self._active: deque[tuple[Fault, int | None]] = deque()

    def on(self, fault: Fault) -> None:
        """Switch a fault on."""
        self._active.append((fault, fault.times))

    def clear(self) -> None:
        """Switch everything off."""
        self._active.clear()

    def take(self, operation: str) -> Fault | None:
        """Return what shall break this request, and count it."""
        for position, (fault, left) in enumerate(self._active):
            if fault.operation not in {None, operation}:
                continue
            if left is None:
                return fault
            if left > 1:
                self._active[position] = (fault, left - 1)
            else:
                del self._active[position]
            return fault
        return None


async def strike(fault: Fault | None) -> Response | None:
    """Do what breaks before an answer; returns an answer to send instead, or None.

    Raises:
        AWSError: The fault is an error answer.
        CutConnectionError: The fault is a cut.
    """
    if fault is None or fault.after_events is not None:
        return None
    if fault.kind is FaultKind.ERROR:
        raise fault.error or AWSError(500, "InternalServerException", "simulated")
    if fault.kind in {FaultKind.CUT, FaultKind.END}:
        raise CutConnectionError
    if fault.kind is FaultKind.SLOW:
        await asyncio.sleep(fault.seconds)
        return None
    headers = {"Content-Type": "application/json", "x-amzn-RequestId": "garbage"}
    return Response(200, headers, b'{"\xff')
