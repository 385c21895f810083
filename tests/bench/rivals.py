"""Latensgate beside LiteLLM's proxy and Portkey's gateway: a section of docs/benchmarks.md.

Run by ``make bench-rivals``. Every round measures all of them and the direct path, each time in
another order, so that a busy neighbour hits all alike; from times the direct path of the same run
is taken off. CPU is read while one request is under way, so that nobody is compared saturated.
"""

from __future__ import annotations

import argparse
import base64
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from gateway_parts import run_load
from load_client import Seen
from rivals_gateways import (
    FAST,
    Gateway,
    Load,
    demand_all_tokens,
    direct,
    latensgate,
    litellm,
    portkey,
)
from rivals_page import Column, write_page
from rivals_stack import rivals_stack
from rivals_upstream import PACED, TOKENS

AT_ONCE = 32
SHORT_TOKENS = 4
REQUESTS, LONG, SHORT, MANY = 60, 12, 40, 128
"""Of a round: requests, paced streams, other streams that run alone, streams of 32 at once."""
BURST = 4
"""CPU is read so often: neighbours only add, and among many short bursts one is quiet."""
WARM_REQUESTS, WARM_STREAMS, WARM_AT_ONCE = 200, 100, 4
_STREAM: dict[str, object] = {"stream": True}


@dataclass(frozen=True)
class Round:
    """The loads of a round.

    Attributes:
        share: Of the usual counts; less for a quick look.
    """

    share: float = 1.0

    def loads(self) -> dict[str, Load]:
        """Return them in order."""
        short = {**_STREAM, "max_tokens": SHORT_TOKENS}
        return {
            "request": Load(FAST, self._of(REQUESTS)),
            "paced 4": Load(PACED, self._of(SHORT), more=short),
            "paced 64": Load(PACED, self._of(LONG), more=_STREAM),
            "fast 4": Load(FAST, self._of(SHORT), more=short),
            "fast 64": Load(FAST, self._of(SHORT), more=_STREAM),
            "many": Load(FAST, max(self._of(MANY), AT_ONCE), AT_ONCE, _STREAM),
        }

    def warming(self) -> list[Load]:
        """Return what every one answers before it is measured: compilers and caches need it."""
        return [
            Load(FAST, self._of(WARM_REQUESTS), WARM_AT_ONCE),
            Load(FAST, self._of(WARM_STREAMS), WARM_AT_ONCE, _STREAM),
        ]

    def _of(self, count: int) -> int:
        return max(4, round(count * self.share))


@dataclass
class Measured:
    """What was seen of one gateway, all rounds together, by load."""

    gateway: Gateway
    seen: dict[str, list[Seen]] = field(default_factory=dict[str, list[Seen]])

    def run(self, name: str, load: Load) -> None:
        """Send one load, and keep what came of it."""
        plan = self.gateway.plan(load)
        burst = BURST if load.at_once == 1 else plan.burst
        seen = run_load(replace(plan, pids=self.gateway.pids, burst=burst))
        if not self.gateway.sealed:
            tokens = int(str(load.parameters.get("max_tokens", TOKENS)))
            demand_all_tokens(self.gateway.name, base64.b64decode(seen.sample), tokens)
        self.seen.setdefault(name, []).append(seen)

    def cpu_ms(self, name: str) -> float:
        """Milliseconds of all processes for one request, in the quietest burst."""
        return min(sum(burst) for each in self.seen[name] for burst in each.cpu_s) * 1e3

    def token_cpu_us(self, model: str) -> float:
        """Microseconds for one more token: a long stream less a short one."""
        more_ms = self.cpu_ms(f"{model} {TOKENS}") - self.cpu_ms(f"{model} {SHORT_TOKENS}")
        return more_ms / (TOKENS - SHORT_TOKENS) * 1e3

    def whole_s(self, name: str) -> list[float]:
        return sorted(took for each in self.seen[name] for took in each.whole_s)

    def first_s(self) -> list[float]:
        """Return what all streams that ran alone waited for their first token."""
        loads = self.seen["paced 4"] + self.seen["paced 64"]
        return sorted(took for each in loads for took in each.first_s)

    def streams_a_second(self) -> float:
        return median(len(each.whole_s) / each.elapsed_s for each in self.seen["many"])

    def column(self) -> Column:
        """Return its figures; of the direct path there are times alone."""
        whole, first = self.whole_s("request"), self.first_s()
        alone = not self.gateway.pids
        return Column(
            name=self.gateway.name,
            version=self.gateway.version,
            request_cpu_ms=0.0 if alone else self.cpu_ms("request"),
            stream_cpu_ms=0.0 if alone else self.cpu_ms("fast 64"),
            token_cpu_us=0.0 if alone else self.token_cpu_us("fast"),
            paced_cpu_us=0.0 if alone else self.token_cpu_us("paced"),
            whole_ms=(_at(whole, 0.5), _at(whole, 0.99)),
            first_ms=(_at(first, 0.5), _at(first, 0.99)),
            streams_a_second=self.streams_a_second(),
            rss_mib=self.gateway.rss_mib(),
            processes=len(self.gateway.pids),
        )


def _at(values: Sequence[float], share: float) -> float:
    """Return a quantile of sorted seconds, in milliseconds."""
    return values[min(int(len(values) * share), len(values) - 1)] * 1e3


def measure(gateways: Sequence[Gateway], rounds: int, each: Round) -> list[Column]:
    """Warm every one up, and measure all of them in every round."""
    measured = [Measured(gateway) for gateway in gateways]
    for one in measured:
        print(f"warming up: {one.gateway.name} ...", flush=True)
        for load in each.warming():
            one.run("warm", load)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} ...", flush=True)
        for name, load in each.loads().items():
            for place in range(len(measured)):
                measured[(place + number) % len(measured)].run(name, load)
    return [one.column() for one in measured]


def main() -> None:
    """Start all, measure, print, and write the page."""
    parser = argparse.ArgumentParser(description="Latensgate beside other gateways")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual counts, for a look")
    parser.add_argument("--no-page", action="store_true", help="print only")
    given = parser.parse_args()
    each = Round(given.share)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:  # /tmp may be no disk
        folder = Path(name)
        (folder / "client").mkdir()
        print("starting all of them ...", flush=True)
        with (
            rivals_stack(folder / "client", [FAST, PACED]) as (stack, upstream),
            litellm(folder, upstream) as second,
            portkey(folder, upstream) as third,
        ):
            gateways = [direct(upstream), latensgate(stack), second, third]
            columns = measure(gateways, given.rounds, each)
    write_page(columns, given.rounds, only_print=given.no_page)


if __name__ == "__main__":
    main()
