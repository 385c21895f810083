"""Converse requests, the scripted model, the local model."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, cast

import pytest

from latensgate_sim import local_model
from latensgate_sim.converse import ConverseRequest, parse_converse
from latensgate_sim.errors import AWSError
from latensgate_sim.local_model import LocalModel, ModelNotInstalledError
from latensgate_sim.models import (
    CATALOGUE,
    Event,
    Model,
    ScriptedModel,
    Stop,
    TextPiece,
    ToolCall,
    joined,
    sample,
    split_tokens,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from latensgate_sim.converse import Object
    from latensgate_sim.local_model import Chunk

SCHEMA: Object = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"toolSpec": {"name": "get_weather", "inputSchema": {"json": SCHEMA}}}


def message(role: str, *blocks: object) -> dict[str, object]:
    return {
        "role": role,
        "content": [{"text": block} if isinstance(block, str) else block for block in blocks],
    }


def request(*texts: str, **members: object) -> ConverseRequest:
    messages = [message("user", text) for text in texts]
    return parse_converse("m", json.dumps({"messages": messages, **members}).encode())


def run(model: Model, asked: ConverseRequest) -> list[Event]:
    return list(model.run(asked, threading.Event()))


def stop(events: list[Event]) -> Stop:
    assert isinstance(events[-1], Stop)
    return events[-1]


def test_tokens_join_to_the_text_again() -> None:
    text = "Ein  längerer Satz,\nmit <PERSON_1> und 日本語\t!"
    assert "".join(split_tokens(text)) == text


def test_scripted_stops_where_it_is_told_to() -> None:
    cut = run(ScriptedModel(), request("alpha beta gamma", inferenceConfig={"maxTokens": 3}))
    assert (joined(cut), stop(cut).reason, stop(cut).output_tokens) == (
        "You said:",
        "max_tokens",
        3,
    )
    stopped = run(
        ScriptedModel(), request("alpha beta", inferenceConfig={"stopSequences": ["beta", "zzz"]})
    )
    assert (joined(stopped), stop(stopped).reason) == ("You said: alpha ", "stop_sequence")


def test_scripted_counts_by_its_rule() -> None:
    events = run(ScriptedModel(), request("one two", system=[{"text": "be brief"}]))
    # "be", " brief", "one", " two", four for the turn
    assert stop(events).input_tokens == 8
    assert stop(events).output_tokens == len(split_tokens("You said: one two"))


def test_scripted_is_deterministic_and_cancellable() -> None:
    asked = request("x", toolConfig={"tools": [TOOL], "toolChoice": {"any": {}}})
    assert run(ScriptedModel(), asked) == run(ScriptedModel(), asked)
    cancelled = threading.Event()
    cancelled.set()
    assert list(ScriptedModel().run(request("x"), cancelled)) == []


def test_scripted_answers_in_a_schema() -> None:
    config = {
        "textFormat": {
            "type": "json_schema",
            "structure": {"jsonSchema": {"schema": json.dumps(SCHEMA), "name": "n"}},
        }
    }
    events = run(ScriptedModel(), request("Oslo", outputConfig=config))
    assert json.loads(joined(events)) == {"city": "Oslo"}
    assert request("x", outputConfig={"effort": "low"}).output_schema is None


def test_scripted_tool_choice() -> None:
    named = {"tools": [TOOL], "toolChoice": {"tool": {"name": "get_weather"}}}
    call = run(ScriptedModel(), request("x", toolConfig=named))[0]
    assert isinstance(call, ToolCall)
    assert call.arguments == {"city": "x"}
    unasked = run(ScriptedModel(), request("x", toolConfig={"tools": [TOOL]}))
    assert joined(unasked) == "You said: x"


def test_scripted_image_only() -> None:
    image = {"image": {"format": "png", "source": {"bytes": "AAAA"}}}
    body = {"messages": [message("user", image)]}
    asked = parse_converse("m", json.dumps(body).encode())
    assert joined(run(ScriptedModel(), asked)) == "You said:  [image png]"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"const": 7}, 7),
        ({"enum": ["a", "b"]}, "a"),
        ({"type": ["string", "null"], "maxLength": 2}, "te"),
        ({"type": "string", "minLength": 6}, "textxx"),
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "number"}, 1),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
        ({"type": "array"}, ["text"]),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, True),
        ({"$defs": {"a": {"const": 1}}, "properties": {"b": {"$ref": "#/$defs/a"}}}, {"b": 1}),
    ],
)
def test_samples_of_schemas(schema: Object, value: object) -> None:
    assert sample(schema, "text") == value


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"$ref": "#/$defs/none"}])
def test_schemas_without_a_sample(schema: Object) -> None:
    with pytest.raises(AWSError, match="JSON schema"):
        sample(schema, "text")


TOOL_USE: object = {"toolUse": {"toolUseId": "t1", "name": "get_weather", "input": {}}}
TOOL_RESULT = {"toolResult": {"toolUseId": "t1", "content": [{"json": {"rain": True}}]}}


def test_tool_results_reach_the_answer() -> None:
    body = {
        "messages": [
            message("user", "x"),
            message("assistant", TOOL_USE),
            message("user", TOOL_RESULT),
        ],
        "toolConfig": {"tools": [TOOL, {"cachePoint": {"type": "default"}}]},
    }
    asked = parse_converse("m", json.dumps(body).encode())
    assert joined(run(ScriptedModel(), asked)) == 'Tool result: {"rain": true}'


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": 7},
        {"messages": [message("assistant", "x")]},
        {"messages": [message("system", "x")]},
        {"messages": [message("user", "x"), message("user", "y")]},
        {"messages": [message("user", "x"), message("assistant", "y")]},
        {"messages": [message("user", " ")]},
        {"messages": [message("user")]},
        {"messages": [message("user", {"text": "x", "image": {}})]},
        {"messages": [message("user", {"surprise": {}})]},
        {"messages": [message("user", "x")], "surprise": 1},
        {"messages": [message("user", "x")], "inferenceConfig": {"topK": 1}},
        {"messages": [message("user", "x")], "inferenceConfig": {"maxTokens": 0}},
        {"messages": [message("user", "x")], "inferenceConfig": {"temperature": 1.5}},
        {"messages": [message("user", "x")], "inferenceConfig": {"topP": True}},
        {"messages": [message("user", "x")], "toolConfig": {"tools": []}},
        {"messages": [message("user", "x")], "toolConfig": {"tools": [TOOL, TOOL]}},
        {
            "messages": [message("user", "x")],
            "toolConfig": {"tools": [TOOL], "toolChoice": {"tool": {"name": "other"}}},
        },
        {
            "messages": [message("user", "x")],
            "toolConfig": {
                "tools": [{"toolSpec": {"name": "a b", "inputSchema": {"json": SCHEMA}}}]
            },
        },
        {
            "messages": [message("user", "x")],
            "toolConfig": {
                "tools": [{"toolSpec": {"name": "a", "inputSchema": {"json": {"type": 1}}}}]
            },
        },
        {
            "messages": [
                message("user", "x"),
                message("assistant", TOOL_USE),
                message("user", TOOL_RESULT),
            ]
        },
        {
            "messages": [
                message("user", "x"),
                message("assistant", TOOL_USE),
                message("user", "no result"),
            ],
            "toolConfig": {"tools": [TOOL]},
        },
    ],
)
def test_what_bedrock_refuses_is_refused(body: object) -> None:
    with pytest.raises(AWSError) as error:
        parse_converse("m", json.dumps(body).encode())
    assert error.value.code == "ValidationException"


def test_not_json() -> None:
    with pytest.raises(AWSError) as error:
        parse_converse("m", b"{")
    assert error.value.code == "SerializationException"


def test_models_differ() -> None:
    newest = CATALOGUE["us.anthropic.claude-sonnet-5-5"]
    llama = CATALOGUE["us.meta.llama4-maverick-17b-instruct-v1:0"]
    tools = {"tools": [TOOL]}
    with pytest.raises(AWSError, match="temperature"):
        newest.check(request("x", inferenceConfig={"temperature": 0.5}), stream=False)
    with pytest.raises(AWSError, match="toolChoice"):
        newest.check(request("x", toolConfig={**tools, "toolChoice": {"any": {}}}), stream=False)
    with pytest.raises(AWSError, match="streaming"):
        llama.check(request("x", toolConfig=tools), stream=True)
    llama.check(request("x", toolConfig=tools), stream=False)


class FakeEngine:
    """Plays llama.cpp: sends chunks until it is told to stop."""

    def __init__(self, *contents: str, finish: str = "stop") -> None:
        self.contents = contents
        self.finish = finish
        self.asked: dict[str, object] = {}

    def handle_chat_completions(
        self, request: dict[str, object], callback: Callable[[Chunk], bool]
    ) -> object:
        self.asked = request
        if self.finish == "crash":
            raise RuntimeError("engine")
        for count, content in enumerate(self.contents, 1):
            timings: dict[str, object] = {"prompt_n": 5, "cache_n": 2, "predicted_n": count}
            choice: dict[str, object] = {"delta": {"content": content}, "finish_reason": None}
            if callback(cast("Chunk", {"choices": [choice], "timings": timings})):
                return None
        last: dict[str, object] = {"choices": [{"delta": {}, "finish_reason": self.finish}]}
        callback(cast("Chunk", last))
        usage = {"prompt_tokens": 7, "completion_tokens": len(self.contents)}
        callback(cast("Chunk", {"choices": [], "usage": usage}))
        return None


def test_local_streams_and_counts() -> None:
    events = run(LocalModel(FakeEngine("Hel", "lo")), request("x"))
    assert joined(events) == "Hello"
    assert stop(events) == Stop("end_turn", 7, 2)
    cut = run(LocalModel(FakeEngine("a", finish="length")), request("x"))
    assert stop(cut).reason == "max_tokens"


def test_local_stop_sequence_over_two_pieces() -> None:
    engine = FakeEngine("one ST", "OP two", "three")
    asked = request("x", inferenceConfig={"stopSequences": ["STOP"]})
    events = run(LocalModel(engine), asked)
    assert joined(events) == "one "
    assert stop(events) == Stop("stop_sequence", 7, 2)
    held = run(LocalModel(FakeEngine("one ST")), asked)
    assert joined(held) == "one ST"


def test_local_forced_tool() -> None:
    asked = request("x", toolConfig={"tools": [TOOL], "toolChoice": {"any": {}}})
    engine = FakeEngine('{"city":', '"Oslo"}')
    events = run(LocalModel(engine), asked)
    assert isinstance(events[0], ToolCall)
    assert (events[0].name, events[0].arguments) == ("get_weather", {"city": "Oslo"})
    assert stop(events).reason == "tool_use"
    cut = run(LocalModel(FakeEngine('{"city":', finish="length")), asked)
    assert [type(event) for event in cut] == [Stop]


def test_local_engine_failure_and_parameters() -> None:
    asked = request(
        "x",
        system=[{"text": "be brief"}],
        inferenceConfig={"temperature": 0, "topP": 0.5, "maxTokens": 3},
    )
    with pytest.raises(AWSError, match="could not answer"):
        run(LocalModel(FakeEngine(finish="crash")), asked)
    body = local_model.engine_request(asked)
    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "x"},
    ]
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.0, 0.5, 3)
    with pytest.raises(AWSError, match="names no tool"):
        local_model.forced_tool(request("x"))


def test_missing_packages_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(local_model, "_WEIGHTS_PACKAGE", "no_such_package")
    assert not local_model.installed()
    with pytest.raises(ModelNotInstalledError, match=r"model\.lock"):
        local_model.load()
    (tmp_path / "weights_here").mkdir()
    (tmp_path / "weights_here" / "m.gguf").write_bytes(b"")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(local_model, "_WEIGHTS_PACKAGE", "weights_here")
    monkeypatch.setattr(local_model, "_ENGINE_PACKAGE", "no_such_engine")
    with pytest.raises(ModelNotInstalledError, match="engine does not load"):
        local_model.load()


@pytest.mark.skipif(not local_model.installed(), reason="requirements/model.lock not installed")
def test_the_real_model_answers_counts_and_stops() -> None:
    model = local_model.load()
    prompts = ("What is the capital of France?", "Name a colour.")
    config = {"temperature": 0, "maxTokens": 6}
    first, second = (run(model, request(text, inferenceConfig=config)) for text in prompts)
    assert joined(first)
    assert joined(first) != joined(second)
    assert stop(first).reason == "max_tokens"
    assert stop(first).output_tokens == 6
    assert stop(first).input_tokens > stop(second).input_tokens > 0
    # cancelled after one piece: the engine stops and serves the next
    cancelled = threading.Event()
    running = model.run(request("Count to one hundred."), cancelled)
    assert isinstance(next(running), TextPiece)
    running.close()  # type: ignore[attr-defined]  # a generator
    days: Object = {
        "type": "object",
        "properties": {"days": {"enum": [1, 2]}},
        "required": ["days"],
    }
    tool: Object = {"toolSpec": {"name": "forecast", "inputSchema": {"json": days}}}
    config = {"temperature": 0, "maxTokens": 30}
    choice: Object = {"tools": [tool], "toolChoice": {"any": {}}}
    call = run(model, request("Two days", toolConfig=choice, inferenceConfig=config))[0]
    assert isinstance(call, ToolCall)
    assert call.arguments["days"] in {1, 2}
