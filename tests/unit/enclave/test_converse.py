"""Chat to Converse and back: each rule of Converse that others broke on."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from latensgate_enclave.aws.bedrock import (
    UpstreamError,
    bedrock_scope,
    logging_state_request,
    parse_logging_state,
    runtime_request,
    upstream_error,
    verify_success,
)
from latensgate_enclave.aws.converse import build_converse_body, offered_tools
from latensgate_enclave.aws.converse_answer import (
    ConverseReader,
    ConverseStream,
    parse_converse_answer,
)
from latensgate_enclave.aws.eventstream import EventMessage
from latensgate_enclave.aws.sigv4 import SigningScope
from latensgate_enclave.chat import (
    ChatRequest,
    Message,
    ReasoningBlock,
    RequestInvalidError,
    ToolCall,
    ToolSpec,
)
from latensgate_enclave.chat_answer import (
    ChatAnswer,
    ChatDelta,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    Usage,
)
from latensgate_enclave.chat_shape import Shape
from latensgate_enclave.http1 import HttpResponse
from latensgate_enclave.model_traits import ModelTraits
from latensgate_shared.errors import ErrorCode
from latensgate_shared.strict_json import JSONObject, JSONValue

TRAITS = ModelTraits().without("system_mid", "prefill")
USER = Message("user", ("hello",))
LOOK_UP = ToolSpec("look_up", "Looks up.", {"type": "object"}, strict=True)
CALLS = Message("assistant", ("wait",), (ToolCall("c1", "f", {"a": 1}), ToolCall("c2", "g", {})))
RESULTS = (Message("tool", ("15",), tool_call_id="c1"), Message("tool", (), tool_call_id="c2"))


def body(request: ChatRequest, traits: ModelTraits = TRAITS) -> JSONObject:
    loaded: JSONObject = json.loads(build_converse_body(request, traits))
    return loaded


def asked(*messages: Message) -> ChatRequest:
    return ChatRequest("m", messages or (USER,))


def test_smallest() -> None:
    assert body(asked()) == {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}


def test_inference_members() -> None:
    request = replace(asked(), max_tokens=5, temperature=1.0, top_p=0.0, stop=("END",))
    assert body(request)["inferenceConfig"] == {
        "maxTokens": 5,
        "temperature": 1.0,
        "topP": 0.0,
        "stopSequences": ["END"],
    }


def test_turns_alternate_and_results_share_one_turn() -> None:
    found = body(asked(USER, USER, CALLS, *RESULTS, Message("user", ("more",))))
    assert found["messages"] == [
        {"role": "user", "content": [{"text": "hello"}, {"text": "hello"}]},
        {
            "role": "assistant",
            "content": [
                {"text": "wait"},
                {"toolUse": {"toolUseId": "c1", "name": "f", "input": {"a": 1}}},
                {"toolUse": {"toolUseId": "c2", "name": "g", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "c1", "content": [{"text": "15"}]}},
                {"toolResult": {"toolUseId": "c2", "content": [{"text": "(no output)"}]}},
                {"text": "more"},
            ],
        },
    ]


def test_instructions() -> None:
    system, developer = Message("system", ("a", "b")), Message("developer", ("c",))
    found = body(asked(system, USER, developer))
    assert found["system"] == [{"text": "a"}, {"text": "b"}, {"text": "c"}]
    alone = body(asked(system, developer))
    assert alone["system"] == [{"text": "a"}, {"text": "b"}]
    assert alone["messages"] == [{"role": "user", "content": [{"text": "c"}]}]
    assert "system" not in body(asked(developer))


def test_tool_config() -> None:
    spec: JSONObject = {
        "name": "look_up",
        "description": "Looks up.",
        "inputSchema": {"json": {"type": "object"}},
        "strict": True,
    }
    offered = replace(asked(), tools=(LOOK_UP,))
    tools: list[JSONValue] = [{"toolSpec": spec}]
    assert body(offered)["toolConfig"] == {"tools": tools}
    assert body(replace(offered, tool_choice="auto"))["toolConfig"] == {"tools": tools}
    forced = replace(offered, tool_choice="required")
    assert body(forced)["toolConfig"] == {"tools": tools, "toolChoice": {"any": {}}}
    named = replace(forced, forced_tool="look_up")
    assert body(named)["toolConfig"] == {
        "tools": tools,
        "toolChoice": {"tool": {"name": "look_up"}},
    }
    assert offered_tools(named) == {"look_up"}


def test_tool_choice_none_leaves_tools_out_where_it_may() -> None:
    request = replace(asked(), tools=(LOOK_UP,), tool_choice="none")
    assert "toolConfig" not in body(request)
    assert not offered_tools(request)
    with_history = replace(request, messages=(USER, CALLS, *RESULTS))
    assert "toolConfig" in body(with_history)
    assert not offered_tools(with_history)


def test_history_with_tool_use_gets_a_tool_config() -> None:
    request = asked(USER, CALLS, *RESULTS, CALLS, *RESULTS)
    schema: JSONObject = {"json": {"type": "object", "properties": {}}}
    assert body(request)["toolConfig"] == {
        "tools": [
            {"toolSpec": {"name": "f", "inputSchema": schema}},
            {"toolSpec": {"name": "g", "inputSchema": schema}},
        ]
    }
    assert not offered_tools(request)


@pytest.mark.parametrize(
    ("request_", "traits", "param"),
    [
        (replace(asked(), temperature=1.1), TRAITS, "temperature"),
        (replace(asked(), temperature=0.0), TRAITS.without("sampling"), "temperature"),
        (replace(asked(), top_p=1.0), TRAITS.without("sampling"), "top_p"),
        (
            replace(asked(), tools=(LOOK_UP,), tool_choice="required"),
            TRAITS.without("forced_tools"),
            "tool_choice",
        ),
        (replace(asked(), tools=(LOOK_UP,)), TRAITS.without("tools"), "tools"),
        (asked(USER, CALLS, *RESULTS), TRAITS.without("tools"), "tools"),
        (asked(USER, Message("assistant", ("x",))), TRAITS, "messages"),
        (asked(Message("assistant", ())), TRAITS, "messages"),
    ],
)
def test_unsupported_by_the_model(request_: ChatRequest, traits: ModelTraits, param: str) -> None:
    with pytest.raises(RequestInvalidError) as caught:
        build_converse_body(request_, traits)
    assert caught.value.param == param


def answer(
    *blocks: JSONValue, stop: str = "end_turn", usage: JSONObject | None = None
) -> dict[str, JSONValue]:
    return {
        "output": {"message": {"role": "assistant", "content": list(blocks)}},
        "stopReason": stop,
        "usage": usage or {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3},
    }


OFFERED = frozenset({"f", "g"})


def parse(value: JSONValue, *, offered: frozenset[str] = OFFERED) -> ChatAnswer:
    return parse_converse_answer(json.dumps(value).encode(), offered=offered)


USE: JSONObject = {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": [1]}}}


def test_answer() -> None:
    usage: JSONObject = {
        "inputTokens": 1,
        "outputTokens": 2,
        "cacheReadInputTokens": 10,
        "cacheWriteInputTokens": 100,
    }
    reasoning: JSONObject = {"reasoningContent": {"reasoningText": {"text": "hm"}}}
    whole = answer(reasoning, {"text": "a"}, {"text": ""}, USE, stop="tool_use", usage=usage)
    calls = (ToolCall("t1", "f", {"a": [1]}),)
    used, size = Usage(111, 2, 10, 100, None), len(json.dumps(whole))
    thought = (ReasoningBlock("hm"),)
    assert parse(whole) == ChatAnswer(("a",), calls, "tool_calls", used, size, thought)


def test_texts_of_several_blocks_are_one_text_for_the_scan() -> None:
    found = parse(answer({"text": "4111 1111 "}, {"text": "1111 1111"}))
    assert found.text == ("4111 1111 1111 1111",)


@pytest.mark.parametrize(
    ("stop", "blocks", "reason"),
    [
        ("end_turn", [], "stop"),
        ("end_turn", [USE], "tool_calls"),
        ("stop_sequence", [], "stop"),
        ("max_tokens", [USE], "length"),
        ("model_context_window_exceeded", [], "length"),
        ("guardrail_intervened", [], "content_filter"),
        ("content_filtered", [], "content_filter"),
    ],
)
def test_finish_reasons(stop: str, blocks: list[JSONValue], reason: str) -> None:
    assert parse(answer(*blocks, stop=stop)).finish_reason == reason


NO_USAGE = {name: value for name, value in answer().items() if name != "usage"}


@pytest.mark.parametrize(
    "value",
    [
        answer(stop="malformed_model_output"),
        answer(stop="malformed_tool_use"),
        answer(stop="new_reason"),
        answer({"image": {}}),
        answer({"citationsContent": {}}),
        answer({"toolUse": {"toolUseId": "t1", "name": "f", "input": "text"}}),
        answer({"toolUse": {"name": "f", "input": {}}}),
        answer(usage={"inputTokens": -1, "outputTokens": 0}),
        answer(usage={"inputTokens": 1.5, "outputTokens": 0}),
        answer(usage={"inputTokens": 2**53, "outputTokens": 0}),  # no receipt can hold it
        answer({"toolUse": {"toolUseId": "t1", "name": "bob@example.com", "input": {}}}),
        answer({"toolUse": {"toolUseId": "bob@example.com", "name": "f", "input": {}}}),
        NO_USAGE,
        {},
        [],
        None,
    ],
)
def test_answer_refused(value: JSONValue) -> None:
    with pytest.raises(UpstreamError):
        parse(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b'{"output":"\xff"}',
        b'{"stopReason":"\\ud800"}',
        b'{"x":' * 100_000,
        b'{"output":{"message":{"content":[{"toolUse":{"input":{"x":' + b"[" * 100_000,
    ],
)
def test_answer_bytes_refused(data: bytes) -> None:
    with pytest.raises(UpstreamError):
        parse_converse_answer(data, offered=OFFERED)


def test_a_call_that_nobody_offered_is_refused() -> None:
    with pytest.raises(UpstreamError, match="offer"):
        parse(answer(USE), offered=frozenset())
    with pytest.raises(UpstreamError, match="offer"):
        stream(START, tool_start(0), offered=frozenset())


def test_a_call_of_another_tool_than_those_offered_is_refused() -> None:
    with pytest.raises(UpstreamError, match="offer"):
        parse(answer(USE), offered=frozenset({"g"}))
    with pytest.raises(UpstreamError, match="offer"):
        stream(START, tool_start(0), offered=frozenset({"g"}))


def event(name: str, **payload: JSONValue) -> EventMessage:
    headers = {":message-type": "event", ":event-type": name}
    return EventMessage(headers, json.dumps(payload).encode())


def exception(
    name: str, *, kind: str = "exception", header: str = ":exception-type"
) -> EventMessage:
    return EventMessage({":message-type": kind, header: name}, b'{"message":"S3CRET"}')


def text(piece: str, index: int = 0) -> EventMessage:
    return event("contentBlockDelta", contentBlockIndex=index, delta={"text": piece}, p="abcd")


def tool_start(index: int) -> EventMessage:
    use: JSONObject = {"toolUseId": f"t{index}", "name": "f"}
    return event("contentBlockStart", contentBlockIndex=index, start={"toolUse": use})


def tool_piece(index: int, piece: str) -> EventMessage:
    return event("contentBlockDelta", contentBlockIndex=index, delta={"toolUse": {"input": piece}})


def block_stop(index: int) -> EventMessage:
    return event("contentBlockStop", contentBlockIndex=index)


START = event("messageStart", role="assistant")
STOP = event("messageStop", stopReason="end_turn")
USAGE = event("metadata", usage={"inputTokens": 1, "outputTokens": 2, "totalTokens": 3})


def stream(*messages: EventMessage, offered: frozenset[str] = OFFERED) -> list[ChatDelta]:
    translator = ConverseStream(offered=offered)
    deltas = [delta for message in messages for delta in translator.receive(message)]
    translator.close()
    return deltas


def test_text_stream() -> None:
    reasoning = event("contentBlockDelta", contentBlockIndex=0, delta={"reasoningContent": {}})
    assert stream(
        START, reasoning, text("a"), text(""), text("b", 7), block_stop(0), STOP, USAGE
    ) == [
        TextDelta("a"),
        TextDelta("b"),
        Finished("stop"),
        Usage(1, 2, reasoning_tokens=None),
    ]


def test_tool_stream_counts_calls_from_zero() -> None:
    found = stream(
        START, text("a"), block_stop(0),
        tool_start(1), tool_piece(1, ""), tool_piece(1, '{"a"'),
        tool_start(5), tool_piece(1, ":1}"), block_stop(1), tool_piece(5, ""), block_stop(5),
        STOP, USAGE,
    )  # fmt: skip
    assert found == [
        TextDelta("a"),
        ToolCallBegun(0, "t1", "f"),
        ToolCallDelta(0, '{"a"'),
        ToolCallBegun(1, "t5", "f"),
        ToolCallDelta(0, ":1}"),
        ToolCallDelta(1, "{}"),
        Finished("tool_calls"),
        Usage(1, 2),
    ]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [START],
        [START, STOP],
        [STOP, USAGE],
        [text("a")],
        [START, START],
        [START, USAGE],
        [START, STOP, text("late"), USAGE],
        [START, STOP, USAGE, USAGE],
        [START, tool_start(0), tool_start(0)],
        [START, tool_piece(0, "{}")],
        [START, tool_start(0), block_stop(0), tool_piece(0, "x")],
        [START, event("contentBlockStart", contentBlockIndex=0, start={"image": {}})],
        [START, event("contentBlockDelta", contentBlockIndex=0, delta={"citation": {}})],
        [START, event("contentBlockDelta", contentBlockIndex=-1, delta={"text": "a"})],
        [START, event("contentBlockDelta", delta={"text": "a"})],
        [START, event("newEvent")],
        [START, event("messageStop", stopReason="malformed_model_output")],
        [START, STOP, event("metadata")],
        [EventMessage({}, b"{}")],
        [EventMessage({":message-type": "event"}, b"{}")],
        [EventMessage({":message-type": "event", ":event-type": 1}, b"{}")],
        [EventMessage({":message-type": "exception", ":exception-type": 1}, b"{}")],
    ],
)
def test_stream_refused(messages: list[EventMessage]) -> None:
    with pytest.raises(UpstreamError):
        stream(*messages)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (exception("throttlingException"), ErrorCode.ERR_UPSTREAM_THROTTLED),
        (exception("validationException"), ErrorCode.ERR_UPSTREAM_REFUSED),
        (exception("modelStreamErrorException"), ErrorCode.ERR_UPSTREAM),
        (exception("serviceUnavailableException"), ErrorCode.ERR_UPSTREAM),
        (exception("InternalFailure", kind="error", header=":error-code"), ErrorCode.ERR_UPSTREAM),
        (exception("S3CRET text\n"), ErrorCode.ERR_UPSTREAM),
    ],
)
def test_stream_exceptions(message: EventMessage, code: ErrorCode) -> None:
    with pytest.raises(UpstreamError) as caught:
        stream(START, message)
    assert caught.value.code is code
    assert "S3CRET" not in str(caught.value)


def response(status: int, body: bytes = b"{}", **headers: str) -> HttpResponse:
    return HttpResponse(
        status, {name.replace("_", "-"): each for name, each in headers.items()}, body
    )


@pytest.mark.parametrize(
    ("status", "name", "code"),
    [
        (400, "ValidationException", ErrorCode.ERR_UPSTREAM_REFUSED),
        (403, "AccessDeniedException", ErrorCode.ERR_UPSTREAM_DENIED),
        (404, "ResourceNotFoundException", ErrorCode.ERR_MODEL_UNKNOWN),
        (408, "ModelTimeoutException", ErrorCode.ERR_UPSTREAM_TIMEOUT),
        (429, "ThrottlingException", ErrorCode.ERR_UPSTREAM_THROTTLED),
        (429, "SomethingNew", ErrorCode.ERR_UPSTREAM_THROTTLED),
        (429, "ModelNotReadyException", ErrorCode.ERR_UPSTREAM_THROTTLED),
        (400, "ServiceQuotaExceededException", ErrorCode.ERR_UPSTREAM_QUOTA),
        (424, "ModelErrorException", ErrorCode.ERR_UPSTREAM),
        (500, "InternalServerException", ErrorCode.ERR_UPSTREAM),
    ],
)
def test_http_errors(status: int, name: str, code: ErrorCode) -> None:
    body = b'{"message":"S3CRET"}'
    for failed in (
        response(status, body, x_amzn_errortype=f"{name}:http://internal.amazon.com/x/"),
        response(status, b'{"__type":"com.amazon#' + name.encode() + b'"}'),
    ):
        with pytest.raises(UpstreamError) as caught:
            verify_success(failed)
        assert caught.value.code is code
        assert "S3CRET" not in str(caught.value)
        assert name in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"__type":1}', b'{"__type":"a b"}'])
def test_unnamed_errors(body: bytes) -> None:
    with pytest.raises(UpstreamError, match="unnamed"):
        verify_success(response(502, body))
    assert upstream_error("X").code is ErrorCode.ERR_UPSTREAM


def test_requests() -> None:
    model = "arn:aws:bedrock:eu-central-1:111122223333:inference-profile/eu.x-v1:0"
    request = runtime_request("eu-central-1", model, b"{}", "converse")
    assert (request.method, request.host) == ("POST", "bedrock-runtime.eu-central-1.amazonaws.com")
    assert request.path == (
        "/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A111122223333%3A"
        "inference-profile%2Feu.x-v1%3A0/converse"
    )
    streamed = runtime_request("eu-central-1", "m", b"{}", "converse-stream")
    assert streamed.path == "/model/m/converse-stream"
    assert dict(streamed.headers)["accept"] == "application/vnd.amazon.eventstream"
    state = logging_state_request("eu-central-1")
    assert (state.method, state.host) == ("GET", "bedrock.eu-central-1.amazonaws.com")
    assert state.path == "/logging/modelinvocations"
    assert bedrock_scope("eu-central-1") == SigningScope("eu-central-1", "bedrock")


@pytest.mark.parametrize(
    ("body", "is_on"),
    [
        (b"{}", False),
        (b'{"loggingConfig":null}', False),
        (b'{"loggingConfig":{}}', True),
        (b'{"loggingConfig":{"textDataDeliveryEnabled":false}}', True),
        (b'{"loggingConfig":{"s3Config":{"bucketName":"b"}}}', True),
        (b'{"loggingConfigs":[]}', True),
    ],
)
def test_logging_state(body: bytes, *, is_on: bool) -> None:
    assert parse_logging_state(response(200, body)).is_on is is_on


@pytest.mark.parametrize("failed", [response(403), response(200, b""), response(200, b"[]")])
def test_logging_state_unknown_is_an_error(failed: HttpResponse) -> None:
    with pytest.raises(UpstreamError):
        parse_logging_state(failed)


def test_hidden_thoughts_are_handed_on_unread() -> None:
    hidden: JSONObject = {"reasoningContent": {"redactedContent": "AAA="}}
    assert parse(answer(hidden, {"text": "a"})).reasoning == (ReasoningBlock(redacted="AAA="),)
    pieces: list[JSONObject] = [{"text": "hm"}, {"signature": "c2ln"}, {"redactedContent": "AAA="}]
    thoughts = [
        event("contentBlockDelta", contentBlockIndex=0, delta={"reasoningContent": piece})
        for piece in pieces
    ]
    assert stream(START, *thoughts, text("a", 1), STOP, USAGE)[:4] == [
        ReasoningDelta("hm"),
        ReasoningDelta(signature="c2ln"),
        ReasoningDelta(redacted="AAA="),
        TextDelta("a"),
    ]


@pytest.mark.parametrize("member", ["signature", "redactedContent"])
def test_what_no_scan_reads_holds_no_words(member: str) -> None:
    piece: JSONObject = {"reasoningContent": {member: "mail bob@example.com"}}
    words = event("contentBlockDelta", contentBlockIndex=0, delta=piece)
    with pytest.raises(UpstreamError):
        stream(START, words, STOP, USAGE)


def test_a_shaped_stream_is_read_as_a_whole_answer_is() -> None:
    plain, shaped = ConverseReader(OFFERED), ConverseReader(OFFERED, Shape(answer_tool="give"))
    assert isinstance(plain.stream(), ConverseStream)
    start: JSONObject = {"toolUse": {"toolUseId": "t", "name": "give"}}
    messages = [
        START,
        event("contentBlockStart", contentBlockIndex=0, start=start),
        tool_piece(0, '{"a"'),
        tool_piece(0, ":1}"),
        block_stop(0),
        event("messageStop", stopReason="tool_use"),
        USAGE,
    ]
    reader = shaped.stream()
    deltas = [delta for message in messages for delta in reader.receive(message)]
    reader.close()
    assert deltas == [TextDelta('{"a"'), TextDelta(":1}"), Finished("stop"), Usage(1, 2)]
