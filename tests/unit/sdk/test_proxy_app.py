"""The proxy's application: what goes in, what comes out, what is counted."""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar
from unittest.mock import patch

import httpx
import pytest

from latensgate.exchange_failure import Failure, cut_stream
from latensgate.proxy import app as app_module
from latensgate.proxy import presence, sealing
from latensgate.proxy.answers import raw_headers
from latensgate.transport_routes import stream_error
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import SEALED_REQUEST_MAX_BYTES
from proxy_examples import Behind, Caller, Events, FakeOpener, example, failure, streaming, whole


class Receipt:
    """What the proxy reads of a receipt."""

    audit_receipt_id = "aud_0011223344556677"
    attestation_hash = "sha384:" + "ab" * 48
    usage: ClassVar = {"total_tokens": 3}
    private: ClassVar[dict[str, Any]] = {"fields_dropped": ["seed", "user"]}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "PAUSE_S", 0.001)


def request_of() -> httpx.Request:
    return httpx.Request("POST", "http://127.0.0.1:9/chat/completions")


def told(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_body_goes_in_and_out_as_it_is() -> None:
    body = b'{ "model":"m",\n "weird": 1e400, "messages": [] }'
    ex = example(whole(b'{"as":"it is"}', receipt=Receipt()))
    answer = ex.post(body=body, headers={"authorization": "Bearer sk-own", "x-extra": "1"})
    assert (answer.status_code, answer.content) == (200, b'{"as":"it is"}')
    (asked,) = ex.behind.asked
    assert ex.behind.bodies == [body]
    assert str(asked.url) == "http://127.0.0.1:9/chat/completions"
    assert asked.headers["authorization"] == "Bearer lg_test_" + "A" * 43
    assert "x-extra" not in asked.headers
    assert asked.headers["idempotency-key"].startswith("lg-")
    assert answer.headers["x-request-id"] == "abc"
    assert answer.headers["openai-processing-ms"].isdigit()
    assert answer.headers["latensgate-receipt"] == Receipt.audit_receipt_id
    assert answer.headers["latensgate-attestation"] == Receipt.attestation_hash
    assert answer.headers["latensgate-dropped"] == "seed, user"


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("POST", "/v1/embeddings", "/embeddings"),
        ("POST", "/responses", "/responses"),
        ("GET", "/v1/models", "/models"),
        ("GET", "/models", "/models"),
        ("GET", "/v1/models/us.meta/llama-4:0", "/models/us.meta%2Fllama-4%3A0"),
    ],
)
def test_routes(method: str, path: str, target: str) -> None:
    ex = example()
    headers = {"content-type": "application/json"}
    answer = ex.ask(method, path, headers=headers, content=b"{}" if method == "POST" else b"")
    assert answer.status_code == 200
    (asked,) = ex.behind.asked
    assert (asked.method, asked.url.raw_path.decode()) == (method, target)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/files", 404, "ERR_NOT_FOUND"),
        ("GET", "/v1/responses/resp_1", 404, "ERR_NOT_FOUND"),
        ("GET", "/v1/models/", 404, "ERR_NOT_FOUND"),
        ("GET", "/v1/models/" + "m" * 257, 404, "ERR_NOT_FOUND"),
        ("DELETE", "/v1/models/m", 405, "ERR_METHOD_NOT_ALLOWED"),
        ("GET", "/v1/chat/completions", 405, "ERR_METHOD_NOT_ALLOWED"),
    ],
)
def test_what_is_not_served(method: str, path: str, status: int, code: str) -> None:
    ex = example()
    answer = ex.ask(method, path)
    assert (answer.status_code, told(answer)["code"]) == (status, code)
    assert ex.behind.asked == []
    assert ex.app.state.counts == {("refused", "refused"): 1}


def test_failures_are_openais() -> None:
    ex = example(failure(ErrorCode.ERR_RATE_LIMITED, retry=True, retry_after="3"))
    answer = ex.post()
    assert (answer.status_code, told(answer)["type"]) == (429, "rate_limit_error")
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("3", "3000")
    assert len(ex.behind.asked) == 1  # the application decides about its own pace


def test_unproven_enclave_is_503() -> None:
    answer = example(failure(ErrorCode.ERR_ATTESTATION_INVALID)).post()
    assert (answer.status_code, told(answer)["code"]) == (503, "ERR_ATTESTATION_INVALID")


def test_attempts_share_one_key() -> None:
    away = httpx.ConnectError("away")
    ex = example(away, failure(ErrorCode.ERR_OVERLOADED, retry=True), whole())
    assert ex.post(headers={"idempotency-key": "mine"}).status_code == 200
    assert [asked.headers["idempotency-key"] for asked in ex.behind.asked] == ["mine"] * 3
    assert len(set(ex.behind.bodies)) == 1


def test_attempts_end() -> None:
    ex = example(httpx.ConnectError("away"))
    answer = ex.post()
    assert (answer.status_code, told(answer)["code"]) == (503, "ERR_ENCLAVE_UNAVAILABLE")
    keys = {asked.headers["idempotency-key"] for asked in ex.behind.asked}
    assert (len(ex.behind.asked), len(keys)) == (sealing.ATTEMPTS_MAX_COUNT, 1)


def test_timeout_is_not_tried_again() -> None:
    ex = example(httpx.ReadTimeout("slow"))
    assert ex.post().status_code == 504
    assert len(ex.behind.asked) == 1


BEHIND: dict[str, tuple[list[Any], str | None]] = {
    "read": ([httpx.ReadError("x")], "false"),
    "read, then away": ([httpx.ReadError("x"), httpx.ConnectError("x")], "false"),
    "slow": ([httpx.ReadTimeout("x")], "false"),
    "away": ([httpx.ConnectError("x")], None),
    "away for long": ([httpx.ConnectTimeout("x")], None),
    "truncated": ([failure(ErrorCode.ERR_ANSWER_TRUNCATED, retry=True)], "false"),
    "somebody on the way": ([failure(ErrorCode.ERR_MALFORMED, retry=True, status=502)], "false"),
    "busy": ([failure(ErrorCode.ERR_OVERLOADED, retry=True, retry_after="30")], "true"),
    "throttled inside": (
        [failure(ErrorCode.ERR_UPSTREAM, retry=True, receipt=Receipt(), retry_after_ms=30_000)],
        "true",
    ),
}


@pytest.mark.parametrize("name", BEHIND)
def test_what_may_have_run_is_not_asked_again_under_another_key(name: str) -> None:
    answers, expected = BEHIND[name]
    answer = example(*answers).post()
    assert answer.status_code >= 500
    assert answer.headers.get("x-should-retry") == expected


def test_the_applications_own_key_lets_it_ask_again() -> None:
    for slow in (httpx.ReadTimeout("x"), failure(ErrorCode.ERR_ANSWER_TRUNCATED, retry=True)):
        answer = example(slow).post(headers={"idempotency-key": "mine"})
        assert answer.headers.get("x-should-retry") in {None, "true"}


@pytest.mark.parametrize(("key", "expected"), [(None, "false"), ("mine", "true")])
def test_a_stream_cut_before_it_began_is_not_asked_for_again(
    key: str | None, expected: str
) -> None:
    ex = example(streaming(Events(stream_error(cut_stream(), request_of()))))
    answer = ex.post(headers={} if key is None else {"idempotency-key": key})
    assert (answer.status_code, answer.headers["x-should-retry"]) == (502, expected)


def test_lists_of_models_are_asked_for_again() -> None:
    answer = example(httpx.ReadTimeout("x")).ask("GET", "/v1/models")
    assert (answer.status_code, answer.headers.get("x-should-retry")) == (504, None)


def test_long_waits_are_the_applications() -> None:
    ex = example(failure(ErrorCode.ERR_OVERLOADED, retry=True, retry_after="30"))
    assert ex.post().status_code == 503
    assert len(ex.behind.asked) == 1


def test_too_large_is_refused_before_it_is_read() -> None:
    ex = example()
    with patch.object(presence, "SEALED_REQUEST_MAX_BYTES", 10):
        assert ex.post(body=b"x" * 11).status_code == 413
    assert ex.behind.asked == []
    assert SEALED_REQUEST_MAX_BYTES > 1_000_000


def test_too_large_in_pieces() -> None:
    async def scene() -> list[dict[str, Any]]:
        caller = Caller(example().app)
        piece = {"type": "http.request", "body": b"x" * 6, "more_body": True}
        caller.pieces = [piece, piece, piece]
        await caller.call()
        return caller.sent

    with patch.object(presence, "SEALED_REQUEST_MAX_BYTES", 10):
        assert asyncio.run(scene())[0]["status"] == 413


def test_a_body_that_does_not_come() -> None:
    async def scene() -> list[dict[str, Any]]:
        caller = Caller(example().app, pieces=[])
        await caller.call()
        return caller.sent

    with patch.object(presence, "BODY_WAIT_MAX_S", 0.01):
        assert asyncio.run(scene())[0]["status"] == 408


def test_who_goes_away_before_the_body_is_counted() -> None:
    async def scene() -> Any:  # noqa: ANN401 -- counts
        caller = Caller(example().app, pieces=[])
        caller.gone.set()
        await caller.call()
        assert caller.sent == []
        return caller.app.state.counts

    assert asyncio.run(scene()) == {("chat/completions", "cancelled"): 1}


def test_too_many_at_once() -> None:
    ex = example()
    with patch.object(app_module, "ACTIVE_MAX_COUNT", 0):
        answer = ex.post()
    assert (answer.status_code, told(answer)["code"]) == (503, "ERR_OVERLOADED")
    assert answer.headers["retry-after-ms"] == "1000"


def test_faults_of_the_proxy_tell_no_content() -> None:
    ex = example(ValueError("the secret prompt"))
    answer = ex.post()
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert told(answer)["message"] == "fault of the proxy (ValueError)"


def test_header_fields_cannot_be_split() -> None:
    assert raw_headers([("A", "b"), ("c", "d\r\ne: f"), ("g", "ü")]) == [(b"a", b"b")]


def test_status_and_page() -> None:
    ex = example(whole(receipt=Receipt()))
    ex.post()
    status = ex.ask("GET", "/status")
    assert status.status_code == 200
    value = status.json()
    assert (value["status"], value["served"]) == ("unproven", 1)  # nothing was attested here
    assert value["receipts"][0]["audit_receipt_id"] == Receipt.audit_receipt_id
    assert "A" * 43 not in status.text
    ex.trust.sealable = False
    assert ex.ask("GET", "/status").status_code == 503
    ex.app.state.failed("ERR_X", "<script>alert(1)</script>")
    page = ex.ask("GET", "/")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in page.text
    assert Receipt.audit_receipt_id in page.text
    assert "None yet" in example().ask("GET", "/").text


class TestStreams:
    EVENTS = (b'data: {"a":1}\n\n', b'data: {"b":2}\n\n', b"data: [DONE]\n\n")

    def test_events_pass_as_they_are(self) -> None:
        events = Events(*self.EVENTS)
        ex = example(streaming(events))
        answer = ex.post()
        assert answer.content == b"".join(self.EVENTS)
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert events.closed
        assert ex.app.state.counts == {("chat/completions", "answered"): 1}

    def test_receipt_is_named_before_the_last_event(self) -> None:
        answer = example(streaming(Events(*self.EVENTS), FakeOpener(Receipt()))).post()
        assert answer.content.startswith(b": latensgate-receipt aud_0011223344556677\n\ndata: ")

    def test_an_empty_stream_ends(self) -> None:
        assert example(streaming(Events())).post().content == b""

    def test_silence_is_broken_by_comments(self) -> None:
        events = Events(0.12, self.EVENTS[0], 0.12, self.EVENTS[2])
        answer = example(streaming(events), ping_s=0.05).post()
        assert answer.content.count(b": ping\n\n") >= 2
        assert answer.content.replace(b": ping\n\n", b"") == self.EVENTS[0] + self.EVENTS[2]

    @pytest.mark.parametrize("responses", [False, True])
    def test_an_error_in_the_middle_is_the_last_event(self, *, responses: bool) -> None:
        error = stream_error(cut_stream(), request_of())
        ex = example(streaming(Events(self.EVENTS[0], error)))
        path = "/v1/responses" if responses else "/v1/chat/completions"
        answer = ex.post(path)
        assert answer.status_code == 200
        last = answer.content.removeprefix(self.EVENTS[0])
        assert last.startswith(b"event: error\ndata: ")
        assert b"[DONE]" not in last
        data = json.loads(last.partition(b"data: ")[2])
        assert data["error"]["code"] == "ERR_ANSWER_TRUNCATED"
        assert data["error"]["message"] == "stream: the connection broke before its end"
        if responses:
            assert (data["type"], data["sequence_number"]) == ("error", 1)
        assert next(iter(ex.app.state.counts))[1] == "cut"

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (httpx.ReadTimeout("slow"), "ERR_UPSTREAM_TIMEOUT"),
            (httpx.ReadError("away"), "ERR_ENCLAVE_UNAVAILABLE"),
        ],
    )
    def test_a_broken_connection_is_the_last_event(self, error: Exception, code: str) -> None:
        answer = example(streaming(Events(self.EVENTS[0], error))).post()
        assert json.loads(answer.content.rpartition(b"data: ")[2])["error"]["code"] == code

    def test_a_refusal_before_the_first_event_is_an_http_error(self) -> None:
        refused = Failure(
            code=ErrorCode.ERR_UNSUPPORTED, message="no", status=400, retry=False, param="logprobs"
        )
        events = Events(stream_error(refused, request_of()))
        answer = example(streaming(events)).post()
        assert (answer.status_code, told(answer)["param"]) == (400, "logprobs")
        assert events.closed

    def test_a_fault_in_the_middle_cuts_it(self) -> None:
        async def scene() -> Caller:
            events = Events(self.EVENTS[0], ValueError("secret"))
            caller = Caller(example(streaming(events)).app)
            await caller.call()
            return caller

        caller = asyncio.run(scene())
        assert caller.body == self.EVENTS[0]
        assert caller.sent[-1].get("more_body")  # the server then breaks the connection
        assert caller.app.state.counts == {("chat/completions", "cut"): 1}

    @pytest.mark.parametrize("waited", [0.0, 5.0])
    def test_who_goes_away_cancels(self, waited: float) -> None:
        async def scene() -> tuple[Events, Any]:
            events = Events(*([waited] if waited else [self.EVENTS[0], 5.0]), self.EVENTS[1])
            ex = example(streaming(events))
            caller = Caller(ex.app)
            calling = asyncio.create_task(caller.call())
            await asyncio.sleep(0.05)
            caller.gone.set()
            await asyncio.wait_for(calling, 2)
            return events, ex.app.state

        events, state = asyncio.run(scene())
        assert events.closed
        assert state.counts == {("chat/completions", "cancelled"): 1}
        assert state.active == 0


def test_who_goes_away_cancels_a_whole_answer() -> None:
    async def scene() -> Any:  # noqa: ANN401 -- counts
        async def slow(_request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(5)
            return whole()

        ex = example(slow)
        caller = Caller(ex.app)
        calling = asyncio.create_task(caller.call())
        await asyncio.sleep(0.05)
        caller.gone.set()
        await asyncio.wait_for(calling, 2)
        assert isinstance(ex.behind, Behind)
        return ex.app.state.counts

    assert asyncio.run(scene()) == {("chat/completions", "cancelled"): 1}


def test_a_shutdown_is_no_disconnect() -> None:
    async def scene() -> None:
        async def slow(_request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(5)
            return whole()

        calling = asyncio.create_task(Caller(example(slow).app).call())
        await asyncio.sleep(0.05)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling

    asyncio.run(scene())
