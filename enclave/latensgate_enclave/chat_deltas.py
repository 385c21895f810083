"""A chat answer taken apart and put together: streams become answers, and answers streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.chat_answer import (
    ChatAnswer,
    Finished,
    NativeDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    Usage,
)
from latensgate_enclave.chat_native import joined
from latensgate_enclave.chat_values import ReasoningBlock, ToolCall
from latensgate_shared.errors import MalformedError
from latensgate_shared.limits import BEDROCK_ANSWER_MAX_BYTES
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.chat_answer import ChatDelta, FinishReason
    from latensgate_enclave.chat_native import NativeAnswer
    from latensgate_shared.strict_json import JSONObject


class Collector:
    """Puts the pieces of an answer together.

    Attributes:
        usage: As it came; None: it has not come.
        size_bytes: Of the texts so far.
    """

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.size_bytes = 0
        self._text: list[str] = []
        self._thought: list[str] = []
        self._reasoning: list[ReasoningBlock] = []
        self._calls: list[tuple[ToolCallBegun, list[str]]] = []
        self._native: list[NativeAnswer] = []
        self._finish: FinishReason = "stop"

    def add(self, deltas: Sequence[ChatDelta]) -> None:
        """Take what came."""
        for delta in deltas:
            match delta:
                case TextDelta():
                    self.size_bytes += len(delta.text)
                    self._text.append(delta.text)
                case ReasoningDelta():
                    self.size_bytes += len(delta.text)
                    self._think(delta)
                case ToolCallBegun():
                    self._calls.append((delta, []))
                case ToolCallDelta():
                    self.size_bytes += len(delta.arguments)
                    self._calls[delta.index][1].append(delta.arguments)
                case NativeDelta():
                    self._native.append(delta.told)
                case Finished():
                    self._finish = delta.finish_reason
                case Usage():  # pragma: no branch  # the union is closed
                    self.usage = delta

    def _think(self, delta: ReasoningDelta) -> None:
        if delta.redacted is not None:
            self._reasoning.append(ReasoningBlock(redacted=delta.redacted))
            return
        self._thought.append(delta.text)
        if delta.signature is not None:
            self._reasoning.append(ReasoningBlock("".join(self._thought), delta.signature))
            self._thought.clear()

    def answer(self) -> ChatAnswer:
        """Return the whole answer.

        Raises:
            UpstreamError: The arguments of a call are no JSON object, so nobody can scan them.
        """
        calls = tuple(
            ToolCall(begun.id, begun.name, _arguments("".join(pieces)))
            for begun, pieces in self._calls
        )
        reasoning = list(self._reasoning)
        if self._thought:
            reasoning.append(ReasoningBlock("".join(self._thought)))
        usage, text = self.usage or Usage(0, 0), "".join(self._text)
        return ChatAnswer(
            (text,),
            calls,
            self._finish,
            usage,
            self.size_bytes,
            reasoning=tuple(reasoning),
            native=joined(self._native),
        )


def _arguments(text: str) -> JSONObject:
    try:
        return parse_json_object(
            text.encode("utf-8", "surrogatepass"), max_bytes=BEDROCK_ANSWER_MAX_BYTES
        )
    except MalformedError:
        raise UpstreamError("Bedrock: the arguments of a tool call are no JSON object") from None


def as_deltas(answer: ChatAnswer) -> list[ChatDelta]:
    """Return the pieces that make up an answer."""
    deltas: list[ChatDelta] = [
        ReasoningDelta(block.text, block.signature, block.redacted) for block in answer.reasoning
    ]
    deltas += [TextDelta(text) for text in answer.text if text]
    for index, call in enumerate(answer.tool_calls):
        arguments = msgspec.json.encode(call.arguments).decode()
        deltas += [ToolCallBegun(index, call.id, call.name), ToolCallDelta(index, arguments)]
    return [*deltas, Finished(answer.finish_reason), answer.usage]
