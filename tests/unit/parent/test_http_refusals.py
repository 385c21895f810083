# pyright: reportPrivateUsage=false
"""Bad input of every kind: the right status and code at once, and nothing changes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256

import pytest

from inference_doubles import (
    API_KEY,
    ATTESTATION_HASH,
    KEY_ID,
    OTHER_API_KEY,
    OTHER_TENANT_ID,
    PATH,
    TENANT_ID,
    Rig,
    api_key,
    begin,
    call,
    make_rig,
    replaced,
    request,
    run,
    scope_of,
    sealed_bytes,
)
from latensgate_parent.http import body as body_module
from latensgate_parent.http.body import Room
from latensgate_parent.http.errors import Header
from latensgate_parent.link.interfaces import EnclaveError, EnclaveLostError
from latensgate_parent.store.interfaces import Tenant
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import SEALED_BODY_MAX_BYTES

Request = tuple[list[Header], bytes]

HEADERS: list[tuple[str, bytes, Sequence[bytes], ErrorCode, str | None]] = [
    ("no key", b"authorization", [], ErrorCode.ERR_UNAUTHENTICATED, None),
    ("empty key", b"authorization", [b""], ErrorCode.ERR_UNAUTHENTICATED, None),
    ("basic", b"authorization", [b"Basic eDp5"], ErrorCode.ERR_UNAUTHENTICATED, None),
    ("other form", b"authorization", [b"Bearer sk-1"], ErrorCode.ERR_UNAUTHENTICATED, None),
    (
        "longer key",
        b"authorization",
        [b"Bearer " + API_KEY.encode() + b"A"],
        ErrorCode.ERR_UNAUTHENTICATED,
        None,
    ),
    (
        "NUL in key",
        b"authorization",
        [b"Bearer " + API_KEY.encode()[:-1] + b"\x00"],
        ErrorCode.ERR_UNAUTHENTICATED,
        None,
    ),
    (
        "unknown key",
        b"authorization",
        [b"Bearer lg_test_" + b"Z" * 43],
        ErrorCode.ERR_UNAUTHENTICATED,
        None,
    ),
    (
        "key twice",
        b"authorization",
        [b"Bearer " + API_KEY.encode()] * 2,
        ErrorCode.ERR_REQUEST_INVALID,
        "Authorization",
    ),
    ("both keys", b"x-api-key", [API_KEY.encode()], ErrorCode.ERR_REQUEST_INVALID, "Authorization"),
    ("no type", b"content-type", [], ErrorCode.ERR_REQUEST_INVALID, "Content-Type"),
    ("text", b"content-type", [b"text/plain"], ErrorCode.ERR_REQUEST_INVALID, "Content-Type"),
    (
        "other charset",
        b"content-type",
        [b"application/json; charset=latin-1"],
        ErrorCode.ERR_REQUEST_INVALID,
        "Content-Type",
    ),
    (
        "type twice",
        b"content-type",
        [b"application/json"] * 2,
        ErrorCode.ERR_REQUEST_INVALID,
        "Content-Type",
    ),
    (
        "no attestation",
        b"latensgate-attestation",
        [],
        ErrorCode.ERR_REQUEST_INVALID,
        "Latensgate-Attestation",
    ),
    (
        "short attestation",
        b"latensgate-attestation",
        [b"sha384:00"],
        ErrorCode.ERR_REQUEST_INVALID,
        "Latensgate-Attestation",
    ),
    (
        "upper-case attestation",
        b"latensgate-attestation",
        [ATTESTATION_HASH.upper().encode()],
        ErrorCode.ERR_REQUEST_INVALID,
        "Latensgate-Attestation",
    ),
    (
        "attestation twice",
        b"latensgate-attestation",
        [ATTESTATION_HASH.encode()] * 2,
        ErrorCode.ERR_REQUEST_INVALID,
        "Latensgate-Attestation",
    ),
    ("empty key", b"idempotency-key", [b""], ErrorCode.ERR_REQUEST_INVALID, "Idempotency-Key"),
    ("spaces", b"idempotency-key", [b"a b"], ErrorCode.ERR_REQUEST_INVALID, "Idempotency-Key"),
    ("NUL", b"idempotency-key", [b"a\x00"], ErrorCode.ERR_REQUEST_INVALID, "Idempotency-Key"),
    (
        "unicode",
        b"idempotency-key",
        ["schlüssel".encode()],
        ErrorCode.ERR_REQUEST_INVALID,
        "Idempotency-Key",
    ),
    (
        "256 characters",
        b"idempotency-key",
        [b"a" * 256],
        ErrorCode.ERR_REQUEST_INVALID,
        "Idempotency-Key",
    ),
    (
        "two idempotency keys",
        b"idempotency-key",
        [b"a", b"a"],
        ErrorCode.ERR_REQUEST_INVALID,
        "Idempotency-Key",
    ),
    (
        "no length",
        b"content-length",
        [b"many"],
        ErrorCode.ERR_REQUEST_INVALID,
        "Content-Length",
    ),
    (
        "length twice",
        b"content-length",
        [b"1", b"1"],
        ErrorCode.ERR_REQUEST_INVALID,
        "Content-Length",
    ),
    (
        "oversize",
        b"content-length",
        [str(SEALED_BODY_MAX_BYTES + 1).encode()],
        ErrorCode.ERR_TOO_LARGE,
        None,
    ),
    ("very long length", b"content-length", [b"9" * 400], ErrorCode.ERR_TOO_LARGE, None),
    ("host twice", b"host", [b"a", b"a"], ErrorCode.ERR_REQUEST_INVALID, "Host"),
]


async def refused(rig: Rig, headers: Sequence[Header], body: bytes, path: str = PATH) -> ErrorCode:
    """Send what must be refused, and see that nothing came of it."""
    got = await rig.send(headers, body, path)
    assert not rig.enclave.calls
    assert not await rig.receipts()
    assert rig.route.room.open == rig.route.room.held_bytes == 0
    assert got.code is not ErrorCode.ERR_INTERNAL
    assert not rig.observed.unexpected
    return got.code


@pytest.mark.parametrize(
    ("name", "values", "code", "param"),
    [pytest.param(*each[1:], id=each[0]) for each in HEADERS],
)
def test_headers(name: bytes, values: Sequence[bytes], code: ErrorCode, param: str | None) -> None:
    async def test() -> None:
        rig = await make_rig()
        headers, body = request(key="k")
        headers = replaced(headers, name, *values)
        got = await rig.send(headers, body)
        assert got.code is code
        assert got.error.error.param == param
        assert await refused(rig, headers, body) is code
        assert got.header("www-authenticate") == (
            'Bearer realm="latensgate"' if code is ErrorCode.ERR_UNAUTHENTICATED else None
        )
        assert (await rig.post(key="k")).status == 200  # the key was not used up

    run(test())


@pytest.mark.parametrize(
    "value",
    [b"application/json; charset=utf-8", b'Application/JSON;charset="UTF-8"', b"application/json "],
)
def test_other_spellings_of_json(value: bytes) -> None:
    async def test() -> None:
        rig = await make_rig()
        headers, body = request()
        assert (await rig.send(replaced(headers, b"content-type", value), body)).status == 200

    run(test())


def changed(**members: object) -> bytes:
    """Return a well-formed body with members changed; None: left out."""
    body: dict[str, object] = {
        "prompt_ciphertext": base64.b64encode(sealed_bytes()).decode(),
        "model": "claude-3.5-sonnet",
        "tenant_id": TENANT_ID,
    }
    body |= members
    return json.dumps({name: each for name, each in body.items() if each is not None}).encode()


GOOD = changed()
PLAINTEXT = [
    b'{"model": "m", "messages": [{"role": "user", "content": "my secret"}]}',
    b"{}",
    b"[]",
    b'"my secret"',
    b"null",
    b"17",
    changed(prompt_ciphertext=None),
]
BODIES: list[tuple[bytes, ErrorCode, str | None]] = [
    (b"", ErrorCode.ERR_MALFORMED, None),
    (b"{", ErrorCode.ERR_MALFORMED, None),
    (b"\x00", ErrorCode.ERR_MALFORMED, None),
    (b"\xff\xfe", ErrorCode.ERR_MALFORMED, None),
    (b"\xef\xbb\xbf" + GOOD, ErrorCode.ERR_MALFORMED, None),
    (GOOD + b" {}", ErrorCode.ERR_MALFORMED, None),
    (GOOD[:-1] + b',"model":"claude-3.5-sonnet"}', ErrorCode.ERR_MALFORMED, None),
    (b'{"prompt_ciphertext":' + b"[" * 100_000, ErrorCode.ERR_MALFORMED, None),
    (b'{"prompt_ciphertext":' + b"[" * 90 + b"]" * 90 + b"}", ErrorCode.ERR_MALFORMED, None),
    (b'{"prompt_ciphertext":NaN}', ErrorCode.ERR_MALFORMED, None),
    (changed(messages=[]), ErrorCode.ERR_MALFORMED, None),
    (changed(model=None), ErrorCode.ERR_MALFORMED, None),
    (changed(model=""), ErrorCode.ERR_MALFORMED, "model"),
    (changed(model=7), ErrorCode.ERR_MALFORMED, "model"),
    (changed(model="m" * 257), ErrorCode.ERR_MALFORMED, "model"),
    (GOOD.replace(b"sonnet", b"son\\ud800"), ErrorCode.ERR_MALFORMED, None),
    (changed(tenant_id=None), ErrorCode.ERR_MALFORMED, None),
    (changed(tenant_id="tnt_A3F9C42B"), ErrorCode.ERR_MALFORMED, "tenant_id"),
    (changed(tenant_id=TENANT_ID + "\x00"), ErrorCode.ERR_MALFORMED, "tenant_id"),
    (changed(tenant_id=OTHER_TENANT_ID), ErrorCode.ERR_FORBIDDEN, "tenant_id"),
    (changed(tenant_id="tnt_ffffffff"), ErrorCode.ERR_FORBIDDEN, "tenant_id"),
    (changed(operation="completions"), ErrorCode.ERR_MALFORMED, "operation"),
    (changed(operation=""), ErrorCode.ERR_MALFORMED, "operation"),
    (changed(stream="true"), ErrorCode.ERR_MALFORMED, "stream"),
    (changed(stream=1), ErrorCode.ERR_MALFORMED, "stream"),
    (GOOD[:-1] + b', "stream": null}', ErrorCode.ERR_MALFORMED, "stream"),
    (changed(prompt_ciphertext=7), ErrorCode.ERR_MALFORMED, "prompt_ciphertext"),
    (changed(prompt_ciphertext="***="), ErrorCode.ERR_MALFORMED, "prompt_ciphertext"),
    (changed(prompt_ciphertext="AQ"), ErrorCode.ERR_MALFORMED, "prompt_ciphertext"),
    (changed(prompt_ciphertext="AR=="), ErrorCode.ERR_MALFORMED, "prompt_ciphertext"),
    (changed(prompt_ciphertext="A Q="), ErrorCode.ERR_MALFORMED, "prompt_ciphertext"),
    (changed(prompt_ciphertext="AQ==\n"), ErrorCode.ERR_MALFORMED, "prompt_ciphertext"),
    (changed(prompt_ciphertext="AQ-_"), ErrorCode.ERR_MALFORMED, "prompt_ciphertext"),
    (changed(prompt_ciphertext=""), ErrorCode.ERR_MALFORMED, None),
    (changed(prompt_ciphertext="AQ=="), ErrorCode.ERR_MALFORMED, None),
    (changed(prompt_ciphertext="Ag=="), ErrorCode.ERR_VERSION, None),
    (
        changed(prompt_ciphertext=base64.b64encode(b"\x01" + KEY_ID + b"\x00" * 6).decode()),
        ErrorCode.ERR_VERSION,
        None,
    ),
    (b"[" + b"1," * 300_000 + b"1]", ErrorCode.ERR_TOO_LARGE, None),
]


@pytest.mark.parametrize("body", PLAINTEXT)
@pytest.mark.parametrize("attested", [True, False])
def test_plaintext_is_refused_and_never_shown(body: bytes, attested: bool) -> None:  # noqa: FBT001 - a case
    async def test() -> None:
        rig = await make_rig()
        headers, _ = request(key="k")
        headers = replaced(headers, b"content-length", str(len(body)).encode())
        if not attested:
            headers = replaced(headers, b"latensgate-attestation")
        got = await rig.send(headers, body)
        assert got.code is ErrorCode.ERR_PLAINTEXT_REFUSED
        assert b"secret" not in got.body
        assert await refused(rig, headers, body) is ErrorCode.ERR_PLAINTEXT_REFUSED
        assert "secret" not in repr(rig.observed)

    run(test())


@pytest.mark.parametrize(
    ("body", "code", "param"), [pytest.param(*each, id=str(i)) for i, each in enumerate(BODIES)]
)
def test_bodies(body: bytes, code: ErrorCode, param: str | None) -> None:
    async def test() -> None:
        rig = await make_rig()
        headers, _ = request(key="k")
        headers = replaced(headers, b"content-length", str(len(body)).encode())
        assert await refused(rig, headers, body) is code
        assert (await rig.send(headers, body)).error.error.param == param
        assert (await rig.post(key="k")).status == 200

    run(test())


def test_a_body_longer_than_it_may_be_is_refused_while_it_comes() -> None:
    async def test() -> None:
        rig = await make_rig()
        headers, _ = request()
        headers = replaced(headers, b"content-length")
        piece = b"x" * (1 << 20)
        got = await call(rig.gateway, headers, [piece] * 30)
        assert got.code is ErrorCode.ERR_TOO_LARGE

    run(test())


def test_a_body_in_pieces_without_a_length() -> None:
    async def test() -> None:
        rig = await make_rig()
        headers, body = request()
        headers = replaced(headers, b"content-length")
        pieces = [body[i : i + 7] for i in range(0, len(body), 7)]
        assert (await call(rig.gateway, headers, pieces)).status == 200

    run(test())


def test_a_body_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(body_module, "BODY_READ_TIMEOUT_S", 0.01)
        rig = await make_rig()
        headers, _ = request()
        connection, task = begin(rig, headers, b"")
        connection.body = []
        await task
        assert connection.got.code is ErrorCode.ERR_REQUEST_INVALID

    run(test())


# --- who may ---


KeyChange = Callable[[Rig], object]


async def _with_key(rig: Rig, key: str, *scopes: str, **ends: int) -> None:
    await rig.store.insert_key(api_key(TENANT_ID, key, *scopes, **ends))


def test_a_key_that_expires() -> None:
    async def test() -> None:
        rig = await make_rig()
        key = "lg_test_" + "C" * 43
        await _with_key(rig, key, expires_at_s=int(rig.now_s) + 1)
        assert (await rig.send(*request(api_key=key))).status == 200
        rig.now_s += 1
        assert (await rig.send(*request(api_key=key))).code is ErrorCode.ERR_UNAUTHENTICATED

    run(test())


def test_a_key_that_is_revoked_here_ends_at_once_and_elsewhere_soon() -> None:
    async def test() -> None:
        rig = await make_rig()
        assert (await rig.post()).status == 200
        digest = sha256(API_KEY.encode()).digest()
        found = await rig.store.authenticate(digest)
        assert found is not None
        await rig.store.revoke_key(TENANT_ID, found[0].key_id, int(rig.now_s))
        assert (await rig.post()).status == 200  # remembered
        rig.authenticator.forget(digest)
        assert (await rig.post()).code is ErrorCode.ERR_UNAUTHENTICATED
        rig.now_s += 2
        assert (await rig.post()).code is ErrorCode.ERR_UNAUTHENTICATED

    run(test())


def test_a_disabled_tenant() -> None:
    async def test() -> None:
        rig = await make_rig()
        tenant = Tenant(TENANT_ID, "x", 60, 1, disabled_at_s=int(rig.now_s))
        await rig.store.replace_tenant(tenant)
        assert (await rig.post()).code is ErrorCode.ERR_UNAUTHENTICATED
        await rig.store.replace_tenant(replace(tenant, disabled_at_s=None))
        rig.authenticator.forget_all()
        assert (await rig.post()).status == 200

    run(test())


@pytest.mark.parametrize("scope", ["audit:read", "keys:write", "policy:read"])
def test_a_key_without_the_scope(scope: str) -> None:
    async def test() -> None:
        rig = await make_rig()
        key = "lg_test_" + "D" * 43
        await _with_key(rig, key, scope)
        headers, body = request(api_key=key, key="k")
        got = await rig.send(headers, body)
        assert got.code is ErrorCode.ERR_FORBIDDEN
        assert "inference:read" in got.error.error.message
        assert await refused(rig, headers, body) is ErrorCode.ERR_FORBIDDEN

    run(test())


def test_a_key_for_everything() -> None:
    async def test() -> None:
        rig = await make_rig()
        key = "lg_test_" + "E" * 43
        await _with_key(rig, key, "admin")
        assert (await rig.send(*request(api_key=key))).status == 200

    run(test())


@pytest.mark.parametrize(
    ("path", "host"),
    [
        (f"/t/{OTHER_TENANT_ID}/api/inference", b"gateway.example"),
        ("/t/tnt_ffffffff/api/inference", b"gateway.example"),
        ("/t/nobody/api/inference", b"gateway.example"),
        ("/t/", b"gateway.example"),
        ("/api/inference", f"{OTHER_TENANT_ID}.lg.example".encode()),
        ("/api/inference", b"tnt_nobody.lg.example"),
        (f"/t/{TENANT_ID}/api/inference", f"{OTHER_TENANT_ID}.lg.example".encode()),
    ],
)
def test_another_tenants_url_looks_absent(path: str, host: bytes) -> None:
    async def test() -> None:
        rig = await make_rig(tenant_domain="lg.example")
        headers, body = request()
        headers = replaced(headers, b"host", host)
        assert await refused(rig, headers, body, path) is ErrorCode.ERR_NOT_FOUND

    run(test())


def test_keys_of_two_tenants_are_apart() -> None:
    async def test() -> None:
        rig = await make_rig()
        mine = await rig.post("mine", key="k")
        theirs = await rig.send(
            *request("theirs", key="k", tenant_id=OTHER_TENANT_ID, api_key=OTHER_API_KEY)
        )
        assert mine.status == theirs.status == 200
        assert len(await rig.receipts()) == len(await rig.receipts(OTHER_TENANT_ID)) == 1

    run(test())


# --- how much ---


def test_the_limit_of_a_tenant() -> None:
    async def test() -> None:
        rig = await make_rig(limit=60)
        answers = [await rig.post(str(i)) for i in range(61)]
        assert [each.status for each in answers] == [200] * 60 + [429]
        first, last = answers[0], answers[-1]
        assert first.header("x-ratelimit-limit") == "60"
        assert first.header("x-ratelimit-remaining") == "59"
        assert first.header("x-ratelimit-reset") == "61"
        assert first.header("ratelimit") == '"default";r=59;t=61'
        assert first.header("ratelimit-policy") == '"default";q=60;w=60'
        assert first.header("retry-after") is None
        assert last.code is ErrorCode.ERR_RATE_LIMITED
        assert last.header("x-ratelimit-remaining") == "0"
        wait_s = int(last.header("retry-after") or 0)
        rig.now_s += wait_s - 0.01
        assert (await rig.post()).status == 429
        rig.now_s += 0.01
        assert (await rig.post()).status == 200
        assert len(rig.enclave.calls) == 61

    run(test())


def test_errors_behind_the_limit_carry_its_headers() -> None:
    async def test() -> None:
        rig = await make_rig(limit=60)
        headers, _ = request()
        got = await rig.send(replaced(headers, b"content-length", b"1"), b"{")
        assert got.code is ErrorCode.ERR_MALFORMED
        assert got.header("x-ratelimit-remaining") == "59"

    run(test())


def test_guessing_keys_is_limited_by_address() -> None:
    async def test() -> None:
        rig = await make_rig()
        headers, body = request(api_key="lg_test_" + "Q" * 43)
        codes = [(await rig.send(headers, body)).code for _ in range(301)]
        assert set(codes[:300]) == {ErrorCode.ERR_UNAUTHENTICATED}
        assert codes[300] is ErrorCode.ERR_RATE_LIMITED
        assert (await rig.post()).status == 200  # who has a key is not concerned

    run(test())


def test_places_are_bounded() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.route.room._max_open = 1
        rig.enclave.release = asyncio.Event()
        _connection, task = begin(rig, *request())
        await rig.enclave.arrived.wait()
        got = await rig.post("second")
        assert got.code is ErrorCode.ERR_OVERLOADED
        assert got.header("retry-after") == "1"
        rig.enclave.release.set()
        await task
        assert (await rig.post("third")).status == 200

    run(test())


@pytest.mark.parametrize("announced", [True, False])
def test_bytes_are_bounded(announced: bool) -> None:  # noqa: FBT001 - a case
    async def test() -> None:
        rig = await make_rig()
        headers, body = request()
        rig.route.room._max_bytes = len(body)
        assert (await rig.send(headers, body)).status == 200
        rig.route.room._max_bytes -= 1
        if not announced:
            headers = replaced(headers, b"content-length")
        got = await rig.send(headers, body)
        assert got.code is ErrorCode.ERR_OVERLOADED
        assert rig.route.room.open == rig.route.room.held_bytes == 0

    run(test())


def test_a_room_is_as_large_as_said() -> None:
    room = Room(max_open=2, max_bytes=10)
    with room.place() as place:
        place.take(10)
        assert not place.try_take(1)
        assert not room.has(1)
    assert room.has(10)


def test_a_gateway_that_is_being_shut_down_refuses_all() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.release = asyncio.Event()
        connection, task = begin(rig, *request(key="k"))
        await rig.enclave.arrived.wait()
        rig.gateway.drain()
        assert (await rig.send([], b"", "/api/health")).status == 404  # by the surface
        for path in (PATH, "/api/keys", "/t/nobody/api/keys"):
            got = await rig.send(*request("late"), path=path)
            assert got.code is (
                ErrorCode.ERR_NOT_FOUND if "nobody" in path else ErrorCode.ERR_OVERLOADED
            )
            assert got.header("retry-after") == (None if "nobody" in path else "1")
        assert not await rig.route.finish(0.01)
        rig.enclave.release.set()
        assert await rig.route.finish(1)
        await task
        assert connection.got.status == 200

    run(test())


# --- the enclave refuses ---


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.ERR_MALFORMED,
        ErrorCode.ERR_TOO_LARGE,
        ErrorCode.ERR_VERSION,
        ErrorCode.ERR_KEY_STALE,
        ErrorCode.ERR_OPEN_FAILED,
        ErrorCode.ERR_OUTER_MISMATCH,
        ErrorCode.ERR_KMS_ENVELOPE,
        ErrorCode.ERR_ENCLAVE_TIMEOUT,
        ErrorCode.ERR_ENCLAVE_UNAVAILABLE,
        ErrorCode.ERR_OVERLOADED,
        ErrorCode.ERR_INTERNAL,
    ],
    ids=lambda code: code.name,
)
@pytest.mark.parametrize("stream", [False, True])
def test_refusals_outside_the_seal(code: ErrorCode, stream: bool) -> None:  # noqa: FBT001 - a case
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.error = EnclaveError("unix:/run/secret/path", code=code)
        got = await rig.post(stream=stream)
        assert got.code is code
        assert got.error.refusal is None
        assert b"secret" not in got.body
        assert (got.header("retry-after") is not None) == (got.status == 503)
        assert not await rig.receipts()

    run(test())


@pytest.mark.parametrize("stream", [False, True])
def test_an_enclave_that_is_lost(stream: bool) -> None:  # noqa: FBT001 - a case
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.error = EnclaveLostError("the connection ended")
        got = await rig.post(stream=stream)
        assert got.code is ErrorCode.ERR_OUTCOME_UNKNOWN
        assert got.status == 409

    run(test())


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_that_no_enclave_holds(stream: bool) -> None:  # noqa: FBT001 - a case
    async def test() -> None:
        rig = await make_rig()
        sealed = sealed_bytes(key_id=b"\xff" * 8)
        got = await rig.send(*request(sealed=sealed, stream=stream))
        assert got.code is ErrorCode.ERR_KEY_STALE
        assert not rig.enclave.calls

    run(test())


def test_the_scope_says_who_is_at_the_other_end() -> None:
    async def test() -> None:
        rig = await make_rig()
        headers, body = request(api_key="lg_test_" + "Q" * 43)
        scope = scope_of(headers)
        scope["client"] = None  # a UNIX socket
        connection, _ = begin(rig, headers, body)
        await connection.until(lambda: connection.got.complete)
        fresh = type(connection)([body])
        await rig.gateway(scope, fresh.receive, fresh.send)
        assert fresh.got.code is ErrorCode.ERR_UNAUTHENTICATED

    run(test())
