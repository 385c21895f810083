"""Prometheus metrics, for operators only: counts and times, never a tenant, a key or content.

Every label has a closed set of values, so nobody outside can make new time series. While requests
run, plain integers are counted, all of them in the one loop; the library sees them at a scrape.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from latensgate_shared.calls import BedrockState, EnclaveState, KMSState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

    from latensgate_parent.http.observer import Observer, RequestDone
    from latensgate_parent.link.egress import EgressCounters
    from latensgate_parent.link.interfaces import Fleet
    from latensgate_shared.errors import ErrorCode

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
_BOUNDS: Final = (*(str(float(each)) for each in _SECONDS), "+Inf")
_UNKNOWN: Final = "unknown"
"""Not connected, or never heard of: a state that no enclave says of itself."""


class _Times:
    """How many took how long."""

    __slots__ = ("_counts", "_sum_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(_SECONDS) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(_SECONDS, seconds)] += 1
        self._sum_s += seconds

    def show(self, family: HistogramMetricFamily, labels: tuple[str, ...]) -> None:
        """Add the series: each bucket counts those below it, too."""
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip(_BOUNDS, self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric(labels, buckets=buckets, sum_value=self._sum_s)


class Metrics(Collector):
    """All metrics of one parent. Implements ``Observer``."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests: dict[tuple[str, int, ErrorCode | None], int] = {}
        self._latency: dict[str, _Times] = {}
        self._store_writes = _Times()
        self._faults = self._in_flight = self._receipts = self._store_failures = 0
        self._registry.register(self)

    def watch(self, fleet: Fleet, egress: EgressCounters) -> None:
        """Show these, too; both are read at each scrape, from memory."""
        self._registry.register(_EnclaveStates(fleet))
        self._registry.register(_EgressCounts(egress))
        tasks = Gauge("latensgate_tasks", "Tasks of the event loop.", registry=self._registry)
        tasks.set_function(_count_tasks)

    def request_started(self) -> None:
        """Count a request that is under way."""
        self._in_flight += 1

    def request_ended(self) -> None:
        """Count it no more."""
        self._in_flight -= 1

    def request_done(self, done: RequestDone) -> None:
        """Count one finished request."""
        which = (done.route, done.status, done.code)
        self._requests[which] = self._requests.get(which, 0) + 1
        times = self._latency.get(done.route)
        if times is None:
            times = self._latency[done.route] = _Times()
        times.add(done.ms / 1000)

    def failed_unexpectedly(self, correlation_id: str, error: BaseException) -> None:
        """Count what should not happen."""
        del correlation_id, error
        self._faults += 1

    def receipt_stored(self) -> None:
        """Count a receipt that is durable."""
        self._receipts += 1

    def store_took(self, seconds: float) -> None:
        """Count the time of a write, confirmed or not."""
        self._store_writes.add(seconds)

    def store_failed(self) -> None:
        """Count a write that was not confirmed."""
        self._store_failures += 1

    def collect(self) -> Iterable[Metric]:
        """Return what was counted, as the library wants it."""
        requests = CounterMetricFamily(
            "latensgate_requests", "Answered requests.", labels=("route", "status", "code")
        )
        for (route, status, code), count in self._requests.items():
            requests.add_metric((route, str(status), code.name if code else "none"), count)
        latency = HistogramMetricFamily(
            "latensgate_request_seconds",
            "From a request's head to the last byte of its answer.",
            labels=("route",),
        )
        for route, times in self._latency.items():
            times.show(latency, (route,))
        writes = HistogramMetricFamily(
            "latensgate_store_write_seconds", "Until a record is durable.", labels=()
        )
        self._store_writes.show(writes, ())
        return (
            requests,
            latency,
            CounterMetricFamily(
                "latensgate_faults", "Errors that should not happen.", self._faults
            ),
            GaugeMetricFamily(
                "latensgate_requests_in_flight", "Requests under way.", self._in_flight
            ),
            CounterMetricFamily(
                "latensgate_receipts_stored", "Receipts made durable.", self._receipts
            ),
            writes,
            CounterMetricFamily(
                "latensgate_store_failures",
                "Writes that were not confirmed.",
                self._store_failures,
            ),
        )

    def exposition(self) -> bytes:
        """Return what ``GET /metrics`` answers."""
        return generate_latest(self._registry)


def _count_tasks() -> float:
    """Count what runs or waits in the loop of the scrape: at rest it must not grow."""
    try:
        return float(len(asyncio.all_tasks()))
    except RuntimeError:  # scraped outside a loop: nothing runs
        return 0.0


class _EnclaveStates(Collector):
    """How many enclaves are in each state, at the moment of the scrape."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def collect(self) -> Iterable[Metric]:
        """Return three gauges, one for each thing that an enclave says of itself."""
        statuses = self._fleet.statuses()
        health = [each.health if each.connected else None for each in statuses]
        known = [each for each in health if each is not None]
        yield _states("enclave", EnclaveState, [each.enclave for each in known], len(statuses))
        yield _states("kms", KMSState, [each.kms for each in known], len(statuses))
        yield _states("bedrock", BedrockState, [each.bedrock for each in known], len(statuses))


class _EgressCounts(Collector):
    """What passed the tunnel of the enclaves."""

    def __init__(self, counters: EgressCounters) -> None:
        self._counters = counters

    def collect(self) -> Iterable[Metric]:
        """Return bytes by direction and tunnels by what became of them."""
        sizes = CounterMetricFamily(
            "latensgate_egress_bytes", "Bytes carried for enclaves.", labels=("direction",)
        )
        sizes.add_metric(("up",), self._counters.bytes_up)
        sizes.add_metric(("down",), self._counters.bytes_down)
        yield sizes
        tunnels = CounterMetricFamily(
            "latensgate_egress_tunnels", "Tunnels that enclaves asked for.", labels=("outcome",)
        )
        tunnels.add_metric(("opened",), self._counters.opened)
        tunnels.add_metric(("refused",), self._counters.refused)
        tunnels.add_metric(("failed",), self._counters.failed)
        yield tunnels


def _states(what: str, kind: Iterable[str], found: list[str], total: int) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(
        f"latensgate_{what}_states", f"Enclaves by their {what} state.", labels=("state",)
    )
    for state in kind:
        gauge.add_metric((str(state),), found.count(state))
    gauge.add_metric((_UNKNOWN,), total - len(found))
    return gauge


class Observers:
    """Tells several observers, one after the other."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def request_done(self, done: RequestDone) -> None:
        """One request has ended."""
        for each in self._observers:
            each.request_done(done)

    def failed_unexpectedly(self, correlation_id: str, error: BaseException) -> None:
        """Something happened that should not."""
        for each in self._observers:
            each.failed_unexpectedly(correlation_id, error)
