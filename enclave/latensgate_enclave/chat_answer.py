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

from latensgate_enclave.chat_texts import answer_parts, with_answer_texts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latensgate_enclave.chat import ToolCall
    from latensgate_enclave.pii import TextPart
    from latensgate_shared.strict_json import JSONObject

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

    def __add__(self, other: Usage) -> Usage:
        """Return what both cost together."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
        )

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
        size_bytes: Of the JSON that it came as: whether walking over it would hold others up.
    """

    text: tuple[str, ...] = field(repr=False)
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    usage: Usage
    size_bytes: int = 0

    def parts(self) -> list[TextPart]:
        """Return every text that the answer would return."""
        return answer_parts(self)

    def with_texts(self, texts: Iterable[str]) -> ChatAnswer:
        """Return the answer with its texts replaced, in the order of `parts`."""
        return with_answer_texts(self, texts)


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
    """Writes the ``chat.completion.chunk`` objects of one streamed answer, as JSON.

    There is one for each token, so what they all repeat is written once and not made anew.

    Args:
        head: What every chunk repeats.
        include_usage: Whether the caller asked for a usage chunk.
    """

    __slots__ = ("_close", "_head", "_include_usage", "_open")

    def __init__(self, head: CompletionHead, *, include_usage: bool) -> None:
        self._head = msgspec.json.encode(head.to_openai("chat.completion.chunk"))[:-1]
        self._open = b""
        self._close = b'}],"usage":null}' if include_usage else b"}]}"
        self._include_usage = include_usage

    def begin(self, choice: int) -> list[bytes]:
        """Return the first chunk of a choice, which alone names the role."""
        self._open = self._head + b',"choices":[{"index":%d,"delta":' % choice
        return [self._chunk(b'{"role":"assistant","content":"","refusal":null}')]

    def render(self, delta: ChatDelta) -> list[bytes]:
        """Return the chunk of a delta."""
        if isinstance(delta, TextDelta):
            return [self._chunk(b'{"content":' + msgspec.json.encode(delta.text) + b"}")]
        if isinstance(delta, Finished):
            return [self._chunk(b"{}", msgspec.json.encode(delta.finish_reason))]
        if isinstance(delta, Usage):
            return []
        call: JSONObject = {"index": delta.index}
        if isinstance(delta, ToolCallBegun):
            call["id"], call["type"] = delta.id, "function"
            call["function"] = {"name": delta.name, "arguments": ""}
        else:
            call["function"] = {"arguments": delta.arguments}
        return [self._chunk(msgspec.json.encode({"tool_calls": [call]}))]

    def end(self, usage: Usage) -> list[bytes]:
        """Return the chunk without choices, if the caller asked for usage."""
        if not self._include_usage:
            return []
        told = msgspec.json.encode(usage.to_openai())
        return [self._head + b',"choices":[],"usage":' + told + b"}"]

    def _chunk(self, delta: bytes, finish_reason: bytes = b"null") -> bytes:
        middle = b',"logprobs":null,"finish_reason":'
        return b"".join((self._open, delta, middle, finish_reason, self._close))
