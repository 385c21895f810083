"""An OpenAI chat completions request, strictly checked.

What cannot be honoured is refused with ``ERR_UNSUPPORTED`` and the name of the field, so that no
caller believes in an instruction that nobody follows. Fields that do not touch the answer are left
out of what is forwarded and listed in ``dropped``, which the receipt repeats. docs/compatibility.md
lists all of them. A member that is ``null`` is an absent one: OpenAI's own clients send many.

Wire reference: OpenAI's OpenAPI document, schema ``CreateChatCompletionRequest``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import msgspec

from latensgate_enclave.chat_messages import read_messages
from latensgate_enclave.chat_native import native_fields
from latensgate_enclave.chat_values import (
    Attachment,
    ChatRequest,
    Effort,
    Message,
    ReasoningBlock,
    RequestInvalidError,
    ResponseFormat,
    Role,
    ToolCall,
    ToolChoiceMode,
    ToolSpec,
    UnsupportedError,
)
from latensgate_enclave.chat_wire import (
    AllowedChoiceWire,
    NamedChoiceWire,
    NamedFunctionWire,
    ObjectFormatWire,
    RequestWire,
    SchemaFormatWire,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.chat_wire import AnyChoice, AnyFormat, FunctionWire
    from latensgate_shared.strict_json import JSONObject

__all__ = [
    "Attachment",
    "ChatRequest",
    "Effort",
    "Message",
    "ReasoningBlock",
    "RequestInvalidError",
    "ResponseFormat",
    "Role",
    "ToolCall",
    "ToolChoiceMode",
    "ToolSpec",
    "UnsupportedError",
    "parse_chat_request",
]

DROPPED: Final = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "user",
    }
)
"""They tell OpenAI who calls and where to cache: nothing that the answer owes the caller."""


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
    messages, left_out = read_messages(request.messages)
    tools = _tools(request)
    choice, forced, tools = _tool_choice(_choice_of(request), tools)
    options = request.stream_options
    if options is not None and not request.stream:  # OpenAI's own example; a whole answer has usage
        left_out = {*left_out, "stream_options"}
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
        include_usage=bool(options and options.include_usage),
        obfuscate=options is None or options.include_obfuscation is not False,
        n=request.n,
        parallel_tool_calls=request.parallel_tool_calls and not _is_legacy(request),
        response_format=_format(request.response_format),
        reasoning_effort=request.reasoning_effort,
        service_tier=None if request.service_tier in _DEFAULT_TIERS else request.service_tier,
        functions=_is_legacy(request),
        dropped=tuple(sorted({*dropped, *left_out})),
        native=native_fields(request),
    )


_DEFAULT_TIERS: Final = frozenset({"auto", "default"})


def _honourable(body: JSONObject) -> tuple[JSONObject, list[str]]:
    """Take out nulls and fields to drop; return the rest and what is dropped."""
    rest: JSONObject = {}
    dropped: list[str] = []
    for name, value in body.items():
        if value is None:
            continue
        if name in DROPPED:
            dropped.append(name)
        elif name != "store":
            rest[name] = value
        elif not isinstance(value, bool):
            raise RequestInvalidError("a value is not of the type expected", param=name)
        elif value:  # nothing is ever stored, and the receipt says so
            dropped.append(name)
    messages = rest.get("messages")
    if isinstance(messages, list):
        rest["messages"] = [
            {name: value for name, value in each.items() if value is not None}
            if isinstance(each, dict)
            else each
            for each in messages
        ]
    return rest, dropped


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


def _tools(request: RequestWire) -> tuple[ToolSpec, ...]:
    functions = _specs(request.functions, "functions")
    tools = _specs([each.function for each in request.tools], "tools")
    if functions and tools and not _are_alike(functions, tools):
        raise RequestInvalidError("other tools than in tools", param="functions")
    return tools or functions


def _specs(wire: Sequence[FunctionWire], place: str) -> tuple[ToolSpec, ...]:
    specs = tuple(_tool(each) for each in wire)
    if len({each.name for each in specs}) != len(specs):
        raise RequestInvalidError("two tools have one name", param=place)
    return specs


def _are_alike(functions: tuple[ToolSpec, ...], tools: tuple[ToolSpec, ...]) -> bool:
    """Whether both lists offer the same; the old form has no word for ``strict``."""
    plain = {each.name: (each.description, each.parameters) for each in tools}
    return plain == {each.name: (each.description, each.parameters) for each in functions}


def _is_legacy(request: RequestWire) -> bool:
    """Whether tools came in the form that OpenAI has given up, and in no other."""
    return bool(request.functions) and not request.tools


def _tool(wire: FunctionWire) -> ToolSpec:
    parameters = cast("JSONObject | None", wire.parameters)
    return ToolSpec(wire.name, wire.description or None, parameters, bool(wire.strict))


def _choice_of(request: RequestWire) -> AnyChoice | None:
    """Read ``function_call`` as the ``tool_choice`` that it has become."""
    if request.function_call is None:
        return request.tool_choice
    choice: AnyChoice = (
        NamedChoiceWire(request.function_call)
        if isinstance(request.function_call, NamedFunctionWire)
        else request.function_call
    )
    if request.tool_choice not in (None, choice):
        raise RequestInvalidError("two choices of one tool", param="function_call")
    return choice


def _tool_choice(
    wire: AnyChoice | None, tools: tuple[ToolSpec, ...]
) -> tuple[ToolChoiceMode | None, str | None, tuple[ToolSpec, ...]]:
    """Return mode, the one tool to call, and the tools that stay on offer."""
    names = {tool.name for tool in tools}
    if isinstance(wire, NamedChoiceWire):
        _check_offered([wire.function.name], names)
        return "required", wire.function.name, tools
    if isinstance(wire, AllowedChoiceWire):
        allowed = [each.function.name for each in wire.allowed_tools.tools]
        _check_offered(allowed, names)
        kept = tuple(tool for tool in tools if tool.name in allowed)
        return wire.allowed_tools.mode, None, kept
    if wire == "required" and not names:
        raise RequestInvalidError("no tool is on offer", param="tool_choice")
    return wire, None, tools


def _check_offered(asked: Sequence[str], names: set[str]) -> None:
    if not names.issuperset(asked):
        raise RequestInvalidError("the tool to call is not on offer", param="tool_choice")


def _format(wire: AnyFormat | None) -> ResponseFormat | None:
    if isinstance(wire, SchemaFormatWire):
        given = wire.json_schema
        schema = cast("JSONObject", given.schema or {"type": "object"})
        return ResponseFormat(schema, given.name, given.description or None, bool(given.strict))
    return ResponseFormat() if isinstance(wire, ObjectFormatWire) else None


def _max_tokens(request: RequestWire) -> int | None:
    old, new = request.max_tokens, request.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise RequestInvalidError("two limits for one thing", param="max_tokens")
    return new if old is None else old
