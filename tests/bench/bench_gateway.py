"""The whole product: CPU of parent and enclave for a request, and what it adds to the time.

Parent, enclave, simulated AWS and client are separate processes (the simulated AWS is in this one),
so that no CPU but that of parent and enclave is counted. What it is compared with runs in the same
rounds, so that a busy neighbour hits both alike; the lowest of all rounds counts.

What is taken off, and why (the same for requests and for streamed tokens):

* the PII scan, because it has bars of its own;
* TLS with the model: what it costs to send the same bytes over a TLS connection that is open, and
  to take the answer, by a client that does nothing else. Any client would pay it.

That is the row with the bar. Below it stands what would be left if the enclave's HTTP client over
that TLS and the parent's tunnel under it were taken off, too: both are ours, but exist only
because the enclave has no network and TLS must not end outside it.
"""

from __future__ import annotations

import asyncio
import base64
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Final

from bench_enclave import REQUESTS, TEXT, Bench, primitives
from gateway_parts import (
    BEDROCK_HOST,
    Exchange,
    SealingClient,
    Ticks,
    byte_path,
    encoded,
    probe_upstream,
    run_load,
    target,
)
from load_client import Plan, Seen

from gateway_stack import GatewayStack, gateway_stack
from latensgate_sim.dev_stack import StackOptions
from latensgate_sim.models import split_tokens

ROUNDS: Final = 4
ONE, MANY = 1, 32
PARENT, ENCLAVE = 0, 1
COUNTS: Final = {ONE: 120, MANY: 640}
"""Requests of a round, by how many are under way at once."""
BURSTS: Final = {ONE: 10, MANY: 128}
"""CPU is read so often: among many short bursts there is one that nobody disturbs."""
STREAMS: Final = 20
PROBE_BURSTS: Final = 6
SHORT_TOKENS: Final = 4
CONVERSE: Final[dict[str, object]] = {"messages": [{"role": "user", "content": [{"text": TEXT}]}]}
_MICRO: Final = 1e6
_MILLI: Final = 1e3
Row = tuple[str, float, str]


@dataclass
class Measured:
    """What the clients saw of one kind of request, and the CPU of two processes, in all rounds."""

    seen: list[Seen] = field(default_factory=list[Seen])
    ticks: list[Ticks] = field(default_factory=lambda: [Ticks(0.0, 0.0)] * 2)

    def _bursts(self) -> list[list[float]]:
        return [burst for each in self.seen for burst in each.cpu_s]

    def us(self, which: int) -> float:
        """Microseconds of a request in the parent (0) or the enclave (1), in the best burst."""
        return min(burst[which] for burst in self._bursts()) * _MICRO

    @property
    def both_us(self) -> float:
        """Microseconds of both together, in the best burst."""
        return min(map(sum, self._bursts())) * _MICRO

    @property
    def usual_us(self) -> float:
        """The same in the median of all bursts: how far it lies above tells how busy it was."""
        return median(map(sum, self._bursts())) * _MICRO

    def kernel_share(self, which: int) -> float:
        ticks = self.ticks[which]
        return ticks.system / max(ticks.user + ticks.system, 0.01)

    @property
    def whole_ms(self) -> float:
        """Median of the best round."""
        return min(median(each.whole_s) for each in self.seen) * _MILLI

    @property
    def first_ms(self) -> float:
        """The same of the first token."""
        return min(median(each.first_s) for each in self.seen) * _MILLI

    @property
    def rate(self) -> float:
        """Requests a second in the best round."""
        return max(len(each.whole_s) / each.elapsed_s for each in self.seen)


@dataclass(frozen=True)
class Upstream:
    """Microseconds of one exchange with the model: TLS, HTTP over it, the tunnel under it."""

    tls: float
    http: float
    tunnel: float

    def a_token(self, short: Upstream, tokens: int) -> Upstream:
        """Return what one of so many more tokens costs."""
        return Upstream(
            (self.tls - short.tls) / tokens,
            (self.http - short.http) / tokens,
            (self.tunnel - short.tunnel) / tokens,
        )

    def rows(self, what: str) -> list[Row]:
        return [
            (f"{what}: TLS", self.tls, "us CPU, over an open connection, by a client alone"),
            (f"{what}: HTTP", self.http, "us CPU, the enclave's client beyond that TLS"),
            (f"{what}: tunnel", self.tunnel, "us CPU in the parent, for these TLS bytes"),
        ]


class Rounds:
    """Everything that is measured in a round, on one running stack."""

    def __init__(self, stack: GatewayStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._port = stack.dev.plan.port
        self.client = SealingClient(stack)
        self.measured: dict[str, Measured] = {}
        self._upstream: dict[tuple[str, bool], list[Exchange]] = {}
        assert stack.dev.gateway is not None
        self._pids = (stack.dev.gateway.process.pid, stack.dev.enclaves[0].process.pid)

    def _load(self, name: str, plan: Plan, pids: tuple[int, int] | None = None) -> Seen:
        """Run a client, and keep what it saw."""
        watched = pids or self._pids
        before = [Ticks.of(pid) for pid in watched]
        seen = run_load(replace(plan, pids=list(watched), burst=BURSTS[plan.concurrency]))
        kept = self.measured.setdefault(name, Measured())
        spent = [Ticks.of(pid) - had for pid, had in zip(watched, before, strict=True)]
        kept.ticks = [had + more for had, more in zip(kept.ticks, spent, strict=True)]
        kept.seen.append(seen)
        return seen

    def gateway(self, name: str, at_once: int, requests: list[bytes], first_bytes: int = 0) -> Seen:
        plan = Plan(encoded(requests), self._port, at_once, first_bytes=first_bytes or None)
        return self._load(name, plan)

    def unary(self, at_once: int, *, keyed: bool = True) -> Seen:
        name = f"{'keyed' if keyed else 'unkeyed'} {at_once}"
        return self.gateway(name, at_once, self.client.requests(COUNTS[at_once], TEXT, keyed=keyed))

    def bytes_alone(self, answer: bytes) -> None:
        requests = self.client.requests(COUNTS[MANY], TEXT)
        with byte_path(self._folder, len(requests[0]), answer) as path:
            for at_once in (ONE, MANY):
                plan = Plan(encoded(requests), path.port, at_once)
                run_load(Plan(plan.requests[:50], path.port, at_once))
                self._load(f"bytes {at_once}", plan, path.pids)

    def bedrock(self, at_once: int, *, stream: bool = False) -> None:
        """Ask the simulated Bedrock without a gateway."""
        count = STREAMS if stream else COUNTS[at_once]
        asked = target(self._stack, CONVERSE, stream=stream)
        plan = Plan(
            encoded([asked.signed().to_bytes()]) * count,
            self._stack.dev.world.ports[BEDROCK_HOST],
            at_once,
            BEDROCK_HOST,
            str(self._stack.dev.world.ca_path),
            "contentBlockDelta" if stream else None,
        )
        name = f"bedrock {'stream' if stream else at_once}"
        self._load(name, plan)

    def upstream(self, name: str, *, stream: bool = False, tokens: int | None = None) -> None:
        """Ask as the enclave does, but for nobody: over bare TLS, and by its own client."""
        limit = {"inferenceConfig": {"maxTokens": tokens}} if tokens else {}
        asked = target(self._stack, {**CONVERSE, **limit}, stream=stream)
        for bare in (True, False):
            spent = probe_upstream(self._stack, asked, bare=bare, bursts=PROBE_BURSTS)
            self._upstream.setdefault((name, bare), []).append(spent)

    def upstream_us(self, name: str) -> Upstream:
        """Return the best of all rounds."""
        bare, own = self._upstream[name, True], self._upstream[name, False]
        tls_us = min(each.client for each in bare) * _MICRO
        http_us = min(each.client for each in own) * _MICRO - tls_us
        return Upstream(tls_us, http_us, min(each.tunnel for each in bare + own) * _MICRO)

    def streams(self, first_bytes: int) -> None:
        long = self.client.requests(STREAMS, TEXT, stream=True)
        self.gateway("stream", ONE, long, first_bytes)
        short = self.client.requests(STREAMS, TEXT, stream=True, max_tokens=SHORT_TOKENS)
        self.gateway("short stream", ONE, short)


def _primitives_us() -> float:
    call = primitives()
    began = time.thread_time()
    for _ in range(REQUESTS):
        call()
    return (time.thread_time() - began) / REQUESTS * _MICRO


async def _scan_us() -> float:
    """Return microseconds of both scans, of prompt and answer, as bench_enclave tells them."""
    bench = Bench(timed=True)
    await bench.start()
    best = float("inf")
    for _ in range(ROUNDS):
        wires = bench.requests(REQUESTS)
        bench.stages.spent_s.clear()
        for wire in wires:
            await bench.serve(wire)
        best = min(best, bench.stages.spent_s["scan"] / REQUESTS * _MICRO)
    return best


def _run(rounds: Rounds) -> tuple[float, float]:
    """Measure all rounds; return microseconds of primitives and of the scan."""
    first_bytes = rounds.client.bytes_before_first_token(TEXT)
    rounds.unary(MANY)  # warm
    rounds.measured.clear()
    bare: list[float] = []
    for _ in range(ROUNDS):
        answer = base64.b64decode(rounds.unary(ONE).sample)
        rounds.unary(ONE, keyed=False)
        rounds.unary(MANY)
        rounds.bytes_alone(answer)
        bare.append(_primitives_us())
        rounds.upstream("upstream")
        rounds.upstream("upstream stream", stream=True)
        rounds.upstream("upstream short stream", stream=True, tokens=SHORT_TOKENS)
        rounds.streams(first_bytes)
        rounds.bedrock(ONE)
        rounds.bedrock(MANY)
        rounds.bedrock(ONE, stream=True)
    return min(bare), asyncio.run(_scan_us())


def _request_rows(rounds: Rounds, bare_us: float, scan_us: float) -> list[Row]:
    upstream = rounds.upstream_us("upstream")
    rows: list[Row] = [
        ("PII scan of prompt and answer", scan_us, "us CPU"),
        *upstream.rows("upstream"),
        ("bare primitives", bare_us, "us CPU"),
    ]
    for name in ("keyed 1", "unkeyed 1", "keyed 32"):
        kept, forward = rounds.measured[name], rounds.measured[f"bytes {name.split()[1]}"]
        rest_us = kept.both_us - scan_us - upstream.tls
        own_us = rest_us - upstream.http - upstream.tunnel
        rows += [
            (f"{name}: parent", kept.us(PARENT), "us CPU of a request, all threads"),
            (f"{name}: parent, kernel", kept.kernel_share(PARENT), "of it in the kernel"),
            (f"{name}: enclave", kept.us(ENCLAVE), "us CPU"),
            (f"{name}: enclave, kernel", kept.kernel_share(ENCLAVE), "of it in the kernel"),
            (f"{name}: both", kept.both_us, "us CPU, lowest of many bursts"),
            (f"{name}: both, usually", kept.usual_us, "us CPU, median of the bursts"),
            (f"{name}: besides scan and TLS", rest_us, "us CPU (500 at most)"),
            (f"{name}: besides HTTP and tunnel, too", own_us, "us CPU"),
            (f"{name}: bytes alone", forward.both_us, "us CPU, forwarder and echo"),
            (f"{name}: / bytes alone", kept.both_us / forward.both_us, "both / bytes alone"),
            (f"{name}: / primitives", kept.both_us / bare_us, "both / bare primitives"),
        ]
    return rows


def _time_rows(rounds: Rounds) -> list[Row]:
    rows: list[Row] = []
    for at_once in (ONE, MANY):
        kept, direct = (rounds.measured[f"{name} {at_once}"] for name in ("keyed", "bedrock"))
        added_ms = kept.whole_ms - direct.whole_ms
        rows += [
            (f"time, {at_once} at once", kept.whole_ms, "ms, median"),
            (f"time, {at_once} at once, Bedrock directly", direct.whole_ms, "ms, median"),
            (f"time, {at_once} at once, added", added_ms, "ms"),
            (f"requests a second, {at_once} at once", kept.rate, "each with a durable receipt"),
        ]
    stream, direct = (rounds.measured[name] for name in ("stream", "bedrock stream"))
    added_ms = stream.first_ms - direct.first_ms
    return [
        *rows,
        ("first token", stream.first_ms, "ms, median, 1 at once"),
        ("first token, Bedrock directly", direct.first_ms, "ms, median"),
        ("first token, added", added_ms, "ms (5 at most)"),
    ]


def _token_rows(rounds: Rounds, tokens: int) -> list[Row]:
    """CPU for one more token: a long stream less a short one."""
    long, short = rounds.measured["stream"], rounds.measured["short stream"]
    upstream = rounds.upstream_us("upstream stream").a_token(
        rounds.upstream_us("upstream short stream"), tokens
    )
    parent = (long.us(PARENT) - short.us(PARENT)) / tokens
    enclave = (long.us(ENCLAVE) - short.us(ENCLAVE)) / tokens
    rest = parent + enclave - upstream.tls
    return [
        ("streamed token: parent", parent, "us CPU, the tunnel included"),
        ("streamed token: enclave", enclave, "us CPU, TLS included"),
        *upstream.rows("streamed token, upstream"),
        ("streamed token: besides TLS", rest, "us CPU (30 at most)"),
        (
            "streamed token: besides HTTP and tunnel, too",
            rest - upstream.http - upstream.tunnel,
            "us CPU",
        ),
    ]


def measure() -> list[Row]:
    """Return the rows of this benchmark."""
    options = StackOptions(model="scripted", port=0, enclaves=1, requests_per_minute=10_000_000)
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as name,  # /tmp may be no disk
        gateway_stack(Path(name) / "client", options) as stack,
    ):
        rounds = Rounds(stack, Path(name))
        bare_us, scan_us = _run(rounds)
        tokens = len(split_tokens(f"You said: {TEXT}")) - SHORT_TOKENS
        return [
            *_request_rows(rounds, bare_us, scan_us),
            *_time_rows(rounds),
            *_token_rows(rounds, tokens),
        ]
