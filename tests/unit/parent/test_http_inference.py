"""Unary answers of POST /api/inference, and how requests reach them."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace

import pytest

from inference_doubles import (
    API_KEY,
    ATTESTATION_HASH,
    KEY_ID,
    OTHER_TENANT_ID,
    TENANT_ID,
    begin,
    call,
    make_rig,
    replaced,
    request,
    run,
    sealed_bytes,
)
from latensgate_parent.http.answers import unary_answer
from latensgate_parent.http.asgi import CORRELATION_KEY, TENANT_KEY
from latensgate_parent.http.asgi_types import ASGIScope, Receive, Send
from latensgate_parent.http.observer import NoObserver, RequestDone
from latensgate_parent.link.interfaces import InferenceReply
from latensgate_parent.store.interfaces import ReceiptQuery
from latensgate_shared.errors import ErrorCode
from latensgate_shared.messages import (
    InferenceAnswer,
    encode_inference_answer,
    parse_inference_answer,
)

_UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def test_an_answer_has_exactly_the_members_of_the_specification() -> None:
    async def test() -> None:
        rig = await make_rig()
        got = await rig.post()
        assert got.status == 200
        answer = parse_inference_answer(got.body)
        assert answer == InferenceAnswer(
            rig.enclave.content + rig.enclave.final,
            "aud_0000000000000000",
            ATTESTATION_HASH,
            latency_ms=23,
            pii_detected=False,
        )
        assert got.body == encode_inference_answer(answer)
        assert got.header("content-type") == "application/json"
        assert got.header("cache-control") == "no-store"
        assert got.header("content-length") == str(len(got.body))

    run(test())


def test_personal_data_is_told() -> None:
    async def test() -> None:
        rig = await make_rig()
        call_ = await rig.post()
        end = replace(rig.enclave.ends[0], pii_detected=True)
        reply = InferenceReply("aud_" + "0" * 16, rig.enclave.content, end)
        stored, code = unary_answer(reply, ATTESTATION_HASH, "x")
        assert code is None
        assert parse_inference_answer(stored.body).pii_detected
        assert not parse_inference_answer(call_.body).pii_detected

    run(test())


def test_the_enclave_gets_the_visible_part_and_the_sealed_bytes() -> None:
    async def test() -> None:
        rig = await make_rig()
        await rig.post("hello")
        assert rig.enclave.ran == [sealed_bytes("hello")]
        asked = rig.enclave.calls[0]
        assert asked.attestation_hash == ATTESTATION_HASH
        assert asked.model == "claude-3.5-sonnet"
        assert asked.tenant_id == TENANT_ID
        assert not asked.stream

    run(test())


def test_the_receipt_is_durable_before_the_answer_leaves() -> None:
    async def test() -> None:
        rig = await make_rig()
        connection, task = begin(rig, *request())
        await connection.until(lambda: connection.got.status)
        page = await rig.store.receipts(TENANT_ID, ReceiptQuery())
        await task
        (receipt,) = page.entries
        assert receipt.receipt_id == "aud_0000000000000000"
        assert receipt.key_id == KEY_ID.hex()
        assert receipt.public == rig.enclave.ends[0].receipt_public
        assert receipt.outcome == "answered"

    run(test())


def test_a_refusal_inside_the_seal_keeps_its_status_and_carries_the_answer() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.code = ErrorCode.ERR_PII_HARD_FAIL
        got = await rig.post()
        assert got.code is ErrorCode.ERR_PII_HARD_FAIL
        assert got.status == 422
        refusal = got.error.refusal
        assert refusal is not None
        assert refusal.sealed_answer == rig.enclave.content + rig.enclave.final
        assert refusal.audit_receipt_id == "aud_0000000000000000"
        assert got.error.error.message == ErrorCode.ERR_PII_HARD_FAIL.hint
        (receipt,) = await rig.receipts()
        assert receipt.outcome == "refused"
        assert rig.observed.done[0].code is ErrorCode.ERR_PII_HARD_FAIL

    run(test())


@pytest.mark.parametrize(
    "code", [ErrorCode.ERR_PII_ENGINE, ErrorCode.ERR_UPSTREAM_THROTTLED], ids=lambda c: c.name
)
def test_a_sealed_refusal_that_says_later_says_when(code: ErrorCode) -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.code = code
        assert (await rig.post()).header("retry-after") == "1"

    run(test())


def test_every_answer_can_be_quoted() -> None:
    async def test() -> None:
        rig = await make_rig()
        headers, body = request()
        good = await rig.send(headers, body)
        bad = await rig.send(headers, b"{")
        for got in (good, bad):
            correlation_id = got.header("latensgate-correlation-id")
            assert correlation_id is not None
            assert re.fullmatch(_UUID4, correlation_id)
            assert got.header("x-request-id") == correlation_id
        assert bad.error.correlation_id == bad.header("latensgate-correlation-id")
        assert good.header("x-request-id") != bad.header("x-request-id")
        assert [done.correlation_id for done in rig.observed.done] == [
            good.header("x-request-id"),
            bad.header("x-request-id"),
        ]

    run(test())


def test_the_observer_is_told_what_became_of_it() -> None:
    async def test() -> None:
        rig = await make_rig()
        await rig.post()
        (done,) = rig.observed.done
        assert done.route == "POST /api/inference"
        assert done.status == 200
        assert done.code is None
        assert done.tenant_id == TENANT_ID
        assert 0 < done.ms < 10_000
        assert not rig.observed.unexpected

    run(test())


def test_nobody_need_observe() -> None:
    observer = NoObserver()
    observer.request_done(RequestDone("other", 200, None, None, "id", 1.0))
    observer.failed_unexpectedly("id", ValueError())


@pytest.mark.parametrize("path", ["/api/inference", f"/t/{TENANT_ID}/api/inference"])
@pytest.mark.parametrize("host", [b"gateway.example", f"{TENANT_ID}.lg.example:8700".encode()])
def test_it_is_found_under_every_url_of_the_tenant(path: str, host: bytes) -> None:
    async def test() -> None:
        rig = await make_rig(tenant_domain="lg.example")
        headers, body = request()
        got = await rig.send(replaced(headers, b"host", host), body, path)
        assert got.status == 200

    run(test())


@pytest.mark.parametrize("with_key", [b"x-api-key", b"authorization"])
def test_the_key_may_stand_in_either_header(with_key: bytes) -> None:
    async def test() -> None:
        rig = await make_rig()
        headers, body = request()
        value = API_KEY.encode() if with_key == b"x-api-key" else b"bEARER  " + API_KEY.encode()
        headers = [*replaced(headers, b"authorization"), (with_key, value)]
        assert (await rig.send(headers, body)).status == 200

    run(test())


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_other_methods_are_refused_in_the_envelope(method: str) -> None:
    async def test() -> None:
        rig = await make_rig()
        headers, _ = request()
        got = await call(rig.gateway, headers, b"", method=method)
        assert got.code is ErrorCode.ERR_METHOD_NOT_ALLOWED
        assert got.header("allow") == "POST"
        assert rig.observed.done[0].route == "other"

    run(test())


def test_everything_else_goes_to_the_surface_without_the_tenant() -> None:
    seen: list[ASGIScope] = []

    async def surface(scope: ASGIScope, _receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def test() -> None:
        rig = await make_rig(surface=surface)
        await call(rig.gateway, [], b"", path=f"/t/{OTHER_TENANT_ID}/api/keys", method="GET")
        await call(rig.gateway, [], b"", path="/api/keys", method="GET")
        assert seen[0]["path"] == "/api/keys"
        assert seen[0]["raw_path"] == b"/api/keys"
        assert seen[0][TENANT_KEY] == OTHER_TENANT_ID
        assert seen[1][TENANT_KEY] is None
        assert re.fullmatch(_UUID4, str(seen[1][CORRELATION_KEY]))
        assert not rig.observed.done  # the surface tells the observer itself

    run(test())


def test_lifespan_goes_to_the_surface() -> None:
    seen: list[ASGIScope] = []

    async def surface(scope: ASGIScope, _receive: Receive, _send: Send) -> None:
        seen.append(scope)

    async def receive() -> ASGIScope:
        return {"type": "lifespan.startup"}

    async def send(_: ASGIScope) -> None:
        raise AssertionError

    async def test() -> None:
        rig = await make_rig(surface=surface)
        await rig.gateway({"type": "lifespan"}, receive, send)
        assert seen == [{"type": "lifespan"}]

    run(test())


def test_what_the_surface_lets_through_becomes_an_envelope() -> None:
    async def surface(_scope: ASGIScope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError("secret text")

    async def test() -> None:
        rig = await make_rig(surface=surface)
        got = await call(rig.gateway, [], b"", path="/api/keys", method="GET")
        assert got.code is ErrorCode.ERR_INTERNAL
        assert b"secret" not in got.body

    run(test())


def test_a_surface_that_fails_after_its_first_byte_is_cut() -> None:
    async def surface(_scope: ASGIScope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    async def test() -> None:
        rig = await make_rig(surface=surface)
        with pytest.raises(AssertionError):  # no end of the body was sent
            await call(rig.gateway, [], b"", path="/api/keys", method="GET")

    run(test())


# --- callers who go away ---


def test_a_caller_who_leaves_cancels_a_request_without_a_key() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.release = asyncio.Event()
        connection, task = begin(rig, *request())
        await rig.enclave.arrived.wait()
        connection.gone.set()
        await task
        assert rig.enclave.cancelled == 1
        assert not connection.got.status
        assert rig.observed.done[0].status == 499
        assert rig.observed.done[0].code is ErrorCode.ERR_CANCELLED
        assert rig.route.room.open == rig.route.room.held_bytes == 0

    run(test())


def test_a_caller_who_leaves_during_the_body_is_nobody_to_answer() -> None:
    async def test() -> None:
        rig = await make_rig()
        headers, body = request()
        connection, task = begin(rig, headers, body)
        connection.body = []
        connection.gone.set()
        await task
        assert not connection.got.status
        assert not rig.enclave.calls
        assert rig.route.room.open == rig.route.room.held_bytes == 0

    run(test())


def test_a_server_that_gives_up_cancels_a_request_without_a_key() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.release = asyncio.Event()
        _connection, task = begin(rig, *request())
        await rig.enclave.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.01)
        assert rig.enclave.cancelled == 1

    run(test())


@pytest.mark.parametrize("how", ["disconnect", "cancel"])
def test_a_keyed_request_runs_on_without_its_caller(how: str) -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.release = asyncio.Event()
        connection, task = begin(rig, *request(key="k"))
        await rig.enclave.arrived.wait()
        if how == "cancel":
            task.cancel()
        connection.gone.set()
        await asyncio.sleep(0.01)
        rig.enclave.release.set()
        assert await rig.route.finish(1)
        await asyncio.wait([task])
        assert len(await rig.receipts()) == 1
        again = await rig.post(key="k")
        assert again.status == 200
        assert len(rig.enclave.ran) == 1

    run(test())


# --- what should not happen ---


def test_the_unexpected_is_one_envelope_without_its_text() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.error = ZeroDivisionError("secret text")
        got = await rig.post()
        assert got.code is ErrorCode.ERR_INTERNAL
        assert b"secret" not in got.body
        assert b"ZeroDivision" not in got.body
        assert [type(each) for each in rig.observed.unexpected] == [ZeroDivisionError]

    run(test())


def public_part(**changes: object) -> bytes:
    """Return what the parent reads of a receipt, with changes."""
    members: dict[str, object] = {
        "receipt_id": "aud_0000000000000000",
        "tenant_id": TENANT_ID,
        "key_id": KEY_ID.hex(),
        "sequence": 0,
        "issued_at": 60,
        "outcome": "answered",
        "attestation_hash": ATTESTATION_HASH,
    }
    return json.dumps(members | changes).encode()


@pytest.mark.parametrize(
    "public",
    [
        b"{}",
        b"[]",
        b"no JSON",
        public_part(receipt_id="aud_ffffffffffffffff"),
        public_part(outcome="maybe"),
        public_part(tenant_id="other"),
        public_part(sequence=-1),
        public_part(issued_at="60"),
    ],
)
def test_an_answer_without_its_receipt_is_not_released(public: bytes) -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.receipt_public = public
        got = await rig.post(key="k")
        assert got.code is ErrorCode.ERR_INTERNAL
        assert not await rig.receipts()
        assert (await rig.post(key="k")).code is ErrorCode.ERR_OUTCOME_UNKNOWN

    run(test())


def test_a_receipt_that_nobody_waits_for_is_stored() -> None:
    async def test() -> None:
        rig = await make_rig()
        await rig.post()
        end = rig.enclave.ends[0]
        fresh = await make_rig()
        fresh.route.receipts.orphan(end, "aud_0000000000000000")
        fresh.route.receipts.orphan(replace(end, receipt_public=b"{}"), "aud_0000000000000000")
        assert await fresh.route.finish(1)
        assert len(await fresh.receipts()) == 1

    run(test())
