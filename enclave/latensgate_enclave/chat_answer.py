"""A chat answer as a value, whole or in pieces.

Between a provider's words and the caller's bytes stands the scan, so both directions meet here in
values and not in JSON; `chat_render` writes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import field

from latensgate_enclave.chat_native import NativeAnswer
from latensgate_enclave.chat_texts import answer_parts, with_answer_texts
from latensgate_enclave.values import Value
from latensgate_shared.limits import ESTIMATED_TOKEN_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latensgate_enclave.chat_values import ReasoningBlock, ToolCall
    from latensgate_enclave.pii import TextPart
    from latensgate_shared.strict_json import JSONObject

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class Usage(Value, frozen=True):
    """Tokens as OpenAI counts them.

    Attributes:
        prompt_tokens: Cached ones included.
        completion_tokens: Reasoning included.
        cached_tokens: Of the prompt, read from a cache.
        cache_write_tokens: Of the prompt, written to a cache.
        reasoning_tokens: Of the completion; None where the provider does not tell them apart.
        estimated: The provider did not tell: the stream was cut before, or it never does.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int | None = 0
    estimated: bool = False

    def __add__(self, other: Usage) -> Usage:
        """Return what both cost together."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            None
            if self.reasoning_tokens is None or other.reasoning_tokens is None
            else self.reasoning_tokens + other.reasoning_tokens,
            self.estimated or other.estimated,
        )

    def to_openai(self) -> JSONObject:
        """Return the ``usage`` object."""
        told: JSONObject = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {
                "cached_tokens": self.cached_tokens,
                "cache_write_tokens": self.cache_write_tokens,
                "audio_tokens": 0,
            },
        }
        if self.reasoning_tokens is not None:
            told["completion_tokens_details"] = {"reasoning_tokens": self.reasoning_tokens}
        if self.estimated:
            told["estimated"] = True
        return told


def estimated_usage(prompt_bytes: int, answer_bytes: int) -> Usage:
    """Return what a call has cost about, where the provider did not tell.

    Args:
        prompt_bytes: Of the request to the model.
        answer_bytes: Of what came of its answer.
    """
    prompt, answer = (-(-each // ESTIMATED_TOKEN_BYTES) for each in (prompt_bytes, answer_bytes))
    return Usage(prompt, answer, reasoning_tokens=None, estimated=True)


class ChatAnswer(Value, frozen=True):
    """A whole answer.

    Attributes:
        text: Text parts in order, never in ``repr``.
        tool_calls: In order.
        finish_reason: Why it ends.
        usage: What it cost.
        size_bytes: Of the JSON that it came as: whether walking over it would hold others up.
        reasoning: What the model thought before, in order.
        native: What OpenAI's interface tells beside, where it was asked for.
    """

    text: tuple[str, ...]
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    usage: Usage
    size_bytes: int = 0
    reasoning: tuple[ReasoningBlock, ...] = ()
    native: NativeAnswer = field(default_factory=NativeAnswer)

    def parts(self) -> list[TextPart]:
        """Return every text that the answer would return."""
        return answer_parts(self)

    def with_texts(self, texts: Iterable[str]) -> ChatAnswer:
        """Return the answer with its texts replaced, in the order of `parts`."""
        return with_answer_texts(self, texts)


class TextDelta(Value, frozen=True):
    """The next piece of text; never empty."""

    text: str


class ReasoningDelta(Value, frozen=True):
    """The next piece of what the model thinks; a signed or a redacted one ends its block.

    Attributes:
        text: Readable.
        signature: Of the block that ends here, empty if it has none any more; None: it goes on.
        redacted: A whole block that only the provider reads, or None.
    """

    text: str = ""
    signature: str | None = None
    redacted: str | None = None


class ToolCallBegun(Value, frozen=True):
    """A tool call begins; ``index`` counts tool calls from 0."""

    index: int
    id: str
    name: str


class ToolCallDelta(Value, frozen=True):
    """The next piece of the JSON text of a call's arguments; never empty."""

    index: int
    arguments: str


class NativeDelta(Value, frozen=True):
    """What OpenAI's interface tells beside the pieces before it."""

    told: NativeAnswer


class Finished(Value, frozen=True):
    """No more content follows; usage does."""

    finish_reason: FinishReason


ChatDelta: TypeAlias = (
    TextDelta | ReasoningDelta | ToolCallBegun | ToolCallDelta | NativeDelta | Finished | Usage
)


class CompletionHead(Value, frozen=True):
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
