"""OpenAI chat requests in the words of Converse, as far as the scripted model looks at them."""

from __future__ import annotations

import json
from typing import cast

_Object = dict[str, object]


def as_converse(body: _Object) -> bytes:
    """Return the Converse JSON of a chat completions body."""
    turns: list[_Object] = []
    system: list[_Object] = []
    for message in _objects(body.get("messages")):
        if message.get("role") == "system":
            system += _texts(message.get("content"))
            continue
        role, blocks = _blocks(message)
        if turns and turns[-1]["role"] == role:
            cast("list[_Object]", turns[-1]["content"]).extend(blocks)
        else:
            turns.append({"role": role, "content": blocks})
    if not turns:  # instructions alone are what is asked
        turns, system = [{"role": "user", "content": system}], []
    told: _Object = {"messages": turns}
    if system:
        told["system"] = system
    if body.get("max_completion_tokens"):  # OpenAI's own example says 0
        told["inferenceConfig"] = {"maxTokens": body["max_completion_tokens"]}
    offered = [] if body.get("tool_choice") == "none" else _objects(body.get("tools"))
    tools = [_tool(tool) for tool in offered]
    if tools or any("toolUse" in block for turn in turns for block in _objects(turn["content"])):
        told["toolConfig"] = {"tools": tools or [_stand_in()], **_choice(body.get("tool_choice"))}
    return json.dumps(told).encode()


def _objects(value: object) -> list[_Object]:
    found = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("_Object", each) for each in found if isinstance(each, dict)]


def _texts(content: object) -> list[_Object]:
    if isinstance(content, str):
        return [{"text": content}] if content else []
    return [{"text": part["text"]} for part in _objects(content) if part.get("type") == "text"]


def _blocks(message: _Object) -> tuple[str, list[_Object]]:
    content = _texts(message.get("content"))
    if message.get("role") == "tool":
        result = {
            "toolUseId": message.get("tool_call_id"),
            "content": content or [{"text": "(empty)"}],
        }
        return "user", [{"toolResult": result}]
    for call in _objects(message.get("tool_calls")):
        function = cast("_Object", call["function"])
        arguments: object = json.loads(str(function["arguments"]) or "{}")
        use = {"toolUseId": call["id"], "name": function["name"], "input": arguments}
        content.append({"toolUse": use})
    return str(message.get("role")), content


def _tool(tool: _Object) -> _Object:
    function = cast("_Object", tool["function"])
    empty: _Object = {"type": "object", "properties": _Object()}
    schema = {"type": "object", **cast("_Object", function.get("parameters") or empty)}
    spec: _Object = {"name": function["name"], "inputSchema": {"json": schema}}
    if function.get("description"):
        spec["description"] = function["description"]
    return {"toolSpec": spec}


def _stand_in() -> _Object:
    return _tool({"function": {"name": "none", "parameters": None}})


def _choice(choice: object) -> _Object:
    if choice == "required":
        return {"toolChoice": {"any": {}}}
    if isinstance(choice, dict):
        named = cast("_Object", cast("_Object", choice)["function"])
        return {"toolChoice": {"tool": {"name": named["name"]}}}
    return {}
