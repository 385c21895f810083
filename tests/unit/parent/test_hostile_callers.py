"""What a caller may try against the gateway: clocks, names, addresses, queries, key guesses."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from inference_doubles import (
    API_KEY,
    NOW_S,
    PATH,
    TENANT_ID,
    Connection,
    Rig,
    api_key,
    make_rig,
    replaced,
    request,
    run,
    scope_of,
)
from latensgate_parent import api_keys
from latensgate_parent.http.addresses import client_address
from latensgate_parent.http.rate_limit import address_bucket
from latensgate_parent.limits import QUERY_MAX_BYTES
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
