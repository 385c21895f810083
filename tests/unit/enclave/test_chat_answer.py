"""The OpenAI shapes that clients depend on."""

from __future__ import annotations

import json

from msgspec.structs import replace

from latensgate_enclave.chat import ToolCall
from latensgate_enclave.chat_answer import (
    ChatAnswer,
    ChatDelta,
    CompletionHead,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    Usage,
)
from latensgate_enclave.chat_render import ChunkRenderer, render_completion
from latensgate_enclave.chat_values import ChatRequest, Message, ReasoningBlock

REQUEST = ChatRequest("claude", (Message("user", ("a",)),), obfuscate=False)
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
    "completion_tokens_details": {"reasoning_tokens": 0},
}


def test_completion() -> None:
    found = render_completion(
        [ChatAnswer(("a", "b"), (), "stop", Usage(3, 2, 1, 1))], HEAD, REQUEST
    )
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
        "service_tier": "default",
    }


def message(answer: ChatAnswer, request: ChatRequest = REQUEST) -> object:
    choices = render_completion([answer], HEAD, request)["choices"]
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
    renderer = ChunkRenderer(HEAD, REQUEST)
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
    renderer = ChunkRenderer(HEAD, replace(REQUEST, include_usage=True))
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


def test_usage_is_summed_and_reasoning_is_told_only_where_it_is_known() -> None:
    both = Usage(1, 2, 3, 4, 5) + Usage(10, 20, 30, 40, 50)
    assert both == Usage(11, 22, 33, 44, 55)
    unknown = Usage(1, 1) + Usage(1, 1, reasoning_tokens=None)
    assert "completion_tokens_details" not in unknown.to_openai()


def test_several_answers_are_several_choices_with_one_usage() -> None:
    answers = [ChatAnswer((text,), (), "stop", Usage(3, 1)) for text in "ab"]
    found = render_completion(answers, HEAD, replace(REQUEST, n=2))
    choices = found["choices"]
    assert isinstance(choices, list)
    assert [each["index"] for each in choices if isinstance(each, dict)] == [0, 1]
    assert found["usage"] == (Usage(6, 2)).to_openai()
    renderer = ChunkRenderer(HEAD, replace(REQUEST, n=2))
    renderer.begin(0)
    assert json.loads(renderer.begin(1)[0])["choices"][0]["index"] == 1


def test_thoughts_of_one_choice_are_not_told_as_those_of_the_next() -> None:
    renderer = ChunkRenderer(HEAD, replace(REQUEST, n=2))
    renderer.begin(0)
    renderer.render(ReasoningDelta("never signed"))
    renderer.begin(1)
    (told,) = rendered(renderer, ReasoningDelta("own", "c2ln"))
    assert "never signed" not in json.dumps(told)


FUNCTIONS = replace(REQUEST, functions=True)


def test_calls_in_the_form_that_is_given_up() -> None:
    call = ToolCall("t1", "f", {"a": 1})
    answer = ChatAnswer((), (call,), "tool_calls", Usage(1, 1))
    found = message(answer, FUNCTIONS)
    assert isinstance(found, dict)
    assert found["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert "tool_calls" not in found
    whole = render_completion([answer], HEAD, FUNCTIONS)["choices"]
    assert isinstance(whole, list)
    assert isinstance(whole[0], dict)
    assert whole[0]["finish_reason"] == "function_call"
    renderer = ChunkRenderer(HEAD, FUNCTIONS)
    renderer.begin(0)
    deltas = (ToolCallBegun(0, "t1", "f"), ToolCallDelta(0, "{}"), Finished("tool_calls"))
    assert rendered(renderer, *deltas) == [
        chunk({"function_call": {"name": "f", "arguments": ""}}),
        chunk({"function_call": {"arguments": "{}"}}),
        chunk({}, "function_call"),
    ]
    assert rendered(renderer, Finished("stop")) == [chunk({}, "stop")]


def test_thoughts_stand_beside_the_answer_with_what_takes_them_back() -> None:
    blocks = (ReasoningBlock("why", "c2ln"), ReasoningBlock(redacted="AAA="))
    found = message(ChatAnswer(("a",), (), "stop", Usage(1, 1), reasoning=blocks))
    assert isinstance(found, dict)
    assert found["reasoning_content"] == "why"
    told = [
        {"type": "thinking", "thinking": "why", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "AAA="},
    ]
    assert found["thinking_blocks"] == told
    renderer = ChunkRenderer(HEAD, REQUEST)
    renderer.begin(0)
    deltas = (
        ReasoningDelta("w"),
        ReasoningDelta("hy"),
        ReasoningDelta(signature="c2ln"),
        ReasoningDelta(redacted="AAA="),
        ReasoningDelta("x", "c2ln"),
        ReasoningDelta("y", redacted="AAA="),
    )
    again = {"type": "thinking", "thinking": "x", "signature": "c2ln"}
    assert rendered(renderer, *deltas) == [
        chunk({"reasoning_content": "w"}),
        chunk({"reasoning_content": "hy"}),
        chunk({"thinking_blocks": [told[0]]}),
        chunk({"thinking_blocks": [told[1]]}),
        chunk({"reasoning_content": "x", "thinking_blocks": [again]}),
        chunk({"reasoning_content": "y", "thinking_blocks": [told[1]]}),
    ]


def test_a_long_thought_is_not_told_twice_in_a_stream() -> None:
    renderer = ChunkRenderer(HEAD, REQUEST)
    renderer.begin(0)
    *_, last = rendered(renderer, ReasoningDelta("x" * 8_001), ReasoningDelta(signature="c2ln"))
    told = {"type": "thinking", "thinking": "", "signature": "c2ln"}
    assert last == chunk({"thinking_blocks": [told]})


def test_chunks_of_words_are_filled_up_to_like_lengths() -> None:
    renderer = ChunkRenderer(HEAD, replace(REQUEST, obfuscate=True))
    renderer.begin(0)
    words = ("a", "abc", "a longer word", "\u00e9t\u00e9", '"')
    lengths = {len(renderer.render(TextDelta(word))[0]) for word in words}
    assert len(lengths) == 1
    assert json.loads(renderer.render(TextDelta("a"))[0])["obfuscation"]
    assert "obfuscation" not in json.loads(renderer.render(Finished("stop"))[0])
