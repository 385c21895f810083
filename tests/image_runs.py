"""An enclave process as `scripts/image_cost.py` looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from latensgate_sim.world import World
from observed import Observed, resident_kib
from soak_driver import Driver, Tally
from stack import running_stack

CALLS: Final = 1_000


@dataclass(frozen=True)
class Resident:
    """Memory of one process, and the modules it has loaded by name, with their files."""

    started_kib: int
    after_kib: int
    calls: int
    modules: Mapping[str, str | None]


async def observe_enclave(folder: Path) -> Resident:
    """Start an enclave, look, put `CALLS` calls of all kinds to it, look again."""
    apart = Observed(folder / "enclave", seen=folder / "seen")
    with World() as world, running_stack(folder, world, apart) as stack:
        with stack.link() as link:
            stack.open_gate(link)
        pid = stack.process.process.pid
        started_kib = resident_kib(pid)
        await Driver(stack.process.listen, CALLS, on_call=_ignore).run()
        after_kib = resident_kib(pid)
        return Resident(started_kib, after_kib, CALLS, apart.look(pid)["modules"])


def _ignore(_: Tally) -> None:
    pass
