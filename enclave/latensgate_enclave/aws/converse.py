"""Chat requests to the body of Bedrock Converse and ConverseStream: a pure translation.

Shapes: service model ``bedrock-runtime`` 2023-09-30. Converse is stricter than OpenAI, and each
rule that others broke on has its place below: turns alternate and begin with the user; there are
no empty texts; all results of one turn's calls stand in one user turn; a history with tool use
needs a ``toolConfig`` even if no tool is on offer now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from latensgate_enclave.chat import ToolSpec, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.chat import ChatRequest, Message
    from latensgate_enclave.model_traits import ModelTraits
    from latensgate_shared.strict_json import JSONObject, JSONValue

_NO_OUTPUT: Final = "(no output)"
"""Stands for the empty result of a tool: Converse refuses an empty text and a missing one."""
_NO_ARGUMENTS: Final[JSONObject] = {"type": "object", "properties": {}}


def build_converse_body(request: ChatRequest, traits: ModelTraits) -> bytes:
    """Return the JSON body of Converse and ConverseStream.

    Raises:
        UnsupportedError: The model or Converse cannot honour a field; ``param`` names it.
    """
    _check_traits(request, traits)
    system, spoken = _split_system(request.messages)
    body: JSONObject = {"messages": _turns(spoken)}
    if system:
        body["system"] = [{"text": text} for text in system]
    inference = _inference(request)
    if inference:
        body["inferenceConfig"] = inference
    tools = _tool_config(request)
    if tools:
        body["toolConfig"] = tools
    return msgspec.json.encode(body)


def offered_tools(request: ChatRequest) -> frozenset[str]:
    """Names that the answer may call; Converse itself has no way to forbid any."""
    if request.tool_choice == "none":
        return frozenset()
    return frozenset(tool.name for tool in request.tools)


def _check_traits(request: ChatRequest, traits: ModelTraits) -> None:
    if request.temperature is not None and (not traits.can("sampling") or request.temperature > 1):
        raise UnsupportedError("this model does not take this temperature", param="temperature")
    if request.top_p is not None and not traits.can("sampling"):
        raise UnsupportedError("this model does not take top_p", param="top_p")
    if request.tool_choice == "required" and not traits.can("forced_tools"):
        raise UnsupportedError("this model cannot be made to call a tool", param="tool_choice")
    if _tool_names(request) and not traits.can("tools"):
        raise UnsupportedError("this model does not take tools", param="tools")


def _split_system(messages: Sequence[Message]) -> tuple[list[str], list[Message]]:
    """Take the instructions out; the last of them speaks as the user where nobody else does."""
    spoken = [each for each in messages if each.role not in {"system", "developer"}]
    instructions = [each for each in messages if each.role in {"system", "developer"}]
    if not spoken:
        spoken = [instructions.pop()]
    if spoken[0].role == "assistant":
        raise UnsupportedError("the conversation does not begin with the user", param="messages")
    return [text for each in instructions for text in each.text], spoken


def _turns(messages: Sequence[Message]) -> list[JSONValue]:
    turns: list[tuple[str, list[JSONValue]]] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        if not turns or turns[-1][0] != role:
            turns.append((role, []))
        turns[-1][1].extend(_blocks(message))
    return [{"role": role, "content": blocks} for role, blocks in turns]


def _blocks(message: Message) -> list[JSONValue]:
    texts: list[JSONValue] = [{"text": text} for text in message.text]
    if message.tool_call_id is not None:
        content: list[JSONValue] = texts or [{"text": _NO_OUTPUT}]
        return [{"toolResult": {"toolUseId": message.tool_call_id, "content": content}}]
    calls: list[JSONValue] = [
        {"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}}
        for call in message.tool_calls
    ]
    return texts + calls


def _inference(request: ChatRequest) -> JSONObject:
    members: JSONObject = {
        "maxTokens": request.max_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "stopSequences": list(request.stop) or None,
    }
    return {name: value for name, value in members.items() if value is not None}


def _called_names(request: ChatRequest) -> list[str]:
    names = (call.name for message in request.messages for call in message.tool_calls)
    return list(dict.fromkeys(names))


def _tool_names(request: ChatRequest) -> list[str]:
    return [tool.name for tool in request.tools] or _called_names(request)


def _tool_config(request: ChatRequest) -> JSONObject | None:
    """Offer the tools, or, for a history with tool use, what the history names.

    With ``tool_choice`` none the tools are left out where they may be; where the history needs
    them they stay, and an answer that calls one is refused (``offered_tools``).
    """
    called = _called_names(request)
    if not offered_tools(request) and not called:
        return None
    # Offered now, or made up from the names in the history: their schemas are not known any more.
    offers = request.tools or [ToolSpec(name, None, None) for name in called]
    config: JSONObject = {"tools": [{"toolSpec": _tool_spec(tool)} for tool in offers]}
    if request.forced_tool is not None:
        config["toolChoice"] = {"tool": {"name": request.forced_tool}}
    elif request.tool_choice == "required":
        config["toolChoice"] = {"any": {}}
    return config


def _tool_spec(tool: ToolSpec) -> JSONObject:
    schema = _NO_ARGUMENTS if tool.parameters is None else tool.parameters
    spec: JSONObject = {"name": tool.name, "inputSchema": {"json": schema}}
    if tool.description is not None:
        spec["description"] = tool.description
    if tool.strict:
        spec["strict"] = True
    return spec
