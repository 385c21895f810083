"""What a malicious gateway, or somebody on the way, may try; nothing wrong reaches the caller."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import openai
import pytest

from latensgate import AsyncLatensgate, Latensgate, errors
from latensgate_shared.errors import ErrorCode
from sdk_gateway import Asked, Gateway, Told, refusal
from stack import MODEL

MakeClient = Callable[..., Latensgate]
MakeAsyncClient = Callable[..., AsyncLatensgate]
Change = Callable[[Told], Told]
ASK = "The word is xylophone."


def ask(lg: Latensgate, text: str = ASK) -> object:
    return lg.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])


def stream(lg: Latensgate) -> list[str]:
    answer = lg.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": ASK}], stream=True
    )
    return [chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices]


def on_inference(change: Change) -> Callable[[Asked, Told], Told]:
    return lambda asked, told: change(told) if asked.inference else told


def ciphertext(told: Told) -> bytes:
    return base64.b64decode(str(told.json["response_ciphertext"]))


def with_ciphertext(told: Told, data: bytes) -> Told:
    return told.changed(response_ciphertext=base64.b64encode(data).decode())


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


CHANGES: dict[str, Change] = {
    "a byte of the content": lambda told: with_ciphertext(told, flipped(ciphertext(told), 60)),
    "a byte of the receipt": lambda told: with_ciphertext(told, flipped(ciphertext(told), -1)),
    "the response nonce": lambda told: with_ciphertext(told, flipped(ciphertext(told), 0)),
    "the receipt id": lambda told: told.changed(audit_receipt_id="aud_" + "0" * 16),
    "the attestation hash": lambda told: told.changed(attestation_hash="sha384:" + "0" * 96),
    "the latency": lambda told: told.changed(latency_ms=1_000_000),
    "the verdict": lambda told: told.changed(pii_detected=True),
    "a member more": lambda told: told.changed(extra=1),
    "no JSON": lambda told: replace(told, body=b"<html>"),
    "an empty body": lambda told: replace(told, body=b""),
    "no sealed answer": lambda told: told.changed(response_ciphertext=""),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_answer_is_withheld(lg: Latensgate, gateway: Gateway, name: str) -> None:
    gateway.twist = on_inference(CHANGES[name])
    with pytest.raises(errors.AnswerInvalid) as caught:
        ask(lg)
    assert len(gateway.inferences) == (3 if caught.value.retryable else 1)
    assert "xylophone" not in str(caught.value)


def test_a_truncated_answer_is_asked_for_again(lg: Latensgate, gateway: Gateway) -> None:
    gateway.twist = on_inference(lambda told: with_ciphertext(told, ciphertext(told)[:40]))
    with pytest.raises(errors.AnswerTruncated) as caught:
        ask(lg.with_options(max_retries=1))
    assert caught.value.retryable
    first, second = gateway.inferences
    assert first.body == second.body
    gateway.twist = None
    assert ask(lg)


def test_the_answer_of_another_request_is_withheld(lg: Latensgate, gateway: Gateway) -> None:
    kept: list[Told] = []

    def twist(asked: Asked, told: Told) -> Told:
        if asked.inference:
            kept.append(told)
            return kept[0]
        return told

    gateway.twist = twist
    ask(lg, "first")
    with pytest.raises(errors.AnswerInvalid):
        ask(lg, "second")


def test_a_refusal_with_status_200_is_withheld(make: MakeClient, gateway: Gateway) -> None:
    lg = make(policy={"rules": {"EMAIL_ADDRESS": {"*": {"action": "fail"}}}})

    def twist(told: Told) -> Told:
        said = told.json
        body = {
            "response_ciphertext": said["response_ciphertext"],
            "audit_receipt_id": said["audit_receipt_id"],
            "attestation_hash": "sha384:" + "0" * 96,
            "latency_ms": 1,
            "pii_detected": True,
        }
        return Told(200, json.dumps(body).encode())

    gateway.twist = on_inference(twist)
    with pytest.raises(errors.AnswerInvalid, match="refusal stands inside"):
        ask(lg, "Write to sherlock.holmes@detective.example.")


def test_an_answer_told_as_a_refusal_is_withheld(lg: Latensgate, gateway: Gateway) -> None:
    def twist(told: Told) -> Told:
        outside = refusal(ErrorCode.ERR_PII_HARD_FAIL)
        said = told.json
        names = ("response_ciphertext", "audit_receipt_id")
        return outside.changed(**{name: said[name] for name in names})

    gateway.twist = on_inference(twist)
    with pytest.raises(errors.AnswerInvalid, match="inside a refusal"):
        ask(lg)


@pytest.mark.parametrize("change", ["code", "status", "receipt"])
def test_the_error_inside_counts(make: MakeClient, gateway: Gateway, change: str) -> None:
    lg = make(policy={"rules": {"EMAIL_ADDRESS": {"*": {"action": "fail"}}}})

    def twist(told: Told) -> Told:
        if change == "status":
            return replace(told, status=429)
        if change == "receipt":
            return told.changed(audit_receipt_id="aud_" + "0" * 16)
        code = ErrorCode.ERR_POLICY_INVALID
        error = {"message": "x", "type": code.openai_type, "param": None, "code": code.name}
        return told.changed(error=error, code=code.name)

    gateway.twist = on_inference(twist)
    with pytest.raises(errors.AnswerInvalid, match="another code, status or receipt"):
        ask(lg, "Write to sherlock.holmes@detective.example.")


@pytest.mark.parametrize(
    ("status", "kind", "tries"),
    [(502, errors.GatewayFailure, 3), (404, errors.NotFound, 1), (500, errors.GatewayFailure, 1)],
)
def test_html_is_some_proxys(
    lg: Latensgate, gateway: Gateway, status: int, kind: type[Exception], tries: int
) -> None:
    page = Told(status, b"<html>Bad Gateway</html>", {"content-type": "text/html"})
    gateway.twist = on_inference(lambda _: page)
    with pytest.raises(kind) as caught:
        ask(lg)
    assert isinstance(caught.value, errors.LatensgateClientError)
    assert caught.value.error_code is ErrorCode.ERR_MALFORMED
    assert "html" not in str(caught.value)
    assert len(gateway.inferences) == tries
    assert len({asked.body for asked in gateway.inferences}) == 1


@pytest.mark.parametrize("status", [202, 204, 301, 307])
def test_other_statuses_are_no_answers(lg: Latensgate, gateway: Gateway, status: int) -> None:
    away = {"location": "https://elsewhere.example/api/inference"}
    gateway.twist = on_inference(lambda told: Told(status, told.body, away))
    with pytest.raises(errors.GatewayFailure):
        ask(lg)
    assert len(gateway.inferences) == 1


def test_an_endless_answer_is_not_read_to_its_end(make: MakeClient, gateway: Gateway) -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1 << 20
            yield bytes(1 << 20)

    honest = gateway.client()

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/inference":
            return httpx.Response(200, content=endless())
        return honest.request(request.method, request.url, headers=request.headers)

    lg = make(http_client=httpx.Client(transport=httpx.MockTransport(handle)))
    with pytest.raises(errors.AnswerInvalid, match="at most"):
        ask(lg)
    assert read < 30 << 20


def test_a_stale_key_is_attested_and_sealed_anew_once(lg: Latensgate, gateway: Gateway) -> None:
    left = [refusal(ErrorCode.ERR_KEY_STALE)]

    def twist(asked: Asked, told: Told) -> Told:
        if not asked.inference or not left:
            return told
        gateway.stored.clear()  # docs/spec/http.md: the record is removed
        return left.pop()

    gateway.twist = twist
    ask(lg)
    first, second = gateway.inferences
    assert first.body != second.body
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert len(gateway.attestations) == 2


def test_a_key_that_is_stale_twice_is_the_callers(lg: Latensgate, gateway: Gateway) -> None:
    gateway.twist = on_inference(lambda _: refusal(ErrorCode.ERR_KEY_STALE))
    with pytest.raises(errors.KeyStale) as caught:
        ask(lg)
    assert not caught.value.retryable
    assert len(gateway.inferences) == 2
    assert len(gateway.attestations) == 2


STREAMS: dict[str, tuple[Callable[[bytes], bytes], type[Exception]]] = {
    "cut in the middle": (lambda body: body[: len(body) // 2], errors.AnswerTruncated),
    "cut before the final chunk": (
        lambda body: b"\n\n".join(body.split(b"\n\n")[:-5]) + b"\n\n",
        errors.AnswerInvalid,
    ),
    "empty": (lambda _: b"", errors.AnswerTruncated),
    "cut within an event": (lambda body: body[:-20], errors.AnswerInvalid),
    "an event twice": (
        lambda body: body.split(b"\n\n")[1] + b"\n\n" + body,
        errors.AnswerInvalid,
    ),
    "DONE in plain": (lambda _: b"data: [DONE]\n\n", errors.AnswerInvalid),
    "a plain chunk": (
        lambda _: b'data: {"choices":[{"index":0,"delta":{"content":"forged"}}]}\n\n',
        errors.AnswerInvalid,
    ),
    "another field": (lambda body: b"event: x\n" + body, errors.AnswerInvalid),
    "two data lines": (
        lambda body: b"data: 1\n" + body.removeprefix(b": hello\n\n"),
        errors.AnswerInvalid,
    ),
    "more after the end": (lambda body: body + b'data: {"chunk":"AAAA"}\n\n', errors.AnswerInvalid),
    "a line without end": (lambda _: b"data: " + b"A" * 300_000, errors.AnswerInvalid),
    "a long line": (lambda _: b"data: " + b"A" * 300_000 + b"\n\n", errors.AnswerInvalid),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_is_not_whole_is_an_error(
    lg: Latensgate, gateway: Gateway, name: str
) -> None:
    change, kind = STREAMS[name]
    gateway.twist = on_inference(lambda told: replace(told, body=change(told.body)))
    with pytest.raises(kind) as caught:
        stream(lg)
    assert isinstance(caught.value, errors.LatensgateClientError)
    assert len(gateway.inferences) == 1


def test_a_cut_async_stream_is_an_error(make_async: MakeAsyncClient, gateway: Gateway) -> None:
    gateway.twist = on_inference(lambda told: replace(told, body=told.body[:-20]))

    async def run() -> None:
        async with make_async() as lg:
            answer = await lg.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": ASK}], stream=True
            )
            with pytest.raises(errors.AnswerInvalid):
                async for _ in answer:
                    pass

    asyncio.run(run())


def test_a_stream_answered_as_a_whole_is_refused(lg: Latensgate, gateway: Gateway) -> None:
    gateway.twist = on_inference(
        lambda told: replace(told, headers={"content-type": "application/json"})
    )
    with pytest.raises(errors.GatewayFailure):
        stream(lg)


def test_a_stream_that_is_refused_before_it_begins(lg: Latensgate, gateway: Gateway) -> None:
    gateway.twist = on_inference(lambda _: refusal(ErrorCode.ERR_FORBIDDEN))
    with pytest.raises(errors.Forbidden):
        stream(lg)


class _Breaking(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that ends in an error of the connection."""

    def __init__(self, begin: bytes, error: Exception) -> None:
        self.begin, self.error = begin, error

    def __iter__(self) -> Iterator[bytes]:
        yield self.begin
        raise self.error

    async def __aiter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204 -- an async generator
        yield self.begin
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ReadError("gone"), errors.AnswerTruncated),
        (httpx.RemoteProtocolError("incomplete"), errors.AnswerTruncated),
    ],
)
def test_a_connection_that_breaks_within_a_stream(
    make: MakeClient,
    make_async: MakeAsyncClient,
    gateway: Gateway,
    error: Exception,
    kind: type[Exception],
) -> None:
    def breaking(request: httpx.Request) -> httpx.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = request.url.raw_path.decode()
        told = gateway.answer(Asked(request.method, path, headers, request.content))
        if request.url.path != "/api/inference":
            return httpx.Response(told.status, headers=told.headers, content=told.body)
        return httpx.Response(200, headers=told.headers, stream=_Breaking(told.body[:900], error))

    lg = make(http_client=httpx.Client(transport=httpx.MockTransport(breaking)))
    with pytest.raises(kind):
        stream(lg)

    async def run() -> None:
        carrier = httpx.AsyncClient(transport=httpx.MockTransport(breaking))
        async with make_async(http_client=carrier) as lg:
            answer = await lg.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": ASK}], stream=True
            )
            with pytest.raises(kind):
                async for _ in answer:
                    pass
        await carrier.aclose()

    asyncio.run(run())


def test_a_stream_that_is_too_slow_is_the_official_clients(
    make: MakeClient, gateway: Gateway
) -> None:
    def slow(request: httpx.Request) -> httpx.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = request.url.raw_path.decode()
        told = gateway.answer(Asked(request.method, path, headers, request.content))
        if request.url.path != "/api/inference":
            return httpx.Response(told.status, headers=told.headers, content=told.body)
        begin = _Breaking(told.body[:900], httpx.ReadTimeout("slow"))
        return httpx.Response(200, headers=told.headers, stream=begin)

    lg = make(http_client=httpx.Client(transport=httpx.MockTransport(slow)))
    with pytest.raises(openai.APITimeoutError):
        stream(lg)


def test_models_that_are_not_of_this_form(lg: Latensgate, gateway: Gateway) -> None:
    for body, status in ((b"<html>", 200), (b"{}", 200), (b"<html>", 503), (b"", 302)):
        gateway.twist = lambda _asked, _told, body=body, status=status: Told(status, body)
        with pytest.raises(errors.LatensgateClientError):
            lg.with_options(max_retries=0).models.retrieve(MODEL)
    gateway.twist = lambda _asked, _told: refusal(ErrorCode.ERR_FORBIDDEN)
    with pytest.raises(errors.Forbidden):
        lg.models.list()


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {"model": 5, "messages": []},
        {"model": "", "messages": []},
        {"model": "m", "messages": [], "stream": "yes"},
    ],
)
def test_what_cannot_be_sealed_is_refused_here(
    lg: Latensgate, gateway: Gateway, body: dict[str, object]
) -> None:
    with pytest.raises(openai.BadRequestError):
        lg.post("/chat/completions", cast_to=object, body=body)
    assert gateway.inferences == []


def test_what_is_too_large_is_refused_here(lg: Latensgate, gateway: Gateway) -> None:
    with pytest.raises(errors.TooLarge):
        ask(lg, "x" * (16 << 20))
    assert gateway.inferences == []
