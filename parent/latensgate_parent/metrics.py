"""Prometheus metrics, for operators only: counts and times, never a tenant, a key or content.

Every label has a closed set of values, so nobody outside can make new time series.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
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
_UNKNOWN: Final = "unknown"
"""Not connected, or never heard of: a state that no enclave says of itself."""


class Metrics:
    """All metrics of one parent. Implements ``Observer``."""

    def __init__(self) -> None:
        # Else every series has a second one that says when it began.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # of the library
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "latensgate_requests",
            "Answered requests.",
            ("route", "status", "code"),
            registry=self._registry,
        )
        self._latency = Histogram(
            "latensgate_request_seconds",
            "From a request's head to the last byte of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._faults = Counter(
            "latensgate_faults", "Errors that should not happen.", registry=self._registry
        )
        self._in_flight = Gauge(
            "latensgate_requests_in_flight", "Requests under way.", registry=self._registry
        )
        self._receipts = Counter(
            "latensgate_receipts_stored", "Receipts made durable.", registry=self._registry
        )
        self._store_seconds = Histogram(
            "latensgate_store_write_seconds",
            "Until a record is durable.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._series: dict[tuple[str, int, ErrorCode | None], tuple[Counter, Histogram]] = {}
        self._store_failures = Counter(
            "latensgate_store_failures", "Writes that were not confirmed.", registry=self._registry
        )

    def watch(self, fleet: Fleet, egress: EgressCounters) -> None:
        """Show these, too; both are read at each scrape, from memory."""
        self._registry.register(_EnclaveStates(fleet))
        self._registry.register(_EgressCounts(egress))
        tasks = Gauge("latensgate_tasks", "Tasks of the event loop.", registry=self._registry)
        tasks.set_function(_count_tasks)

    def request_started(self) -> None:
        """Count a request that is under way."""
        self._in_flight.inc()

    def request_ended(self) -> None:
        """Count it no more."""
        self._in_flight.dec()

    def request_done(self, done: RequestDone) -> None:
        """Count one finished request."""
        which = (done.route, done.status, done.code)
        series = self._series.get(which)
        if series is None:
            code = done.code.name if done.code is not None else "none"
            count = self._requests.labels(done.route, str(done.status), code)
            series = self._series[which] = count, self._latency.labels(done.route)
        count, latency = series
        count.inc()
        latency.observe(done.ms / 1000)

    def failed_unexpectedly(self, correlation_id: str, error: BaseException) -> None:
        """Count what should not happen."""
        del correlation_id, error
        self._faults.inc()

    def receipt_stored(self) -> None:
        """Count a receipt that is durable."""
        self._receipts.inc()

    def store_took(self, seconds: float) -> None:
        """Count the time of a write, confirmed or not."""
        self._store_seconds.observe(seconds)

    def store_failed(self) -> None:
        """Count a write that was not confirmed."""
        self._store_failures.inc()

    def exposition(self) -> bytes:
        """Return what ``GET /metrics`` answers."""
        return generate_latest(self._registry)


def _count_tasks() -> float:
    """Count what runs or waits in the loop of the scrape: at rest it must not grow."""
    return float(len(asyncio.all_tasks()))


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
