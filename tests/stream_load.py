"""Very many streams at once through the whole product, some of them left half-way.

What must hold: every stream that its client saw complete has its receipt in the store, a stream
that was left is booked too, and when all are gone, parent and enclaves are as they were before.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final
from unittest import mock

import httpx
import openai
from rich.console import Console

from gateway_stack import GatewayStack
from latensgate import AsyncLatensgate, LatensgateClientError, receipt_of
from latensgate.config import STATE_DIR_VARIABLE
from latensgate_sim.gateway import FirstTenant, create_tenant
from observed import descriptors, resident_kib

TENANT_STREAMS: Final = 150
"""At once; the gateway lets one tenant have 192."""
LEFT_SHARE: Final = 0.3
SETTLE_S: Final = 30.0
"""Until everything that was left is cancelled, booked and closed."""
MEMORY_SLACK_KIB: Final = 24 * 1024
"""Of one process after the same load again: arenas that the most streams at once left behind."""
DESCRIPTORS_SLACK: Final = 8
TASKS_SLACK: Final = 4


@dataclass(frozen=True)
class Process:
    """One process at rest."""

    name: str
    resident_kib: int
    descriptors: int


@dataclass
class Seen:
    """What became of all streams.

    Attributes:
        receipts: Of the streams that were read to their end.
        left: Streams that the client left.
        errors: By type and code.
        tokens: Content events that came.
        faults: What must not be.
    """

    receipts: list[str] = field(default_factory=list[str])
    left: int = 0
    errors: Counter[str] = field(default_factory=Counter[str])
    tokens: int = 0
    most_open: int = 0
    faults: list[str] = field(default_factory=list[str])


class StreamLoad:
    """Keeps a number of streams open for a time.

    Args:
        stack: Where to.
        streams: At once.
        words: Of one question, which the scripted model repeats: one word is one token at least.
    """

    def __init__(
        self, stack: GatewayStack, *, streams: int, words: int = 64, seed: int = 1
    ) -> None:
        self._stack = stack
        self._streams = streams
        self._words = words
        self._chance = random.Random(seed)  # noqa: S311 -- a test's own dice
        self._open = 0
        self.seen = Seen()

    async def run(self, seconds: float, told: Callable[[Seen, int], None]) -> None:
        """Load it so long; returns when the last stream has ended."""
        async with self._clients() as clients:
            until = time.monotonic() + seconds
            lanes = [
                asyncio.create_task(self._lane(client, until))
                for client, _ in zip(cycle(clients), range(self._streams), strict=False)
            ]
            while time.monotonic() < until:
                await asyncio.sleep(min(5.0, seconds / 4))
                told(self.seen, self._open)
            await asyncio.gather(*lanes)

    @asynccontextmanager
    async def _clients(self) -> AsyncGenerator[list[AsyncLatensgate]]:
        count = -(-self._streams // TENANT_STREAMS)
        made = [
            create_tenant(
                self._stack.dev.plan, f"load-{time.monotonic_ns()}", requests_per_minute=10**6
            )
            for _ in range(count)
        ]
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        carriers = [httpx.AsyncClient(limits=limits, trust_env=False, timeout=120) for _ in made]
        try:
            yield [
                self._client(tenant, carrier)
                for tenant, carrier in zip(made, carriers, strict=True)
            ]
        finally:
            for carrier in carriers:
                await carrier.aclose()

    def _client(self, tenant: FirstTenant, carrier: httpx.AsyncClient) -> AsyncLatensgate:
        """Make a client as on a machine of its own, which has attested an enclave of its own."""
        state = str(self._stack.folder / tenant.tenant_id)
        with mock.patch.dict(os.environ, {STATE_DIR_VARIABLE: state}):
            return AsyncLatensgate(
                base_url=self._stack.url,
                tenant=tenant.tenant_id,
                api_key=tenant.api_key,
                simulated=True,
                max_retries=0,
                http_client=carrier,
            )

    async def _lane(self, client: AsyncLatensgate, until: float) -> None:
        await asyncio.sleep(self._chance.uniform(0, 2))
        while time.monotonic() < until:
            try:
                await self._stream(client)
            except (LatensgateClientError, openai.APIError) as error:
                why = getattr(error, "code", None) or type(error.__cause__).__name__
                self.seen.errors[f"{type(error).__name__} {why}"] += 1
                await asyncio.sleep(1)

    async def _stream(self, client: AsyncLatensgate) -> None:
        words = " ".join(f"w{self._chance.randrange(10**4)}" for _ in range(self._words))
        leaves = self._chance.random() < LEFT_SHARE
        leave_at = self._chance.randrange(self._words) if leaves else math.inf
        stream = await client.chat.completions.create(
            model="claude-3.5-sonnet", messages=[{"role": "user", "content": words}], stream=True
        )
        self._open += 1
        self.seen.most_open = max(self.seen.most_open, self._open)
        count = 0
        try:
            async for chunk in stream:
                count += bool(chunk.choices and chunk.choices[0].delta.content)
                if count > leave_at:
                    self.seen.left += 1
                    return
            self.seen.receipts.append(receipt_of(stream).audit_receipt_id)
            if count < self._words:
                self.seen.faults.append(f"a complete stream of {count} tokens")
        finally:
            self._open -= 1
            self.seen.tokens += count
            await stream.close()


def processes(stack: GatewayStack) -> list[Process]:
    """Look at the parent and the enclaves."""
    assert stack.dev.gateway is not None
    found = [("parent", stack.dev.gateway.process.pid)]
    found += [(each.name, each.process.pid) for each in stack.dev.enclaves]
    return [Process(name, resident_kib(pid), descriptors(pid)) for name, pid in found]


def gauge(stack: GatewayStack, name: str) -> int:
    """Read a gauge of the parent."""
    url = f"http://127.0.0.1:{stack.dev.plan.operator_port}/metrics"
    text = httpx.get(url, trust_env=False).text
    found = re.search(rf"^{name} ([0-9.]+)$", text, re.MULTILINE)
    assert found is not None, name
    return int(float(found[1]))


def settled(stack: GatewayStack, tasks: int) -> list[str]:
    """Wait until nothing is under way any more; say what still is."""
    stack.dev.world.cut_connections()  # enclaves keep as many idle ones as calls came at once
    until = time.monotonic() + SETTLE_S
    while True:
        open_now = gauge(stack, "latensgate_requests_in_flight")
        tasks_now = gauge(stack, "latensgate_tasks")
        if open_now == 0 and tasks_now <= tasks + TASKS_SLACK:
            return []
        if time.monotonic() > until:
            return [f"{open_now} requests and {tasks_now} tasks, at first {tasks}, {SETTLE_S} s on"]
        time.sleep(0.5)


def unbooked(stack: GatewayStack, seen: Seen) -> list[str]:
    """Say which complete stream has no receipt, and which begun one has none."""
    stored = {row[0] for row in stack.rows("SELECT receipt_id FROM receipts")}
    begun = {row[0] for row in stack.rows("SELECT receipt_id FROM start_records")}
    faults = [f"no receipt {each} in the store" for each in seen.receipts if each not in stored]
    return faults + [f"{each} began and was never booked" for each in begun - stored]


def grown(before: list[Process], after: list[Process]) -> list[str]:
    """Say which process holds more than before the same load."""
    faults: list[str] = []
    for one, two in zip(before, after, strict=True):
        if two.resident_kib > one.resident_kib + MEMORY_SLACK_KIB:
            faults.append(f"{one.name}: {one.resident_kib} KiB, then {two.resident_kib}")
        if two.descriptors > one.descriptors + DESCRIPTORS_SLACK:
            faults.append(f"{one.name}: {one.descriptors} descriptors, then {two.descriptors}")
    return faults


def load_twice(
    stack: GatewayStack, *, streams: int, seconds: float, warm_s: float, console: Console
) -> Seen:
    """Load twice, compare; faults stand in what is returned."""

    def told(seen: Seen, now: int) -> None:
        console.print(f"{now:4} open, {len(seen.receipts)} complete, {seen.left} left")

    tasks = gauge(stack, "latensgate_tasks")
    warm = StreamLoad(stack, streams=streams, seed=1)
    asyncio.run(warm.run(warm_s, told))
    faults = settled(stack, tasks)
    before = processes(stack)
    load = StreamLoad(stack, streams=streams, seed=2)
    asyncio.run(load.run(seconds, told))
    seen = load.seen
    seen.faults += warm.seen.faults + faults + settled(stack, tasks)
    after = processes(stack)
    for one, two in zip(before, after, strict=True):
        console.print(
            f"{one.name}: {one.resident_kib / 1024:.1f} MiB and {one.descriptors} descriptors, "
            f"then {two.resident_kib / 1024:.1f} and {two.descriptors}"
        )
    seen.faults += unbooked(stack, warm.seen) + unbooked(stack, seen) + grown(before, after)
    return seen
