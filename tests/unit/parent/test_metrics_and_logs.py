"""Metrics and the log: counts and codes, never a tenant in a label, never content."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import MutableMapping
from typing import TextIO, cast

import pytest

from latensgate_parent.http.observer import RequestDone
from latensgate_parent.link.egress import EgressCounters
from latensgate_parent.link.interfaces import EnclaveStatus
from latensgate_parent.logs import JSONLog
from latensgate_parent.metered_store import MeteredReceipts
from latensgate_parent.metrics import Metrics, Observers
from latensgate_parent.operator_app import OperatorApp
from latensgate_parent.operator_upstreams import CredentialFleet
from latensgate_parent.store.interfaces import ReceiptQuery, StartRecord, StoreError
from latensgate_shared.errors import ErrorCode
from surface_bench import GOOD, TENANT, SurfaceBench, ToldFleet

DONE = RequestDone("GET /api/keys", 403, ErrorCode.ERR_FORBIDDEN, TENANT, "id-1", 12.34)


def text(metrics: Metrics) -> str:
    async def scrape() -> bytes:
        return metrics.exposition()

    return asyncio.run(scrape()).decode()


def test_requests_are_counted_without_tenants() -> None:
    metrics = Metrics()
    metrics.request_started()
    metrics.request_done(DONE)
    shown = text(metrics)
    assert (
        'latensgate_requests_total{code="ERR_FORBIDDEN",route="GET /api/keys",status="403"} 1.0'
        in shown
    )
    assert "latensgate_requests_in_flight 1.0" in shown
    assert 'latensgate_request_seconds_sum{route="GET /api/keys"} 0.01234' in shown
    metrics.request_ended()
    metrics.failed_unexpectedly("id", ValueError("lg_live_secret"))
    assert "latensgate_requests_in_flight 0.0" in text(metrics)
    assert "latensgate_faults_total 1.0" in text(metrics)
    assert TENANT not in text(metrics)
    assert "secret" not in text(metrics)
    assert "_created" not in text(metrics)


def test_enclaves_and_egress_are_read_at_the_scrape() -> None:
    metrics, fleet, counters = Metrics(), ToldFleet(), EgressCounters()
    metrics.watch(fleet, counters)  # type: ignore[arg-type]  # of a fleet only its statuses
    fleet.found = [
        EnclaveStatus("unix:/a", connected=True, health=GOOD, checked_at_ms=1),
        EnclaveStatus("unix:/b", connected=False, health=GOOD, checked_at_ms=1),
    ]
    counters.bytes_up, counters.opened = 5, 2
    shown = text(metrics)
    assert 'latensgate_enclave_states{state="ready"} 1.0' in shown
    assert 'latensgate_kms_states{state="unknown"} 1.0' in shown
    assert 'latensgate_bedrock_states{state="ready"} 1.0' in shown
    assert 'latensgate_egress_bytes_total{direction="up"} 5.0' in shown
    assert 'latensgate_egress_tunnels_total{outcome="opened"} 2.0' in shown
    assert "unix:/" not in shown
    assert "latensgate_tasks 1.0" in shown


def test_the_store_is_metered() -> None:
    bench = SurfaceBench()
    metrics = Metrics()
    store = MeteredReceipts(bench.store, metrics, bench.clock)
    receipt = bench.receipt(0)
    bench.run(store.insert_start(StartRecord("aud_" + "1" * 16, TENANT, "h", "r", 1)))
    bench.run(store.insert_receipt(receipt))
    assert bench.run(store.receipt(TENANT, receipt.receipt_id)) == receipt
    assert bench.run(store.receipts(TENANT, ReceiptQuery())).total == 1
    assert len(bench.run(store.unfinished(TENANT))) == 1
    bench.run(bench.store.aclose())
    with pytest.raises(StoreError):
        bench.run(store.insert_receipt(receipt))
    shown = text(metrics)
    assert "latensgate_receipts_stored_total 1.0" in shown
    assert "latensgate_store_failures_total 1.0" in shown
    assert "latensgate_store_write_seconds_count 3.0" in shown
    bench.close()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_line_a_request() -> None:
    stream = io.StringIO()
    log = JSONLog(stream, lambda: 0.5)
    Observers(log).request_done(DONE)
    assert lines(stream) == [
        {
            "time": "1970-01-01T00:00:00Z",
            "event": "request",
            "correlation_id": "id-1",
            "route": "GET /api/keys",
            "status": 403,
            "code": "ERR_FORBIDDEN",
            "tenant_id": TENANT,
            "ms": 12.3,
        }
    ]


def test_control_characters_never_pass() -> None:
    stream = io.StringIO()
    JSONLog(stream, lambda: 0).event("x", detail="a\nb\x1b[2J\u2028\x85\u202e")
    assert len(stream.getvalue().splitlines()) == 1
    assert stream.getvalue().rstrip("\n").isascii()
    assert stream.getvalue().rstrip("\n").isprintable()


def test_faults_are_logged_by_type_and_place() -> None:
    stream = io.StringIO()
    try:
        int("lg_live_secret")
    except ValueError as error:
        Observers(JSONLog(stream, lambda: 0)).failed_unexpectedly("id", error)
    (line,) = lines(stream)
    assert line["type"] == "ValueError"
    (place,) = cast("list[str]", line["at"])
    module, _, number = place.partition(":")
    assert module == __name__
    assert number.isdigit()
    assert "secret" not in stream.getvalue()


class FullDisk(io.StringIO):
    def write(self, _: str, /) -> int:
        raise OSError("no space")


def test_a_full_disk_ends_no_service() -> None:
    stream: TextIO = FullDisk()
    JSONLog(stream, lambda: 0).event("x")


# --- the operators' listener ---

Message = MutableMapping[str, object]


def operate(
    method: str, path: str, headers: list[tuple[bytes, bytes]] | None = None, *, ready: bool = True
) -> tuple[int, bytes]:
    sent: list[Message] = []

    async def drain() -> dict[str, int | None]:
        return {"unix:/a": 2, "unix:/b": None}

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError

    app = OperatorApp(Metrics(), lambda: ready, drain, cast("CredentialFleet", None))
    scope: Message = {"type": "http", "method": method, "path": path, "headers": headers or []}
    asyncio.run(app(scope, receive, send))
    asyncio.run(app({"type": "lifespan"}, receive, send))
    status, body = sent[0]["status"], sent[1]["body"]
    assert isinstance(status, int)
    assert isinstance(body, bytes)
    return status, body


DRAIN = (b"latensgate-operator", b"drain")


def test_operators_see_metrics_and_readiness() -> None:
    status, body = operate("GET", "/metrics")
    assert (status, b"latensgate_requests_in_flight" in body) == (200, True)
    assert operate("GET", "/ready") == (200, b'{"ready": true}')
    assert operate("GET", "/ready", ready=False)[0] == 503
    assert operate("GET", "/api/keys")[0] == 404
    assert operate("GET", "/drain")[0] == 404


@pytest.mark.parametrize("host", [b"127.0.0.1:8701", b"[::1]:8701", b"localhost", b"10.0.0.1"])
def test_operators_drain(host: bytes) -> None:
    status, body = operate("POST", "/drain", [DRAIN, (b"host", host)])
    assert (status, json.loads(body)) == (200, {"enclaves": {"unix:/a": 2, "unix:/b": None}})


@pytest.mark.parametrize(
    "headers",
    [[], [(b"host", b"127.0.0.1")], [DRAIN], [DRAIN, (b"host", b"evil.example:8701")]],
)
def test_a_web_page_cannot_drain(headers: list[tuple[bytes, bytes]]) -> None:
    assert operate("POST", "/drain", headers)[0] == 403
