"""What an OpenAI-compatible upstream answers, whole or streamed, as values; and its errors.

Members that we do not know are ignored, since servers add their own. What a caller rests on is
demanded: one choice, a known end, only tools that were offered, and of a stream the ``[DONE]``.
A stream of text that says ``[DONE]`` and no reason has stopped, as some servers end (ADR 0057); one
that calls a tool needs its reason, for half a call must not be acted on.
The upstream's own words never pass in an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

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
    estimated_usage,
)
from latensgate_enclave.chat_native import NativeAnswer
from latensgate_enclave.chat_values import ReasoningBlock, ToolCall
from latensgate_enclave.openai_native_answer import native_answer, native_head
from latensgate_enclave.retry import retry_after_ms
from latensgate_shared.errors import ErrorCode, MalformedError
from latensgate_shared.limits import BEDROCK_ANSWER_MAX_BYTES, CHAT_TOOLS_MAX_COUNT
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from latensgate_enclave.aws.eventstream import EventMessage
    from latensgate_enclave.chat_answer import ChatDelta, FinishReason
    from latensgate_enclave.http1 import HttpResponse
    from latensgate_shared.strict_json import JSONObject

_Decoded = TypeVar("_Decoded")
_Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""Sums of them stand in receipts and totals, which hold integers below 2**53."""
_CallId = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.:-]{1,64}\Z")]
_DONE: Final = b"[DONE]"
_FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_CODES: Final = {
    400: ErrorCode.ERR_UPSTREAM_REFUSED,
    401: ErrorCode.ERR_UPSTREAM_CREDENTIAL,
    403: ErrorCode.ERR_UPSTREAM_CREDENTIAL,
    404: ErrorCode.ERR_MODEL_UNKNOWN,
    408: ErrorCode.ERR_UPSTREAM_TIMEOUT,
    413: ErrorCode.ERR_UPSTREAM_REFUSED,
    422: ErrorCode.ERR_UPSTREAM_REFUSED,
    429: ErrorCode.ERR_UPSTREAM_THROTTLED,
    504: ErrorCode.ERR_UPSTREAM_TIMEOUT,
}
_TYPES: Final = {
    "rate_limit_error": ErrorCode.ERR_UPSTREAM_THROTTLED,
    "rate_limit_exceeded": ErrorCode.ERR_UPSTREAM_THROTTLED,
    "insufficient_quota": ErrorCode.ERR_UPSTREAM_THROTTLED,
    "invalid_request_error": ErrorCode.ERR_UPSTREAM_REFUSED,
}
_NOT_BEGUN: Final = (429, 503)
_QUOTA: Final = "insufficient_quota"


class _Error(Struct):
    code: str | int | None = None
    type: str | None = None


class _Refusal(Struct):
    error: _Error | str | None = None


def openai_error(response: HttpResponse) -> UpstreamError:
    """Return the error of an answer with another status than 200."""
    status = response.status
    try:
        told = msgspec.json.decode(response.body, type=_Refusal).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = None
    spent = isinstance(told, _Error) and _QUOTA in (told.code, told.type)
    return UpstreamError(
        f"the upstream answered with HTTP {status}",
        code=_CODES.get(status, ErrorCode.ERR_UPSTREAM),
        status=status,
        not_run=status in _NOT_BEGUN and not spent,  # a quota does not come back in time
        retry_after_ms=retry_after_ms(response.headers),
    )


def _event_error(error: _Error | str) -> UpstreamError:
    names = (error.type, error.code) if isinstance(error, _Error) else ()
    code = next((_TYPES[name] for name in names if name in _TYPES), ErrorCode.ERR_UPSTREAM)
    return UpstreamError("the upstream ended the stream with an error", code=code)


class _Details(Struct):
    cached_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None


class _Usage(Struct):
    prompt_tokens: _Count
    completion_tokens: _Count = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None

    def value(self) -> Usage:
        """Return it as we count."""
        asked, said = self.prompt_tokens_details, self.completion_tokens_details
        cached = asked.cached_tokens if asked else None
        thought = said.reasoning_tokens if said else None
        return Usage(self.prompt_tokens, self.completion_tokens, cached or 0, 0, thought)


class _Function(Struct):
    name: str
    arguments: str = ""


class _Call(Struct):
    id: _CallId
    function: _Function


class _Message(Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: Annotated[list[_Call], Meta(max_length=CHAT_TOOLS_MAX_COUNT)] | None = None


class _Choice(Struct):
    message: _Message
    finish_reason: str


class _Answer(Struct):
    choices: Annotated[list[_Choice], Meta(min_length=1, max_length=1)]
    usage: _Usage | None = None
    service_tier: object = None
    system_fingerprint: object = None


def _decode(data: bytes, kind: type[_Decoded]) -> _Decoded:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamError("the upstream's answer is not of OpenAI's form") from None


def _reason(name: str, *, has_calls: bool) -> FinishReason:
    reason = _FINISH_REASONS.get(name)
    if reason is None:
        raise UpstreamError("the upstream ended for a reason that is no end of an answer")
    return "tool_calls" if reason == "stop" and has_calls else reason


def _check_offered(name: str, offered: frozenset[str]) -> None:
    if name not in offered:
        raise UpstreamError("the upstream calls a tool that the caller did not offer")


def parse_openai_answer(
    body: bytes,
    offered: frozenset[str],
    prompt_bytes: int = 0,
    asked: frozenset[str] = frozenset(),
) -> ChatAnswer:
    """Read a whole answer.

    Args:
        body: Of an answer with status 200.
        offered: Names of the tools that it may call.
        prompt_bytes: Of the request, where the upstream tells no usage.
        asked: Fields of the request that something comes back for beside the answer.

    Raises:
        UpstreamError: Not of OpenAI's form, or no answer to the request.
    """
    answer = _decode(body, _Answer)
    (choice,) = answer.choices
    message = choice.message
    calls = tuple(_call(each, offered) for each in message.tool_calls or ())
    text = (message.content or "") + (message.refusal or "")
    thought = message.reasoning_content
    native = native_answer(body, asked)
    head = {**native.head, **native_head(answer.service_tier, answer.system_fingerprint)}
    return ChatAnswer(
        (text,) if text else (),
        calls,
        _reason(choice.finish_reason, has_calls=bool(calls)),
        answer.usage.value() if answer.usage else estimated_usage(prompt_bytes, len(text)),
        len(body),
        (ReasoningBlock(thought),) if thought else (),
        replace(native, head=head),
    )


def _call(wire: _Call, offered: frozenset[str]) -> ToolCall:
    _check_offered(wire.function.name, offered)
    text = (wire.function.arguments or "{}").encode("utf-8", "surrogatepass")
    try:
        arguments = parse_json_object(text, max_bytes=BEDROCK_ANSWER_MAX_BYTES)
    except MalformedError:
        raise UpstreamError("the arguments of a tool call are no JSON object") from None
    return ToolCall(wire.id, wire.function.name, arguments)


class _FunctionPiece(Struct):
    name: str | None = None
    arguments: str | None = None


class _CallPiece(Struct):
    index: Annotated[int, Meta(ge=0, lt=CHAT_TOOLS_MAX_COUNT)] = 0
    id: _CallId | None = None
    function: _FunctionPiece | None = None


class _Delta(Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_CallPiece] | None = None


class _ChunkChoice(Struct):
    index: Annotated[int, Meta(ge=0, le=0)] = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(Struct):
    choices: Annotated[list[_ChunkChoice], Meta(max_length=1)] = []
    usage: _Usage | None = None
    service_tier: object = None
    system_fingerprint: object = None
    error: _Error | str | None = None


@dataclass(slots=True)
class _OpenCall:
    index: int
    has_arguments: bool = False


class OpenAIStream:
    """Translates the events of one streamed answer, in their order.

    Args:
        offered: Names of the tools that the answer may call.
        asked: Fields of the request that something comes back for beside the answer.
    """

    __slots__ = ("_asked", "_calls", "_finished", "_head", "_offered", "_said", "_usage", "_whole")

    def __init__(self, offered: frozenset[str], asked: frozenset[str] = frozenset()) -> None:
        self._offered = offered
        self._asked = asked
        self._head: JSONObject = {}
        self._calls: dict[int, _OpenCall] = {}
        self._finished = self._whole = self._said = False
        self._usage: Usage | None = None

    def receive(self, message: EventMessage) -> list[ChatDelta]:
        """Return what the data of one event says.

        Raises:
            UpstreamError: An error of the upstream, or an event that may not come here.
        """
        if self._whole:
            raise UpstreamError("the upstream goes on after the end of its stream")
        if message.payload == _DONE:
            return self._end()
        chunk = _decode(message.payload, _Chunk)
        if chunk.error:
            raise _event_error(chunk.error)
        if chunk.usage is not None:  # some servers tell what it is so far in every chunk
            self._usage = chunk.usage.value()
        deltas = self._told_first(chunk)
        for choice in chunk.choices:
            deltas += self._content(choice.delta or _Delta())
        deltas += self._beside(message.payload)
        for choice in chunk.choices:
            if choice.finish_reason is not None:
                deltas += self._finish(choice.finish_reason)
        return deltas

    def close(self) -> None:
        """Say that the stream ended.

        Raises:
            UpstreamError: Before its ``[DONE]``: it is cut short.
        """
        if not self._whole:
            raise UpstreamError("the upstream's stream ended before the answer did")

    def _told_first(self, chunk: _Chunk) -> list[ChatDelta]:
        """Return who answers and how, where it is news: every chunk repeats it."""
        head = native_head(chunk.service_tier, chunk.system_fingerprint)
        if head.items() <= self._head.items():
            return []
        self._head |= head
        return [NativeDelta(NativeAnswer(head=dict(self._head)))]

    def _beside(self, payload: bytes) -> list[ChatDelta]:
        native = native_answer(payload, self._asked)
        return [NativeDelta(native)] if native else []

    def _end(self) -> list[ChatDelta]:
        deltas: list[ChatDelta] = []
        if not self._finished:
            if self._calls or not self._said:
                raise UpstreamError("the upstream ended its stream without an end of the answer")
            deltas = self._finish("stop")
        self._whole = True
        return [*deltas, self._usage] if self._usage else deltas  # else estimated by who bills

    def _content(self, delta: _Delta) -> list[ChatDelta]:
        deltas: list[ChatDelta] = []
        if delta.reasoning_content:
            deltas.append(ReasoningDelta(delta.reasoning_content))
        deltas += [TextDelta(text) for text in (delta.content, delta.refusal) if text]
        if deltas:
            deltas = [*self._without_arguments(), *deltas]
        self._said = self._said or bool(deltas)
        for piece in delta.tool_calls or ():
            deltas += self._call(piece)
        if deltas and self._finished:
            raise UpstreamError("the upstream goes on after the end of its answer")
        return deltas

    def _call(self, piece: _CallPiece) -> list[ChatDelta]:
        function = piece.function or _FunctionPiece()
        deltas: list[ChatDelta] = []
        call = self._calls.get(piece.index)
        if call is None:
            if piece.id is None or function.name is None:
                raise UpstreamError("the upstream begins a tool call without its id or name")
            _check_offered(function.name, self._offered)
            deltas = self._without_arguments()
            call = self._calls[piece.index] = _OpenCall(len(self._calls))
            deltas.append(ToolCallBegun(call.index, piece.id, function.name))
        if function.arguments:
            call.has_arguments = True
            deltas.append(ToolCallDelta(call.index, function.arguments))
        return deltas

    def _finish(self, name: str) -> list[ChatDelta]:
        if self._finished:
            raise UpstreamError("the upstream ends its answer twice")
        self._finished = True
        reason = _reason(name, has_calls=bool(self._calls))
        return [*self._without_arguments(), Finished(reason)]

    def _without_arguments(self) -> list[ChatDelta]:
        """End calls that came without arguments: what follows is no part of them any more."""
        empty = [call for call in self._calls.values() if not call.has_arguments]
        for call in empty:
            call.has_arguments = True
        return [ToolCallDelta(call.index, "{}") for call in empty]


@dataclass(frozen=True, slots=True)
class OpenAIReader:
    """Reads what an OpenAI-compatible upstream answers.

    Attributes:
        offered: Names of the tools that it may call.
        prompt_bytes: Of the request.
        asked: Fields of the request that something comes back for beside the answer.
    """

    offered: frozenset[str]
    prompt_bytes: int
    asked: frozenset[str] = frozenset()

    def whole(self, response: HttpResponse) -> ChatAnswer:
        """Read an answer with status 200; raises as `parse_openai_answer`."""
        return parse_openai_answer(response.body, self.offered, self.prompt_bytes, self.asked)

    def stream(self) -> OpenAIStream:
        """Begin to read a streamed answer."""
        return OpenAIStream(self.offered, self.asked)
