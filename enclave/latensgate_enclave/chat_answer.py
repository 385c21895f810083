"""A chat answer as a value, whole or in pieces, and its OpenAI form.

Between a provider's words and the caller's bytes stands the scan, so both directions meet here in
values and not in JSON. Shapes: OpenAI's OpenAPI document, ``CreateChatCompletionResponse`` and
``CreateChatCompletionStreamResponse``, and what its clients really need (facts that broke others):
``logprobs``, ``refusal`` and ``finish_reason`` always stand there, the role comes once, the index
of tool calls is dense from 0, usage comes in a last chunk without choices and only if asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.chat import ToolCall
    from latensgate_shared.strict_json import JSONObject, JSONValue

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as OpenAI counts them.

    Attributes:
        prompt_tokens: Cached ones included.
        completion_tokens: Reasoning included.
        cached_tokens: Of the prompt, read from a cache.
        cache_write_tokens: Of the prompt, written to a cache.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0

    def to_openai(self) -> JSONObject:
        """Return the ``usage`` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {
                "cached_tokens": self.cached_tokens,
                "cache_write_tokens": self.cache_write_tokens,
                "audio_tokens": 0,
            },
        }


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """A whole answer.

    Attributes:
        text: Text parts in order, never in ``repr``.
        tool_calls: In order.
        finish_reason: Why it ends.
        usage: What it cost.
    """

    text: tuple[str, ...] = field(repr=False)
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    usage: Usage


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of text; never empty."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ToolCallBegun:
    """A tool call begins; ``index`` counts tool calls from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """The next piece of the JSON text of a call's arguments; never empty."""

    index: int
    arguments: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Finished:
    """No more content follows; usage does."""

    finish_reason: FinishReason


ChatDelta: TypeAlias = TextDelta | ToolCallBegun | ToolCallDelta | Finished | Usage


@dataclass(frozen=True, slots=True)
class CompletionHead:
    """What every object of one answer repeats.

    Attributes:
        id: As in ``chatcmpl-…``.
        created_s: Enclave time, seconds since 1970.
        model: The caller's name of the model.
    """

    id: str
    created_s: int
    model: str

    def to_openai(self, kind: str) -> JSONObject:
        """Return the members that do not depend on the content."""
        return {"id": self.id, "object": kind, "created": self.created_s, "model": self.model}


def render_completion(answer: ChatAnswer, head: CompletionHead) -> JSONObject:
    """Return the ``chat.completion`` object."""
    message: JSONObject = {
        "role": "assistant",
        "content": "".join(answer.text) or (None if answer.tool_calls else ""),
        "refusal": None,
        "annotations": [],
    }
    if answer.tool_calls:
        message["tool_calls"] = [_tool_call(call) for call in answer.tool_calls]
    choice: JSONObject = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": answer.finish_reason,
    }
    return {
        **head.to_openai("chat.completion"),
        "choices": [choice],
        "usage": answer.usage.to_openai(),
        "system_fingerprint": None,
    }


def _tool_call(call: ToolCall) -> JSONObject:
    arguments = msgspec.json.encode(call.arguments).decode()
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


class ChunkRenderer:
    """Makes ``chat.completion.chunk`` objects of one streamed answer.

    Args:
        head: What every chunk repeats.
        include_usage: Whether the caller asked for a usage chunk.
    """

    __slots__ = ("_head", "_include_usage")

    def __init__(self, head: CompletionHead, *, include_usage: bool) -> None:
        self._head = head.to_openai("chat.completion.chunk")
        self._include_usage = include_usage

    def begin(self) -> JSONObject:
        """Return the first chunk, which alone names the role."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None}, None)

    def render(self, deltas: Sequence[ChatDelta]) -> list[JSONObject]:
        """Return the chunks of some deltas: one each, none for usage that nobody asked for."""
        return [
            self._render(each)
            for each in deltas
            if self._include_usage or not isinstance(each, Usage)
        ]

    def _render(self, delta: ChatDelta) -> JSONObject:
        if isinstance(delta, TextDelta):
            return self._chunk({"content": delta.text}, None)
        if isinstance(delta, Finished):
            return self._chunk({}, delta.finish_reason)
        if isinstance(delta, Usage):
            return {**self._head, "choices": [], "usage": delta.to_openai()}
        if isinstance(delta, ToolCallBegun):
            function: JSONObject = {"name": delta.name, "arguments": ""}
            opening: JSONObject = {"id": delta.id, "type": "function", "function": function}
            return self._chunk({"tool_calls": [{"index": delta.index, **opening}]}, None)
        piece: JSONObject = {"index": delta.index, "function": {"arguments": delta.arguments}}
        return self._chunk({"tool_calls": [piece]}, None)

    def _chunk(self, delta: JSONObject, finish_reason: JSONValue) -> JSONObject:
        choice: JSONObject = {
            "index": 0,
            "delta": delta,
            "logprobs": None,
            "finish_reason": finish_reason,
        }
        chunk: JSONObject = {**self._head, "choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        return chunk
