"""Bad input of every kind to every route of the real parent: refused at once, nothing changes."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from gateway_stack import GatewayStack
from latensgate_shared.error_answers import parse_error_answer
from latensgate_shared.errors import ErrorCode
from latensgate_sim.gateway import FirstTenant

E = ErrorCode
INFERENCE = "/api/inference"
HASH = "sha384:" + "ab" * 48
SEALED = base64.b64encode(b"\x01" + bytes(8) + bytes.fromhex("647a00010002") + bytes(3000)).decode()
QUICK_S = 0.1
"""Half of the refusals come within this on a busy machine; each one within twenty times it."""


def body(**changes: object) -> dict[str, object]:
    whole = {"prompt_ciphertext": SEALED, "model": "claude-3.5-sonnet", "tenant_id": "TENANT"}
    return {name: value for name, value in {**whole, **changes}.items() if value is not Ellipsis}


@dataclass(frozen=True)
class Case:
    """One bad request. ``key``: name of a key in ``Keys``, or text for the header.

    ``data`` None: none; otherwise JSON, or bytes as they are.
    """

    method: str
    path: str
    code: ErrorCode
    data: object = None
    key: str | None = "admin"
    headers: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def name(self) -> str:
        sent = self.data if isinstance(self.data, bytes) else json.dumps(self.data)
        return f"{self.method} {self.path[:60]} {self.key} {sent[:60]!r} {list(self.headers)}"


def sealed_route() -> Iterator[Case]:
    bad: list[tuple[ErrorCode, object]] = [
        (E.ERR_MALFORMED, b"{"),
        (E.ERR_MALFORMED, b""),
        (E.ERR_MALFORMED, b"[" * 60_000),
        (E.ERR_PLAINTEXT_REFUSED, b"[]"),
        (E.ERR_PLAINTEXT_REFUSED, b"null"),
        (E.ERR_MALFORMED, b'{"a": NaN}'),
        (E.ERR_MALFORMED, b"\xff\xfe{}"),
        (E.ERR_MALFORMED, b'{"prompt_ciphertext": "\x00"}'),
        (E.ERR_MALFORMED, b'{"model": "a", "model": "b", "prompt_ciphertext": "AAAA"}'),
        (E.ERR_PLAINTEXT_REFUSED, {"model": "m", "messages": [{"role": "user", "content": "x"}]}),
        (E.ERR_PLAINTEXT_REFUSED, {}),
        (E.ERR_MALFORMED, body(prompt_ciphertext="!" * 4000)),
        (E.ERR_MALFORMED, body(prompt_ciphertext="A" * 4001)),
        (E.ERR_MALFORMED, body(prompt_ciphertext="AA==\n")),
        (E.ERR_MALFORMED, body(prompt_ciphertext="")),
        (E.ERR_MALFORMED, body(prompt_ciphertext=["A"])),
        (E.ERR_MALFORMED, body(model=...)),
        (E.ERR_MALFORMED, body(model="")),
        (E.ERR_MALFORMED, body(model=7)),
        (E.ERR_MALFORMED, body(model="x" * 10_000)),
        (E.ERR_MALFORMED, body(tenant_id=...)),
        (E.ERR_MALFORMED, body(tenant_id="tnt_XYZ")),
        (E.ERR_MALFORMED, body(stream="yes")),
        (E.ERR_MALFORMED, body(stream=10**400)),
        (E.ERR_MALFORMED, body(operation="\x00")),
        (E.ERR_MALFORMED, body(extra=1)),
        (E.ERR_FORBIDDEN, body(tenant_id="tnt_00000000")),
        (E.ERR_FORBIDDEN, body(tenant_id="OTHER")),
    ]
    for code, data in bad:
        yield Case("POST", INFERENCE, code, data)
    good = body()
    named: list[tuple[ErrorCode, dict[str, str]]] = [
        (E.ERR_REQUEST_INVALID, {"content-type": "text/plain"}),
        (E.ERR_REQUEST_INVALID, {"latensgate-attestation": "sha384:xyz"}),
        (E.ERR_REQUEST_INVALID, {"latensgate-attestation": ""}),
        (E.ERR_REQUEST_INVALID, {"idempotency-key": ""}),
        (E.ERR_REQUEST_INVALID, {"idempotency-key": "x" * 256}),
        (E.ERR_REQUEST_INVALID, {"idempotency-key": "with space"}),
        (E.ERR_REQUEST_INVALID, {"x-api-key": "lg_test_" + "A" * 43}),
    ]
    for code, headers in named:
        yield Case("POST", INFERENCE, code, good, headers=headers)
    yield Case("POST", "/t/tnt_00000000" + INFERENCE, E.ERR_NOT_FOUND, good)
    yield Case("POST", "/t/OTHER" + INFERENCE, E.ERR_NOT_FOUND, good)
    yield Case("POST", "/t/nobody" + INFERENCE, E.ERR_NOT_FOUND, good)
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        yield Case(method, INFERENCE, E.ERR_METHOD_NOT_ALLOWED)


def keys_and_scopes() -> Iterator[Case]:
    mine: list[tuple[str, str, object]] = [
        ("GET", "/api/audit", None),
        ("GET", "/api/audit/aud_" + "0" * 16, None),
        ("GET", "/api/keys", None),
        ("POST", "/api/keys", {"name": "n", "scopes": ["admin"]}),
        ("DELETE", "/api/keys/key_" + "0" * 16, None),
        ("POST", "/api/keys/key_" + "0" * 16 + "/rotate", {}),
        ("GET", "/api/usage", None),
        ("POST", INFERENCE, body()),
    ]
    for method, path, data in mine:
        yield Case(method, path, E.ERR_FORBIDDEN, data, key="without scopes")
        for key in ("revoked", "expired", "unknown"):
            yield Case(method, path, E.ERR_UNAUTHENTICATED, data, key=key)
    for text in (None, "Bearer", "Bearer x", "Basic eDp5", "Bearer lg_test_" + "A" * 42):
        yield Case("GET", "/api/keys", E.ERR_UNAUTHENTICATED, key=text)
    yield Case("GET", "/t/OTHER/api/keys", E.ERR_NOT_FOUND)
    yield Case("GET", "/api/models", E.ERR_UNAUTHENTICATED, key=None)


def queries() -> Iterator[Case]:
    invalid = [
        "page=0",
        "page=-1",
        "page=1e3",
        "page=",
        "page=1&page=2",
        "page=1000001",
        "page=" + "9" * 5000,
        "page=%00",
        "page=%D9%A1",
        "limit=0",
        "limit=101",
        "limit=1000000000",
        "limit=x",
        "outcome=other",
        "outcome=ANSWERED",
        "key_id=xyz",
        "key_id=" + "0" * 17,
        "attestation_hash=sha384:0",
        "since=yesterday",
        "since=2026-02-30T00:00:00Z",
        "until=2026-01-01",
        "unknown=1",
        "%00=1",
        "=1",
        "page=1;drop%20table%20receipts",
        "limit=1%20or%201=1",
    ]
    for query in invalid:
        yield Case("GET", f"/api/audit?{query}", E.ERR_REQUEST_INVALID)
    for query in (
        "",
        "hash=",
        "hash=x",
        "hash=sha384:" + "AB" * 48,
        f"hash={HASH}&x=1",
        "hash=%00",
    ):
        yield Case("GET", f"/api/attest?{query}", E.ERR_REQUEST_INVALID, key=None)
    yield Case("GET", f"/api/attest?hash={HASH}&hash={HASH}", E.ERR_REQUEST_INVALID, key=None)
    yield Case("GET", f"/api/attest?hash={HASH}", E.ERR_ATTESTATION_UNKNOWN, key=None)
    for query in (
        "nonce=",
        "nonce=zz",
        "nonce=" + "A" * 64,
        "nonce=" + "a" * 63,
        "key_id=1",
        "x=1",
    ):
        yield Case("GET", f"/api/attestation?{query}", E.ERR_REQUEST_INVALID, key=None)
    yield Case("GET", "/api/attestation?key_id=" + "0" * 16, E.ERR_KEY_STALE, key=None)
    yield Case("POST", INFERENCE + "?x=1", E.ERR_REQUEST_INVALID, body())
    yield Case("POST", "/api/keys?x=1", E.ERR_REQUEST_INVALID, {"name": "n", "scopes": ["admin"]})
    yield Case("GET", "/openapi.json?x=1", E.ERR_REQUEST_INVALID, key=None)
    for path in ("/api/health?x=1", "/api/models?x=1", "/api/usage?x=1", "/api/keys?x=1"):
        yield Case("GET", path, E.ERR_REQUEST_INVALID, key=None if "health" in path else "admin")
    for receipt in ("aud_" + "0" * 16, "..%2f..", "OTHER_RECEIPT"):
        yield Case("GET", f"/api/audit/{receipt}", E.ERR_NOT_FOUND)
    for receipt in ("aud_x", "%00", "x" * 4000):
        yield Case("GET", f"/api/audit/{receipt}", E.ERR_REQUEST_INVALID)
    for path in ("/api", "/api/", "/api/keys/", "/v1/chat/completions", "/%00", "/t/", "/../etc"):
        yield Case("GET", path, E.ERR_NOT_FOUND)
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/made-up"):
        yield Case("POST", path, E.ERR_PLAINTEXT_REFUSED, {"messages": []}, key=None)
    for method, path in (("POST", "/api/audit"), ("PUT", "/api/keys"), ("POST", "/api/health")):
        yield Case(method, path, E.ERR_METHOD_NOT_ALLOWED)


def bodies() -> Iterator[Case]:
    good = {"name": "n", "scopes": ["audit:read"]}
    bad: list[object] = [
        {},
        {**good, "name": ""},
        {**good, "name": "\x00"},
        {**good, "name": "x" * 101},
        {**good, "name": 5},
        {**good, "name": "a\u202eb"},
        {**good, "name": "a\nb"},
        {**good, "scopes": []},
        {**good, "scopes": ["root"]},
        {**good, "scopes": "admin"},
        {**good, "scopes": ["admin", "admin"]},
        {**good, "scopes": [None]},
        {**good, "expiry": "0d"},
        {**good, "expiry": "-1d"},
        {**good, "expiry": "3651d"},
        {**good, "expiry": "9" * 5000 + "d"},
        {**good, "expiry": "90"},
        {**good, "expiry": 90},
        {**good, "expiry": "1.5d"},
        {**good, "tenant_id": "tnt_00000000"},
        {**good, "__proto__": {}},
    ]
    for data in bad:
        yield Case("POST", "/api/keys", E.ERR_REQUEST_INVALID, data)
    for raw in (
        b"{",
        b"",
        b"\xff",
        b'{"name": "a", "name": "b", "scopes": ["admin"]}',
        b"[" * 60_000,
    ):
        yield Case("POST", "/api/keys", E.ERR_MALFORMED, raw)
    yield Case("POST", "/api/keys", E.ERR_TOO_LARGE, b" " * 70_000)
    yield Case(
        "POST", "/api/keys", E.ERR_REQUEST_INVALID, good, headers={"content-type": "text/html"}
    )
    for key_id in ("key_" + "0" * 16, "key_x", "%00", "OTHER_KEY", "x" * 4000):
        known = key_id.endswith(("0" * 16, "OTHER_KEY"))
        code = E.ERR_NOT_FOUND if known else E.ERR_REQUEST_INVALID
        yield Case("DELETE", f"/api/keys/{key_id}", code)
        yield Case("POST", f"/api/keys/{key_id}/rotate", code, {})


CASES = [*sealed_route(), *keys_and_scopes(), *queries(), *bodies()]


@dataclass(frozen=True)
class Keys:
    """Keys of every kind, and names of the other tenant's things."""

    url: str
    full: dict[str, str]
    names: dict[str, str]

    def header(self, key: str | None) -> dict[str, str]:
        if key is None:
            return {}
        return {"authorization": f"Bearer {self.full[key]}" if key in self.full else key}

    def filled(self, text: str) -> str:
        for name in sorted(self.names, key=len, reverse=True):
            text = text.replace(name, self.names[name])
        return text

    def send(self, client: httpx.Client, case: Case) -> httpx.Response:
        headers = {**self.header(case.key)}
        data = b"" if case.data is None and case.method != "POST" else case.data
        if not isinstance(data, bytes):
            data = self.filled(json.dumps(data)).encode()
        if case.method == "POST":
            headers["content-type"] = "application/json"
        if INFERENCE in case.path:
            headers["latensgate-attestation"] = HASH
        headers = {**headers, **case.headers}
        request = client.build_request(case.method, self.url, headers=headers, content=data or None)
        request.url = request.url.copy_with(raw_path=self.filled(case.path).encode())
        return client.send(request)


def _make(url: str, admin: str, *scopes: str) -> dict[str, str]:
    made = httpx.post(
        f"{url}/api/keys",
        headers={"authorization": f"Bearer {admin}"},
        json={"name": "n", "scopes": scopes},
        trust_env=False,
    )
    assert made.status_code == 201, made.text
    told: dict[str, str] = made.json()
    return told


@pytest.fixture(scope="module")
def keys(besieged: GatewayStack, other_tenant: FirstTenant) -> Keys:
    url, admin = besieged.url, besieged.api_key
    revoked, expired = _make(url, admin, "admin"), _make(url, admin, "admin")
    httpx.delete(
        f"{url}/api/keys/{revoked['id']}",
        headers={"authorization": f"Bearer {admin}"},
        trust_env=False,
    ).raise_for_status()
    with closing(sqlite3.connect(besieged.database)) as database, database:
        database.execute("UPDATE api_keys SET expires_at_s = 1 WHERE key_id = ?", (expired["id"],))
    full = {
        "admin": admin,
        "revoked": revoked["key"],
        "expired": expired["key"],
        "unknown": "lg_test_" + "Z" * 43,
        "without scopes": _make(url, admin, "policy:read")["key"],
    }
    theirs = _make(url, other_tenant.api_key, "audit:read")
    names = {
        "TENANT": besieged.tenant_id,
        "OTHER": other_tenant.tenant_id,
        "OTHER_KEY": theirs["id"],
        "OTHER_RECEIPT": "aud_" + "1" * 16,
    }
    return Keys(url, full, names)


def dump(database: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as held:
        return list(held.iterdump())


def fault(case: Case, answer: httpx.Response) -> str | None:
    """Say what is wrong with an answer, if anything is."""
    try:
        told = parse_error_answer(answer.content)
    except Exception as error:  # noqa: BLE001 -- told below
        return f"{case.name}: {answer.status_code}, {error}"
    code = told.error.code
    if code is not case.code or answer.status_code != code.http_status:
        return f"{case.name}: {answer.status_code} {code.name}, {case.code.name} expected"
    if answer.headers["content-type"] != "application/json":
        return f"{case.name}: {answer.headers['content-type']}"
    if SEALED in answer.text or "lg_test_" in answer.text.replace("lg_test_ ", ""):
        return f"{case.name}: the answer repeats what was sent"
    return None


def test_bad_input_is_refused_at_once_and_changes_nothing(
    besieged: GatewayStack, keys: Keys
) -> None:
    before, faults, times = dump(besieged.database), list[str | None](), list[float]()
    asked = len(besieged.dev.world.home.bedrock.seen)
    with httpx.Client(trust_env=False, timeout=10) as client:
        for case in CASES:
            began = time.monotonic()
            answer = keys.send(client, case)
            times.append(time.monotonic() - began)
            faults.append(fault(case, answer))
    found = "\n".join(each for each in faults if each)
    assert not found, found
    assert sorted(times)[len(times) // 2] < QUICK_S
    assert max(times) < 20 * QUICK_S, CASES[times.index(max(times))].name
    assert dump(besieged.database) == before
    assert len(besieged.dev.world.home.bedrock.seen) == asked


def raw(url: str, data: bytes) -> tuple[int, bytes]:
    """Send bytes; return status and body."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(data)
        found = http.client.HTTPResponse(connection)
        found.begin()
        return found.status, found.read()


POST = b"POST /api/inference HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
RAW: dict[str, tuple[bytes, int]] = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
    "a bad method": (b"G@T / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a bad version": (b"GET / HTTP/9.9\r\nhost: x\r\n\r\n", 400),
    "a bad field": (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400),
    "NUL in a field": (b"GET /api/keys HTTP/1.1\r\nhost: x\r\nx: a\x00b\r\n\r\n", 400),
    "a bad length": (POST + b"content-length: x\r\n\r\n", 400),
    "a negative length": (POST + b"content-length: -1\r\n\r\n", 400),
    "two lengths": (POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab", 400),
    "length and chunks": (
        POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a bad chunk": (POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400),
    "a head that is too long": (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"x" * 66_000, 413),
    "two keys": (
        (
            b"GET /api/keys HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a\r\n"
            b"authorization: Bearer b\r\nconnection: close\r\n\r\n"
        ),
        400,
    ),
    "two hosts": (
        b"GET /api/keys HTTP/1.1\r\nhost: x\r\nhost: y\r\nconnection: close\r\n\r\n",
        400,
    ),
    "two content types": (
        (
            b"POST /api/keys HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-type: text/html\r\nauthorization: Bearer KEY\r\ncontent-length: 2\r\n"
            b"connection: close\r\n\r\n{}"
        ),
        400,
    ),
}


@pytest.mark.parametrize("name", RAW)
def test_bytes_that_are_no_request(besieged: GatewayStack, keys: Keys, name: str) -> None:
    data, status = RAW[name]
    before, began = dump(besieged.database), time.monotonic()
    found, told = raw(keys.url, data.replace(b"KEY", keys.full["admin"].encode()))
    assert time.monotonic() - began < 20 * QUICK_S
    assert found == status, told[:300]
    assert parse_error_answer(told).error.code.http_status == status
    assert dump(besieged.database) == before


def test_a_body_above_the_limit_is_refused_before_it_is_read(keys: Keys) -> None:
    key = keys.full["admin"].encode()
    data = POST + b"authorization: Bearer " + key + b"\r\nlatensgate-attestation: " + HASH.encode()
    answer = raw(keys.url, data + b"\r\ncontent-length: %d\r\n\r\n" % (21 << 20))
    assert answer[0] == E.ERR_TOO_LARGE.http_status, answer
