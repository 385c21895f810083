"""One loaded model and the pipes to its workers, as the pool sees them."""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from latensgate_enclave.ner.model import MODEL_DIGEST, MODEL_PACKAGE, MODEL_VERSION
from latensgate_enclave.ner.wire import (
    HEADER_BYTES,
    Status,
    WireError,
    frame_length,
    read_frame,
    write_all,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOTS_PER_NEST: Final = 64
"""Workers that one loaded model can become, one after another; then it is loaded anew."""
_COMMAND: Final = struct.Struct("<cI")
_READ_BYTES: Final = 65_536
_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",  # there is a worker for each processor
    "BLIS_NUM_THREADS": "1",
    "LC_ALL": "C.UTF-8",
    "HOME": "/nonexistent",  # else libraries ask for it, over a socket to a name service
}


def worker_command(
    directory: Path | None = None, digest: str = MODEL_DIGEST
) -> tuple[str, ...] | None:
    """Return the command that loads the model; None where the image carries none."""
    if directory is None:
        spec = find_spec(MODEL_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            return None
        package = Path(spec.submodule_search_locations[0])
        directory = package / f"{MODEL_PACKAGE}-{MODEL_VERSION}"
    module = "latensgate_enclave.ner.worker"
    return (sys.executable, "-I", "-B", "-m", module, str(directory), digest)


class Worker:
    """One worker: two pipes, and what of its next answer has come."""

    __slots__ = ("_buffer", "answers", "nest", "number", "requests")

    def __init__(self, nest: Nest, number: int, requests: int, answers: int) -> None:
        self.nest = nest
        self.number = number
        self.requests = requests
        self.answers = answers
        self._buffer = bytearray()

    def ask(self, frame: bytes) -> None:
        """Send a piece; a worker that waits takes it at once.

        Raises:
            OSError: The worker is gone.
        """
        write_all(self.requests, frame)

    def receive(self) -> bytes | None:
        """Take what has come; return an answer if it is whole. The word of readiness is none.

        Raises:
            WireError: The worker closed, or broke the protocol.
        """
        part = os.read(self.answers, _READ_BYTES)
        if not part:
            raise WireError("the worker ended")
        self._buffer += part
        payload = self._whole_frame()
        return self._whole_frame() if payload == Status.READY.value else payload

    def _whole_frame(self) -> bytes | None:
        if len(self._buffer) < HEADER_BYTES:
            return None
        end = HEADER_BYTES + frame_length(bytes(self._buffer[:HEADER_BYTES]))
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[HEADER_BYTES:end])
        del self._buffer[:end]
        return payload

    def close(self) -> None:
        """Close both pipes: a worker that lives ends."""
        os.close(self.requests)
        os.close(self.answers)


class Nest:
    """The process with the model, and the slots of workers that it has left."""

    __slots__ = ("_commands", "_lives", "_process", "_retired", "_said", "_slots")

    def __init__(self, command: Sequence[str], slots: int = SLOTS_PER_NEST) -> None:
        """Start it; it loads the model while this goes on.

        Raises:
            OSError: There is no such program, or no process or pipe left.
        """
        ours, theirs = _pipes(slots)
        commands, self._commands = os.pipe()
        self._said, says = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [*command, ":".join(f"{requests},{answers}" for requests, answers in theirs)],
                stdin=commands,
                stdout=says,
                stderr=subprocess.DEVNULL,
                pass_fds=[end for pair in theirs for end in pair],
                env=_ENVIRONMENT,
            )
        except OSError:
            _close_all([*ours, (self._commands, self._said)])
            raise
        finally:
            _close_all([*theirs, (commands, says)])
        self._slots = ours
        self._lives = 0
        self._retired = False

    @property
    def is_alive(self) -> bool:
        """Whether its workers can be."""
        return self._process.poll() is None

    @property
    def has_slots(self) -> bool:
        """Whether it can have another worker."""
        return len(self._slots) > 0 and self.is_alive

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait until the model is loaded; False if it is not, or not the pinned one."""
        if not select.select([self._said], [], [], timeout_s)[0]:
            return False
        try:
            return read_frame(self._said) == Status.READY.value
        except WireError:
            return False

    def fork(self) -> Worker:
        """Have a worker; what it is asked waits in its pipe until it is there.

        Raises:
            OSError: The process is gone.
        """
        number = len(self._slots) - 1
        self._command(b"F", number)
        self._lives += 1
        return Worker(self, number, *self._slots.pop())

    def discard(self, worker: Worker) -> None:
        """Be rid of a worker, whatever it does."""
        worker.close()
        self._lives -= 1
        with suppress(OSError):  # the process may be gone: the kernel killed its workers then
            self._command(b"K", worker.number)
        if self._retired:
            self.retire()

    def retire(self) -> None:
        """Close once the last worker is discarded."""
        self._retired = True
        if self._lives == 0:
            self.close()

    def close(self) -> None:
        """End the process and, through the kernel, its workers."""
        self._process.kill()
        self._process.wait()
        _close_all([*self._slots, (self._commands, self._said)])
        self._slots = []

    def _command(self, kind: bytes, number: int) -> None:
        write_all(self._commands, _COMMAND.pack(kind, number))


def _pipes(count: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return (our ends, their ends) of so many pairs of pipes: requests, answers."""
    ours: list[tuple[int, int]] = []
    theirs: list[tuple[int, int]] = []
    for _ in range(count):
        request_out, request_in = os.pipe()
        answer_out, answer_in = os.pipe()
        ours.append((request_in, answer_out))
        theirs.append((request_out, answer_in))
    return ours, theirs


def _close_all(pairs: list[tuple[int, int]]) -> None:
    for pair in pairs:
        for end in pair:
            os.close(end)
