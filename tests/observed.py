"""Look into an enclave process from a wrapper around it; the package itself has no such door.

The wrapper runs in the same interpreter before the enclave does, as a program of ours that a
debugger could also be. It writes what it sees to a file beside the output, on SIGUSR1.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, cast

from stack import Apart

WAIT_S = 20.0
_PROBE = """
def observe(target):
    import os, signal, sys
    def write(*_):
        kept = {name: module for name, module in sys.modules.items() if module is not None}
        modules = {name: getattr(module, "__file__", None) for name, module in kept.items()}
        import asyncio, gc, json
        seen = {
            "modules": modules,
            "tasks": len(asyncio.all_tasks()),
            "objects": len(gc.get_objects()),
            "collected": gc.collect(),
        }
        with open(target + ".part", "w") as file:
            json.dump(seen, file)
        os.replace(target + ".part", target)
    signal.signal(signal.SIGUSR1, write)
"""


class Observation(TypedDict):
    """What the wrapper saw.

    `modules`: name to file (None for what is built in); `tasks`: asyncio tasks that have not ended;
    `objects`: what the garbage collector tracks; `collected`: what it freed when asked.
    """

    modules: dict[str, str | None]
    tasks: int
    objects: int
    collected: int


@dataclass(frozen=True)
class Observed(Apart):
    """An enclave process that says on SIGUSR1 what it has loaded and what it runs."""

    seen: Path = field(default=Path())

    def program(self) -> str:
        return f"{_PROBE}\nobserve({str(self.seen)!r})\ndel observe\n{super().program()}"

    def look(self, pid: int) -> Observation:
        """Have the process write what it sees."""
        self.seen.unlink(missing_ok=True)
        os.kill(pid, signal.SIGUSR1)
        deadline = time.monotonic() + WAIT_S
        while not self.seen.exists():
            if time.monotonic() > deadline:
                raise TimeoutError("the enclave process did not answer SIGUSR1")
            time.sleep(0.02)
        return cast("Observation", json.loads(self.seen.read_text()))


def resident_kib(pid: int) -> int:
    """Resident memory of a process."""
    return _status(pid, "VmRSS")


def descriptors(pid: int) -> int:
    """Open descriptors of a process.

    An enclave process is not dumpable, so only root may list them; for others it is the number of
    slots in its table, which the kernel doubles as it fills.
    """
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except PermissionError:
        return _status(pid, "FDSize")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise ValueError(f"/proc/{pid}/status has no {name}")
