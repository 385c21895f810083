"""Responses as objects and as events: what OpenAI's types and the Open Responses schema demand."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from latensgate_enclave.chat_answer import (
    ChatAnswer,
    ChatDelta,
    CompletionHead,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    Usage,
)
from latensgate_enclave.chat_values import ReasoningBlock, ToolCall
from latensgate_enclave.operation import StreamRenderer
from latensgate_enclave.responses_operation import ResponsesModelRequest, ResponsesOperation
from latensgate_shared.error_answers import WireError
from latensgate_shared.errors import ErrorCode

pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")
OPERATION = ResponsesOperation()
HEAD = CompletionHead("resp_0123", 1_790_000_000, "m")
USAGE = Usage(3, 2, 1, 1, 1)
SCHEMA_OF: Any = import_module("llm_comply.schema")
SCHEMA = SCHEMA_OF.SpecLoader(str(SCHEMA_OF._BUNDLED_SPEC))
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOL: dict[str, Any] = {
    "type": "function",
    "name": "f",
    "parameters": {"type": "object"},
    "strict": False,
}


def request(*, summary: bool = False) -> ResponsesModelRequest:
    return OPERATION.parse(
        {
            "model": "m",
            "input": "hi",
            "tools": [{**TOOL, "description": "d"}],
            "reasoning": {"effort": "low", "summary": "auto" if summary else None},
            "metadata": {"a": "b"},
        }
    )


def checked(response: Any) -> Any:  # noqa: ANN401 -- JSON
    """Judge a whole response by those who did not write it."""
    Response.model_validate(response)
    assert SCHEMA.validate(response, "ResponseResource") == []
    return response


def whole(answer: ChatAnswer, *, summary: bool = False) -> Any:  # noqa: ANN401 -- JSON
    return checked(json.loads(OPERATION.render(HEAD, request(summary=summary), [answer])))


def streamed(deltas: list[ChatDelta], *, summary: bool = False) -> list[Any]:
    renderer: StreamRenderer = OPERATION.stream_renderer(HEAD, request(summary=summary))
    raw = renderer.begin(0)
    for delta in deltas:
        raw += renderer.render(delta)
    return judged([*raw, *renderer.end(USAGE)])


def judged(raw: list[bytes]) -> list[Any]:
    events = [json.loads(event) for event in raw]
    for number, event in enumerate(events):
        assert event["sequence_number"] == number
        EVENTS.validate_python(event)
        name = SCHEMA_OF.SSE_EVENT_TO_SCHEMA.get(event["type"])
        assert name is None or SCHEMA.validate(event, name) == []
        assert name is not None or event["type"].startswith("response.reasoning")
    return events


def test_text() -> None:
    response = whole(ChatAnswer(("a", "b"), (), "stop", USAGE))
    assert response["output"] == [
        {
            "id": "msg_01230000",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "ab", "annotations": [], "logprobs": []}],
        }
    ]
    assert (response["id"], response["status"]) == ("resp_0123", "completed")
    assert response["completed_at"] == response["created_at"] == 1_790_000_000
    assert response["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 1},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 5,
    }


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("length", "max_output_tokens"), ("content_filter", "content_filter")],
)
def test_answers_that_end_early(finish: FinishReason, reason: str) -> None:
    response = whole(ChatAnswer(("a",), (), finish, USAGE))
    assert response["status"] == response["output"][0]["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": reason}
    assert response["completed_at"] is None
    events = streamed([TextDelta("a"), Finished(finish)])
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"] == response


def test_an_empty_answer_says_nothing_in_a_message() -> None:
    response = whole(ChatAnswer((), (), "stop", USAGE))
    assert response["output"][0]["content"][0]["text"] == ""
    assert streamed([Finished("stop")])[-1]["response"] == response


@pytest.mark.parametrize("summary", [True, False])
def test_thoughts(summary: bool) -> None:  # noqa: FBT001 -- drawn
    blocks = (ReasoningBlock("hm", "c2ln"), ReasoningBlock("", None, "aGlk"), ReasoningBlock("so"))
    response = whole(ChatAnswer(("a",), (), "stop", USAGE, 0, blocks), summary=summary)
    first, second, third, _ = response["output"]
    place, other = ("summary", "content") if summary else ("content", "summary")
    kind = "summary_text" if summary else "reasoning_text"
    assert first[place] == [{"type": kind, "text": "hm"}]
    assert first[other] == second["summary"] == second["content"] == []
    assert (first["encrypted_content"], second["encrypted_content"]) == ("c2ln", "aGlk")
    assert "encrypted_content" not in third
    deltas: list[ChatDelta] = [
        ReasoningDelta("h"),
        ReasoningDelta("m"),
        ReasoningDelta(signature="c2ln"),
        ReasoningDelta(redacted="aGlk"),
        ReasoningDelta("so"),
        TextDelta("a"),
        Finished("stop"),
    ]
    events = streamed(deltas, summary=summary)
    assert events[-1]["response"] == response
    kinds = [event["type"] for event in events]
    word = "reasoning_summary_text" if summary else "reasoning_text"
    assert kinds.count(f"response.{word}.delta") == 3
    assert kinds.count(f"response.{word}.done") == 2
    assert kinds.count("response.reasoning_summary_part.added") == (2 if summary else 0)
    assert kinds.count("response.reasoning_summary_part.done") == (2 if summary else 0)
    # What came goes back as it came.
    again = OPERATION.parse(
        {"model": "m", "input": [{"role": "user", "content": "x"}, *response["output"]]}
    )
    assert again.inner.chat.messages[1].reasoning[:2] == blocks[:2]


def test_calls() -> None:
    calls = (ToolCall("c0", "f", {"a": 1}), ToolCall("c1", "f", {}))
    response = whole(ChatAnswer(("t",), calls, "tool_calls", USAGE))
    deltas: list[ChatDelta] = [
        TextDelta("t"),
        ToolCallBegun(0, "c0", "f"),
        ToolCallDelta(0, '{"a"'),
        ToolCallDelta(0, ":1}"),
        ToolCallBegun(1, "c1", "f"),
        Finished("tool_calls"),
    ]
    events = streamed(deltas)
    assert events[-1]["response"] == response
    assert [item["type"] for item in response["output"]] == ["message", *["function_call"] * 2]
    assert response["output"][2]["arguments"] == "{}"
    done = [e for e in events if e["type"] == "response.function_call_arguments.done"]
    assert [each["arguments"] for each in done] == ['{"a":1}', "{}"]
    assert [each["name"] for each in done] == ["f", "f"]


def test_calls_alone_make_no_message() -> None:
    response = whole(ChatAnswer((), (ToolCall("c", "f", {}),), "tool_calls", USAGE))
    assert [item["type"] for item in response["output"]] == ["function_call"]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (ErrorCode.ERR_UPSTREAM_THROTTLED, "rate_limit_exceeded"),
        (ErrorCode.ERR_UPSTREAM, "server_error"),
    ],
)
def test_a_stream_that_fails(code: ErrorCode, told: str) -> None:
    renderer = OPERATION.stream_renderer(HEAD, request())
    raw = [*renderer.begin(0), *renderer.render(TextDelta("a"))]
    event = judged([*raw, *renderer.fail(WireError(code, "why"))])[-1]
    assert event["type"] == "response.failed"
    assert event["response"]["error"] == {"code": told, "message": "why"}
    checked(event["response"])


def test_usage_is_told_at_the_end_alone() -> None:
    assert OPERATION.stream_renderer(HEAD, request()).render(USAGE) == []


def test_a_piece_of_nothing_is_a_mistake() -> None:
    with pytest.raises(TypeError):
        OPERATION.stream_renderer(HEAD, request()).render(ToolCallDelta(0, "x"))


TEXTS = st.text(min_size=1, max_size=8)
RUNS = st.one_of(
    st.lists(TEXTS, min_size=1, max_size=3).map(lambda texts: [TextDelta(text) for text in texts]),
    st.lists(TEXTS, min_size=1, max_size=3).map(
        lambda texts: [*[ReasoningDelta(text) for text in texts], ReasoningDelta(signature="c2ln")]
    ),
    st.just([ToolCallBegun(0, "c", "f"), ToolCallDelta(0, "{}")]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(RUNS, max_size=5), st.booleans())
def test_events_add_up_to_the_last_one(runs: list[list[ChatDelta]], summary: bool) -> None:  # noqa: FBT001 -- drawn
    events = streamed([*[each for run in runs for each in run], Finished("stop")], summary=summary)
    response = checked(events[-1]["response"])
    added = [e for e in events if e["type"] == "response.output_item.added"]
    done = [e for e in events if e["type"] == "response.output_item.done"]
    assert [each["item"] for each in done] == response["output"]
    assert [e["output_index"] for e in added] == list(range(len(response["output"])))
    assert [e["item"]["id"] for e in added] == [e["item"]["id"] for e in done]
    for index, item in enumerate(response["output"]):
        said = "".join(e["delta"] for e in events if "delta" in e and e["output_index"] == index)
        parts = [*item.get("content", []), *item.get("summary", [])]
        assert said == item.get("arguments", "".join(part["text"] for part in parts))


def test_a_thought_that_lost_its_signature_ends_its_item_all_the_same() -> None:
    told = streamed(
        [ReasoningDelta("changed", ""), ReasoningDelta("kept", "c2ln"), Finished("stop")]
    )
    items = [each for each in told[-1]["response"]["output"] if each["type"] == "reasoning"]
    assert [each["content"][0]["text"] for each in items] == ["changed", "kept"]
    assert ["encrypted_content" in each for each in items] == [False, True]
