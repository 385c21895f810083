"""Recorded Bedrock answers and OpenAI requests, with botocore as the judge of both directions."""

from __future__ import annotations

import json
from functools import cache
from typing import cast

import botocore.session
import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.model import OperationModel
from botocore.validate import ParamValidator

from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.aws.converse import build_converse_body
from latensgate_enclave.aws.converse_answer import ConverseStream, parse_converse_answer
from latensgate_enclave.aws.eventstream import EventMessage, EventStreamDecoder, EventStreamError
from latensgate_enclave.chat import (
    RequestInvalidError,
    ToolCall,
    parse_chat_request,
)
from latensgate_enclave.chat_answer import (
    ChatAnswer,
    ChatDelta,
    Finished,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    Usage,
)
from latensgate_enclave.model_traits import ModelTraits
from latensgate_shared.strict_json import parse_json_object
from paths import published

STREAMS = ["basic.bin", "reasoning.bin", "tool.bin"]


def recorded(name: str) -> bytes:
    return published("llm", "bedrock-responses", name).read_bytes()


def by_botocore(data: bytes) -> list[tuple[object, bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(message.headers, message.payload) for message in buffer]


@pytest.mark.parametrize("name", STREAMS)
def test_every_split_decodes_as_botocore_does(name: str) -> None:
    data = recorded(name)
    expected = by_botocore(data)
    assert expected
    for at in range(len(data) + 1):
        decoder = EventStreamDecoder()
        found = decoder.receive(data[:at]) + decoder.receive(data[at:])
        decoder.close()
        assert [(message.headers, message.payload) for message in found] == expected
    decoder = EventStreamDecoder()
    bytewise: list[EventMessage] = []
    for at in range(len(data)):
        bytewise += decoder.receive(data[at : at + 1])
    assert [(message.headers, message.payload) for message in bytewise] == expected


def test_broken_checksum() -> None:
    with pytest.raises(EventStreamError, match="checksum"):
        EventStreamDecoder().receive(recorded("broken-checksum.bin"))


RECORDED_TOOLS = frozenset({"top_song", "hello"})


def translated(name: str) -> list[ChatDelta]:
    decoder, stream = EventStreamDecoder(), ConverseStream(offered=RECORDED_TOOLS)
    deltas = [d for message in decoder.receive(recorded(name)) for d in stream.receive(message)]
    decoder.close()
    stream.close()
    return deltas


def text_of(deltas: list[ChatDelta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


@pytest.mark.parametrize("name", STREAMS)
def test_streams_translate_to_what_their_payloads_say(name: str) -> None:
    payloads = [json.loads(payload) for _, payload in by_botocore(recorded(name))]
    deltas = translated(name)
    assert text_of(deltas) == "".join(each.get("delta", {}).get("text", "") for each in payloads)
    arguments = "".join(each.arguments for each in deltas if isinstance(each, ToolCallDelta))
    inputs = (each.get("delta", {}).get("toolUse", {}).get("input", "") for each in payloads)
    assert arguments == "".join(inputs)
    assert isinstance(deltas[-2], Finished)
    usage = payloads[-1]["usage"]
    assert isinstance(deltas[-1], Usage)
    assert deltas[-1].prompt_tokens + deltas[-1].completion_tokens == usage["totalTokens"]


def test_tool_stream() -> None:
    deltas = translated("tool.bin")
    begun = [delta for delta in deltas if isinstance(delta, ToolCallBegun)]
    assert [each.index for each in begun] == list(range(len(begun)))
    assert begun
    for each in begun:
        pieces = [
            d.arguments for d in deltas if isinstance(d, ToolCallDelta) and d.index == each.index
        ]
        assert isinstance(json.loads("".join(pieces)), dict)
    assert Finished("tool_calls") in deltas


def test_unary_answers() -> None:
    assert parse_converse_answer(recorded("basic.json"), offered=frozenset()) == ChatAnswer(
        ("Hello world",), (), "stop", Usage(18, 46), size_bytes=len(recorded("basic.json"))
    )
    assert (
        parse_converse_answer(recorded("max_tokens.json"), offered=frozenset()).finish_reason
        == "length"
    )
    reasoning = parse_converse_answer(recorded("reasoning.json"), offered=frozenset())
    assert reasoning.text == ("The answer is 4.",)
    (thought,) = reasoning.reasoning
    said = json.loads(recorded("reasoning.json"))["output"]["message"]["content"][0]
    assert thought.text == said["reasoningContent"]["reasoningText"]["text"]
    cached = parse_converse_answer(recorded("cache_write.json"), offered=frozenset()).usage
    assert cached == Usage(2403, 9, 0, 2387)  # 2,412 in all, as the answer's totalTokens says


def test_unary_tool_answer() -> None:
    # The recording was cut: it lacks the usage that Converse always sends.
    with pytest.raises(UpstreamError):
        parse_converse_answer(recorded("tool.json"), offered=RECORDED_TOOLS)
    whole = json.loads(recorded("tool.json"))
    whole["usage"] = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
    found = parse_converse_answer(json.dumps(whole).encode(), offered=RECORDED_TOOLS)
    assert found.tool_calls == (
        ToolCall("tooluse_kZJMlvQmRJ6eAyJE5GIl7Q", "top_song", {"sign": "WZPZ"}),
        ToolCall("tooluse_kZJMlvQmRJ6eAyxxx", "hello", {"sign": "world"}),
    )
    assert (found.text, found.finish_reason) == ((), "tool_calls")


CLAUDE = ModelTraits().without("reasoning_effort", "reasoning_nova")


@cache
def converse_model() -> OperationModel:
    session = botocore.session.Session()
    return session.get_service_model("bedrock-runtime").operation_model("Converse")


@pytest.mark.parametrize(
    "name",
    [
        "basic.json",
        "image-inline.json",
        "multi-turn-tools.json",
        "parallel-tool-call.json",
        "reasoning.json",
        "structured-output.json",
        "tool-call.json",
    ],
)
def test_requests_are_valid_to_botocore(name: str) -> None:
    data = published("llm", "openai-requests", name).read_bytes()
    request = parse_chat_request(parse_json_object(data, max_bytes=len(data)))
    body = json.loads(build_converse_body(request, CLAUDE))
    shape = converse_model().input_shape
    assert shape is not None
    report = ParamValidator().validate({"modelId": "m", **body}, shape)
    assert not report.has_errors(), report.generate_report()
    members = cast("dict[str, object]", shape.members)
    assert set(body) <= set(members)
    roles = [turn["role"] for turn in body["messages"]]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2)
    assert ("toolConfig" in body) == ("tool" in name)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({}, "functions"),
        ({"functions": [], "function_call": None, "tool_choice": "auto"}, "frequency_penalty"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(members: dict[str, object], param: str) -> None:
    body = json.loads(published("llm", "openai-requests", "full.json").read_bytes()) | members
    with pytest.raises(RequestInvalidError) as caught:
        build_converse_body(parse_chat_request(body), CLAUDE)
    assert caught.value.param == param
