"""Answers of Bedrock Converse and ConverseStream as chat answers: a pure translation.

Shapes: service model ``bedrock-runtime`` 2023-09-30. What is not understood is an error and never
left out, because what is left out is neither scanned nor seen. A stream is whole when its usage has
come, and not before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias, TypeVar, cast

import msgspec
from msgspec import Meta, Struct

from latensgate_enclave.aws.bedrock import UpstreamError, upstream_error
from latensgate_enclave.aws.errors import clean_name
from latensgate_enclave.chat_answer import (
    ChatAnswer,
    ChatDelta,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    Usage,
)
from latensgate_enclave.chat_shape import PLAIN, ShapedStream
from latensgate_enclave.chat_values import ReasoningBlock, ToolCall
from latensgate_enclave.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate_enclave.aws.eventstream import EventMessage
    from latensgate_enclave.chat_shape import Shape
    from latensgate_enclave.http1 import HttpResponse
    from latensgate_enclave.operation import StreamReader
    from latensgate_shared.strict_json import JSONObject


class _Wire(Struct, rename="camel"):
    pass


_CallName: TypeAlias = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}\Z")]
_CallId: TypeAlias = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.:-]{1,64}\Z")]
"""No scan sees them, so they are what they are in requests, and no free text of a model."""


class _ToolUse(_Wire):
    tool_use_id: _CallId
    name: _CallName
    input: dict[str, object]


_Opaque: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9+/=_-]*\Z")]
"""Only the provider reads it and no scan sees it, so it may hold no words."""


class _ReasoningText(_Wire):
    text: str
    signature: _Opaque | None = None


class _Reasoning(_Wire, forbid_unknown_fields=True):
    reasoning_text: _ReasoningText | None = None
    redacted_content: _Opaque | None = None


class _Block(_Wire, forbid_unknown_fields=True):
    """One of its members is there."""

    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None


class _Message(_Wire):
    content: list[_Block]


class _Output(_Wire):
    message: _Message


_Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""Sums of them stand in receipts and totals, which hold integers below 2**53."""


class _Usage(_Wire):
    input_tokens: _Count
    output_tokens: _Count
    cache_read_input_tokens: _Count = 0
    cache_write_input_tokens: _Count = 0


class _Answer(_Wire):
    output: _Output
    stop_reason: str
    usage: _Usage


_FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
"""The others (``malformed_model_output``, ``malformed_tool_use``) are faults of the model."""

_Decoded = TypeVar("_Decoded")


def _decode(data: bytes, kind: type[_Decoded]) -> _Decoded:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamError("Bedrock: an answer is not what the service model says") from None


def _finish_reason(stop_reason: str, *, has_calls: bool) -> FinishReason:
    reason = _FINISH_REASONS.get(stop_reason)
    if reason is None:
        raise UpstreamError("Bedrock: the model ended for a reason that is no end of an answer")
    # Some models say end_turn after a tool call, and clients then never look at the call.
    return "tool_calls" if reason == "stop" and has_calls else reason


def _usage(wire: _Usage, *, thought: bool) -> Usage:
    cached, written = wire.cache_read_input_tokens, wire.cache_write_input_tokens
    prompt = wire.input_tokens + cached + written
    return Usage(prompt, wire.output_tokens, cached, written, None if thought else 0)


def _thought(wire: _Reasoning) -> ReasoningBlock:
    if wire.reasoning_text is None:
        return ReasoningBlock(redacted=wire.redacted_content or "")
    return ReasoningBlock(wire.reasoning_text.text, wire.reasoning_text.signature or None)


def _unasked_call() -> UpstreamError:
    return UpstreamError("Bedrock: the model calls a tool that the caller did not offer")


def parse_converse_answer(body: bytes, *, offered: frozenset[str]) -> ChatAnswer:
    """Read the body of a Converse answer.

    Args:
        body: Of an answer with status 200.
        offered: ``offered_tools`` of the request.

    Raises:
        UpstreamError: Not a Converse answer, or one that does not answer the request.
    """
    answer = _decode(body, _Answer)
    blocks = answer.output.message.content
    calls = tuple(
        ToolCall(use.tool_use_id, use.name, cast("JSONObject", use.input))
        for use in (block.tool_use for block in blocks)
        if use is not None
    )
    if not offered.issuperset(call.name for call in calls):
        raise _unasked_call()
    reasoning = tuple(
        [_thought(each.reasoning_content) for each in blocks if each.reasoning_content]
    )
    # One text: the caller reads it as one, so what is split over two blocks must be found.
    text = "".join(block.text for block in blocks if block.text)
    return ChatAnswer(
        (text,) if text else (),
        calls,
        _finish_reason(answer.stop_reason, has_calls=bool(calls)),
        _usage(answer.usage, thought=bool(reasoning)),
        len(body),
        reasoning,
    )


class _ToolUseStart(_Wire):
    tool_use_id: _CallId
    name: _CallName


class _Start(_Wire, forbid_unknown_fields=True):
    tool_use: _ToolUseStart


class _BlockStart(_Wire):
    content_block_index: _Count
    start: _Start


class _ToolUsePiece(_Wire):
    input: str


class _ReasoningPiece(_Wire, forbid_unknown_fields=True):
    text: str | None = None
    signature: _Opaque | None = None
    redacted_content: _Opaque | None = None


class _Delta(_Wire, forbid_unknown_fields=True):
    text: str | None = None
    tool_use: _ToolUsePiece | None = None
    reasoning_content: _ReasoningPiece | None = None


class _BlockDelta(_Wire):
    content_block_index: _Count
    delta: _Delta


class _BlockStop(_Wire):
    content_block_index: _Count


class _MessageStop(_Wire):
    stop_reason: str


class _Metadata(_Wire):
    usage: _Usage


@dataclass(slots=True)
class _OpenCall:
    index: int
    has_arguments: bool = False


class ConverseStream:
    """Translates the events of one ConverseStream answer, in their order.

    Args:
        offered: ``offered_tools`` of the request.
    """

    __slots__ = ("_admitted", "_calls", "_offered", "_open", "_thought", "_whole")

    def __init__(self, *, offered: frozenset[str]) -> None:
        self._offered = offered
        self._calls = 0
        self._open: dict[int, _OpenCall] = {}
        self._whole = False
        self._thought = False
        self._admitted: dict[str, Callable[[bytes], list[ChatDelta]]] = {
            "messageStart": self._on_start
        }

    def receive(self, message: EventMessage) -> list[ChatDelta]:
        """Return what one message of the event stream says.

        Raises:
            UpstreamError: An exception of AWS, or an event that may not come here.
        """
        if message.headers.get(":message-type", "event") != "event":
            raise _stream_exception(message)
        name = message.headers.get(":event-type")
        handler = self._admitted.get(name) if isinstance(name, str) else None
        if handler is None:
            raise UpstreamError("Bedrock: an event that may not come at this place of the stream")
        return handler(message.payload)

    def close(self) -> None:
        """Say that the stream ended.

        Raises:
            UpstreamError: Before its usage was told: it is cut short.
        """
        if not self._whole:
            raise UpstreamError("Bedrock: the stream ended before the answer did")

    def _on_start(self, _payload: bytes) -> list[ChatDelta]:
        self._admitted = {
            "contentBlockStart": self._on_block_start,
            "contentBlockDelta": self._on_delta,
            "contentBlockStop": self._on_block_stop,
            "messageStop": self._on_stop,
        }
        return []

    def _on_block_start(self, payload: bytes) -> list[ChatDelta]:
        event = _decode(payload, _BlockStart)
        if event.content_block_index in self._open:
            raise UpstreamError("Bedrock: a content block begins twice")
        use = event.start.tool_use
        if use.name not in self._offered:
            raise _unasked_call()
        call = _OpenCall(self._calls)
        self._calls += 1
        self._open[event.content_block_index] = call
        return [ToolCallBegun(call.index, use.tool_use_id, use.name)]

    def _on_delta(self, payload: bytes) -> list[ChatDelta]:
        event = _decode(payload, _BlockDelta)
        call = self._open.get(event.content_block_index)
        if event.delta.reasoning_content is not None:
            return self._on_reasoning(event.delta.reasoning_content)
        if event.delta.tool_use is None:
            return [TextDelta(event.delta.text)] if event.delta.text else []
        if call is None:
            raise UpstreamError("Bedrock: arguments outside a tool call")
        piece = event.delta.tool_use.input
        call.has_arguments = call.has_arguments or bool(piece)
        return [ToolCallDelta(call.index, piece)] if piece else []

    def _on_reasoning(self, piece: _ReasoningPiece) -> list[ChatDelta]:
        self._thought = True
        delta = ReasoningDelta(piece.text or "", piece.signature or None, piece.redacted_content)
        return [] if delta == ReasoningDelta() else [delta]

    def _on_block_stop(self, payload: bytes) -> list[ChatDelta]:
        call = self._open.pop(_decode(payload, _BlockStop).content_block_index, None)
        if call is None or call.has_arguments:
            return []
        return [ToolCallDelta(call.index, "{}")]  # clients parse the arguments, and "" is no JSON

    def _on_stop(self, payload: bytes) -> list[ChatDelta]:
        self._admitted = {"metadata": self._on_metadata}
        stop = _decode(payload, _MessageStop)
        return [Finished(_finish_reason(stop.stop_reason, has_calls=self._calls > 0))]

    def _on_metadata(self, payload: bytes) -> list[ChatDelta]:
        self._admitted = {}
        self._whole = True
        return [_usage(_decode(payload, _Metadata).usage, thought=self._thought)]


class ConverseReader(Value, frozen=True):
    """Reads what Converse and ConverseStream answer to one request.

    Attributes:
        offered: ``offered_tools`` of the request.
        shape: What has to be done to the answer.
    """

    offered: frozenset[str]
    shape: Shape = PLAIN

    @property
    def _callable(self) -> frozenset[str]:
        tool = self.shape.answer_tool
        return self.offered if tool is None else self.offered | {tool}

    def whole(self, response: HttpResponse) -> ChatAnswer:
        """Read a Converse answer."""
        return self.shape.shaped(parse_converse_answer(response.body, offered=self._callable))

    def stream(self) -> StreamReader:
        """Begin to read a ConverseStream answer."""
        stream = ConverseStream(offered=self._callable)
        return stream if self.shape.is_plain else _ShapedConverseStream(stream, self.shape)


class _ShapedConverseStream:
    def __init__(self, stream: ConverseStream, shape: Shape) -> None:
        self._stream = stream
        self._shaped = ShapedStream(shape)
        self.close = stream.close

    def receive(self, message: EventMessage) -> list[ChatDelta]:
        """Return what becomes of what one message says."""
        return self._shaped.receive(self._stream.receive(message))


def _stream_exception(message: EventMessage) -> UpstreamError:
    name = message.headers.get(":exception-type", message.headers.get(":error-code", ""))
    text = name if isinstance(name, str) else ""
    return upstream_error(clean_name(text[:1].upper() + text[1:]), message.payload)
