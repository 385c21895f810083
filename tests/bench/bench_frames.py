"""Frames: one streamed token of 200 bytes, against a bare length prefix around the same bytes."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Final

from latensgate_shared import limits
from latensgate_shared.frames import Chunk, End, FrameConnection, Request, Role

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS: Final = 41
_CALLS: Final = 500
_TOKEN: Final = b"\xa5" * 200
_LARGE: Final = b"\xa5" * limits.CHUNK_MAX_BYTES


def _cpu_us(call: Callable[[], object], calls: int) -> float:
    start = time.process_time_ns()
    for _ in range(calls):
        call()
    return (time.process_time_ns() - start) / calls / 1_000


def _medians(calls: int, *functions: Callable[[], object]) -> list[float]:
    """Interleaved, so that a busy neighbour hits all alike."""
    rounds = [[_cpu_us(function, calls) for function in functions] for _ in range(_ROUNDS)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


class _Framed:
    """Both ends of one connection; a new call before the body limit is reached."""

    def __init__(self, data: bytes) -> None:
        self.parent = FrameConnection(Role.PARENT)
        self.enclave = FrameConnection(Role.ENCLAVE)
        self.data = data
        self.left = 0
        self.call_id = 0

    def __call__(self) -> None:
        if self.left < len(self.data):
            self.renew()
        self.left -= len(self.data)
        self.enclave.receive(self.parent.send(Chunk(self.call_id, self.data)))

    def renew(self) -> None:
        if self.call_id:
            self.enclave.receive(self.parent.send(End(self.call_id)))
            self.parent = FrameConnection(Role.PARENT)
            self.enclave = FrameConnection(Role.ENCLAVE)
        self.call_id = 70_000
        self.left = limits.CALL_BODY_MAX_BYTES
        self.enclave.receive(self.parent.send(Request(self.call_id, "bench", {})))


class _Bare:
    """A length prefix, and a reader that buffers: the least that any framing does."""

    def __init__(self, data: bytes) -> None:
        self.buffer = bytearray()
        self.data = data

    def __call__(self) -> bytes:
        self.buffer += len(self.data).to_bytes(4, "big") + self.data
        end = 4 + int.from_bytes(self.buffer[:4], "big")
        body = bytes(self.buffer[4:end])
        del self.buffer[:end]
        return body


def measure() -> list[tuple[str, float, str]]:
    """Return (name, value, meaning) rows."""
    ours, bare = _medians(_CALLS, _Framed(_TOKEN), _Bare(_TOKEN))
    large, large_bare = _medians(_CALLS // 10, _Framed(_LARGE), _Bare(_LARGE))
    return [
        ("frame of 200 B, send + receive", ours, "us CPU (10 at most on a quiet core)"),
        ("frame of 200 B, ratio", ours / bare, "frames / bare length prefix"),
        ("frame of 64 KiB, send + receive", large, "us CPU"),
        ("frame of 64 KiB, ratio", large / large_bare, "frames / bare length prefix"),
    ]


if __name__ == "__main__":
    for row in measure():
        print(f"{row[0]:36} {row[1]:10.3f}  {row[2]}")
