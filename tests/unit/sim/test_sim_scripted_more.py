"""The scripted model looks at requests and schemas only: attachments, thoughts, tools, JSON."""

from __future__ import annotations

import json
import threading

import pytest

from latensgate_sim.converse import ConverseRequest, parse_converse
from latensgate_sim.errors import AWSError
from latensgate_sim.models import (
    CATALOGUE,
    Event,
    ModelCard,
    ScriptedModel,
    Thought,
    ToolCall,
    joined,
    signature_of,
)


def request(*content: object, **members: object) -> ConverseRequest:
    messages = members.pop("messages", [{"role": "user", "content": list(content)}])
    return parse_converse("m", json.dumps({"messages": messages, **members}).encode())


def answered(asked: ConverseRequest) -> list[Event]:
    return list(ScriptedModel().run(asked, threading.Event()))


def called(asked: ConverseRequest) -> list[str]:
    return [each.name for each in answered(asked) if isinstance(each, ToolCall)]


def tool(name: str, description: str = "-") -> object:
    spec = {"name": name, "description": description, "inputSchema": {"json": {"type": "object"}}}
    return {"toolSpec": spec}


TEXT = {"text": "What is the weather in Paris?"}
DOCUMENT = {"document": {"name": "document 1", "format": "pdf", "source": {"bytes": "AAAA"}}}


def test_documents_are_acknowledged() -> None:
    assert joined(answered(request(TEXT, DOCUMENT))).endswith("[document pdf]")


@pytest.mark.parametrize(
    "block",
    [
        {"image": {"format": "bmp", "source": {"bytes": "AAAA"}}},
        {"image": {"format": "png", "source": {"bytes": ""}}},
        {"image": {"format": "png", "source": {"bytes": "?"}}},
        {"document": {"name": "my_plan.pdf", "format": "pdf", "source": {"bytes": "AAAA"}}},
    ],
)
def test_attachments_are_checked(block: object) -> None:
    with pytest.raises(AWSError):
        request(TEXT, block)


def test_a_document_needs_a_text() -> None:
    with pytest.raises(AWSError):
        request(DOCUMENT)


def test_tools_are_called_by_what_they_are_for_whatever_their_names_are() -> None:
    for name in ("get_weather", "zq_1"):
        tools = {"tools": [tool(name, "Tells the weather of a town."), tool("other")]}
        calls = [
            each for each in answered(request(TEXT, toolConfig=tools)) if isinstance(each, ToolCall)
        ]
        assert [call.name for call in calls] == [name]
    both = {"tools": [tool("weather"), tool("paris")]}
    assert (
        len([e for e in answered(request(TEXT, toolConfig=both)) if isinstance(e, ToolCall)]) == 2
    )
    single = {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    one = request(TEXT, toolConfig=both, additionalModelRequestFields=single)
    assert called(one) == ["weather"]


def test_claudes_own_choice_forces_a_tool() -> None:
    tools = {"tools": [tool("a_tool"), tool("b_tool")]}
    for choice, name in (
        ({"type": "any"}, "a_tool"),
        ({"type": "tool", "name": "b_tool"}, "b_tool"),
    ):
        asked = request(
            {"text": "x"}, toolConfig=tools, additionalModelRequestFields={"tool_choice": choice}
        )
        (call, _) = answered(asked)
        assert isinstance(call, ToolCall)
        assert call.name == name
    with pytest.raises(AWSError):
        request(
            {"text": "x"},
            toolConfig=tools,
            additionalModelRequestFields={"tool_choice": {"type": "tool", "name": "c"}},
        )


@pytest.mark.parametrize(
    ("members", "way"),
    [
        ({"outputConfig": {"effort": "low"}}, "effort"),
        (
            {"additionalModelRequestFields": {"reasoningConfig": {"type": "enabled"}}},
            "nova",
        ),
        (
            {
                "additionalModelRequestFields": {
                    "thinking": {"type": "enabled", "budget_tokens": 1_024}
                }
            },
            "thinking",
        ),
    ],
)
def test_it_thinks_when_asked(members: dict[str, object], way: str) -> None:
    asked = request(TEXT, **members)
    assert asked.thinking == way
    thought = answered(asked)[0]
    assert isinstance(thought, Thought)
    assert thought.signature == signature_of(thought.text)
    ModelCard(thinks=way).check(asked, stream=False)
    with pytest.raises(AWSError):
        ModelCard().check(asked, stream=False)


def test_what_a_card_lacks_is_refused() -> None:
    nothing = ModelCard(media=False, output_schema=False, context_tokens=20)
    schema = {"type": "json_schema", "structure": {"jsonSchema": {"schema": '{"type": "object"}'}}}
    system = {"role": "system", "content": [{"text": "x"}]}
    turns = [{"role": "user", "content": [TEXT]}, system]
    for asked in (
        request(TEXT, DOCUMENT),
        request(TEXT, outputConfig={"textFormat": schema}),
        request(messages=turns),
        request({"text": "word " * 100}),
    ):
        with pytest.raises(AWSError):
            nothing.check(asked, stream=False)
    assert CATALOGUE["us.anthropic.claude-sonnet-5-5"].mid_system


@pytest.mark.parametrize(
    "members",
    [
        {"serviceTier": {"type": "express"}},
        {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1}}},
    ],
)
def test_members_are_checked(members: dict[str, object]) -> None:
    with pytest.raises(AWSError):
        request(TEXT, **members)


def test_a_schema_in_the_instructions_is_followed() -> None:
    schema = '{"type": "object", "properties": {"town": {"type": "string"}}}'
    for text, names in (
        (f"Answer with one JSON object: {schema}", {"town"}),
        ("Answer with one JSON object.", {"answer"}),
    ):
        told = joined(answered(request(TEXT, system=[{"text": "Be kind."}, {"text": text}])))
        assert json.loads(told).keys() == names


def test_thoughts_must_come_back_unchanged() -> None:
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1_024}}
    use: object = {"toolUse": {"toolUseId": "t", "name": "a_tool", "input": dict[str, str]()}}
    result = {"toolResult": {"toolUseId": "t", "content": [{"text": "r"}]}}
    card = ModelCard(thinks="thinking")

    def asked(*said: object) -> ConverseRequest:
        turns = [
            {"role": "user", "content": [TEXT]},
            {"role": "assistant", "content": list(said)},
            {"role": "user", "content": [result]},
        ]
        tools = {"tools": [tool("a_tool")]}
        return request(messages=turns, toolConfig=tools, additionalModelRequestFields=thinking)

    def thought(text: str, signature: str) -> object:
        return {"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}}

    card.check(asked(thought("x", signature_of("x")), use), stream=False)
    for said in ((use,), (thought("y", signature_of("x")), use)):
        with pytest.raises(AWSError):
            card.check(asked(*said), stream=False)
