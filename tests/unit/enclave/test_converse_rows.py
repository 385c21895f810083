"""What goes to Converse by the row of the model: mapped, emulated, or refused by name."""

from __future__ import annotations

import json
from typing import cast

import pytest
from msgspec.structs import replace

from latensgate_enclave.aws.converse import build_converse_body
from latensgate_enclave.aws.converse_answer import ConverseReader
from latensgate_enclave.chat_operation import ChatModelRequest
from latensgate_enclave.chat_shape import PLAIN
from latensgate_enclave.chat_values import (
    Attachment,
    ChatRequest,
    Effort,
    Message,
    ReasoningBlock,
    ResponseFormat,
    ToolCall,
    ToolSpec,
    UnsupportedError,
)
from latensgate_enclave.http1 import HttpResponse
from latensgate_enclave.measured import ModelRoute
from latensgate_enclave.model_traits import Capability, ModelTraits
from latensgate_enclave.operation import Forwarding
from latensgate_shared.strict_json import JSONObject, JSONValue

USER = Message("user", ("x",))
ROUTE = ModelRoute("id", "us-east-1", "row")
LOOK_UP = ToolSpec("look_up", None, None)
CLOSED: JSONObject = {
    "type": "object",
    "properties": {"a": {"anyOf": [{"type": "object"}, {"type": "string"}]}, "b": True},
    "$defs": {"x": {"items": {"properties": {}}}},
    "additionalProperties": False,
}
OPEN: JSONObject = {"type": "object", "additionalProperties": True}


def asked(*messages: Message, **members: object) -> ChatRequest:
    return replace(ChatRequest("m", messages or (USER,)), **members)


def row(*words: Capability) -> ModelTraits:
    return ModelTraits(frozenset(words))


def lacking(*words: Capability) -> ModelTraits:
    return ModelTraits().without(*words)


def body(request: ChatRequest, traits: ModelTraits | None = None) -> JSONObject:
    made = build_converse_body(request, traits or ModelTraits())
    return cast("JSONObject", json.loads(made))


def member(value: JSONValue, *path: str | int) -> JSONValue:
    for step in path:
        if isinstance(step, int):
            assert isinstance(value, list)
            value = value[step]
        else:
            assert isinstance(value, dict)
            value = value[step]
    return value


def forwarded(request: ChatRequest, traits: ModelTraits) -> Forwarding:
    (call,) = ChatModelRequest(request).translate(ROUTE, traits)
    return call


def test_instructions_stay_in_the_middle_where_they_may() -> None:
    late = (Message("system", ("a",)), USER, Message("developer", ("b",)), Message("user", ("y",)))
    found = body(asked(*late))
    assert found["system"] == [{"text": "a"}]
    roles = [member(turn, "role") for turn in cast("list[JSONValue]", found["messages"])]
    assert roles == ["user", "system", "user"]
    moved = body(asked(*late), lacking("system_mid"))
    assert moved["system"] == [{"text": "a"}, {"text": "b"}]
    alone = body(asked(Message("system", ("a",)), Message("developer", ("b",))))
    assert alone["messages"] == [{"role": "user", "content": [{"text": "b"}]}]


def test_who_speaks_first_and_last() -> None:
    greeting = Message("assistant", ("hello",))
    found = body(asked(greeting, USER))
    assert member(found, "messages", 0) == {"role": "user", "content": [{"text": "(start)"}]}
    begun = asked(USER, greeting)
    assert member(body(begun), "messages", 1, "role") == "assistant"
    with pytest.raises(UnsupportedError):
        body(begun, lacking("prefill"))
    silent = Message("assistant", ())
    assert body(asked(USER, silent), lacking("prefill")) == body(asked(USER))


def test_attachments_stand_where_they_stood_and_their_names_say_nothing() -> None:
    places = {"image": "png", "document": "pdf", "audio": "wav"}
    attachments = tuple(
        Attachment(kind, form, "AAAA", None, 1, "p")  # type: ignore[arg-type]  # a test's words
        for kind, form in places.items()
    )
    told = Attachment("document", "txt", "", "\u00e9", 2, "p")
    found = body(asked(Message("user", ("a", "b"), attachments=(*attachments, told))))
    content = cast("list[JSONObject]", member(found, "messages", 0, "content"))
    assert [next(iter(block)) for block in content] == [
        "text", "image", "document", "audio", "text", "document",
    ]  # fmt: skip
    names = [member(block, "document", "name") for block in content if "document" in block]
    assert names == ["document 1", "document 2"]
    assert member(content[5], "document", "source", "bytes") == "w6k="
    alone = body(asked(Message("user", (), attachments=(told,))))
    assert member(alone, "messages", 0, "content", 1) == {"text": "(document)"}


def test_thoughts_go_back_in_front_with_their_signature() -> None:
    blocks = (ReasoningBlock("why", "c2ln"), ReasoningBlock(redacted="AAA="), ReasoningBlock("<X>"))
    call = ToolCall("call_0", "look_up", {})
    said = Message("assistant", ("a",), (call,), reasoning=blocks)
    request = asked(USER, said, Message("tool", ("r",), tool_call_id="call_0"), tools=(LOOK_UP,))
    assert member(body(request), "messages", 1, "content") == [
        {"reasoningContent": {"reasoningText": {"text": "why", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "AAA="}},
        {"reasoningContent": {"reasoningText": {"text": "<X>"}}},
        {"text": "a"},
        {"toolUse": {"toolUseId": "call_0", "name": "look_up", "input": {}}},
    ]
    assert "reasoningContent" not in json.dumps(body(request, lacking("reasoning_thinking")))


EFFORTS: list[tuple[Capability, Effort, JSONObject]] = [
    ("reasoning_effort", "minimal", {"outputConfig": {"effort": "low"}}),
    ("reasoning_effort", "max", {"outputConfig": {"effort": "max"}}),
    (
        "reasoning_thinking",
        "medium",
        {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 8_192}}},
    ),
    ("reasoning_thinking", "none", {}),
    (
        "reasoning_nova",
        "low",
        {
            "additionalModelRequestFields": {
                "reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}
            }
        },
    ),
    (
        "reasoning_nova",
        "none",
        {"additionalModelRequestFields": {"reasoningConfig": {"type": "disabled"}}},
    ),
    ("tools", "none", {}),
]


@pytest.mark.parametrize(("word", "effort", "members"), EFFORTS)
def test_an_effort_reaches_the_model_in_its_own_way(
    word: Capability, effort: Effort, members: JSONObject
) -> None:
    found = body(asked(reasoning_effort=effort), row(word))
    assert found == {**body(asked(), row(word)), **members}


@pytest.mark.parametrize(
    ("word", "members", "param"),
    [
        ("tools", {"reasoning_effort": "low"}, "reasoning_effort"),
        ("reasoning_effort", {"reasoning_effort": "none"}, "reasoning_effort"),
        ("reasoning_nova", {"reasoning_effort": "max"}, "reasoning_effort"),
        ("reasoning_nova", {"reasoning_effort": "high", "max_tokens": 5}, "reasoning_effort"),
        ("reasoning_thinking", {"reasoning_effort": "low", "temperature": 0.5}, "temperature"),
        ("reasoning_thinking", {"reasoning_effort": "low", "top_p": 0.5}, "temperature"),
        (
            "reasoning_thinking",
            {"reasoning_effort": "low", "max_tokens": 1_024},
            "max_completion_tokens",
        ),
        (
            "reasoning_thinking",
            {"reasoning_effort": "low", "tools": (LOOK_UP,), "tool_choice": "required"},
            "tool_choice",
        ),
    ],
)
def test_an_effort_that_cannot_be_is_refused_by_name(
    word: Capability, members: dict[str, object], param: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        body(asked(**members), row(word, "sampling", "tools", "forced_tools"))
    assert caught.value.param == param


def test_a_budget_stays_below_the_limit() -> None:
    for limit, budget in ((1_025, 1_024), (4_000, 2_000), (100_000, 16_384)):
        found = body(asked(reasoning_effort="high", max_tokens=limit), row("reasoning_thinking"))
        thinking = member(found, "additionalModelRequestFields", "thinking")
        assert member(thinking, "budget_tokens") == budget
    hard = body(asked(reasoning_effort="high"), row("reasoning_nova"))
    assert member(hard, "additionalModelRequestFields", "reasoningConfig", "type") == "enabled"


def test_parallel_calls_are_switched_off_where_the_model_can() -> None:
    single = asked(tools=(LOOK_UP,), parallel_tool_calls=False)
    off = {"disable_parallel_tool_use": True}
    for members, choice in (
        ({}, {"type": "auto"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        (
            {"tool_choice": "required", "forced_tool": "look_up"},
            {"type": "tool", "name": "look_up"},
        ),
    ):
        found = body(replace(single, **members))
        assert member(found, "additionalModelRequestFields", "tool_choice") == {**choice, **off}
        assert "toolChoice" not in cast("JSONObject", found["toolConfig"])
    assert "additionalModelRequestFields" not in body(single, lacking("parallel_off"))
    call = forwarded(single, ModelTraits())
    assert isinstance(call.reader, ConverseReader)
    assert call.reader.shape.single_call


def test_a_schema_goes_the_models_own_way() -> None:
    form = ResponseFormat(CLOSED, "n", "d", strict=True)
    found = body(asked(response_format=form))
    own = member(found, "outputConfig", "textFormat", "structure", "jsonSchema")
    told = json.loads(str(member(own, "schema")))
    assert (member(own, "name"), member(own, "description")) == ("n", "d")
    assert told["properties"]["a"]["anyOf"][0]["additionalProperties"] is False
    assert told["$defs"]["x"]["items"]["additionalProperties"] is False
    assert told["properties"]["b"] is True
    assert "toolConfig" not in found
    unnamed = body(asked(response_format=ResponseFormat(CLOSED)))
    assert "description" not in json.dumps(unnamed)


def test_a_schema_becomes_a_tool() -> None:
    for form, traits in (
        (ResponseFormat(CLOSED), lacking("json_schema")),
        (ResponseFormat(OPEN), ModelTraits()),
    ):
        found = body(asked(response_format=form), traits)
        assert member(found, "toolConfig", "toolChoice") == {"tool": {"name": "give_answer"}}
        spec = member(found, "toolConfig", "tools", 0, "toolSpec")
        assert member(spec, "inputSchema", "json") == form.schema
        assert member(spec, "description") == "Gives the answer."
        call = forwarded(asked(response_format=form), traits)
        assert isinstance(call.reader, ConverseReader)
        assert call.reader.shape.answer_tool == "give_answer"
        said: JSONObject = {
            "output": {
                "message": {
                    "content": [
                        {"toolUse": {"toolUseId": "t", "name": "give_answer", "input": {"a": 1}}}
                    ]
                }
            },
            "stopReason": "tool_use",
            "usage": {"inputTokens": 1, "outputTokens": 1},
        }
        answer = call.reader.whole(HttpResponse(200, {}, json.dumps(said).encode()))
        assert (answer.text, answer.tool_calls, answer.finish_reason) == (('{"a":1}',), (), "stop")


def test_a_schema_beside_tools_forces_one_of_all() -> None:
    clash = ToolSpec("give_answer", "d", None)
    request = asked(tools=(LOOK_UP, clash), response_format=ResponseFormat(CLOSED, description="d"))
    found = body(request, lacking("json_schema"))
    assert member(found, "toolConfig", "toolChoice") == {"any": {}}
    assert member(found, "toolConfig", "tools", 2, "toolSpec", "name") == "give_answer_"
    must_call = replace(request, tool_choice="required")
    assert len(cast("list[JSONValue]", member(body(must_call), "toolConfig", "tools"))) == 2
    call = forwarded(must_call, ModelTraits())
    assert isinstance(call.reader, ConverseReader)
    assert call.reader.shape == PLAIN
    none = replace(request, tool_choice="none", tools=(LOOK_UP,))
    tools = cast(
        "list[JSONValue]", member(body(none, lacking("json_schema")), "toolConfig", "tools")
    )
    assert [member(tool, "toolSpec", "name") for tool in tools] == ["give_answer"]


def test_a_schema_is_told_where_nothing_else_is_left() -> None:
    told = body(asked(response_format=ResponseFormat(CLOSED)), row("sampling"))
    assert json.dumps(CLOSED["properties"], separators=(",", ":")) in str(
        member(told, "system", 0, "text")
    )
    anything = asked(response_format=ResponseFormat())
    assert "JSON object" in str(member(body(anything), "system", 0, "text"))
    call = forwarded(anything, ModelTraits())
    assert isinstance(call.reader, ConverseReader)
    assert call.reader.shape.check_json
    no_object = asked(response_format=ResponseFormat({"anyOf": [OPEN]}))
    assert "toolConfig" not in body(no_object)
    strict = asked(response_format=ResponseFormat(CLOSED, strict=True))
    with pytest.raises(UnsupportedError) as caught:
        body(strict, row("sampling"))
    assert caught.value.param == "response_format"


def test_what_this_model_is_not_sent_is_listed() -> None:
    strict = replace(LOOK_UP, strict=True)
    form = ResponseFormat(CLOSED, strict=True)
    request = asked(tools=(strict,), response_format=form)
    assert forwarded(request, ModelTraits()).dropped == ()
    call = forwarded(request, lacking("strict_tools", "json_schema"))
    assert call.dropped == ("response_format.json_schema.strict", "tools.function.strict")
    assert b"strict" not in call.body
    plain = forwarded(asked(), lacking("strict_tools"))
    assert plain.dropped == ()


def test_blank_stop_sequences_are_cut_here() -> None:
    call = forwarded(asked(stop=("\n\n", "END")), ModelTraits())
    assert json.loads(call.body)["inferenceConfig"] == {"stopSequences": ["END"]}
    assert isinstance(call.reader, ConverseReader)
    assert call.reader.shape.stops == ("\n\n",)


def test_tiers_and_several_answers() -> None:
    request = asked(service_tier="flex", n=3)
    calls = ChatModelRequest(request).translate(ROUTE, ModelTraits())
    assert len(calls) == 3
    assert json.loads(calls[0].body)["serviceTier"] == {"type": "flex"}


def test_a_model_without_tools_in_streams_is_asked_for_the_whole_answer() -> None:
    llama = lacking("tools_streaming")
    assert forwarded(asked(stream=True, tools=(LOOK_UP,)), llama).whole
    assert not forwarded(asked(stream=True), llama).whole
    assert not forwarded(asked(tools=(LOOK_UP,)), llama).whole
    assert not forwarded(asked(stream=True, tools=(LOOK_UP,)), ModelTraits()).whole
    by_tool = asked(stream=True, response_format=ResponseFormat(OPEN))
    assert forwarded(by_tool, llama).whole
