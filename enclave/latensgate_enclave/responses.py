"""A Responses request as a value: a chat completions request in other words, and what is echoed.

A server that stores nothing can answer a response, and cannot continue, look up or cancel one: what
needs a stored state is refused with the name of its field (docs/responses.md). Everything else is
said in the words of chat completions and judged there, once; errors name the field as it was
written here.

Wire reference: OpenAI's OpenAPI document, schema ``CreateResponse``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from latensgate_enclave.chat import RequestInvalidError, UnsupportedError, parse_chat_request
from latensgate_enclave.openai_wire import converted
from latensgate_enclave.responses_items import Conversation
from latensgate_enclave.responses_wire import (
    AllowedToolsWire,
    JSONObjectWire,
    JSONSchemaWire,
    NamedToolWire,
    ResponsesWire,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.chat import ChatRequest
    from latensgate_enclave.responses_wire import FormatWire, FunctionToolWire
    from latensgate_shared.strict_json import JSONObject, JSONValue

_STORED_STATE: Final = frozenset(
    {"background", "background_options", "conversation", "previous_response_id", "prompt"}
)
"""They need responses, conversations or prompts that a server keeps; this one keeps nothing."""
_ONLY_DEFAULT: Final[dict[str, tuple[JSONValue, ...]]] = {
    "background": (False,),
    "store": (True, False),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}
"""Fields of which only these values can be honoured."""
_SAME_IN_CHAT: Final = (
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "stream",
    "temperature",
    "top_p",
    "user",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the response object repeats of its request, to the one who sent it.

    Attributes:
        members: Of the object, as OpenAI's clients expect them.
        summary: Whether thoughts come as a summary.
    """

    members: JSONObject = field(repr=False)
    summary: bool


@dataclass(frozen=True, slots=True)
class ParsedResponses:
    """A checked request.

    Attributes:
        chat: The same in the words of chat completions.
        asked: What is echoed.
        origins: For each message of it, the item that it came from.
        dropped: Names of fields that are not forwarded, sorted.
    """

    chat: ChatRequest
    asked: Asked
    origins: tuple[int | None, ...]
    dropped: tuple[str, ...]


def parse_responses_request(body: JSONObject) -> ParsedResponses:
    """Check the body of a Responses request.

    Args:
        body: As the strict JSON reader returned it.

    Raises:
        UnsupportedError: A field or value that cannot be honoured; ``param`` names it.
        RequestInvalidError: A value outside the contract; ``param`` names it.
        TooLargeError: The arguments of all calls are longer than one scan takes on.
    """
    rest = _honourable(body)
    wire = converted(rest, ResponsesWire)
    talk = Conversation(wire.instructions)
    if isinstance(wire.input, str):
        talk.say(wire.input)
    else:
        talk.take(wire.input)
    origins = tuple(talk.origins)
    try:
        chat = parse_chat_request(_chat_body(wire, rest, talk))
    except RequestInvalidError as error:
        raise in_own_words(error, origins) from None
    dropped = set(chat.dropped) - {"metadata"}
    if body.get("store") is True:
        dropped.add("store")
    return ParsedResponses(chat, _asked(wire), origins, tuple(sorted(dropped)))


def _honourable(body: JSONObject) -> JSONObject:
    """Take out nulls and harmless defaults; refuse what needs a stored state."""
    rest: JSONObject = {}
    for name, value in body.items():
        if value is None:
            continue
        allowed = _ONLY_DEFAULT.get(name)
        if allowed is not None and any(value is each or _equal(value, each) for each in allowed):
            continue
        if name in _STORED_STATE:
            raise UnsupportedError("nothing is stored here, so it cannot be used", param=name)
        if allowed is not None:
            raise UnsupportedError("only the default of this field is supported", param=name)
        rest[name] = value
    items = rest.get("input")
    if isinstance(items, list):  # of messages the type may be left out
        rest["input"] = [
            {"type": "message", **item} if isinstance(item, dict) and "role" in item else item
            for item in items
        ]
    return rest


def _equal(value: JSONValue, other: JSONValue) -> bool:
    """Compare as JSON does, where ``true`` is not ``1``."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _chat_body(wire: ResponsesWire, rest: JSONObject, talk: Conversation) -> JSONObject:
    messages: list[JSONValue] = [*talk.messages]
    body: JSONObject = {"model": wire.model, "messages": messages}
    body |= {name: rest[name] for name in _SAME_IN_CHAT if name in rest}
    if wire.max_output_tokens is not None:
        body["max_completion_tokens"] = wire.max_output_tokens
    if wire.tools:
        body["tools"] = [{"type": "function", "function": _tool(tool)} for tool in wire.tools]
    if wire.tool_choice is not None:
        body["tool_choice"] = _chat_choice(wire)
    if wire.reasoning is not None and wire.reasoning.effort is not None:
        body["reasoning_effort"] = wire.reasoning.effort
    if wire.stream_options is not None:
        if not body.get("stream"):
            raise RequestInvalidError("a stream option without a stream", param="stream_options")
        body["stream_options"] = msgspec.to_builtins(wire.stream_options)
    if wire.text is not None:
        body |= _chat_format(wire.text.format)
        if wire.text.verbosity is not None:
            body["verbosity"] = wire.text.verbosity
    return body


def _tool(tool: FunctionToolWire) -> JSONObject:
    members = msgspec.to_builtins(tool)
    return {name: value for name, value in members.items() if name != "type" and value is not None}


def _chat_choice(wire: ResponsesWire) -> JSONValue:
    choice = wire.tool_choice
    if isinstance(choice, NamedToolWire):
        return {"type": "function", "function": {"name": choice.name}}
    if isinstance(choice, AllowedToolsWire):
        allowed: list[JSONValue] = [
            {"type": "function", "function": {"name": tool.name}} for tool in choice.tools
        ]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": allowed}}
    return choice


def _chat_format(form: FormatWire | None) -> JSONObject:
    if isinstance(form, JSONObjectWire):
        return {"response_format": {"type": "json_object"}}
    if not isinstance(form, JSONSchemaWire):
        return {}
    members: JSONObject = msgspec.to_builtins(form)
    told: JSONObject = {
        name: value for name, value in members.items() if value is not None and name != "type"
    }
    return {"response_format": {"type": "json_schema", "json_schema": told}}


def _asked(wire: ResponsesWire) -> Asked:
    reasoning = wire.reasoning
    summary = (reasoning.summary or reasoning.generate_summary) if reasoning is not None else None
    members: JSONObject = {
        "background": False,
        "instructions": wire.instructions,
        "max_output_tokens": wire.max_output_tokens,
        "max_tool_calls": wire.max_tool_calls,
        "metadata": {**wire.metadata},
        "parallel_tool_calls": wire.parallel_tool_calls,
        "previous_response_id": None,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "prompt_cache_key": wire.prompt_cache_key,
        "reasoning": {"effort": reasoning.effort if reasoning else None, "summary": summary},
        "safety_identifier": wire.safety_identifier,
        "service_tier": "default" if wire.service_tier in {None, "auto"} else wire.service_tier,
        "store": False,
        "temperature": 1 if wire.temperature is None else wire.temperature,
        "text": _asked_text(wire),
        "tool_choice": _asked_choice(wire),
        "tools": [_asked_tool(tool) for tool in wire.tools],
        "top_logprobs": 0,
        "top_p": 1 if wire.top_p is None else wire.top_p,
        "truncation": "disabled",
    }
    return Asked(members, summary is not None)


def _asked_text(wire: ResponsesWire) -> JSONObject:
    told: JSONObject = {"format": {"type": "text"}}
    if wire.text is None:
        return told
    if wire.text.format is not None:
        told["format"] = msgspec.to_builtins(wire.text.format)
    if isinstance(wire.text.format, JSONSchemaWire):
        strict = wire.text.format.strict
        told["format"] = {**msgspec.to_builtins(wire.text.format), "strict": bool(strict)}
    if wire.text.verbosity is not None:
        told["verbosity"] = wire.text.verbosity
    return told


def _asked_choice(wire: ResponsesWire) -> JSONValue:
    choice = wire.tool_choice
    if choice is None or isinstance(choice, str):
        return choice or "auto"
    made: JSONObject = msgspec.to_builtins(choice)
    return made


def _asked_tool(tool: FunctionToolWire) -> JSONObject:
    made: JSONObject = msgspec.to_builtins(tool)
    return made


_WORDS: Final[Sequence[tuple[re.Pattern[str], str]]] = (
    (re.compile(r"max_(completion_)?tokens"), "max_output_tokens"),
    (re.compile(r"reasoning_effort"), "reasoning.effort"),
    (re.compile(r"response_format(\.json_schema)?(?P<rest>.*)"), r"text.format\g<rest>"),
    (re.compile(r"verbosity"), "text.verbosity"),
    (re.compile(r"tools\[(?P<at>[0-9]+)\]\.function(?P<rest>.*)"), r"tools[\g<at>]\g<rest>"),
    (re.compile(r"(tool_choice|messages)\b(?!\[).*"), ""),
)
_MESSAGE: Final = re.compile(r"messages\[([0-9]+)\]")


def in_own_words(error: RequestInvalidError, origins: Sequence[int | None]) -> RequestInvalidError:
    """Return an error about a chat request as one about the Responses request it was made of."""
    reason = error.detail.partition(": ")[2]
    return type(error)(reason, param=_own_param(error.param, origins))


def _own_param(param: str, origins: Sequence[int | None]) -> str:
    found = _MESSAGE.match(param)
    if found:
        origin = origins[int(found[1])]
        return "input" if origin is None else f"input[{origin}]"
    for pattern, own in _WORDS:
        match = pattern.fullmatch(param)
        if match:
            return match.expand(own) or ("tool_choice" if match[1] == "tool_choice" else "input")
    return param
