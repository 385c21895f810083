"""The OpenAI shapes that clients depend on."""

from __future__ import annotations

import json

from latensgate_enclave.chat import ToolCall
from latensgate_enclave.chat_answer import (
    ChatAnswer,
    ChatDelta,
    ChunkRenderer,
    CompletionHead,
    Finished,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    Usage,
    render_completion,
)

HEAD = CompletionHead("chatcmpl-1", 1_790_000_000, "claude")
REPEATED = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1_790_000_000,
    "model": "claude",
}
USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 1, "audio_tokens": 0},
}


def test_completion() -> None:
    found = render_completion(ChatAnswer(("a", "b"), (), "stop", Usage(3, 2, 1, 1)), HEAD)
    assert found == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "claude",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "ab",
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
        "system_fingerprint": None,
    }


def message(answer: ChatAnswer) -> object:
    choices = render_completion(answer, HEAD)["choices"]
    assert isinstance(choices, list)
    assert isinstance(choices[0], dict)
    return choices[0]["message"]


def test_tool_calls_and_empty_answers() -> None:
    call = ToolCall("t1", "f", {"a": ["é"]})
    assert message(ChatAnswer((), (call,), "tool_calls", Usage(1, 1))) == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "tool_calls": [
            {
                "id": "t1",
                "type": "function",
                "function": {"name": "f", "arguments": '{"a":["é"]}'},
            }
        ],
    }
    empty = message(ChatAnswer((), (), "length", Usage(1, 1)))
    assert isinstance(empty, dict)
    assert empty["content"] == ""
    assert "tool_calls" not in empty


def chunk(delta: object, finish_reason: str | None = None, **more: object) -> dict[str, object]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {**REPEATED, "choices": [choice], **more}


def rendered(renderer: ChunkRenderer, *deltas: ChatDelta) -> list[object]:
    chunks = [chunk for delta in deltas for chunk in renderer.render(delta)]
    return [json.loads(each) for each in chunks]


def test_chunks_without_usage() -> None:
    renderer = ChunkRenderer(HEAD, include_usage=False)
    role = chunk({"role": "assistant", "content": "", "refusal": None})
    assert [json.loads(each) for each in renderer.begin(0)] == [role]
    found = rendered(
        renderer,
        TextDelta('a"\n'),
        ToolCallBegun(0, "t1", "f"),
        ToolCallDelta(0, "{}"),
        Finished("tool_calls"),
    )
    assert not renderer.end(Usage(3, 2, 1, 1))
    opening = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": ""}}
    assert found == [
        chunk({"content": 'a"\n'}),
        chunk({"tool_calls": [{"index": 0, **opening}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
        chunk({}, "tool_calls"),
    ]


def test_chunks_with_usage() -> None:
    renderer = ChunkRenderer(HEAD, include_usage=True)
    renderer.begin(0)
    assert rendered(renderer, TextDelta("a"), Finished("stop"), Usage(3, 2, 1, 1)) == [
        chunk({"content": "a"}, usage=None),
        chunk({}, "stop", usage=None),
    ]
    (last,) = renderer.end(Usage(3, 2, 1, 1))
    assert json.loads(last) == {**REPEATED, "choices": [], "usage": USAGE}


def test_no_content_in_repr() -> None:
    values = (
        TextDelta("S3CRET"),
        ToolCallDelta(0, "S3CRET"),
        ChatAnswer(("S3CRET",), (), "stop", Usage(1, 1)),
    )
    assert "S3CRET" not in repr(values)
