"""Tools and structured answers of a chat request in Converse's terms.

A history with tool use needs a ``toolConfig`` even if no tool is on offer now. A schema for the
answer goes the model's own way if it has one; otherwise the answer becomes the arguments of a tool
that must be called; where not even that is possible, the model is told, and its answer is checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from latensgate_enclave.chat_native import HINTS
from latensgate_enclave.chat_values import ToolSpec, UnsupportedError

if TYPE_CHECKING:
    from latensgate_enclave.chat_values import ChatRequest, ResponseFormat
    from latensgate_enclave.model_traits import ModelTraits
    from latensgate_shared.strict_json import JSONObject, JSONValue

Structured: TypeAlias = Literal["native", "tool", "told"]
_NO_ARGUMENTS: Final[JSONObject] = {"type": "object", "properties": {}}
_ANSWER_TOOL: Final = "give_answer"
_TELL_JSON: Final = (
    "Answer with one JSON object and with nothing else: no text around it, no fence."
)


def offered_tools(request: ChatRequest) -> frozenset[str]:
    """Names that the answer may call; Converse itself has no way to forbid any."""
    if request.tool_choice == "none":
        return frozenset()
    return frozenset(tool.name for tool in request.tools)


def uses_tools(request: ChatRequest) -> bool:
    """Whether a tool is on offer or was called."""
    return bool(request.tools or _called_names(request))


def thinks(request: ChatRequest, traits: ModelTraits) -> bool:
    """Whether the model thinks in the way that forbids forced tools."""
    asked = request.reasoning_effort not in {None, "none"}
    return asked and traits.can("reasoning_thinking")


def structured_by(request: ChatRequest, traits: ModelTraits) -> Structured | None:
    """Return how the answer becomes JSON; None: it need not.

    Raises:
        UnsupportedError: The schema is to be followed exactly, and this model has no way to it.
    """
    form = request.response_format
    if form is None or request.tool_choice == "required":
        return None  # an answer that must be a call is no text
    if form.schema is None:
        return "told"
    if traits.can("json_schema") and _is_closable(form.schema):
        return "native"
    forces = traits.can("tools") and traits.can("forced_tools") and not thinks(request, traits)
    if forces and form.schema.get("type") == "object":
        return "tool"
    if form.strict:
        raise UnsupportedError("this model cannot be held to a schema", param="response_format")
    return "told"


def answer_tool(request: ChatRequest) -> str:
    """Return the name of the tool that takes the answer: none that is on offer or was called."""
    names = {tool.name for tool in request.tools} | set(_called_names(request))
    name = _ANSWER_TOOL
    while name in names:
        name += "_"
    return name


def json_instruction(form: ResponseFormat) -> str:
    """Return what a model is told that has no other way to JSON."""
    if form.schema is None:
        return _TELL_JSON
    return f"{_TELL_JSON} It follows this JSON Schema: {msgspec.json.encode(form.schema).decode()}"


def text_format(form: ResponseFormat) -> JSONObject:
    """Return ``outputConfig.textFormat``."""
    schema = msgspec.json.encode(_closed(form.schema)).decode()
    structure: JSONObject = {"schema": schema, "name": form.name}
    if form.description is not None:
        structure["description"] = form.description
    return {"type": "json_schema", "structure": {"jsonSchema": structure}}


_SCHEMAS: Final = frozenset({"items", "not", "if", "then", "else", "contains"})
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_MAPS: Final = frozenset({"properties", "$defs", "definitions", "patternProperties"})


class _OpenError(Exception):
    """An object of the schema takes other members on purpose."""


def _is_closable(schema: JSONObject) -> bool:
    try:
        _closed(schema)
    except _OpenError:
        return False
    return True


def _closed(schema: JSONValue) -> JSONValue:
    """Close all objects of a schema, as the native way demands."""
    if not isinstance(schema, dict):
        return schema
    made: JSONObject = {}
    for name, member in schema.items():
        made[name] = member
        if name in _SCHEMAS:
            made[name] = _closed(member)
        elif name in _LISTS and isinstance(member, list):
            made[name] = [_closed(each) for each in member]
        elif name in _MAPS and isinstance(member, dict):
            made[name] = {key: _closed(each) for key, each in member.items()}
    is_object = schema.get("type") == "object" or "properties" in schema
    if is_object and made.setdefault("additionalProperties", False) is not False:
        raise _OpenError
    return made


def dropped_by_model(
    request: ChatRequest, traits: ModelTraits, structured: Structured | None
) -> tuple[str, ...]:
    """Return what is asked for and not forwarded to this model, for the receipt."""
    names = [name for name in request.native if name in HINTS]
    if traits.can("strict_tools"):
        return tuple(names)
    form = request.response_format
    if structured == "tool" and form is not None and form.strict:
        names.append("response_format.json_schema.strict")
    if any(tool.strict for tool in request.tools):
        names.append("tools.function.strict")
    return tuple(names)


def tool_config(
    request: ChatRequest, traits: ModelTraits, structured: Structured | None
) -> JSONObject | None:
    """Offer the tools, or, for a history with tool use, what the history names.

    With ``tool_choice`` none the tools are left out where they may be; where the history needs
    them they stay, and an answer that calls one is refused (``offered_tools``).
    """
    called = _called_names(request)
    offered = offered_tools(request)
    by_tool = structured == "tool" and request.response_format is not None
    if not offered and not called and not by_tool:
        return None
    # Offered now, or made up from the names in the history: their schemas are not known any more.
    offers = list(request.tools) if offered or called else []
    offers = offers or [ToolSpec(name, None, None) for name in called]
    choice: JSONObject | None = None
    if request.forced_tool is not None:
        choice = {"tool": {"name": request.forced_tool}}
    elif request.tool_choice == "required":
        choice = {"any": {}}
    if by_tool and request.response_format is not None:
        name, form = answer_tool(request), request.response_format
        offers.append(
            ToolSpec(name, form.description or "Gives the answer.", form.schema, form.strict)
        )
        choice = {"any": {}} if offered else {"tool": {"name": name}}
    config: JSONObject = {"tools": [{"toolSpec": _tool_spec(tool, traits)} for tool in offers]}
    if choice is not None:
        config["toolChoice"] = choice
    return config


def _called_names(request: ChatRequest) -> list[str]:
    names = (call.name for message in request.messages for call in message.tool_calls)
    return list(dict.fromkeys(names))


def _tool_spec(tool: ToolSpec, traits: ModelTraits) -> JSONObject:
    # Converse takes objects alone; OpenAI takes schemas that do not say so.
    schema = _NO_ARGUMENTS if tool.parameters is None else {"type": "object", **tool.parameters}
    spec: JSONObject = {"name": tool.name, "inputSchema": {"json": schema}}
    if tool.description is not None:
        spec["description"] = tool.description
    if tool.strict and traits.can("strict_tools"):
        spec["strict"] = True
    return spec
