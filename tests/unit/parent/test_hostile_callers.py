"""What a caller may try against the gateway: clocks, names, addresses, queries, key guesses."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from dataclasses import replace
from pathlib import Path

import pytest

from inference_doubles import (
    API_KEY,
    NOW_S,
    OTHER_API_KEY,
    OTHER_TENANT_ID,
    PATH,
    TENANT_ID,
    Connection,
    Rig,
    api_key,
    begin,
    make_rig,
    replaced,
    request,
    run,
    scope_of,
    sealed_bytes,
)
from latensgate_parent import api_keys
from latensgate_parent.http import backlog, rate_limit
from latensgate_parent.http.addresses import client_address
from latensgate_parent.http.body import Room
from latensgate_parent.http.rate_limit import address_bucket
from latensgate_parent.limits import QUERY_MAX_BYTES
from latensgate_parent.store.interfaces import StoreConflictError, StoreError
from latensgate_parent.store.open import open_store
from latensgate_shared.errors import ErrorCode

# --- a clock that is set back ---


@pytest.mark.parametrize("ahead_s", [0, 1, 86_400])
def test_a_revoked_key_stays_revoked_whatever_the_clock_says(ahead_s: int) -> None:
    async def scene() -> None:
        rig = await make_rig()
        key = api_key(TENANT_ID, "lg_test_" + "C" * 43, revoked_at_s=int(NOW_S) + ahead_s)
        await rig.store.insert_key(key)
        headers, body = request(api_key="lg_test_" + "C" * 43)
        assert (await rig.send(headers, body)).code is ErrorCode.ERR_UNAUTHENTICATED
        assert api_keys.status_of(key, NOW_S) == "revoked"

    run(scene())


def test_a_disabled_tenant_stays_disabled_whatever_the_clock_says() -> None:
    async def scene() -> None:
        rig = await make_rig()
        tenant = await rig.store.tenant(TENANT_ID)
        assert tenant is not None
        await rig.store.replace_tenant(replace(tenant, disabled_at_s=int(NOW_S) + 3_600))
        assert (await rig.post()).code is ErrorCode.ERR_UNAUTHENTICATED
        assert rig.enclave.ran == []

    run(scene())


# --- names and queries ---


@pytest.mark.parametrize("key", [None, "one"])
def test_the_other_name_of_the_idempotency_header_is_refused(key: str | None) -> None:
    """Ignored in silence, a retry of it would run twice."""

    async def scene() -> None:
        rig = await make_rig()
        headers, body = request(key=key)
        got = await rig.send([*headers, (b"x-idempotency-key", b"one")], body)
        assert got.code is ErrorCode.ERR_REQUEST_INVALID
        assert got.error.error.param == "X-Idempotency-Key"
        assert rig.enclave.ran == []

    run(scene())


async def asked(rig: Rig, query: bytes, path: str = PATH) -> tuple[ErrorCode | None, str | None]:
    headers, body = request()
    connection = Connection([body])
    scope = {**scope_of(headers, path), "query_string": query}
    await rig.gateway(scope, connection.receive, connection.send)
    if connection.got.status < 400 or path != PATH:
        return None, None
    return connection.got.code, connection.got.error.error.param


@pytest.mark.parametrize(
    ("query", "param"),
    [
        (b"tenant_id=tnt_00000001", "tenant_id"),
        (b"a", "a"),
        (b"=", "(empty)"),
        (b"&", "(empty)"),
        (b"%00%1b=1", "??"),
        (b"a" * (QUERY_MAX_BYTES + 1), "a" * 64),
        (b"\xff\xfe=1", "ÿþ"),
    ],
)
def test_the_sealed_route_takes_no_query(query: bytes, param: str) -> None:
    async def scene() -> None:
        rig = await make_rig()
        assert await asked(rig, query) == (ErrorCode.ERR_REQUEST_INVALID, param)
        assert rig.enclave.ran == []
        assert await asked(rig, b"") == (None, None)

    run(scene())


def test_millions_of_escapes_are_not_read() -> None:
    """They would take seconds, and hold up everybody."""

    async def scene() -> None:
        rig = await make_rig()
        headers, _ = request()
        body = b'{"prompt_ciphertext":"' + rb"\u0041" * 1_000_000 + b'"}'
        began = time.perf_counter()
        got = await rig.send(replaced(headers, b"content-length"), body)
        assert got.code is ErrorCode.ERR_MALFORMED
        assert time.perf_counter() - began < 0.3

    run(scene())


def test_a_large_body_is_read_beside_the_loop() -> None:
    async def scene() -> None:
        rig = await make_rig()
        sealed = sealed_bytes() + bytes(4 << 20)
        assert (await rig.send(*request(sealed=sealed, key="a", stream=True))).status == 200
        headers, body = request(sealed=sealed, key="b")
        assert (await rig.send(headers, body)).status == 200
        assert rig.enclave.ran == [sealed, sealed]
        for spoiled in (body.replace(b"AAAA", b"AA=A", 1), body.replace(b"AAAA", b'AA"A', 1)):
            spoiled_headers = replaced(headers, b"idempotency-key")
            assert (await rig.send(spoiled_headers, spoiled)).code is ErrorCode.ERR_MALFORMED

    run(scene())


# --- addresses ---


def test_ipv4_peers_of_an_ipv6_listener_are_told_apart() -> None:
    """Else one client would use up the limit of everybody who has no IPv6."""
    one, other = address_bucket("::ffff:192.0.2.7"), address_bucket("::ffff:192.0.2.8")
    assert one == address_bucket("192.0.2.7") != other


def test_a_trusted_ipv4_proxy_is_known_on_an_ipv6_listener() -> None:
    trusted = (ipaddress.ip_network("10.0.0.0/8"),)
    headers = [(b"x-forwarded-for", b"203.0.113.9, 198.51.100.1, ::ffff:10.1.1.1")]
    assert client_address("::ffff:10.0.0.1", headers, trusted) == "198.51.100.1"
    assert client_address("::ffff:11.0.0.1", headers, trusted) == "::ffff:11.0.0.1"


# --- the log ---


def test_the_key_is_in_no_message() -> None:
    async def scene() -> None:
        rig = await make_rig()
        headers, body = request()
        for value in (b"Bearer " + API_KEY.encode() + b"x", b"Basic " + API_KEY.encode()):
            got = await rig.send(replaced(headers, b"authorization", value), body)
            assert got.code is ErrorCode.ERR_UNAUTHENTICATED
            assert API_KEY.encode() not in got.body

    run(scene())


# --- filling the memory of limits ---


def test_very_many_addresses_make_no_tenants_window_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limit, "RATE_BUCKETS_MAX_COUNT", 2)
    limiter = rate_limit.MemoryRateLimiter()
    assert limiter.take_now(TENANT_ID, 1, 0.0).retry_after_s is None
    for number in range(5):
        limiter.take_now(address_bucket(f"192.0.2.{number}"), 1, 1.0)
    assert limiter.take_now(TENANT_ID, 1, 2.0).retry_after_s is not None
    assert limiter.take_now(address_bucket("192.0.2.4"), 1, 2.0).retry_after_s is not None


# --- one tenant that takes all places ---


def test_no_tenant_takes_all_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Room.__init__, "__defaults__", (8, 10_000, 2, 10_000))

    async def scene() -> None:
        rig = await make_rig()
        rig.enclave.release = asyncio.Event()
        greedy = [begin(rig, *request(f"greedy {number}")) for number in range(4)]
        await asyncio.gather(*(each for _, each in greedy[2:]))
        for connection, _ in greedy[2:]:
            assert connection.got.code is ErrorCode.ERR_OVERLOADED
            assert connection.got.header("retry-after")
        other, task = begin(rig, *request(api_key=OTHER_API_KEY, tenant_id=OTHER_TENANT_ID))
        while len(rig.enclave.calls) < 3:  # noqa: ASYNC110 - three have arrived
            await asyncio.sleep(0)
        rig.enclave.release.set()
        await asyncio.gather(task, *(each for _, each in greedy))
        assert other.got.status == 200
        assert [connection.got.status for connection, _ in greedy[:2]] == [200, 200]
        assert rig.route.room.shares == {}
        assert rig.route.room.held_bytes == 0

    run(scene())


def test_no_tenant_takes_all_bytes() -> None:
    room = Room(max_bytes=100, tenant_max_bytes=10)
    with room.place() as one, room.place() as two, room.place() as other:
        one.belong_to(TENANT_ID)
        two.belong_to(TENANT_ID)
        other.belong_to(OTHER_TENANT_ID)
        one.take(6)
        assert not two.try_take(5)
        assert two.try_take(4)
        assert other.try_take(10)
    assert (room.shares, room.held_bytes, room.open) == ({}, 0, 0)


# --- a store that fails ---


def test_while_the_store_fails_no_model_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs cannot leave, and would be paid for: after a while nothing begins."""
    monkeypatch.setattr(backlog, "BACKLOG_FAILING_S", 0.05)
    monkeypatch.setattr(backlog, "BACKLOG_RETRY_MIN_S", 0.01)
    monkeypatch.setattr(backlog, "BACKLOG_RETRY_MAX_S", 0.01)

    async def scene() -> None:
        rig = await make_rig()
        unharmed = rig.store.insert_receipt

        async def full(*_: object) -> None:
            raise StoreError("disk full")

        monkeypatch.setattr(rig.store, "insert_receipt", full)
        assert (await rig.post("one")).code is ErrorCode.ERR_STORE_UNAVAILABLE
        await asyncio.sleep(0.1)
        assert (await rig.post("two")).code is ErrorCode.ERR_STORE_UNAVAILABLE
        assert len(rig.enclave.ran) == 1
        monkeypatch.setattr(rig.store, "insert_receipt", unharmed)
        assert await rig.route.backlog.wait(5)
        assert (await rig.post("three")).status == 200
        assert len(await rig.receipts()) == 2  # that of the first, too

    run(scene())


def test_a_receipt_that_can_never_be_stored_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An enclave that gives two receipts one id: the second is told to the operator, and let go."""
    monkeypatch.setattr(backlog, "BACKLOG_FAILING_S", 0.0)

    async def scene() -> None:
        store = await open_store(f"sqlite:///{tmp_path}/latensgate.db")
        rig = await make_rig(store)
        rig.enclave.receipt_id = lambda: "aud_" + "7" * 16  # type: ignore[method-assign]
        assert (await rig.post("one")).status == 200
        second = await rig.post("two", key="k")
        assert second.code is ErrorCode.ERR_STORE_UNAVAILABLE
        assert await rig.route.backlog.wait(5)
        assert [type(each) for each in rig.observed.unexpected] == [StoreConflictError]
        assert not rig.route.backlog.refuses_new
        del rig.enclave.receipt_id
        rig.enclave.ends.clear()
        assert (await rig.post("three")).status == 200
        assert (await rig.post("two", key="k")).code is ErrorCode.ERR_OUTCOME_UNKNOWN
        assert len(rig.enclave.ran) == 3
        await store.aclose()

    run(scene())
