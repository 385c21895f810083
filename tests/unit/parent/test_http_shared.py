# pyright: reportPrivateUsage=false
"""What all routes share: errors, keys, limits, tenant URLs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from inference_doubles import API_KEY, TENANT_ID, api_key, make_rig, run
from latensgate_parent.http import auth as auth_module
from latensgate_parent.http import rate_limit as rate_limit_module
from latensgate_parent.http.auth import SCOPES, Authenticator, Caller, Scope, presented_key, require
from latensgate_parent.http.errors import GatewayError, Header, error_response
from latensgate_parent.http.exchange import CorrelationIds
from latensgate_parent.http.fields import single
from latensgate_parent.http.rate_limit import MemoryRateLimiter, address_bucket, rate_headers
from latensgate_parent.http.tenant_url import split
from latensgate_parent.store.interfaces import APIKey, StoreError, Tenant
from latensgate_shared.error_answers import SealedRefusal, parse_error_answer
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.strict_json import JSONError
from store_memory import MemoryStore

BEARER = (b"authorization", b"Bearer " + API_KEY.encode())


def header(headers: Sequence[Header], name: bytes) -> bytes | None:
    found = [value for each, value in headers if each == name]
    assert len(found) <= 1
    return found[0] if found else None


# --- errors ---


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.name)
def test_every_code_has_its_envelope(code: ErrorCode) -> None:
    found = error_response(GatewayError(code, "What is wrong.", param="field"), "some-id")
    assert found.status == code.http_status
    told = parse_error_answer(found.body)
    assert told.error.code is code
    assert told.error.message == "What is wrong."
    assert told.error.param == "field"
    assert told.correlation_id == "some-id"
    assert header(found.headers, b"content-length") == str(len(found.body)).encode()
    assert header(found.headers, b"latensgate-correlation-id") == b"some-id"
    assert header(found.headers, b"x-request-id") == b"some-id"
    says_when = code.http_status in {429, 503} or code is ErrorCode.ERR_IDEMPOTENCY_RUNNING
    assert header(found.headers, b"retry-after") == (b"1" if says_when else None)
    assert (header(found.headers, b"www-authenticate") is None) == (
        code is not ErrorCode.ERR_UNAUTHENTICATED
    )


def test_retry_after_stands_once_and_the_best_known_wins() -> None:
    limits: list[Header] = [(b"retry-after", b"17"), (b"x-other", b"1")]
    code = ErrorCode.ERR_RATE_LIMITED
    assert header(error_response(GatewayError(code, "x"), "i").headers, b"retry-after") == b"1"
    given = error_response(GatewayError(code, "x", headers=limits), "i")
    assert header(given.headers, b"retry-after") == b"17"
    beside = error_response(GatewayError(code, "x"), "i", headers=limits)
    assert header(beside.headers, b"retry-after") == b"17"
    own = error_response(GatewayError(code, "x", retry_after_s=5), "i", headers=limits)
    assert header(own.headers, b"retry-after") == b"5"
    assert header(own.headers, b"x-other") == b"1"
    at_least = error_response(GatewayError(code, "x", retry_after_s=0), "i")
    assert header(at_least.headers, b"retry-after") == b"1"


def test_only_what_was_written_for_callers_is_shown() -> None:
    operator = LatensgateError("path /run/secret", code=ErrorCode.ERR_ENCLAVE_UNAVAILABLE)
    told = parse_error_answer(error_response(operator, "i").body)
    assert told.error.message == ErrorCode.ERR_ENCLAVE_UNAVAILABLE.hint
    shown = parse_error_answer(error_response(JSONError("request.model: text expected"), "i").body)
    assert shown.error.message == "request.model: text expected"
    empty = parse_error_answer(error_response(JSONError(""), "i").body)
    assert empty.error.message == ErrorCode.ERR_MALFORMED.hint


def test_a_refusal_may_carry_what_was_sealed() -> None:
    refusal = SealedRefusal(b"sealed", "aud_" + "0" * 16)
    error = GatewayError(ErrorCode.ERR_REPLAY, "x")
    assert parse_error_answer(error_response(error, "i", refusal=refusal).body).refusal == refusal


def test_correlation_ids_do_not_repeat() -> None:
    ids = CorrelationIds()
    assert len({ids.new() for _ in range(1000)}) == 1000


def test_a_field_that_stands_twice_has_no_value() -> None:
    assert single([(b"a", b"1")], b"a") == b"1"
    assert single([(b"a", b"1")], b"b") is None
    with pytest.raises(GatewayError, match="X-Thing: expected once, found 2 times") as caught:
        single([(b"x-thing", b"1"), (b"x-thing", b"1")], b"x-thing")
    assert caught.value.param == "X-Thing"


# --- keys ---


@pytest.mark.parametrize("kind", ["lg_live_", "lg_test_"])
def test_the_forms_of_a_key(kind: str) -> None:
    key = (kind + "aZ0-_" * 8 + "abc").encode()
    assert presented_key([(b"authorization", b"Bearer " + key)]) == key
    assert presented_key([(b"x-api-key", key)]) == key


def test_the_scopes_are_closed() -> None:
    assert {
        "inference:read",
        "audit:read",
        "keys:read",
        "keys:write",
        "policy:read",
        "policy:write",
        "approvals:write",
        "admin",
    } == SCOPES


@pytest.mark.parametrize("held", Scope)
@pytest.mark.parametrize("wanted", Scope)
def test_a_scope_permits_itself_and_admin_all(held: Scope, wanted: Scope) -> None:
    caller = Caller(Tenant(TENANT_ID, "t", 60, 1), api_key(TENANT_ID, API_KEY, held))
    if held in {wanted, Scope.ADMIN}:
        require(caller, wanted)
    else:
        with pytest.raises(GatewayError, match=wanted) as caught:
            require(caller, wanted)
        assert caught.value.code is ErrorCode.ERR_FORBIDDEN


class Counting(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.wait: asyncio.Event | None = None

    async def authenticate(self, digest: bytes) -> tuple[APIKey, Tenant] | None:
        self.asked += 1
        found = await super().authenticate(digest)
        if self.wait is not None:
            await self.wait.wait()
        return found


def test_a_found_key_is_remembered_for_a_moment() -> None:
    async def test() -> None:
        store = Counting()
        rig = await make_rig(store)
        for _ in range(3):
            assert (await rig.authenticator.authenticate([BEARER], None)).tenant.name == TENANT_ID
        assert store.asked == 1
        rig.now_s += 2
        await rig.authenticator.authenticate([BEARER], TENANT_ID)
        assert store.asked == 2

    run(test())


def test_an_unknown_key_is_not_remembered() -> None:
    async def test() -> None:
        store = Counting()
        rig = await make_rig(store)
        key = "lg_test_" + "N" * 43
        for _ in range(2):
            with pytest.raises(GatewayError):
                await rig.authenticator.authenticate([(b"x-api-key", key.encode())], None)
        await store.insert_key(api_key(TENANT_ID, key))
        await rig.authenticator.authenticate([(b"x-api-key", key.encode())], None)
        assert store.asked == 3

    run(test())


def test_a_lookup_that_a_revocation_overtook_is_not_remembered() -> None:
    async def test() -> None:
        store = Counting()
        rig = await make_rig(store)
        store.wait = asyncio.Event()
        lookup = asyncio.create_task(rig.authenticator.authenticate([BEARER], None))
        await asyncio.sleep(0.01)
        rig.authenticator.forget(b"of this key")
        store.wait.set()
        await lookup
        await rig.authenticator.authenticate([BEARER], None)
        assert store.asked == 2

    run(test())


def test_few_keys_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(auth_module, "AUTH_CACHE_MAX_COUNT", 1)
        store = Counting()
        rig = await make_rig(store)
        other = "lg_test_" + "O" * 43
        await store.insert_key(api_key(TENANT_ID, other))
        for _ in range(2):
            await rig.authenticator.authenticate([BEARER], None)
            await rig.authenticator.authenticate([(b"x-api-key", other.encode())], None)
        assert store.asked == 4
        assert len(rig.authenticator._cache) == 1

    run(test())


def test_a_store_that_fails_authenticates_nobody() -> None:
    async def test() -> None:
        store = MemoryStore()
        await store.aclose()
        with pytest.raises(StoreError):
            await Authenticator(store).authenticate([BEARER], None)

    run(test())


# --- limits ---


def test_never_more_than_the_limit_in_any_minute() -> None:
    limiter = MemoryRateLimiter()
    permitted = [
        now / 10 for now in range(4000) if limiter.take_now("a", 7, now / 10).retry_after_s is None
    ]
    for at in permitted:
        assert sum(at <= each < at + 60 for each in permitted) <= 7
    assert len(permitted) >= 7 * 6


def test_waiting_as_told_is_enough_and_less_is_not() -> None:
    limiter = MemoryRateLimiter()
    now = 0.3
    for _ in range(5):
        assert limiter.take_now("a", 5, now).retry_after_s is None
        now += 1.7
    refused = limiter.take_now("a", 5, now)
    assert refused.remaining == 0
    assert refused.retry_after_s is not None
    assert refused.reset_s == refused.retry_after_s
    assert limiter.take_now("a", 5, now + refused.retry_after_s - 1).retry_after_s is not None
    assert limiter.take_now("a", 5, now + refused.retry_after_s).retry_after_s is None


def test_a_limit_of_nothing_permits_nothing() -> None:
    found = MemoryRateLimiter().take_now("a", 0, 5.0)
    assert found.retry_after_s is not None
    assert found.remaining == 0


def test_a_limit_that_was_lowered_shows_no_negative_rest() -> None:
    limiter = MemoryRateLimiter()
    for _ in range(3):
        limiter.take_now("a", 3, 1.0)
    assert limiter.take_now("a", 2, 1.0).remaining == 0


def test_buckets_are_apart() -> None:
    limiter = MemoryRateLimiter()
    assert limiter.take_now("a", 1, 1.0).retry_after_s is None
    assert limiter.take_now("b", 1, 1.0).retry_after_s is None


def test_a_clock_that_goes_back_counts_on() -> None:
    limiter = MemoryRateLimiter()
    limiter.take_now("a", 2, 100.0)
    limiter.take_now("a", 2, 50.0)
    assert limiter.take_now("a", 2, 100.0).retry_after_s is not None


def test_buckets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit_module, "RATE_BUCKETS_MAX_COUNT", 2)
    limiter = MemoryRateLimiter()
    for bucket in ("a", "b", "a", "c"):
        limiter.take_now(bucket, 2, 1.0)
    assert set(limiter._windows) == {"a", "c"}
    assert limiter.take_now("a", 2, 1.0).retry_after_s is not None


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("192.0.2.7", "address:192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "address:2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "address:2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "address:192.0.2.7"),
        ("", "address:none"),
        ("/run/socket", "address:none"),
    ],
)
def test_the_bucket_of_an_address(host: str, bucket: str) -> None:
    assert address_bucket(host) == bucket


def test_the_headers_of_a_limit() -> None:
    limiter = MemoryRateLimiter()
    assert dict(rate_headers(limiter.take_now("a", 1, 0.0))) == {
        b"ratelimit": b'"default";r=0;t=61',
        b"ratelimit-policy": b'"default";q=1;w=60',
        b"x-ratelimit-limit": b"1",
        b"x-ratelimit-remaining": b"0",
        b"x-ratelimit-reset": b"61",
    }
    assert dict(rate_headers(limiter.take_now("a", 1, 20.5)))[b"retry-after"] == b"41"


# --- tenant URLs ---


@pytest.mark.parametrize(
    ("path", "host", "domain", "tenant_id", "rest"),
    [
        ("/api/keys", "gateway.example", None, None, "/api/keys"),
        ("/api/keys", None, "lg.example", None, "/api/keys"),
        ("/", "x", None, None, "/"),
        ("/t", "x", None, None, "/t"),
        (f"/t/{TENANT_ID}", "x", None, TENANT_ID, "/"),
        (f"/t/{TENANT_ID}/", "x", None, TENANT_ID, "/"),
        (f"/t/{TENANT_ID}/api/keys", "x", None, TENANT_ID, "/api/keys"),
        (f"/t/{TENANT_ID}/t/{TENANT_ID}/", "x", None, TENANT_ID, f"/t/{TENANT_ID}/"),
        ("/api", f"{TENANT_ID}.lg.example", None, None, "/api"),
        ("/api", f"{TENANT_ID}.lg.example", "lg.example", TENANT_ID, "/api"),
        ("/api", f"{TENANT_ID.upper()}.LG.example.:443", "lg.EXAMPLE", TENANT_ID, "/api"),
        ("/api", f"{TENANT_ID}.other.example", "lg.example", None, "/api"),
        ("/api", f"a.{TENANT_ID}.lg.example", "lg.example", None, "/api"),
        ("/api", "lg.example", "lg.example", None, "/api"),
        ("/api", "www.lg.example", "lg.example", None, "/api"),
        ("/api", "[::1]:80", "lg.example", None, "/api"),
        (f"/t/{TENANT_ID}/api", f"{TENANT_ID}.lg.example", "lg.example", TENANT_ID, "/api"),
    ],
)
def test_tenant_urls(
    path: str, host: str | None, domain: str | None, tenant_id: str | None, rest: str
) -> None:
    assert split(path, host, domain) == (tenant_id, rest)


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("/t/", ""),
        ("/t//api", ""),
        ("/t/tnt_A3F9C42B/api", ""),
        ("/t/tnt_a3f9c42/api", ""),
        ("/t/tnt_a3f9c42b\x00/api", ""),
        ("/t/tnt_a3f9c42b\n/api", ""),
        ("/t/../api", ""),
        ("/api", "tnt_zzzzzzzz.lg.example"),
        (f"/t/{TENANT_ID}/api", "tnt_00000001.lg.example"),
    ],
)
def test_urls_of_nobody(path: str, host: str) -> None:
    with pytest.raises(GatewayError) as caught:
        split(path, host, "lg.example")
    assert caught.value.code is ErrorCode.ERR_NOT_FOUND
