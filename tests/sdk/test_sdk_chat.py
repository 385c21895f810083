"""The official client's own ways, over a gateway and a real enclave.

``test_sdk_matrix`` runs this file again with openai 1.60, 1.109 and 2.x.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any, cast

import httpx
import openai
import pytest

from latensgate import (
    AsyncLatensgate,
    ConfidentialChatCompletion,
    Latensgate,
    NoReceiptError,
    StreamShape,
    errors,
    receipt_of,
)
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import UPSTREAM_ATTEMPTS_MAX_COUNT
from latensgate_sim.faults import throttled
from sdk_gateway import API_KEY, Asked, Gateway, Told, refusal, served
from stack import MODEL, Stack

WORD = "xylophone-4711"
ASK = f"The word is {WORD}."
MakeClient = Callable[..., Latensgate]
MakeAsyncClient = Callable[..., AsyncLatensgate]


def ask(lg: Latensgate, text: str = ASK, **options: Any) -> ConfidentialChatCompletion:  # noqa: ANN401 -- the official client's own options
    create: Any = lg.chat.completions.create
    answer = create(
        model=MODEL,
        messages=[{"role": "user", "content": text}],
        **options,
    )
    return cast("ConfidentialChatCompletion", answer)


def text_of(answer: ConfidentialChatCompletion) -> str:
    return answer.choices[0].message.content or ""


def once(told: Told) -> Callable[[Asked, Told], Told]:
    """Answer the first inference with this, later ones honestly."""
    left = [told]

    def twist(asked: Asked, honest: Told) -> Told:
        return left.pop() if asked.inference and left else honest

    return twist


def always(told: Told) -> Callable[[Asked, Told], Told]:
    return lambda asked, honest: told if asked.inference else honest


def test_an_answer_says_by_what_it_can_be_checked(lg: Latensgate, gateway: Gateway) -> None:
    answer = ask(lg)
    assert text_of(answer) == f"You said: {ASK}"
    receipt = receipt_of(answer)
    assert isinstance(answer, ConfidentialChatCompletion)
    assert receipt.status == "simulated"
    assert receipt.outcome == "answered"
    assert receipt.attestation_hash == answer.attestation_hash
    assert receipt.audit_receipt_id == answer.audit_receipt_id
    assert answer.usage is not None
    assert receipt.usage["total_tokens"] == answer.usage.total_tokens
    assert receipt.pii_detected is False
    assert receipt.pii["detected"] is False
    assert gateway.runs == 1


def test_nothing_is_sent_in_plain(lg: Latensgate, gateway: Gateway) -> None:
    ask(lg)
    for asked in gateway.asked:
        everything = asked.path.encode() + repr(asked.headers).encode() + asked.body
        assert WORD.encode() not in everything
        assert "x-stainless-lang" not in asked.headers


def test_one_attestation_serves_many_requests(lg: Latensgate, gateway: Gateway) -> None:
    for _ in range(3):
        ask(lg)
    assert len(gateway.attestations) == 1
    assert "authorization" not in gateway.attestations[0].headers


def test_concurrent_callers_attest_once(lg: Latensgate, gateway: Gateway) -> None:
    threads = [threading.Thread(target=ask, args=(lg,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(gateway.attestations) == 1
    assert gateway.runs == 4


def test_concurrent_tasks_attest_once(make_async: MakeAsyncClient, gateway: Gateway) -> None:
    async def run() -> None:
        async with make_async() as lg:
            asked = [
                lg.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": f"Number {number}"}]
                )
                for number in range(4)
            ]
            answers = await asyncio.gather(*asked)
        assert [text_of(answer) for answer in answers] == [
            f"You said: Number {number}" for number in range(4)
        ]
        assert receipt_of(answers[0]).status == "simulated"

    asyncio.run(run())
    assert len(gateway.attestations) == 1


def test_a_stream_is_opened_as_it_comes(lg: Latensgate) -> None:
    stream = lg.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": ASK}], stream=True
    )
    with pytest.raises(NoReceiptError):
        receipt_of(stream)
    chunks = list(stream)
    assert len(chunks) > 2
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == f"You said: {ASK}"
    assert receipt_of(stream).outcome == "answered"


def test_an_async_stream_is_opened_as_it_comes(make_async: MakeAsyncClient) -> None:
    async def run() -> None:
        async with make_async() as lg:
            stream = await lg.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": ASK}],
                stream=True,
                stream_options={"include_usage": True},
            )
            chunks = [chunk async for chunk in stream]
            text = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
            assert "".join(text) == f"You said: {ASK}"
            assert chunks[-1].usage is not None
            assert receipt_of(stream).usage["total_tokens"] == chunks[-1].usage.total_tokens

    asyncio.run(run())


def test_a_stream_may_be_left(lg: Latensgate) -> None:
    with lg.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": ASK}], stream=True
    ) as stream:
        next(iter(stream))
    assert text_of(ask(lg))


def test_raw_responses(lg: Latensgate) -> None:
    raw = lg.chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": ASK}]
    )
    assert raw.status_code == 200
    assert WORD.encode() in raw.http_response.content
    parsed = raw.parse()
    assert isinstance(parsed, ConfidentialChatCompletion)
    assert receipt_of(raw) == receipt_of(parsed)
    assert WORD.encode() not in raw.http_response.request.content


def test_streamed_responses(lg: Latensgate) -> None:
    with lg.chat.completions.with_streaming_response.create(
        model=MODEL, messages=[{"role": "user", "content": ASK}]
    ) as response:
        assert WORD in response.read().decode()


def test_tools(lg: Latensgate) -> None:
    weather = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    function = {"name": "get_weather", "description": "Weather", "parameters": weather}
    tools: Any = [{"type": "function", "function": function}]
    messages: Any = [{"role": "user", "content": "Get weather, please"}]
    first = lg.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    assert first.choices[0].finish_reason == "tool_calls"
    (call,) = first.choices[0].message.tool_calls or []
    messages += [first.choices[0].message.model_dump(exclude_none=True)]
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    second = lg.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    assert text_of(second) == "Tool result: rain"


def test_models_are_listed_and_found(lg: Latensgate, gateway: Gateway) -> None:
    assert [model.id for model in lg.models.list()] == [MODEL]
    assert lg.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError) as caught:
        lg.models.retrieve("gpt-none")
    assert caught.value.code == "model_not_found"
    assert {asked.path for asked in gateway.asked} == {"/api/models"}


def test_everything_else_is_refused_before_it_is_sent(lg: Latensgate, gateway: Gateway) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: lg.post("/embeddings/batches", cast_to=object, body={"input": WORD}),
        lambda: lg.completions.create(model=MODEL, prompt=WORD),
        lambda: lg.moderations.create(input=WORD),
        lg.files.list,
        lambda: lg.models.delete(MODEL),
        lambda: lg.post("/chat/completions/../x", cast_to=object, body={"secret": WORD}),
        lambda: lg.post("https://elsewhere.example/chat/completions", cast_to=object, body={}),
        lambda: ask(lg, extra_query={"q": WORD}),
    ]
    for attempt in attempts:
        with pytest.raises(errors.RequestRefused) as caught:
            attempt()
        assert caught.value.error_code is ErrorCode.ERR_UNSUPPORTED
        assert not caught.value.retryable
    assert gateway.asked == []


def test_websockets_are_refused(lg: Latensgate) -> None:
    for name in ("realtime", "live"):
        with pytest.raises(openai.OpenAIError, match="not sealed"):
            getattr(lg, name)
    assert str(lg.websocket_base_url).startswith("wss://not-sealed.invalid")


@pytest.mark.parametrize(
    ("code", "kind", "base"),
    [
        (ErrorCode.ERR_RATE_LIMITED, errors.RateLimited, openai.RateLimitError),
        (ErrorCode.ERR_UNAUTHENTICATED, errors.Unauthenticated, openai.AuthenticationError),
        (ErrorCode.ERR_FORBIDDEN, errors.Forbidden, openai.PermissionDeniedError),
        (ErrorCode.ERR_KMS_DENIED, errors.KMSDenied, openai.PermissionDeniedError),
        (ErrorCode.ERR_NOT_FOUND, errors.NotFound, openai.NotFoundError),
        (ErrorCode.ERR_OUTCOME_UNKNOWN, errors.OutcomeUnknown, openai.ConflictError),
        (ErrorCode.ERR_IDEMPOTENCY_MISMATCH, errors.UnprocessableRequest, openai.APIStatusError),
        (ErrorCode.ERR_ENCLAVE_TIMEOUT, errors.EnclaveTimeout, openai.InternalServerError),
        (ErrorCode.ERR_OVERLOADED, errors.Unavailable, openai.InternalServerError),
        (ErrorCode.ERR_MALFORMED, errors.RequestRefused, openai.BadRequestError),
        (ErrorCode.ERR_TOO_LARGE, errors.TooLarge, openai.APIStatusError),
        (ErrorCode.ERR_METHOD_NOT_ALLOWED, errors.LatensgateClientError, openai.APIStatusError),
        (ErrorCode.ERR_INTERNAL, errors.GatewayFailure, openai.InternalServerError),
    ],
)
def test_errors_outside_the_seal(
    make: MakeClient,
    gateway: Gateway,
    code: ErrorCode,
    kind: type[errors.LatensgateClientError],
    base: type[Exception],
) -> None:
    gateway.twist = always(refusal(code, "told by the gateway"))
    with pytest.raises(kind) as caught:
        ask(make(max_retries=0))
    error = caught.value
    assert isinstance(error, base)
    assert isinstance(error, errors.LatensgateClientError)
    assert error.error_code is code
    assert error.code == code.openai_code
    assert error.type == code.openai_type
    assert error.status_code == code.http_status
    assert error.retryable is code.retryable
    assert error.hint == code.hint
    assert error.correlation_id == "req_0123456789"
    assert error.request_id == "req_0123456789"
    assert error.receipt is None
    assert "told by the gateway" in str(error)


def test_an_error_inside_the_seal_is_signed(make: MakeClient) -> None:
    strict = {"rules": {"EMAIL_ADDRESS": {"*": {"action": "fail"}}}}
    lg = make(policy=strict)
    with pytest.raises(errors.PIIHardFailError) as caught:
        ask(lg, "Write to sherlock.holmes@detective.example, please.")
    error = caught.value
    assert isinstance(error, openai.UnprocessableEntityError)
    assert error.receipt is not None
    assert error.receipt.outcome == "refused"
    assert receipt_of(error) is error.receipt
    assert "sherlock" not in f"{error!r}{error.body}{error.message}{vars(error)}"
    assert error.request.content == b""


LONG = "The quick brown fox jumps over the lazy dog and goes home. " * 4
LONG_ASK: Any = [{"role": "user", "content": LONG}]


def said_of(chunk: Any) -> str:  # noqa: ANN401 -- of whichever client
    return "".join(each.delta.content or "" for each in chunk.choices)


def test_a_stream_comes_in_the_shape_that_is_asked_for(
    make: MakeClient, make_async: MakeAsyncClient
) -> None:
    """Fewer events than tokens, the same text, and the receipt of it."""
    shape = StreamShape("fixed", coalesce_ms=60)
    plain = list(make().chat.completions.create(model=MODEL, messages=LONG_ASK, stream=True))
    events = make(stream_shape=shape).chat.completions.create(
        model=MODEL, messages=LONG_ASK, stream=True
    )
    shaped = list(events)
    assert receipt_of(events) is not None

    async def asked() -> list[Any]:
        async with make_async(stream_shape=shape) as lg:
            told = await lg.chat.completions.create(model=MODEL, messages=LONG_ASK, stream=True)
            return [chunk async for chunk in told]

    for found in (shaped, asyncio.run(asked())):
        assert "".join(map(said_of, found)) == "".join(map(said_of, plain))
        assert len(found) < len(plain) / 2


def test_a_shape_is_for_streams_alone(make: MakeClient) -> None:
    assert text_of(ask(make(stream_shape=StreamShape("fixed", coalesce_ms=1_000)))) != ""


def test_a_stream_that_is_refused_raises_while_it_is_read(make: MakeClient) -> None:
    lg = make(policy={"rules": {"EMAIL_ADDRESS": {"*": {"action": "fail"}}}})
    stream = lg.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Write to sherlock.holmes@detective.example."}],
        stream=True,
    )
    with pytest.raises(errors.PIIHardFailError) as caught:
        list(stream)
    assert caught.value.receipt is not None
    assert receipt_of(stream) is caught.value.receipt


def test_a_retry_sends_the_identical_bytes(lg: Latensgate, gateway: Gateway) -> None:
    gateway.twist = once(refusal(ErrorCode.ERR_STORE_UNAVAILABLE))
    assert text_of(ask(lg)) == f"You said: {ASK}"
    first, second = gateway.inferences
    assert first.body == second.body
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert gateway.runs == 1


def test_an_async_retry_sends_the_identical_bytes(
    make_async: MakeAsyncClient, gateway: Gateway
) -> None:
    gateway.twist = once(refusal(ErrorCode.ERR_STORE_UNAVAILABLE))

    async def run() -> None:
        async with make_async() as lg:
            await lg.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": ASK}]
            )

    asyncio.run(run())
    first, second = gateway.inferences
    assert first.body == second.body
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_a_lost_connection_is_retried_with_the_identical_bytes(
    make: MakeClient, gateway: Gateway
) -> None:
    lost: list[bytes] = []
    honest = gateway.client()

    def forward(request: httpx.Request) -> httpx.Response:
        body = request.read()
        return honest.request(request.method, request.url, content=body, headers=request.headers)

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/inference" and not lost:
            forward(request)
            lost.append(request.read())
            raise httpx.ReadError("gone")
        return forward(request)

    lg = make(http_client=httpx.Client(transport=httpx.MockTransport(handle)))
    assert text_of(ask(lg)) == f"You said: {ASK}"
    assert [asked.body for asked in gateway.inferences] == lost * 2
    assert gateway.runs == 1


def test_what_may_not_help_is_not_retried(lg: Latensgate, gateway: Gateway) -> None:
    for code in (ErrorCode.ERR_OUTCOME_UNKNOWN, ErrorCode.ERR_KMS_DENIED, ErrorCode.ERR_REPLAY):
        gateway.asked.clear()
        gateway.twist = always(refusal(code))
        with pytest.raises(errors.LatensgateClientError):
            ask(lg)
        assert len(gateway.inferences) == 1


def test_a_sealed_refusal_that_may_pass_is_sealed_anew(
    lg: Latensgate, gateway: Gateway, stack: Stack
) -> None:
    stack.world.home.bedrock.faults.on(throttled(times=UPSTREAM_ATTEMPTS_MAX_COUNT))
    assert text_of(ask(lg)) == f"You said: {ASK}"
    first, second = gateway.inferences
    assert first.body != second.body
    key = first.headers["idempotency-key"]
    assert second.headers["idempotency-key"] == f"{key}.1"


def test_a_key_of_the_applications_own_serves_for_its_own_retries(
    make: MakeClient, gateway: Gateway
) -> None:
    lg = make(max_retries=0)
    gateway.twist = once(refusal(ErrorCode.ERR_OVERLOADED))
    named: dict[str, Any] = {"extra_headers": {"Idempotency-Key": "invoice-17"}}
    with pytest.raises(errors.Unavailable):
        ask(lg, **named)
    assert text_of(ask(lg, **named)) == f"You said: {ASK}"
    first, second = gateway.inferences
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == "invoice-17"
    assert first.body == second.body


def test_a_bad_idempotency_key_is_refused_here(lg: Latensgate, gateway: Gateway) -> None:
    with pytest.raises(errors.RequestRefused, match="idempotency key"):
        ask(lg, extra_headers={"Idempotency-Key": "x" * 256})
    assert gateway.asked == []


def test_timeouts_are_the_official_clients_own(make: MakeClient) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.extensions["timeout"]["read"] == 0.5
        raise httpx.ReadTimeout("slow", request=request)

    lg = make(http_client=httpx.Client(transport=httpx.MockTransport(handle)), max_retries=0)
    with pytest.raises(openai.APITimeoutError) as caught:
        ask(lg, timeout=0.5)
    assert caught.value.request.content == b""


def test_connection_errors_are_the_official_clients_own(make: MakeClient) -> None:
    lg = make(http_client=None, base_url="http://127.0.0.1:9", max_retries=0)
    with pytest.raises(openai.APIConnectionError) as caught:
        ask(lg)
    assert caught.value.request.content == b""


def test_copies_share_trust_and_attestation(lg: Latensgate, gateway: Gateway) -> None:
    ask(lg)
    for other in (lg.copy(), lg.with_options(timeout=5, max_retries=7), lg.copy().copy()):
        assert type(other) is Latensgate
        assert text_of(ask(other))
        assert other.settings == lg.settings
    assert lg.with_options(max_retries=7).max_retries == 7
    assert lg.with_options(timeout=5).timeout == 5
    assert len(gateway.attestations) == 1


def test_a_copy_may_have_another_key(lg: Latensgate, gateway: Gateway) -> None:
    other_key = "lg_live_" + "B" * 43
    ask(lg.copy(api_key=other_key))
    assert gateway.inferences[0].headers["authorization"] == f"Bearer {other_key}"
    ask(lg)
    assert gateway.inferences[1].headers["authorization"] == f"Bearer {API_KEY}"


def test_a_copy_may_have_another_carrier(lg: Latensgate, gateway: Gateway) -> None:
    ask(lg)
    own: Any = gateway.client()
    other = lg.copy(http_client=own)
    ask(other)
    other.copy().close()
    ask(lg)
    assert len(gateway.attestations) == 1


def test_a_copy_may_have_another_address_and_keeps_its_trust(
    lg: Latensgate, gateway: Gateway
) -> None:
    other = lg.with_options(base_url="https://tnt.example/t/tnt_a3f9c42b/")
    assert text_of(ask(other))
    assert other.settings.policy is lg.settings.policy
    assert gateway.inferences[0].path == "/t/tnt_a3f9c42b/api/inference"


def test_async_copies_share_trust(make_async: MakeAsyncClient, gateway: Gateway) -> None:
    own: Any = gateway.async_client()

    async def run() -> None:
        async with make_async() as lg:
            copies = [
                lg.copy(),
                lg.with_options(timeout=5),
                lg.in_conversation("a"),
                lg.copy(http_client=own),
            ]
            for other in copies:
                await other.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": ASK}]
                )
            assert len(gateway.attestations) == 1
            moved = lg.copy(base_url="https://other.example")
            await moved.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": ASK}]
            )

    asyncio.run(run())
    assert len(gateway.attestations) == 2  # each address is attested for itself


def test_headers_of_the_application_travel_outside_the_seal(
    make: MakeClient, gateway: Gateway
) -> None:
    ask(make(default_headers={"X-Team": "blue"}), extra_headers={"X-Trace": "t1", "Accept": "a/b"})
    headers = gateway.inferences[0].headers
    assert (headers["x-team"], headers["x-trace"]) == ("blue", "t1")
    assert headers["accept"] == "*/*"


def test_keys_of_other_services_stay_here(
    make: MakeClient, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer sk-custom\nX-Other: sk-o")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.example")
    lg = make()
    ask(lg)
    assert all("sk-" not in repr(asked.headers) for asked in gateway.asked)
    assert all("org-1" not in repr(asked.headers) for asked in gateway.asked)
    gateway.asked.clear()
    with pytest.raises(errors.Unauthenticated):
        ask(lg, extra_headers={"Authorization": "Bearer sk-other"})
    assert gateway.asked == []


def test_nothing_of_a_prompt_is_logged(
    lg: Latensgate, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        ask(lg)
        gateway.twist = always(refusal(ErrorCode.ERR_INTERNAL))
        with pytest.raises(errors.GatewayFailure):
            ask(lg)
    assert caplog.records
    assert WORD not in caplog.text
    assert API_KEY not in caplog.text
    assert "lg_test" not in repr(lg.settings)


def test_it_works_over_a_real_socket(make: MakeClient, gateway: Gateway) -> None:
    with served(gateway) as base_url:
        lg = make(base_url=base_url, http_client=None)
        assert text_of(ask(lg)) == f"You said: {ASK}"
        stream = lg.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": ASK}], stream=True
        )
        assert list(stream)
        assert receipt_of(stream).outcome == "answered"
        lg.close()


def test_it_works_over_a_real_socket_asynchronously(
    make_async: MakeAsyncClient, gateway: Gateway
) -> None:
    async def run(base_url: str) -> None:
        async with make_async(base_url=base_url, http_client=None) as lg:
            answer = await lg.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": ASK}]
            )
            assert receipt_of(answer).outcome == "answered"

    with served(gateway) as base_url:
        asyncio.run(run(base_url))


def test_a_proxy_of_the_environment_is_used(
    make: MakeClient, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(gateway) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        monkeypatch.setenv("NO_PROXY", "")
        lg = make(base_url="https://gateway.example", http_client=None, max_retries=0)
        with pytest.raises(openai.APIConnectionError):
            ask(lg)
        lg.close()
    assert gateway.asked == []
    # The proxy was asked for a tunnel, which this one does not give.
