"""What all routes of the surface share: envelope, authentication, limits, headers, telling."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Generator, Mapping
from dataclasses import replace
from unittest import mock

import pytest

from latensgate_parent.http.addresses import client_address
from latensgate_parent.limits import PUBLIC_REQUESTS_PER_MINUTE
from latensgate_parent.store.interfaces import StoreError, Tenant
from latensgate_shared.errors import ErrorCode
from surface_bench import NOW_S, OTHER_TENANT, TENANT, SurfaceBench

PRIVATE = {
    "/api/audit": "audit:read",
    "/api/audit/aud_8f9e1a0d56e9bb6a": "audit:read",
    "/api/keys": "keys:read",
    "/api/models": "inference:read",
    "/api/usage": "audit:read",
}
PUBLIC = ("/api/attestation", "/api/health", "/", "/openapi.json", "/verify")


@pytest.fixture
def bench() -> Generator[SurfaceBench]:
    running = SurfaceBench()
    yield running
    running.close()


@pytest.mark.parametrize("url", PRIVATE)
def test_keys_and_scopes_are_demanded(bench: SurfaceBench, url: str) -> None:
    told = bench.refused("GET", url)
    assert told.error.code is ErrorCode.ERR_UNAUTHENTICATED
    told = bench.refused("GET", url, "lg_live_" + "A" * 43)
    assert told.error.code is ErrorCode.ERR_UNAUTHENTICATED
    told = bench.refused("GET", url, bench.key("approvals:write"))
    assert (told.error.code, PRIVATE[url] in told.error.message) == (ErrorCode.ERR_FORBIDDEN, True)
    answer = bench.ask("GET", url, bench.key(PRIVATE[url]))
    assert answer.status_code in {200, 404}
    assert answer.headers["cache-control"] == "no-store"


def test_a_scope_is_missed_before_parameters_are_judged(bench: SurfaceBench) -> None:
    told = bench.refused("GET", "/api/audit?page=0", bench.key("keys:read"))
    assert told.error.code is ErrorCode.ERR_FORBIDDEN
    assert bench.refused("GET", "/api/audit?page=0").error.code is ErrorCode.ERR_UNAUTHENTICATED


@pytest.mark.parametrize("url", PUBLIC)
def test_public_routes_look_at_no_key(bench: SurfaceBench, url: str) -> None:
    plain = bench.ask("GET", url)
    assert plain.status_code in {200, 503}
    assert bench.ask("GET", url, "nonsense").status_code == plain.status_code
    assert plain.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in plain.headers["content-security-policy"]


def test_headers_twice_are_refused(bench: SurfaceBench) -> None:
    key = bench.key()
    told = bench.refused("GET", "/api/keys", key, headers={"x-api-key": key})
    assert told.error.code is ErrorCode.ERR_REQUEST_INVALID
    assert bench.ask("GET", "/api/keys", headers={"x-api-key": key}).status_code == 200


@pytest.mark.parametrize(
    ("method", "url", "code"),
    [
        ("GET", "/nothing", ErrorCode.ERR_NOT_FOUND),
        ("GET", "/api/keys/", ErrorCode.ERR_NOT_FOUND),
        ("GET", "/api/%00", ErrorCode.ERR_NOT_FOUND),
        ("GET", "/API/KEYS", ErrorCode.ERR_NOT_FOUND),
        ("GET", "//api/keys", ErrorCode.ERR_NOT_FOUND),
        ("GET", "/docs", ErrorCode.ERR_NOT_FOUND),
        ("GET", "/metrics", ErrorCode.ERR_NOT_FOUND),
        ("GET", "/t/tnt_0/api/health", ErrorCode.ERR_NOT_FOUND),
        ("HEAD", "/api/health", ErrorCode.ERR_METHOD_NOT_ALLOWED),
        ("OPTIONS", "/api/keys", ErrorCode.ERR_METHOD_NOT_ALLOWED),
        ("PUT", "/api/keys", ErrorCode.ERR_METHOD_NOT_ALLOWED),
        ("FOO", "/api/keys", ErrorCode.ERR_METHOD_NOT_ALLOWED),
        ("GET", "/api/inference", ErrorCode.ERR_METHOD_NOT_ALLOWED),
    ],
)
def test_what_is_no_route_has_the_envelope(
    bench: SurfaceBench, method: str, url: str, code: ErrorCode
) -> None:
    answer = bench.ask(method, f"http://gateway{url}")
    assert answer.status_code == code.http_status
    assert bench.notes.done[-1].code is code
    assert method == "HEAD" or answer.json()["code"] == code.name  # no body goes with HEAD
    assert bench.notes.done[-1].route == "other"
    if code is ErrorCode.ERR_METHOD_NOT_ALLOWED and url == "/api/keys":
        assert answer.headers["allow"] == "GET, POST"


def test_the_tenants_own_url(bench: SurfaceBench) -> None:
    key = bench.key()
    assert bench.ask("GET", f"/t/{TENANT}/api/keys", key).status_code == 200
    told = bench.refused("GET", f"/t/{OTHER_TENANT}/api/keys", key)
    assert told.error.code is ErrorCode.ERR_NOT_FOUND
    assert bench.ask("GET", f"/t/{OTHER_TENANT}/api/health").status_code == 503


def test_tenants_are_limited_over_all_routes(bench: SurfaceBench) -> None:
    limited = Tenant("tnt_00000002", "t", 3, NOW_S)
    bench.run(bench.store.insert_tenant(limited))
    key = bench.key(tenant=limited.tenant_id)
    answers = [bench.ask("GET", url, key) for url in ("/api/keys", "/api/audit", "/api/usage")]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0"]
    assert answers[0].headers["ratelimit-policy"] == '"default";q=3;w=60'
    answer = bench.ask("GET", "/api/models", key)
    assert (answer.status_code, answer.json()["code"]) == (429, "ERR_RATE_LIMITED")
    assert int(answer.headers["retry-after"]) >= 1
    assert bench.ask("GET", "/api/keys", bench.key()).status_code == 200
    bench.now += 62
    assert bench.ask("GET", "/api/keys", key).status_code == 200


def test_public_routes_are_limited_by_address(bench: SurfaceBench) -> None:
    for _ in range(PUBLIC_REQUESTS_PER_MINUTE):
        bench.limiter.take_now("address:192.0.2.1", PUBLIC_REQUESTS_PER_MINUTE, bench.now)
    forged = {"x-forwarded-for": "198.51.100.7"}
    assert bench.ask("GET", "/api/health", headers=forged).status_code == 429
    assert bench.refused("GET", "/api/keys", "x").error.code is ErrorCode.ERR_RATE_LIMITED
    assert bench.ask("GET", "/api/keys", bench.key()).status_code == 200
    assert bench.ask("GET", "/api/health", peer="192.0.2.2").status_code == 503


PROXIES = (ipaddress.ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.1"),
        ("", ["198.51.100.7"], ""),
    ],
)
def test_forwarded_addresses(peer: str, forwarded: list[str], address: str) -> None:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    assert client_address(peer, headers, PROXIES) == address


def test_a_store_that_fails_is_told_without_detail(bench: SurfaceBench) -> None:
    key = bench.key()
    with mock.patch.object(bench.store, "keys", side_effect=StoreError("/var/db: disk full")):
        answer = bench.ask("GET", "/api/keys", key)
    assert (answer.status_code, answer.json()["code"]) == (503, "ERR_STORE_UNAVAILABLE")
    assert "disk" not in answer.text
    assert "retry-after" in answer.headers


def test_faults_are_told_to_operators_and_not_to_callers(bench: SurfaceBench) -> None:
    key = bench.key()
    with mock.patch.object(bench.store, "keys", side_effect=ValueError("lg_test_secret")):
        told = bench.refused("GET", "/api/keys", key)
    assert told.error.code is ErrorCode.ERR_INTERNAL
    assert "secret" not in told.error.message
    assert [type(fault) for fault in bench.notes.faults] == [ValueError]


def test_every_request_is_told_once(bench: SurfaceBench) -> None:
    bench.ask("GET", "/api/audit?page=1", bench.key())
    done = bench.notes.done[-1]
    assert (done.route, done.status, done.tenant_id) == ("GET /api/audit", 200, TENANT)
    bench.ask("GET", "/api/audit/aud_8f9e1a0d56e9bb6a", bench.key())
    done = bench.notes.done[-1]
    assert (done.route, done.code) == ("GET /api/audit/{receipt_id}", ErrorCode.ERR_NOT_FOUND)
    assert len(bench.notes.done) == 2


def test_a_disabled_tenant_is_refused(bench: SurfaceBench) -> None:
    key = bench.key()
    tenant = bench.run(bench.store.tenant(TENANT))
    assert tenant is not None
    bench.run(bench.store.replace_tenant(replace(tenant, disabled_at_s=NOW_S)))
    assert bench.refused("GET", "/api/keys", key).error.code is ErrorCode.ERR_UNAUTHENTICATED


def test_the_surface_ends_other_protocols_in_silence(bench: SurfaceBench) -> None:
    async def never(*_: object) -> Mapping[str, object]:
        raise AssertionError

    bench.run(bench.surface({"type": "lifespan"}, never, never))  # type: ignore[arg-type]  # never called


def test_a_caller_that_goes_away_is_no_fault(bench: SurfaceBench) -> None:
    sent: list[Mapping[str, object]] = []

    async def gone() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, object]) -> None:
        sent.append(message)

    headers = [(b"authorization", b"Bearer " + bench.key().encode()), (b"host", b"x")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/keys",
        "query_string": b"",
        "headers": headers,
        "client": ("192.0.2.1", 1),
    }
    bench.run(bench.gateway(scope, gone, send))  # type: ignore[arg-type]  # as a server calls it
    assert bench.notes.faults == []
    assert bench.notes.done[-1].code is ErrorCode.ERR_CANCELLED
    assert json.dumps([message.get("status") for message in sent]) in {"[499, null]", "[]"}
