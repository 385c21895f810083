"""Chat answers in OpenAI's form: ``chat.completion`` and ``chat.completion.chunk`` objects.

Shapes: OpenAI's OpenAPI document, ``CreateChatCompletionResponse`` and
``CreateChatCompletionStreamResponse``, and what its clients really need (facts that broke others):
``logprobs``, ``refusal`` and ``finish_reason`` always stand there, the role comes once a choice,
the index of tool calls is dense from 0, usage comes in a last chunk without choices and only if
asked for. What the model thought goes beside the answer as ``reasoning_content`` and, with what a
provider needs to take it back, as ``thinking_blocks``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from latensgate_enclave.chat_answer import (
    ChatAnswer,
    ChatDelta,
    CompletionHead,
    Finished,
    NativeDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.chat_native import NativeAnswer
    from latensgate_enclave.chat_values import ChatRequest, ReasoningBlock, ToolCall
    from latensgate_shared.error_answers import WireError
    from latensgate_shared.strict_json import JSONObject, JSONValue

_FILL_BYTES: Final = 48
"""Chunks of text are filled up to a multiple of it, so that their lengths say less of their words
(OpenAI's ``obfuscation``); most tokens are shorter."""
_THOUGHT_MAX_CHARS: Final = 8_000
"""Longer thoughts would not fit into one chunk again; the caller has them as they came."""
_FILLER: Final = "x" * _FILL_BYTES


def render_completion(
    answers: Sequence[ChatAnswer], head: CompletionHead, request: ChatRequest
) -> JSONObject:
    """Return the ``chat.completion`` object; every answer is one choice."""
    usage = answers[0].usage
    for each in answers[1:]:
        usage += each.usage
    return {
        **head.to_openai("chat.completion"),
        "choices": [_choice(number, each, request) for number, each in enumerate(answers)],
        "usage": usage.to_openai(),
        "service_tier": "default",
        **answers[0].native.head,
    }


def _choice(index: int, answer: ChatAnswer, request: ChatRequest) -> JSONObject:
    message: JSONObject = {
        "role": "assistant",
        "content": "".join(answer.text) or (None if answer.tool_calls else ""),
        "refusal": None,
        "annotations": [],
    }
    message.update(answer.native.message)
    if answer.reasoning:
        message["reasoning_content"] = "".join(block.text for block in answer.reasoning)
        message["thinking_blocks"] = [_thinking(block) for block in answer.reasoning]
    finish_reason: str = answer.finish_reason
    if answer.tool_calls and request.functions:
        message["function_call"] = _function(answer.tool_calls[0])
        finish_reason = _legacy(finish_reason)
    elif answer.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": _function(call)}
            for call in answer.tool_calls
        ]
    return {
        "index": index,
        "message": message,
        "logprobs": answer.native.logprobs,
        "finish_reason": finish_reason,
    }


def _legacy(finish_reason: str) -> str:
    return "function_call" if finish_reason == "tool_calls" else finish_reason


def _function(call: ToolCall) -> JSONObject:
    return {"name": call.name, "arguments": msgspec.json.encode(call.arguments).decode()}


def _thinking(block: ReasoningBlock | ReasoningDelta) -> JSONValue:
    if block.redacted is not None:
        return {"type": "redacted_thinking", "data": block.redacted}
    return {"type": "thinking", "thinking": block.text, "signature": block.signature or None}


class ChunkRenderer:
    """Writes the ``chat.completion.chunk`` objects of one streamed answer, as JSON.

    There is one for each token, so what they all repeat is written once and not made anew.

    Args:
        head: What every chunk repeats.
        request: Says whether there is usage, filler, and calls in the form that is given up.
    """

    __slots__ = ("_choice", "_close", "_first", "_head", "_open", "_request", "_thought")

    def __init__(self, head: CompletionHead, request: ChatRequest) -> None:
        self._first = self._head = msgspec.json.encode(head.to_openai("chat.completion.chunk"))[:-1]
        self._choice = 0
        self._open = b""
        self._close = b'}],"usage":null' if request.include_usage else b"}]"
        self._request = request
        self._thought: list[str] = []

    def begin(self, choice: int) -> list[bytes]:
        """Return the first chunk of a choice, which alone names the role."""
        self._choice = choice
        self._thought.clear()  # what was never signed is no part of another choice's thoughts
        self._open = self._opening(self._head)
        return [self._chunk(b'{"role":"assistant","content":"","refusal":null}')]

    def render(self, delta: ChatDelta) -> list[bytes]:
        """Return the chunk of a delta."""
        if isinstance(delta, TextDelta):
            return [self._filled(b'{"content":' + msgspec.json.encode(delta.text) + b"}")]
        if isinstance(delta, ReasoningDelta):
            return [self._filled(msgspec.json.encode(self._reasoning(delta)))]
        if isinstance(delta, Finished):
            reason = delta.finish_reason
            told = _legacy(reason) if self._request.functions else reason
            return [self._chunk(b"{}", msgspec.json.encode(told))]
        if isinstance(delta, NativeDelta):
            return self._native(delta.told)
        if isinstance(delta, Usage):
            return []
        return [self._filled(msgspec.json.encode(self._call(delta)))]

    def _opening(self, head: bytes) -> bytes:
        return head + b',"choices":[{"index":%d,"delta":' % self._choice

    def _native(self, told: NativeAnswer) -> list[bytes]:
        """Tell what stands beside; who answered and how is told by all chunks that follow."""
        head = dict(told.head)
        moderation = head.pop("moderation", None)
        if head:
            self._head = self._first + b"," + msgspec.json.encode(head)[1:-1]
            self._open = self._opening(self._head)
        chunks: list[bytes] = []
        if told.message or told.logprobs is not None:
            logprobs = msgspec.json.encode(told.logprobs)
            chunks.append(self._chunk(msgspec.json.encode(told.message), logprobs=logprobs))
        if moderation is not None:
            verdict = msgspec.json.encode(moderation)
            chunks.append(self._head + b',"choices":[],"moderation":' + verdict + b"}")
        return chunks

    def _reasoning(self, delta: ReasoningDelta) -> JSONObject:
        """Tell the text as it comes; the block as a whole once it is signed."""
        if delta.redacted is not None:
            hidden: JSONObject = {"thinking_blocks": [_thinking(delta)]}
            return {"reasoning_content": delta.text, **hidden} if delta.text else hidden
        if delta.signature is None:
            self._thought.append(delta.text)
            return {"reasoning_content": delta.text}
        text = "".join([*self._thought, delta.text])
        self._thought.clear()
        whole = text if len(text) <= _THOUGHT_MAX_CHARS else ""
        told: JSONObject = {"thinking_blocks": [_thinking(ReasoningDelta(whole, delta.signature))]}
        return {"reasoning_content": delta.text, **told} if delta.text else told

    def _call(self, delta: ToolCallBegun | ToolCallDelta) -> JSONObject:
        if isinstance(delta, ToolCallBegun):
            function: JSONObject = {"name": delta.name, "arguments": ""}
            opening: JSONObject = {"id": delta.id, "type": "function"}
        else:
            function, opening = {"arguments": delta.arguments}, {}
        if self._request.functions:
            return {"function_call": function}
        return {"tool_calls": [{"index": delta.index, **opening, "function": function}]}

    def end(self, usage: Usage) -> list[bytes]:
        """Return the chunk without choices, if the caller asked for usage."""
        if not self._request.include_usage:
            return []
        told = msgspec.json.encode(usage.to_openai())
        return [self._head + b',"choices":[],"usage":' + told + b"}"]

    def fail(self, error: WireError) -> list[bytes]:  # noqa: ARG002 -- chunks have no word for it
        """Return nothing: the sealed error alone tells it."""
        return []

    def _chunk(
        self,
        delta: bytes,
        finish_reason: bytes = b"null",
        fill: bytes = b"",
        logprobs: bytes = b"null",
    ) -> bytes:
        told = (delta, b',"logprobs":', logprobs, b',"finish_reason":', finish_reason)
        return b"".join((self._open, *told, self._close, fill, b"}"))

    def _filled(self, delta: bytes) -> bytes:
        if not self._request.obfuscate:
            return self._chunk(delta)
        filler = _FILLER[: -len(delta) % _FILL_BYTES].encode()
        return self._chunk(delta, fill=b',"obfuscation":"' + filler + b'"')
