"""What an OpenAI-compatible upstream is sent, and how its answers are read: pure functions."""

from __future__ import annotations

import json
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.aws.eventstream import EventMessage
from latensgate_enclave.chat_answer import (
    ChatDelta,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    Usage,
)
from latensgate_enclave.chat_values import (
    Attachment,
    AttachmentKind,
    ChatRequest,
    Message,
    ReasoningBlock,
    ResponseFormat,
    ToolCall,
    ToolSpec,
    UnsupportedError,
)
from latensgate_enclave.http1 import HttpResponse
from latensgate_enclave.model_traits import Capability, ModelTraits
from latensgate_enclave.openai_upstream_answer import (
    OpenAIReader,
    OpenAIStream,
    openai_error,
    parse_openai_answer,
)
from latensgate_enclave.openai_upstream_request import build_openai_body, dropped_by_upstream
from latensgate_shared.errors import ErrorCode
from latensgate_shared.strict_json import JSONObject

HELLO = Message("user", ("Hello",))
TOOL = ToolSpec("look_up", "Looks up.", {"type": "object"}, strict=True)


def body(*messages: Message, able: ModelTraits | None = None, **fields: object) -> JSONObject:
    request = ChatRequest("alias", messages or (HELLO,), **fields)  # type: ignore[arg-type]
    built = build_openai_body(request, "real-model", able or ModelTraits())
    return cast("JSONObject", json.loads(built))


def test_the_least_request_says_store_false() -> None:
    assert body() == {
        "model": "real-model",
        "messages": [{"role": "user", "content": "Hello"}],
        "store": False,
        "stream": False,
    }


def test_a_stream_asks_for_usage_whatever_the_caller_wants() -> None:
    assert body(stream=True)["stream_options"] == {"include_usage": True}


def test_every_field_has_its_place() -> None:
    found = body(
        temperature=0.5,
        top_p=0.25,
        max_tokens=7,
        stop=("a", "b"),
        reasoning_effort="low",
        service_tier="flex",
        tools=(TOOL, ToolSpec("bare", None, None)),
        tool_choice="required",
        forced_tool="look_up",
        parallel_tool_calls=False,
        response_format=ResponseFormat({"type": "object"}, "answer", "An answer.", strict=True),
    )
    for name in ("messages", "model", "store", "stream"):
        del found[name]
    assert found == {
        "temperature": 0.5,
        "top_p": 0.25,
        "max_completion_tokens": 7,
        "stop": ["a", "b"],
        "reasoning_effort": "low",
        "service_tier": "flex",
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look_up",
                    "description": "Looks up.",
                    "parameters": {"type": "object"},
                    "strict": True,
                },
            },
            {"type": "function", "function": {"name": "bare"}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "look_up"}},
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "answer",
                "schema": {"type": "object"},
                "strict": True,
                "description": "An answer.",
            },
        },
    }


def test_choices_and_formats_of_other_kinds() -> None:
    assert body(tools=(TOOL,), tool_choice="none")["tool_choice"] == "none"
    assert "tool_choice" not in body(tools=(TOOL,))
    assert body(response_format=ResponseFormat())["response_format"] == {"type": "json_object"}
    schema = body(response_format=ResponseFormat({}))["response_format"]
    assert schema == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {}, "strict": False},
    }


@pytest.mark.parametrize(
    ("missing", "fields", "param"),
    [
        ("sampling", {"temperature": 1.0}, "temperature"),
        ("sampling", {"top_p": 1.0}, "top_p"),
        ("reasoning_effort", {"reasoning_effort": "low"}, "reasoning_effort"),
        ("service_tier", {"service_tier": "flex"}, "service_tier"),
        ("tools", {"tools": (TOOL,)}, "tools"),
        ("forced_tools", {"tools": (TOOL,), "tool_choice": "required"}, "tool_choice"),
        (
            "parallel_off",
            {"tools": (TOOL,), "parallel_tool_calls": False},
            "parallel_tool_calls",
        ),
        ("json_schema", {"response_format": ResponseFormat()}, "response_format"),
    ],
)
def test_what_the_row_does_not_name_is_refused(
    missing: Capability, fields: dict[str, object], param: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        body(able=ModelTraits().without(missing), **fields)
    assert caught.value.param == param


def test_conversations_keep_roles_tools_and_order() -> None:
    call = ToolCall("call_0", "look_up", {"q": "x"})
    found = body(
        Message("developer", ("Be brief.", "Be kind.")),
        HELLO,
        Message("assistant", (), (call,), reasoning=(ReasoningBlock("thought", "signed"),)),
        Message("tool", (), tool_call_id="call_0"),
    )
    assert found["messages"] == [
        {
            "role": "system",
            "content": [
                {"type": "text", "text": "Be brief."},
                {"type": "text", "text": "Be kind."},
            ],
        },
        {"role": "user", "content": "Hello"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_0",
                    "type": "function",
                    "function": {"name": "look_up", "arguments": '{"q":"x"}'},
                }
            ],
        },
        {"role": "tool", "content": "", "tool_call_id": "call_0"},
    ]


def test_thoughts_stay_here_and_are_named() -> None:
    thought = Message("assistant", ("x",), reasoning=(ReasoningBlock("thought"),))
    assert dropped_by_upstream(ChatRequest("m", (HELLO, thought)), ModelTraits()) == (
        "messages.reasoning_content",
    )
    assert dropped_by_upstream(ChatRequest("m", (HELLO,)), ModelTraits()) == ()
    assert "thought" not in json.dumps(body(HELLO, thought))


def attached(kind: AttachmentKind, form: str, at: int, text: str | None = None) -> Attachment:
    return Attachment(kind, form, "QUJD", text, at, "messages[0].content[0]")


def test_attachments_stand_where_they_stood() -> None:
    attachments = (
        attached("image", "png", 0),
        attached("audio", "wav", 1),
        attached("document", "pdf", 2),
        attached("document", "odd", 2),
        attached("document", "txt", 2, "plain"),
    )
    (message,) = cast(
        "list[JSONObject]",
        body(Message("user", ("a", "b"), attachments=attachments))["messages"],
    )
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
        {"type": "text", "text": "a"},
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
        {"type": "text", "text": "b"},
        {
            "type": "file",
            "file": {"file_data": "data:application/pdf;base64,QUJD", "filename": "file.pdf"},
        },
        {
            "type": "file",
            "file": {
                "file_data": "data:application/octet-stream;base64,QUJD",
                "filename": "file.odd",
            },
        },
        {"type": "text", "text": "plain"},
    ]


@pytest.mark.parametrize(
    ("kind", "missing"), [("image", "images"), ("audio", "audio"), ("document", "documents")]
)
def test_attachments_need_their_word(kind: AttachmentKind, missing: Capability) -> None:
    message = Message("user", ("a",), attachments=(attached(kind, "x", 0),))
    with pytest.raises(UnsupportedError) as caught:
        body(message, able=ModelTraits().without(missing))
    assert caught.value.param == "messages[0].content[0]"


# --- answers ---

USAGE: JSONObject = {
    "prompt_tokens": 5,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 1},
}


def answer(message: JSONObject, reason: object = "stop", **more: object) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return json.dumps({"choices": [choice], "usage": USAGE, **more}).encode()


def test_a_whole_answer_is_read() -> None:
    function = {"name": "look_up", "arguments": '{"q": 1}'}
    call: JSONObject = {"id": "c1", "type": "function", "function": {**function}}
    raw = answer(
        {
            "content": "Hi",
            "refusal": " no",
            "reasoning_content": "hm",
            "tool_calls": [call, {"id": "c2", "function": {"name": "look_up", "arguments": ""}}],
            "annotations": [],
        }
    )
    response = HttpResponse(200, {}, raw)
    found = OpenAIReader(frozenset({"look_up"}), 8).whole(response)
    assert (found.text, found.finish_reason) == (("Hi no",), "tool_calls")
    assert found.tool_calls == (ToolCall("c1", "look_up", {"q": 1}), ToolCall("c2", "look_up", {}))
    assert found.usage == Usage(5, 3, 2, 0, 1)
    assert found.reasoning == (ReasoningBlock("hm"),)


def test_an_empty_answer_without_details() -> None:
    raw = answer({"content": None}, "length", usage={"prompt_tokens": 1})
    found = parse_openai_answer(raw, frozenset())
    assert (found.text, found.finish_reason, found.reasoning) == ((), "length", ())
    assert found.usage == Usage(1, 0, 0, 0, None)


def test_usage_that_is_not_told_is_estimated() -> None:
    raw = answer({"content": "12345"}, usage=None)
    found = parse_openai_answer(raw, frozenset(), 9)
    assert found.usage == Usage(3, 2, reasoning_tokens=None, estimated=True)
    assert found.usage.to_openai()["estimated"] is True


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"choices": []}',
        b"\xff",
        b"[" * 100_000,
        answer({"content": "x"}, "exploded"),
        answer({"content": "x"}, None),
        answer({"tool_calls": [{"id": "c", "function": {"name": "other", "arguments": "{}"}}]}),
        answer({"tool_calls": [{"id": "c", "function": {"name": "look_up", "arguments": "["}}]}),
        answer({"tool_calls": [{"id": "c d", "function": {"name": "look_up"}}]}),
        answer({"content": "x"}, usage={"prompt_tokens": -1}),
        answer({"content": "x"}, usage={"prompt_tokens": 2**31}),
        answer({"content": "x"}, usage={**USAGE, "completion_tokens": 2**62}),
        answer({"content": "x"}, usage={**USAGE, "prompt_tokens": 10**30}),
    ],
)
def test_what_is_no_answer_is_an_error(raw: bytes) -> None:
    with pytest.raises(UpstreamError):
        parse_openai_answer(raw, frozenset({"look_up"}))


# --- streams ---


def receive(stream: OpenAIStream, *events: object) -> list[ChatDelta]:
    raw = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in events]
    return [delta for data in raw for delta in stream.receive(EventMessage({}, data))]


def chunk(delta: JSONObject, reason: str | None = None, **more: object) -> JSONObject:
    choice: JSONObject = {"index": 0, "delta": delta, "finish_reason": reason}
    return cast("JSONObject", {"choices": [choice], **more})


def call_piece(index: int, name: str | None = None, arguments: str | None = None) -> JSONObject:
    piece: JSONObject = {"index": index}
    if name:
        piece["id"] = f"c{index}"
    function: JSONObject = {}
    if name:
        function["name"] = name
    if arguments is not None:
        function["arguments"] = arguments
    return {"tool_calls": [{**piece, **({"function": function} if function else {})}]}


def test_a_stream_of_everything() -> None:
    stream = OpenAIStream(frozenset({"look_up"}))
    found = receive(
        stream,
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "Hi", "refusal": "no"}, usage={"prompt_tokens": 1}),
        chunk(call_piece(4, "look_up", "")),
        chunk(call_piece(4, None, '{"q"')),
        chunk(call_piece(4, None, ":1}")),
        chunk(call_piece(9, "look_up")),
        {"choices": [{"index": 0}]},
        chunk({}, "tool_calls"),
        {"choices": [], "usage": USAGE},
        b"[DONE]",
    )
    stream.close()
    assert found == [
        ReasoningDelta("hm"),
        TextDelta("Hi"),
        TextDelta("no"),
        ToolCallBegun(0, "c4", "look_up"),
        ToolCallDelta(0, '{"q"'),
        ToolCallDelta(0, ":1}"),
        ToolCallBegun(1, "c9", "look_up"),
        ToolCallDelta(1, "{}"),
        Finished("tool_calls"),
        Usage(5, 3, 2, 0, 1),
    ]


def test_calls_without_arguments_end_before_what_follows_them() -> None:
    events = (
        chunk(call_piece(0, "look_up")),
        chunk(call_piece(1, "look_up")),
        chunk({"content": "and"}),
        chunk(call_piece(2, "look_up", "{}")),
        chunk(call_piece(3, "look_up")),
        END,
    )
    told = receive(OpenAIStream(frozenset({"look_up"})), *events)
    assert told == [
        ToolCallBegun(0, "c0", "look_up"),
        ToolCallDelta(0, "{}"),
        ToolCallBegun(1, "c1", "look_up"),
        ToolCallDelta(1, "{}"),
        TextDelta("and"),
        ToolCallBegun(2, "c2", "look_up"),
        ToolCallDelta(2, "{}"),
        ToolCallBegun(3, "c3", "look_up"),
        ToolCallDelta(3, "{}"),
        Finished("tool_calls"),
    ]


def test_a_stream_that_tells_no_usage_ends_all_the_same() -> None:
    stream = OpenAIStream(frozenset())
    assert receive(stream, chunk({"content": "x"}, "stop"), b"[DONE]") == [
        TextDelta("x"),
        Finished("stop"),
    ]
    stream.close()


@pytest.mark.parametrize("told", [[], [{"choices": [], "usage": USAGE}]])
def test_text_that_ends_with_done_alone_has_stopped(told: list[object]) -> None:
    stream = OpenAIStream(frozenset({"look_up"}))
    found = receive(stream, chunk({"content": "x"}), chunk({"content": ""}), *told, b"[DONE]")
    assert found == [
        TextDelta("x"),
        Finished("stop"),
        *([Usage(5, 3, 2, 0, 1)] if told else []),
    ]
    stream.close()


END = chunk({}, "stop")


@pytest.mark.parametrize(
    "events",
    [
        [b"[DONE]"],
        [b"{not json"],
        [b"[done]"],
        [chunk({"content": ""}), b"[DONE]"],
        [chunk(call_piece(0, "look_up")), b"[DONE]"],
        [chunk({"content": "x"}), chunk(call_piece(0, "look_up")), b"[DONE]"],
        [chunk({"content": "x"}), b"[DONE]", b"[DONE]"],
        [END, END],
        [END, chunk({"content": "x"})],
        [END, b"[DONE]", END],
        [chunk({}, "exploded")],
        [chunk(call_piece(0, "other"))],
        [chunk(call_piece(0, None, "x"))],
        [chunk({"tool_calls": [{"index": 0, "id": "c"}]})],
        [chunk({"tool_calls": [{"index": 128, "id": "c", "function": {"name": "look_up"}}]})],
        [{"choices": [{"index": 1, "delta": {"content": "x"}}]}],
        [{"choices": [{"index": 0}, {"index": 0}]}],
        [{"error": "SECRET"}],
        [{"choices": [], "usage": {"prompt_tokens": 2**53}}],
    ],
)
def test_what_may_not_come_is_an_error(events: list[object]) -> None:
    with pytest.raises(UpstreamError) as caught:
        receive(OpenAIStream(frozenset({"look_up"})), *events)
    assert "SECRET" not in caught.value.detail


@pytest.mark.parametrize("events", [[], [chunk({"content": "x"})], [END]])
def test_a_stream_that_ends_before_done_is_cut(events: list[object]) -> None:
    stream = OpenAIStream(frozenset())
    receive(stream, *events)
    with pytest.raises(UpstreamError, match="ended before"):
        stream.close()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"type": "rate_limit_error", "code": None}, ErrorCode.ERR_UPSTREAM_THROTTLED),
        ({"type": "x", "code": "rate_limit_exceeded"}, ErrorCode.ERR_UPSTREAM_THROTTLED),
        ({"type": "invalid_request_error"}, ErrorCode.ERR_UPSTREAM_REFUSED),
        ({"code": 500}, ErrorCode.ERR_UPSTREAM),
        ("words", ErrorCode.ERR_UPSTREAM),
    ],
)
def test_an_error_in_a_stream_keeps_its_class(error: object, code: ErrorCode) -> None:
    with pytest.raises(UpstreamError) as caught:
        receive(OpenAIStream(frozenset()), {"error": error})
    assert caught.value.code is code
    assert not caught.value.not_run


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_nothing_but_typed_errors_leaves(data: bytes) -> None:
    for read in (
        lambda: OpenAIStream(frozenset()).receive(EventMessage({}, data)),
        lambda: parse_openai_answer(data, frozenset()),
    ):
        try:
            read()
        except UpstreamError:
            continue
    assert isinstance(openai_error(HttpResponse(429, {"retry-after": "3"}, data)), UpstreamError)


def test_how_long_to_wait_is_read() -> None:
    assert openai_error(HttpResponse(429, {"retry-after": "3"}, b"")).retry_after_ms == 3_000
    told = {"retry-after": "3", "retry-after-ms": "250"}
    assert openai_error(HttpResponse(429, told, b"")).retry_after_ms == 250
    for value in ("", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT"):
        assert openai_error(HttpResponse(429, {"retry-after": value}, b"")).retry_after_ms is None
    long = openai_error(HttpResponse(503, {"retry-after": "999999"}, b"[]"))
    assert long.retry_after_ms == 120_000
