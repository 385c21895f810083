"""The chat request: what is honoured, refused by name, dropped and listed."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latensgate_enclave.chat import (
    ChatRequest,
    Message,
    RequestInvalidError,
    ToolCall,
    ToolSpec,
    UnsupportedError,
    parse_chat_request,
)
from latensgate_shared.errors import ErrorCode, TooLargeError
from latensgate_shared.limits import PII_REQUEST_MAX_CHARS
from latensgate_shared.strict_json import JSONObject, JSONValue

ARGUMENTS = "messages[1].tool_calls[0].function.arguments"
USER: JSONObject = {"role": "user", "content": "hello"}
TOOL: JSONObject = {"type": "function", "function": {"name": "look_up"}}


def call(call_id: str = "c1", arguments: str = "{}") -> JSONObject:
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": "look_up", "arguments": arguments},
    }


def calls(*made: JSONValue) -> JSONObject:
    return {"role": "assistant", "content": None, "tool_calls": list(made)}


def result(call_id: str = "c1", content: str = "found") -> JSONObject:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def parse(*messages: JSONValue, **members: JSONValue) -> ChatRequest:
    return parse_chat_request({"model": "m", "messages": list(messages or (USER,)), **members})


def test_smallest() -> None:
    assert parse() == ChatRequest("m", (Message("user", ("hello",)),))


def test_everything_honoured() -> None:
    schema: JSONObject = {"type": "object"}
    function: JSONObject = {
        "name": "look_up",
        "description": "Looks up.",
        "parameters": schema,
        "strict": True,
    }
    found = parse(
        {"role": "system", "content": [{"type": "text", "text": "one"}]},
        {"role": "developer", "content": "two"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": " "}]},
        calls(call(arguments='{"q": [1]}'), call("c2", "")),
        result(),
        result("c2", ""),
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "b"}, {"type": "refusal", "refusal": "no"}],
            "refusal": "never",
            "annotations": [],
        },
        max_completion_tokens=5,
        temperature=1,
        top_p=0.5,
        stop="END",
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
        tools=[{"type": "function", "function": function}],
        tool_choice="auto",
    )
    assert found == ChatRequest(
        model="m",
        messages=(
            Message("system", ("one",)),
            Message("developer", ("two",)),
            Message("user", ("a",)),
            Message(
                "assistant",
                (),
                (ToolCall("call_0", "look_up", {"q": [1]}), ToolCall("call_1", "look_up", {})),
            ),
            Message("tool", ("found",), tool_call_id="call_0"),
            Message("tool", (), tool_call_id="call_1"),
            Message("assistant", ("b", "no", "never")),
        ),
        tools=(ToolSpec("look_up", "Looks up.", schema, strict=True),),
        tool_choice="auto",
        max_tokens=5,
        temperature=1.0,
        top_p=0.5,
        stop=("END",),
        stream=True,
        include_usage=True,
        obfuscate=False,
    )


def test_nulls_are_absent() -> None:
    nulls: dict[str, JSONValue] = dict.fromkeys(("temperature", "audio", "tools", "stop", "user"))
    message: JSONObject = {**USER, "name": None, "audio": None, "refusal": None}
    assert parse(message, **nulls) == parse()
    function: JSONObject = {"name": "f", "description": None, "parameters": None, "strict": None}
    assert parse(tools=[{"type": "function", "function": function}]).tools == (
        ToolSpec("f", None, None),
    )


def test_defaults_of_what_we_cannot_do_are_taken() -> None:
    defaults: dict[str, JSONValue] = {
        "n": 1,
        "logprobs": False,
        "top_logprobs": 0,
        "verbosity": "medium",
        "tool_choice": None,
        "functions": [],
        "stream_options": None,
        "presence_penalty": 0.0,
        "frequency_penalty": 0,
        "logit_bias": {},
        "modalities": ["text"],
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
        "service_tier": "auto",
        "store": False,
    }
    assert parse(**defaults) == parse()


def test_dropped_fields_are_listed() -> None:
    found = parse({**USER, "name": "Ada"}, user="u", metadata={"a": "b"}, safety_identifier="s")
    assert found.dropped == ("messages.name", "metadata", "safety_identifier", "user")


UNSUPPORTED: list[tuple[dict[str, JSONValue], str]] = [
    ({"made_up": 1}, "made_up"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
    ({"tools": [{**TOOL, "cache": 1}]}, "tools[0].cache"),
    ({"tools": [TOOL], "tool_choice": {"type": "custom"}}, "tool_choice.type"),
    ({"response_format": {"type": "grammar"}}, "response_format.type"),
    ({"service_tier": "scale"}, "service_tier"),
    ({"reasoning_effort": "much"}, "reasoning_effort"),
    ({"modalities": ["text", "smell"]}, "modalities[1]"),
    ({"moderation": {"model": "x", "words": "y"}}, "moderation.words"),
    ({"web_search_options": {"site": "x"}}, "web_search_options.site"),
    ({"verbosity": "huge"}, "verbosity"),
    ({"tool_choice": "maybe"}, "tool_choice"),
    ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
]


@pytest.mark.parametrize(("members", "param"), UNSUPPORTED)
def test_unsupported_names_its_field(members: dict[str, JSONValue], param: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        parse(**members)
    assert caught.value.param == param
    assert caught.value.code is ErrorCode.ERR_UNSUPPORTED


UNSUPPORTED_MESSAGES: list[tuple[JSONObject, str]] = [
    (
        {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]},
        "messages[0].content[0].cache_control",
    ),
    ({**USER, "audio": {"id": "x"}}, "messages[0].audio"),
]


@pytest.mark.parametrize(("message", "param"), UNSUPPORTED_MESSAGES)
def test_unsupported_in_messages(message: JSONObject, param: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        parse(message)
    assert caught.value.param == param


INVALID: list[tuple[dict[str, JSONValue], str]] = [
    ({"model": ""}, "model"),
    ({"model": "x" * 257}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": "x"}, "messages"),
    ({"messages": [1]}, "messages[0]"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 0, "max_completion_tokens": 1}, "max_tokens"),
    ({"logprobs": 0}, "logprobs"),
    ({"store": 1}, "store"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"logit_bias": {"1": 101}}, "logit_bias[...]"),
    ({"frequency_penalty": 2.5}, "frequency_penalty"),
    ({"seed": 2**63}, "seed"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
    ({"n": 0}, "n"),
    ({"n": True}, "n"),
    ({"n": 9}, "n"),
    ({"tools": [TOOL], "functions": [{"name": "f"}]}, "functions"),
    ({"functions": [{"name": "f"}, {"name": "f"}]}, "functions"),
    ({"tools": [TOOL], "function_call": "auto", "tool_choice": "none"}, "function_call"),
    ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "tool_choice"),
    (
        {
            "tools": [TOOL],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "auto",
                    "tools": [{"type": "function", "function": {"name": "x"}}],
                },
            },
        },
        "tool_choice",
    ),
    ({"stop": ""}, "stop"),
    ({"stop": ["a", "a", "a", "a", "a"]}, "stop"),
    ({"stop": " " * 513}, "stop"),
    ({"stop": ["a", " " * 513]}, "stop[1]"),
    ({"stream": 1}, "stream"),
    ({"tools": [TOOL, TOOL]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "a\n"}}]}, "tools[0].function.name"),
    ({"tools": list[JSONValue]([TOOL] * 129)}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
]


@pytest.mark.parametrize(("members", "param"), INVALID)
def test_invalid_names_its_field(members: dict[str, JSONValue], param: str) -> None:
    with pytest.raises(RequestInvalidError) as caught:
        parse(**members)
    assert caught.value.param == param
    assert caught.value.code is ErrorCode.ERR_REQUEST_INVALID


TOOL_TURNS: list[tuple[list[JSONValue], str]] = [
    ([USER, result()], "messages[1].tool_call_id"),
    ([USER, calls(call())], "messages"),
    ([USER, calls(call()), USER], "messages[2]"),
    ([USER, calls(call()), result("other")], "messages[2].tool_call_id"),
    ([USER, calls(call()), result(), result()], "messages[3].tool_call_id"),
    ([USER, calls(call(), call()), result()], "messages[1].tool_calls"),
    ([USER, calls(call(arguments="{")), result()], ARGUMENTS),
    ([USER, calls(call(arguments="[]")), result()], ARGUMENTS),
    ([USER, calls(call(arguments="\ud800")), result()], ARGUMENTS),
    ([USER, calls(call("x" * 65)), result()], "messages[1].tool_calls[0].id"),
    ([USER, calls(call("a b")), result()], "messages[1].tool_calls[0].id"),
]


@pytest.mark.parametrize(("messages", "param"), TOOL_TURNS)
def test_tool_turns(messages: list[JSONValue], param: str) -> None:
    with pytest.raises(RequestInvalidError) as caught:
        parse(*messages)
    assert caught.value.param == param


def test_named_tool() -> None:
    found = parse(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "look_up"}})
    assert (found.tool_choice, found.forced_tool) == ("required", "look_up")


def test_no_content_in_repr_or_error() -> None:
    shown = repr(
        parse(
            {"role": "user", "content": "S3CRET"}, calls(call(arguments='{"a":"S3CRET"}')), result()
        )
    )
    assert "S3CRET" not in shown
    with pytest.raises(RequestInvalidError) as caught:
        parse({"role": "S3CRET", "content": "S3CRET"}, S3CRET="S3CRET")
    assert "S3CRET" not in str(caught.value)


def test_param_is_bounded() -> None:
    with pytest.raises(UnsupportedError) as caught:
        parse(**{"x" * 10_000: 1})
    assert len(caught.value.param) == 256


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=8,
)  # fmt: skip
FIELDS = st.sampled_from(
    ["model", "messages", "tools", "tool_choice", "stop", "stream", "n", "temperature", "role",
     "content", "type", "text", "function", "name", "arguments", "tool_calls", "tool_call_id", "id"]
)  # fmt: skip


# Tables of all characters are made at the first draw: seconds on a machine without them.
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(FIELDS, JSON), st.lists(st.dictionaries(FIELDS, JSON), max_size=3))
def test_only_typed_errors(members: JSONObject, messages: list[JSONValue]) -> None:
    bodies: list[JSONObject] = [
        members,
        {"model": "m", "messages": [USER, *messages]},
        {**members, "messages": messages},
    ]
    for body in bodies:
        with suppress(RequestInvalidError):
            parse_chat_request(body)


def test_arguments_of_all_calls_together_are_bounded() -> None:
    half = '{"a":"' + "x" * (PII_REQUEST_MAX_CHARS // 2) + '"}'
    with pytest.raises(TooLargeError, match="the arguments of all tool calls") as caught:
        parse(USER, calls(call("c1", half), call("c2", half)), result("c1"), result("c2"))
    assert caught.value.code is ErrorCode.ERR_TOO_LARGE
    parse(USER, calls(call("c1", half)), result("c1"))


def test_call_ids_are_ours_and_keep_their_pairs() -> None:
    """They are free text of the caller, which nobody scans."""
    asked = calls(call("bob.example.com"), call("call_0"))
    request = parse(USER, asked, result("call_0"), result("bob.example.com"))
    assert [each.id for each in request.messages[1].tool_calls] == ["call_0", "call_1"]
    assert [each.tool_call_id for each in request.messages[2:]] == ["call_1", "call_0"]
