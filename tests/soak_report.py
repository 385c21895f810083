"""One soak run and what it says."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from latensgate_shared import calls
from latensgate_shared.limits import REQUEST_WINDOW_S
from latensgate_sim.world import World
from observed import Observed, descriptors, resident_kib
from soak_driver import Driver, Tally
from stack import running_stack

ID_BYTES: Final = 400
"""What one remembered request id takes: 290 bytes alone, and what lies between in the heap."""
SLACK_KIB: Final = 8 * 1024
"""Growth that is no leak: arenas of the allocator that the largest requests at once left behind."""
STEADY_SLACK_KIB: Final = 2 * 1024
"""The same, once as many ids are forgotten as come: 60 bytes for each of 35,000 calls."""
DESCRIPTORS_SLACK: Final = 8
"""Idle connections to the model that are open at one look and not at the other."""
TASKS_SLACK: Final = 2
SAMPLE_EVERY: Final = 0.02


class Progress:
    """A line on a terminal; a line now and then elsewhere. Silent with `quiet`."""

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, disable=quiet or not sys.stderr.isatty(), transient=True)
        self._lines = not quiet and not sys.stderr.isatty()
        self._task = self._bar.add_task("soak", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def at(self, count: int, sample: Sample | None) -> None:
        """Show how far it is; a sample is told in words."""
        self._bar.update(self._task, completed=count)
        if sample is None:
            return
        words = f"{sample.kib / 1024:.1f} MiB, {sample.descriptors} descriptors"
        self._bar.update(self._task, description=words)
        if self._lines:
            sys.stderr.write(f"{sample.at_s:7.0f} s {count:7d} calls, {words}\n")


@dataclass(frozen=True)
class Sample:
    """The process at one moment."""

    at_s: float
    count: int
    kib: int
    descriptors: int


@dataclass
class Report:
    """What a run saw."""

    tally: Tally
    samples: list[Sample]
    tasks: tuple[int, int]
    objects: tuple[int, int]
    open_calls: int
    exit_status: int
    ids_kept_s: float = 2.0 * REQUEST_WINDOW_S

    @property
    def is_long(self) -> bool:
        """Whether ids were forgotten for a good part of the run."""
        return self.last.at_s > 1.3 * self.ids_kept_s

    @property
    def warm(self) -> Sample:
        """The sample to compare with: of the time when ids began to be forgotten.

        In a run that is too short for that it is the first one after a tenth of the calls.
        """
        if self.is_long:
            return next(sample for sample in self.samples if sample.at_s > self.ids_kept_s)
        return self.samples[min(len(self.samples) - 1, len(self.samples) // 10)]

    @property
    def last(self) -> Sample:
        return self.samples[-1]

    def ids_at(self, sample: Sample) -> int:
        """How many request ids are remembered at a sample, at most."""
        start = sample.at_s - self.ids_kept_s
        return sample.count - max((it.count for it in self.samples if it.at_s <= start), default=0)

    def ids_grown(self) -> int:
        """How many more request ids are remembered at the end than at the warm sample."""
        return max(0, self.ids_at(self.last) - self.ids_at(self.warm))

    def allowed_kib(self) -> int:
        """Growth that is no leak."""
        slack = STEADY_SLACK_KIB if self.is_long else SLACK_KIB
        return slack + self.ids_grown() * ID_BYTES // 1024

    def faults(self) -> list[str]:
        """Return what is wrong; empty for a good run."""
        grown = self.last.kib - self.warm.kib
        more = self.last.descriptors - self.warm.descriptors
        tasks = self.tasks[1] - self.tasks[0]
        checks = {
            f"memory grew by {grown} KiB, {self.allowed_kib()} allowed": grown > self.allowed_kib(),
            f"{more} descriptors more": more > DESCRIPTORS_SLACK,
            f"{tasks} tasks more": tasks > TASKS_SLACK,
            f"{self.open_calls} calls still open": self.open_calls != 0,
            f"exit status {self.exit_status}": self.exit_status != 0,
        }
        return [name for name, is_wrong in checks.items() if is_wrong]

    def text(self) -> str:
        """Return it for people."""
        count, took_s, faults = self.tally.count, self.last.at_s, self.faults()
        warm, last = self.warm, self.last
        allowed, ids = self.allowed_kib() / 1024, self.ids_grown()
        largest = max(sample.kib for sample in self.samples) / 1024
        return f"""\
{count} calls in {took_s:.0f} s, {count / took_s:.0f} a second
kinds: {dict(self.tally.calls)}
outcomes: {dict(self.tally.codes)}
memory: {warm.kib / 1024:.1f} MiB after {warm.count} calls, {last.kib / 1024:.1f} MiB at the end, \
{largest:.1f} MiB at most; growth allowed: {allowed:.1f} MiB ({ids} request ids more)
descriptors: {warm.descriptors} and {last.descriptors}
tasks: {self.tasks[0]} and {self.tasks[1]}
objects: {self.objects[0]} and {self.objects[1]}
{f"FAULTS: {faults}" if faults else "nothing leaked"}"""


async def run_soak(
    folder: Path, *, count: int, lanes: int, limits: Mapping[str, float], progress: Progress
) -> Report:
    """Start a world and an enclave, put load on it, look at it before and after."""
    apart = Observed(folder / "enclave", limits=limits, seen=folder / "seen")
    with World() as world, running_stack(folder, world, apart) as stack:
        with stack.link() as link:
            stack.open_gate(link)
        pid, start, samples = stack.process.process.pid, time.monotonic(), list[Sample]()
        step = max(1, int(count * SAMPLE_EVERY))

        def on_call(tally: Tally) -> None:
            sample = None
            if tally.count % step == 0:
                at_s = time.monotonic() - start
                sample = Sample(at_s, tally.count, resident_kib(pid), descriptors(pid))
                samples.append(sample)
            progress.at(tally.count, sample)

        before = apart.look(pid)
        driver = Driver(stack.process.listen, count, lanes=lanes, on_call=on_call)
        tally = await driver.run()
        with stack.link() as link:
            drained = link.call(calls.DrainCall())
        after = apart.look(pid)
        status = stack.process.stop()
    open_calls = calls.DrainAnswer.from_head(drained.head).open_calls
    ids_kept_s = 2.0 * limits.get("REQUEST_WINDOW_S", REQUEST_WINDOW_S)
    return Report(
        tally,
        samples,
        (before["tasks"], after["tasks"]),
        (before["objects"], after["objects"]),
        open_calls,
        status,
        ids_kept_s,
    )
