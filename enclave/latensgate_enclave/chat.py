"""An OpenAI chat completions request as a value: text conversations with tools, strictly checked.

What cannot be honoured is refused with ``ERR_UNSUPPORTED`` and the name of the field, so that no
caller believes in an instruction that nobody follows. Fields that only inform OpenAI about the
caller are left out of what is forwarded and listed in ``dropped``, which the receipt repeats.
A member with the value ``null`` is an absent one: OpenAI's own clients send many.

Wire reference: OpenAI's OpenAPI document, schema ``CreateChatCompletionRequest``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

import msgspec

from latensgate_enclave.chat_wire import (
    AnyMessage,
    AssistantWire,
    DeveloperWire,
    NamedChoiceWire,
    RequestWire,
    SystemWire,
    TextPartWire,
    ToolWire,
    UserWire,
)
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError, TooLargeError
from latensgate_shared.limits import (
    NAME_MAX_CHARS,
    PII_REQUEST_MAX_CHARS,
    SEALED_REQUEST_MAX_BYTES,
)
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from latensgate_enclave.chat_wire import (
        CallWire,
        FunctionWire,
        RefusalPartWire,
        ToolChoiceMode,
    )
    from latensgate_shared.strict_json import JSONObject, JSONValue

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]


class RequestInvalidError(LatensgateError):
    """A field has a value that the OpenAI contract does not allow.

    Attributes:
        param: Path of the field, as in ``messages[0].role``. It may hold a name that the caller
            made up, so it goes into the sealed error and never into a log.
    """

    code = ErrorCode.ERR_REQUEST_INVALID

    def __init__(self, reason: str, *, param: str) -> None:
        super().__init__(f"chat request: {reason}")
        self.param = param[:NAME_MAX_CHARS]


class UnsupportedError(RequestInvalidError):
    """A field, or a value of it, that OpenAI allows and we cannot honour."""

    code = ErrorCode.ERR_UNSUPPORTED


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that the assistant made.

    Attributes:
        id: Ours; a tool message answers by it.
        name: Of the tool.
        arguments: Parsed from the JSON text of the wire; an empty text is an empty object.
    """

    id: str
    name: str
    arguments: JSONObject = field(repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        role: Who speaks.
        text: Text parts in order; blank ones are left out, since no provider takes them.
        tool_calls: Of an assistant.
        tool_call_id: Of a tool's answer, else None.
    """

    role: Role
    text: tuple[str, ...] = field(repr=False)
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """One tool on offer.

    Attributes:
        name: 1 to 64 of ``[a-zA-Z0-9_-]``, unique in its request.
        description: Never empty.
        parameters: JSON Schema of the arguments; None: no arguments.
        strict: Whether arguments must follow the schema exactly.
    """

    name: str
    description: str | None = field(repr=False)
    parameters: JSONObject | None = field(repr=False)
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked request.

    Attributes:
        model: The caller's name for a model: an alias, nothing that AWS knows.
        messages: At least one; every tool call has exactly one answer right behind it.
        tools: On offer.
        tool_choice: None if the caller did not say.
        forced_tool: Name of the one tool to call; ``tool_choice`` is then ``"required"``.
        max_tokens: Most tokens of the answer.
        temperature: 0 to 2.
        top_p: 0 to 1.
        stop: At most four sequences, none empty.
        stream: Whether the answer comes in chunks.
        include_usage: Whether a stream ends with a usage chunk.
        dropped: Names of fields that are not forwarded, sorted.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoiceMode | None = None
    forced_tool: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = field(default=(), repr=False)
    stream: bool = False
    include_usage: bool = False
    dropped: tuple[str, ...] = ()


_DROPPED: Final = frozenset({"metadata", "prompt_cache_key", "safety_identifier", "user"})
"""They tell OpenAI who calls and where to cache, and nothing about the answer."""

_ONLY_DEFAULT: Final[dict[str, tuple[JSONValue, ...]]] = {
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
}
"""Fields of which only the value that changes nothing can be honoured."""


def parse_chat_request(body: JSONObject) -> ChatRequest:
    """Check the body of a chat completions request.

    Args:
        body: As the strict JSON reader returned it.

    Raises:
        UnsupportedError: A field or value that cannot be honoured; ``param`` names it.
        RequestInvalidError: A value outside the contract; ``param`` names it.
        TooLargeError: The arguments of all tool calls are longer than one scan takes on.
    """
    rest, dropped = _honourable(body)
    request = _convert(rest)
    _check_arguments(request.messages)
    ids: dict[str, str] = {}
    messages = tuple(_message(index, each, ids) for index, each in enumerate(request.messages))
    _check_tool_turns(messages)
    if any(each.name is not None for each in request.messages):
        dropped.append("messages.name")
    tools = tuple(_tool(each.function) for each in request.tools)
    choice, forced = _tool_choice(request.tool_choice, tools)
    if request.stream_options is not None and not request.stream:
        raise RequestInvalidError("a stream option without a stream", param="stream_options")
    return ChatRequest(
        model=request.model,
        messages=messages,
        tools=tools,
        tool_choice=choice,
        forced_tool=forced,
        max_tokens=_max_tokens(request),
        temperature=request.temperature,
        top_p=request.top_p,
        stop=(request.stop,) if isinstance(request.stop, str) else tuple(request.stop),
        stream=request.stream,
        include_usage=bool(request.stream_options and request.stream_options.include_usage),
        dropped=tuple(sorted(dropped)),
    )


def _honourable(body: JSONObject) -> tuple[JSONObject, list[str]]:
    """Take out nulls, fields to drop and harmless defaults; return the rest and what is dropped."""
    rest: JSONObject = {}
    dropped: list[str] = []
    for name, value in body.items():
        if value is None:
            continue
        if name in _DROPPED:
            dropped.append(name)
        elif name not in _ONLY_DEFAULT:
            rest[name] = value
        elif not _is_one_of(value, _ONLY_DEFAULT[name]):
            raise UnsupportedError("only the default of this field is supported", param=name)
    messages = rest.get("messages")
    if isinstance(messages, list):
        rest["messages"] = [
            {name: value for name, value in each.items() if value is not None}
            if isinstance(each, dict)
            else each
            for each in messages
        ]
    return rest, dropped


def _is_one_of(value: JSONValue, allowed: Sequence[JSONValue]) -> bool:
    """Compare as JSON does, where ``true`` is not ``1``."""
    return any(
        value == each and isinstance(value, bool) == isinstance(each, bool) for each in allowed
    )


def _convert(rest: JSONObject) -> RequestWire:
    try:
        return msgspec.convert(rest, RequestWire)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from None


def _refusal(text: str) -> RequestInvalidError:
    """Turn the library's words into an error of ours: only the path is taken over."""
    reason, found, path = text.rpartition(" - at `$")
    reason, path = (reason, path[:-1].lstrip(".")) if found else (text, "")
    if reason.startswith("Object contains unknown field"):
        name = reason.partition("`")[2].rpartition("`")[0]
        return UnsupportedError("a field is not supported", param=f"{path}.{name}".lstrip("."))
    if reason.startswith("Object missing required field"):
        name = reason.partition("`")[2].rpartition("`")[0]
        return RequestInvalidError("a field is missing", param=f"{path}.{name}".lstrip("."))
    if reason.startswith("Invalid"):
        return UnsupportedError("a value is not supported", param=path)
    return RequestInvalidError("a value is not of the type or range expected", param=path)


_ROLES: Final[dict[type[AnyMessage], Role]] = {
    SystemWire: "system",
    DeveloperWire: "developer",
    UserWire: "user",
    AssistantWire: "assistant",
    ToolWire: "tool",
}


def _message(index: int, wire: AnyMessage, ids: dict[str, str]) -> Message:
    role = _ROLES[type(wire)]
    if isinstance(wire, AssistantWire):
        texts = [*_texts(wire.content), *_texts(wire.refusal)]
        calls = tuple(
            _call(f"messages[{index}].tool_calls[{number}]", each, ids)
            for number, each in enumerate(wire.tool_calls)
        )
    else:
        texts, calls = list(_texts(wire.content)), ()
    if not texts and not calls and role != "tool":
        raise RequestInvalidError("a message says nothing", param=f"messages[{index}].content")
    call_id = _own_id(wire.tool_call_id, ids) if isinstance(wire, ToolWire) else None
    return Message(role, tuple(texts), calls, call_id)


def _own_id(given: str, ids: dict[str, str]) -> str:
    """Call ids are free text of the caller: the model sees ours, numbered by first use."""
    return ids.setdefault(given, f"call_{len(ids)}")


def _texts(content: str | Sequence[TextPartWire | RefusalPartWire] | None) -> Iterable[str]:
    if isinstance(content, str):
        parts = [content]
    else:
        parts = [
            part.text if isinstance(part, TextPartWire) else part.refusal for part in content or ()
        ]
    return (part for part in parts if part.strip())


def _check_arguments(messages: Sequence[AnyMessage]) -> None:
    """Bound JSON within JSON: the strict reader of the body saw each of these as one text."""
    chars = sum(
        len(call.function.arguments)
        for message in messages
        if isinstance(message, AssistantWire)
        for call in message.tool_calls
    )
    if chars > PII_REQUEST_MAX_CHARS:
        raise TooLargeError(
            f"chat request: at most {PII_REQUEST_MAX_CHARS} characters expected in the arguments "
            f"of all tool calls, found {chars}"
        )


def _call(place: str, wire: CallWire, ids: dict[str, str]) -> ToolCall:
    text = wire.function.arguments
    try:
        arguments = parse_json_object(
            (text or "{}").encode("utf-8", "surrogatepass"), max_bytes=SEALED_REQUEST_MAX_BYTES
        )
    except MalformedError:
        raise RequestInvalidError(
            "the arguments of a tool call are not a JSON object",
            param=f"{place}.function.arguments",
        ) from None
    return ToolCall(_own_id(wire.id, ids), wire.function.name, arguments)


def _check_tool_turns(messages: Sequence[Message]) -> None:
    """Every call is answered once, by the tool messages right behind it, and nothing else is."""
    unanswered: set[str] = set()
    for index, message in enumerate(messages):
        if message.tool_call_id is not None:
            if message.tool_call_id not in unanswered:
                raise RequestInvalidError(
                    "a tool message answers no call right before it",
                    param=f"messages[{index}].tool_call_id",
                )
            unanswered.remove(message.tool_call_id)
            continue
        if unanswered:
            raise RequestInvalidError("a tool call is not answered", param=f"messages[{index}]")
        unanswered = {call.id for call in message.tool_calls}
        if len(unanswered) != len(message.tool_calls):
            raise RequestInvalidError(
                "two tool calls have one id", param=f"messages[{index}].tool_calls"
            )
    if unanswered:
        raise RequestInvalidError("a tool call is not answered", param="messages")


def _tool(wire: FunctionWire) -> ToolSpec:
    parameters = cast("JSONObject | None", wire.parameters)
    return ToolSpec(wire.name, wire.description or None, parameters, bool(wire.strict))


def _tool_choice(
    wire: ToolChoiceMode | NamedChoiceWire | None, tools: Sequence[ToolSpec]
) -> tuple[ToolChoiceMode | None, str | None]:
    names = {tool.name for tool in tools}
    if len(names) != len(tools):
        raise RequestInvalidError("two tools have one name", param="tools")
    if isinstance(wire, NamedChoiceWire):
        if wire.function.name not in names:
            raise RequestInvalidError("the tool to call is not on offer", param="tool_choice")
        return "required", wire.function.name
    if wire == "required" and not names:
        raise RequestInvalidError("no tool is on offer", param="tool_choice")
    return wire, None


def _max_tokens(request: RequestWire) -> int | None:
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise RequestInvalidError("two limits for one thing", param="max_tokens")
    return request.max_tokens or request.max_completion_tokens
