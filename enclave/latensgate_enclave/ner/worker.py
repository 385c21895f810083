"""The process that loads the model, and the workers that it forks.

    python -I -B -m latensgate_enclave.ner.worker MODEL DIGEST SLOTS

It is started by a pool (`ner.pool`) before there is anything secret to inherit: by exec, with
pipes and nothing else. It loads the model once; each worker is a fork of it, so a new one is there
within milliseconds and shares the model's memory. It ends when the pool's end of standard input
closes, and its workers with it. No process here opens a socket or writes a file; standard error
goes nowhere, since Python would print texts of exceptions there.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from latensgate_enclave.ner.model import ModelError, load_finder
from latensgate_enclave.ner.wire import (
    Entity,
    Status,
    WireError,
    decode_text,
    encode_found,
    framed,
    read_frame,
    write_all,
)
from latensgate_shared.limits import PII_NER_MEMORY_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMAND: Final = struct.Struct("<cI")
FORK: Final = b"F"
KILL: Final = b"K"
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_WARM_UP: Final = "Ann Lee moved from Paris to Acme Corporation on Monday."
_HEADROOM_BYTES: Final = 64 * 1024 * 1024
"""Address space beyond the resident limit: allocators reserve more than they use."""


class Slot:
    """The worker's ends of one pair of pipes."""

    __slots__ = ("answers", "requests")

    def __init__(self, written: str) -> None:
        requests, answers = written.split(",")
        self.requests, self.answers = int(requests), int(answers)

    def close(self) -> None:
        """Close both ends."""
        os.close(self.requests)
        os.close(self.answers)


def serve_pieces(
    slot: Slot,
    find: Callable[[str], list[Entity]],
    resident_bytes: Callable[[], int],
    max_bytes: int = PII_NER_MEMORY_MAX_BYTES,
) -> None:
    """Answer pieces of text until the pool closes, or this process must end."""
    write_all(slot.answers, framed(Status.READY.value))
    while (payload := read_frame(slot.requests)) is not None:
        try:
            entities = find(decode_text(payload))
        except MemoryError:
            write_all(slot.answers, framed(Status.NO_MEMORY.value))
            return
        except Exception:  # noqa: BLE001 - whatever fails must deny; its text may hold content
            write_all(slot.answers, framed(Status.FAILED.value))
            return
        grown = resident_bytes() > max_bytes
        write_all(
            slot.answers, encode_found(Status.FOUND_LAST if grown else Status.FOUND, entities)
        )
        if grown:
            return


def resident_now_bytes() -> int:
    """Return what of this process is in memory."""
    pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    return pages * resource.getpagesize()


def limit_memory(max_bytes: int) -> None:
    """Make allocation fail beyond a growth that this process may have."""
    reserved = int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    growth = max(0, max_bytes - resident_now_bytes()) + _HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (reserved + growth, reserved + growth))


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that forked it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Nest:
    """Forks workers, each with a slot that no other will have."""

    def __init__(
        self,
        slots: Sequence[Slot],
        find: Callable[[str], list[Entity]],
        max_bytes: int = PII_NER_MEMORY_MAX_BYTES,
    ) -> None:
        self._slots = slots
        self._find = find
        self._max_bytes = max_bytes
        self._children: dict[int, int] = {}
        self._unused = set(range(len(slots)))

    def obey(self, commands: int) -> None:
        """Fork and kill as told, until the pool closes its end."""
        while len(command := os.read(commands, COMMAND.size)) == COMMAND.size:
            kind, number = COMMAND.unpack(command)
            if kind == FORK:
                self._fork(number)
            elif kind == KILL:
                self._kill(number)

    def _fork(self, number: int) -> None:
        if number not in self._unused:
            return
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            self._become_worker(number)
        self._children[number] = child
        self._unused.remove(number)
        # Held by the worker alone, so that the pool sees its end as the end of the pipe.
        self._slots[number].close()

    def _kill(self, number: int) -> None:
        # Nobody else waits for children, so the number cannot belong to another process by now.
        child = self._children.pop(number, None)
        if child is not None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def _become_worker(self, number: int) -> NoReturn:  # pragma: no cover - another process
        try:
            die_with_parent()
            for other in self._unused - {number}:
                self._slots[other].close()
            os.close(sys.stdin.fileno())
            limit_memory(self._max_bytes)
            serve_pieces(self._slots[number], self._find, resident_now_bytes, self._max_bytes)
        except (OSError, WireError):
            pass
        finally:
            os._exit(0)


def run(
    load: Callable[[], Callable[[str], list[Entity]]],
    slots: Sequence[Slot],
    max_bytes: int = PII_NER_MEMORY_MAX_BYTES,
) -> int:
    """Load, say so on standard output, and obey standard input. Returns the exit status."""
    try:
        find = load()
        find(_WARM_UP)
    except (ModelError, OSError, ImportError, ValueError):
        return 1
    gc.collect()
    gc.freeze()  # pages that the collector does not write to stay shared with the workers
    write_all(sys.stdout.fileno(), framed(Status.READY.value))
    Nest(slots, find, max_bytes).obey(sys.stdin.fileno())
    return 0


def parse_slots(written: str) -> list[Slot]:
    """Read ``requests,answers`` pairs that ``:`` divides."""
    return [Slot(pair) for pair in written.split(":")]


def main(arguments: Sequence[str]) -> int:
    """Start; see the module."""
    directory, digest, slots = arguments
    return run(lambda: load_finder(Path(directory), digest), parse_slots(slots))


if __name__ == "__main__":  # pragma: no cover - in a process of its own
    sys.exit(main(sys.argv[1:]))
