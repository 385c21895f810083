"""The typed client of the gateway's own routes, over real HTTP."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_stand_in import (
    API_KEY,
    KEY_ID,
    MADE_SECRET,
    Asked,
    StandIn,
    entry_members,
    error,
    health_members,
    key_members,
    serving,
    unavailable_health,
)
from latensgate.gateway import (
    AuditQuery,
    GatewayAddress,
    GatewayAnswerMalformedError,
    GatewayClient,
    GatewayClientError,
    GatewayRefusedError,
    GatewayUnreachableError,
)
from latensgate.gateway.address import GatewayAddress as Address
from latensgate.gateway.connection import retry_after_s, unreachable
from latensgate.gateway.errors import Unreachable
from latensgate.verify.errors import ConfigurationError
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import SEALED_BODY_MAX_BYTES
from latensgate_shared.strict_json import JSONObject
from protocol_examples import TENANT

HASH = "sha384:" + "00" * 48


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with serving(StandIn()) as running:
        yield running


@pytest.fixture
def stand_in(server: StandIn) -> Iterator[StandIn]:
    yield server
    server.routes.clear()
    server.asked.clear()
    server.headers.clear()


@pytest.fixture
def client(stand_in: StandIn) -> Iterator[GatewayClient]:
    with GatewayClient(stand_in.base_url, api_key=API_KEY) as made:
        yield made


def test_health(client: GatewayClient, stand_in: StandIn) -> None:
    report = client.health()
    assert (report.status, report.ready, report.serves) == ("ok", 2, True)
    stand_in.routes["GET /api/health"] = unavailable_health()
    report = client.health()
    assert (report.status, report.kms, report.serves) == ("unavailable", "denied", False)


def test_a_503_that_is_no_health_report_is_malformed(
    client: GatewayClient, stand_in: StandIn
) -> None:
    told = error(ErrorCode.ERR_OVERLOADED)
    stand_in.routes["GET /api/health"] = 503, json.loads(bytes(told[1])) | health_members()  # type: ignore[arg-type]  # the envelope is bytes
    with pytest.raises(GatewayAnswerMalformedError, match="ERR_ENCLAVE_UNAVAILABLE"):
        client.health()


def test_models(client: GatewayClient) -> None:
    assert [item.model_id for item in client.models()] == ["claude-3.5-sonnet"]


def test_attestation(client: GatewayClient, stand_in: StandIn) -> None:
    assert client.attestation().nonce_document is None
    evidence = client.attestation(nonce=bytes(32), key_id=stand_in.bound.hpke_keys[0].key_id)
    assert evidence.document == stand_in.document
    assert evidence.nonce_document is not None
    with pytest.raises(ConfigurationError):
        client.attestation(nonce=b"short")
    with pytest.raises(GatewayRefusedError) as caught:
        client.attestation(key_id="00" * 8)
    assert caught.value.code is ErrorCode.ERR_KEY_STALE


def test_attest(client: GatewayClient, stand_in: StandIn) -> None:
    archived = client.attest(stand_in.attestation_hash)
    assert archived.manifest == stand_in.manifest_bytes
    assert archived.claimed_status == "simulated"
    assert archived.verdict[0].state == "passed"
    with pytest.raises(GatewayRefusedError) as caught:
        client.attest(HASH)
    assert (caught.value.code, caught.value.status, caught.value.correlation_id) == (
        ErrorCode.ERR_ATTESTATION_UNKNOWN,
        404,
        "correlation-1",
    )
    with pytest.raises(ConfigurationError):
        client.attest("sha384:../keys")


def test_an_answer_about_something_else_is_refused(
    client: GatewayClient, stand_in: StandIn
) -> None:
    right = stand_in.attest(Asked("GET", "", {"hash": stand_in.attestation_hash}, {}, b""))
    stand_in.routes["GET /api/attest"] = right
    with pytest.raises(GatewayAnswerMalformedError, match="another hash"):
        client.attest(HASH)
    stand_in.routes[f"GET /api/audit/aud_{9:016x}"] = 200, entry_members(stand_in.entries[0])
    with pytest.raises(GatewayAnswerMalformedError, match="another receipt"):
        client.audit_entry(f"aud_{9:016x}")


def test_audit_pages(client: GatewayClient, stand_in: StandIn) -> None:
    page = client.audit_page()
    assert (page.page, page.limit, page.total) == (1, 25, 3)
    assert [entry.public.sequence for entry in page.entries] == [2, 1, 0]
    entries = list(client.audit_entries(AuditQuery(limit=2)))
    assert [entry.public.sequence for entry in entries] == [2, 1, 0]
    assert list(client.audit_entries()) == entries
    assert client.audit_entry(entries[0].public.receipt_id) == entries[0]
    assert entries[0].to_json() == entry_members(stand_in.entries[2])


def test_receipts_that_move_to_the_next_page_come_once(
    client: GatewayClient, stand_in: StandIn
) -> None:
    first, second = (entry_members(stand_in.entries[number]) for number in (1, 0))

    def shifted(asked: Asked) -> tuple[int, JSONObject]:
        page = int(asked.query["page"])
        shown = {1: [first], 2: [first], 3: [second]}.get(page, [])
        return 200, {"entries": [*shown], "page": page, "limit": 1, "total": 4}

    stand_in.routes["GET /api/audit"] = shifted
    found = [entry.public.sequence for entry in client.audit_entries(AuditQuery(limit=1))]
    assert found == [1, 0]


def test_filters_are_sent_as_the_gateway_reads_them(
    client: GatewayClient, stand_in: StandIn
) -> None:
    at = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
    client.audit_page(
        AuditQuery(outcome="refused", key_id="00" * 8, attestation_hash=HASH, since=at, until=at)
    )
    assert stand_in.asked[-1].query == {
        "page": "1",
        "limit": "25",
        "outcome": "refused",
        "key_id": "00" * 8,
        "attestation_hash": HASH,
        "since": "2026-06-01T12:30:00Z",
        "until": "2026-06-01T12:30:00Z",
    }


def test_keys(client: GatewayClient, stand_in: StandIn) -> None:
    (key,) = client.keys()
    assert (key.key_id, key.status, key.revoked_at) == (KEY_ID, "active", None)
    made = client.create_key("ci", ["inference:read"])
    assert (made.secret, made.info.name, made.replaces) == (MADE_SECRET, "ci", None)
    assert MADE_SECRET not in repr(made)
    assert json.loads(stand_in.asked[-1].body) == {"name": "ci", "scopes": ["inference:read"]}
    client.create_key("ci", ["inference:read"], expiry=None)
    assert json.loads(stand_in.asked[-1].body)["expiry"] is None
    assert client.revoke_key(KEY_ID).status == "revoked"
    assert (stand_in.asked[-1].method, stand_in.asked[-1].path) == (
        "DELETE",
        f"/api/keys/{KEY_ID}",
    )
    rotated = client.rotate_key(KEY_ID, grace=None, expiry="12h")
    assert (rotated.replaces, rotated.secret) == (KEY_ID, MADE_SECRET)
    assert json.loads(stand_in.asked[-1].body) == {"grace": None, "expiry": "12h"}
    client.rotate_key(KEY_ID)
    assert json.loads(stand_in.asked[-1].body) == {}
    for wrong in ("../tenants", "key_", KEY_ID.upper()):
        with pytest.raises(ConfigurationError):
            client.revoke_key(wrong)


def test_usage(client: GatewayClient) -> None:
    report = client.usage()
    assert (report.tenant_id, report.usage.completion_tokens) == (TENANT, 1_112)
    assert report.enclaves[0].receipt_key == "ab" * 32


def test_a_sum_that_is_none_is_refused(client: GatewayClient, stand_in: StandIn) -> None:
    status, told = stand_in.usage(Asked("GET", "", {}, {}, b""))
    wrong: JSONObject = {"requests": 9, "prompt_tokens": 61, "completion_tokens": 1_112}
    stand_in.routes["GET /api/usage"] = status, dict(told) | {"usage": wrong}  # type: ignore[arg-type]  # an object
    with pytest.raises(GatewayAnswerMalformedError, match="the sum"):
        client.usage()


def test_public_routes_get_no_key_and_others_get_it_as_bearer(stand_in: StandIn) -> None:
    with GatewayClient(stand_in.base_url) as public:
        public.health()
        assert "Authorization" not in stand_in.asked[-1].headers
        with pytest.raises(GatewayRefusedError) as caught:
            public.models()
    assert caught.value.code is ErrorCode.ERR_UNAUTHENTICATED


def test_retry_after_is_told(client: GatewayClient, stand_in: StandIn) -> None:
    stand_in.routes["GET /api/keys"] = error(ErrorCode.ERR_RATE_LIMITED, param="x")
    stand_in.headers["Retry-After"] = "7"
    with pytest.raises(GatewayRefusedError) as caught:
        client.keys()
    assert (caught.value.retry_after_s, caught.value.param) == (7, "x")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("5", 5), ("soon", None), ("9" * 10, None), ("٣", None), ("-1", None)],
)
def test_retry_after_forms(value: str | None, seconds: int | None) -> None:
    assert retry_after_s(value) == seconds


STRANGE: dict[str, tuple[int, JSONObject | bytes]] = {
    "html": (200, b"<html>login</html>"),
    "html error": (502, b"<html>bad gateway</html>"),
    "empty": (200, b""),
    "array": (200, b"[]"),
    "twice": (200, b'{"keys":[],"keys":[]}'),
    "unknown member": (200, {"keys": [], "more": 1}),
    "no array": (200, {"keys": {}}),
    "redirect": (302, {}),
    "accepted": (202, {"keys": []}),
    "unknown code": (404, {"error": {}, "code": "X", "correlation_id": "x", "hint": "x"}),
    "too long": (200, b'{"keys":[],"x":"' + b"a" * SEALED_BODY_MAX_BYTES + b'"}'),
    "wrong scopes": (200, {"keys": [key_members(scopes="admin")]}),
    "wrong time": (200, {"keys": [key_members(created_at="2026-02-30T00:00:00Z")]}),
    "wrong zone": (200, {"keys": [key_members(created_at="2026-02-20T00:00:00+00:00")]}),
    "wrong status": (200, {"keys": [key_members(status="fine")]}),
}


@pytest.mark.parametrize("reply", STRANGE.values(), ids=STRANGE.keys())
def test_what_is_no_answer_of_a_gateway_is_malformed(
    client: GatewayClient, stand_in: StandIn, reply: tuple[int, JSONObject | bytes]
) -> None:
    stand_in.routes["GET /api/keys"] = reply
    with pytest.raises(GatewayAnswerMalformedError) as caught:
        client.keys()
    assert caught.value.status == reply[0]
    assert caught.value.code is ErrorCode.ERR_MALFORMED


def test_a_new_key_that_could_steer_a_terminal_is_refused(
    client: GatewayClient, stand_in: StandIn
) -> None:
    stand_in.routes["POST /api/keys"] = 201, key_members(key="lg_\x1b[2J")
    with pytest.raises(GatewayAnswerMalformedError):
        client.create_key("x", ["admin"])


CALLS: dict[str, tuple[str, Callable[[GatewayClient], object]]] = {
    "health": ("GET /api/health", GatewayClient.health),
    "models": ("GET /api/models", GatewayClient.models),
    "attestation": ("GET /api/attestation", lambda c: c.attestation(nonce=bytes(32))),
    "attest": ("GET /api/attest", lambda c: c.attest(HASH)),
    "audit": ("GET /api/audit", GatewayClient.audit_page),
    "keys": ("GET /api/keys", GatewayClient.keys),
    "rotate": (f"POST /api/keys/{KEY_ID}/rotate", lambda c: c.rotate_key(KEY_ID)),
    "usage": ("GET /api/usage", GatewayClient.usage),
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(("route", "call"), CALLS.values(), ids=CALLS.keys())
def test_nothing_but_typed_errors_leaves_a_call(
    server: StandIn, route: str, call: Callable[[GatewayClient], object]
) -> None:
    good = server.answer(_asked(route))[1]
    members: JSONObject = good if isinstance(good, dict) else {}

    @settings(max_examples=25, deadline=None)
    @given(st.data())
    def tried(data: st.DataObject) -> None:
        changed: dict[str, object] = dict(members)
        name = data.draw(st.sampled_from([*members, "other"]))
        changed[name] = data.draw(json_values)
        body = json.dumps(changed).encode()
        transport = httpx.MockTransport(lambda _request: httpx.Response(200, content=body))
        with GatewayClient("http://127.0.0.1:1", api_key=API_KEY, transport=transport) as client:
            try:
                call(client)
            except GatewayClientError:
                return

    tried()


def _asked(route: str) -> Asked:
    method, path = route.split(" ")
    query = {"hash": HASH, "page": "1", "limit": "25", "nonce": "00" * 32}
    return Asked(method, path, query, {"Authorization": f"Bearer {API_KEY}"}, b"{}")


# --- addresses, keys, the way there ---


@pytest.mark.parametrize(
    ("url", "root", "port"),
    [
        ("https://gateway.example/", "https://gateway.example", 443),
        ("https://gateway.example:8443/t/tnt_a3f9c42b", None, 8443),
        ("http://127.0.0.1:8700", None, 8700),
        ("http://[::1]:8700/", "http://[::1]:8700", 8700),
        ("http://localhost", None, 80),
    ],
)
def test_addresses(url: str, root: str | None, port: int) -> None:
    address = GatewayAddress.parse(url)
    assert (address.base_url, address.port) == (root or url, port)
    assert address.secure is url.startswith("https")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gateway.example",
        "ftp://gateway.example",
        "http://gateway.example",
        "http://10.0.0.1",
        "http://127.0.0.1.example",
        "https://user@gateway.example",
        "https://gateway.example?x=1",
        "https://gateway.example#x",
        "https://gateway.example:99999",
        "https://[::1",
        "https://gate way.example",
        "https://gatewäy.example",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        GatewayClient(url)


@pytest.mark.parametrize("key", ["", "lg test", "lg_\n", "lg_é"])
def test_keys_that_cannot_stand_in_a_header(key: str) -> None:
    with pytest.raises(ConfigurationError, match="api_key"):
        GatewayClient("http://127.0.0.1:1", api_key=key)


def test_an_authority_that_is_none(tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.write_text("nothing")
    for path in (empty, tmp_path / "absent"):
        with pytest.raises(ConfigurationError, match="CA file"):
            GatewayClient("https://gateway.example", ca_file=path)


def test_nobody_listens() -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        GatewayClient(f"http://127.0.0.1:{port}") as client,
        pytest.raises(GatewayUnreachableError) as caught,
    ):
        client.health()
    assert caught.value.where is Unreachable.CONNECTION


def _raised(error: Exception, cause: BaseException | None = None) -> httpx.HTTPError:
    error.__cause__ = cause
    assert isinstance(error, httpx.HTTPError)
    return error


@pytest.mark.parametrize(
    ("raised", "where"),
    [
        (_raised(httpx.ConnectError("x"), socket.gaierror(-2, "x")), Unreachable.NAME),
        (_raised(httpx.ConnectError("x"), ssl.SSLError(1, "x")), Unreachable.TLS),
        (_raised(httpx.ConnectError("x")), Unreachable.CONNECTION),
        (_raised(httpx.ReadError("x")), Unreachable.CONNECTION),
        (_raised(httpx.ReadTimeout("x")), Unreachable.TIMEOUT),
        (_raised(httpx.ProxyError("x")), Unreachable.PROXY),
    ],
)
def test_how_far_the_way_was_open(raised: httpx.HTTPError, where: Unreachable) -> None:
    assert unreachable(raised, Address.parse("https://gateway.example")).where is where


def test_a_wrong_certificate_says_so() -> None:
    bad = ssl.SSLCertVerificationError(1, "x")
    bad.verify_message = "self-signed certificate"
    found = unreachable(
        _raised(httpx.ConnectError("x"), bad), Address.parse("https://gateway.example")
    )
    assert "self-signed certificate" in found.detail


def test_loopback_never_passes_a_proxy(
    client: GatewayClient, monkeypatch: pytest.MonkeyPatch, stand_in: StandIn
) -> None:
    del client
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with GatewayClient(stand_in.base_url) as own:
        assert own.health().serves
