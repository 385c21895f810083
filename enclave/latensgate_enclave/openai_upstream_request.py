"""Chat requests to the body of an OpenAI-compatible upstream: a pure translation.

The caller's own JSON is never passed through: what leaves is built from the checked and scanned
request, so nothing travels that no one has looked at. `store` is always false, and `user`,
`metadata` and the like were dropped before. What the row of the model does not name is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from latensgate_enclave.chat_native import HINTS, NEEDED
from latensgate_enclave.chat_values import UnsupportedError

if TYPE_CHECKING:
    from latensgate_enclave.chat_values import (
        Attachment,
        AttachmentKind,
        ChatRequest,
        Message,
        ToolSpec,
    )
    from latensgate_enclave.model_traits import Capability, ModelTraits
    from latensgate_shared.strict_json import JSONObject, JSONValue

_NEEDED: Final[dict[AttachmentKind, Capability]] = {
    "image": "images",
    "document": "documents",
    "audio": "audio",
}
_MEDIA_TYPES: Final = {
    "pdf": "application/pdf",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_BINARY: Final = "application/octet-stream"


def build_openai_body(request: ChatRequest, model_id: str, traits: ModelTraits) -> bytes:
    """Return the JSON of one chat completions call.

    Args:
        request: Checked and scanned.
        model_id: The upstream's name of the model.
        traits: What the model can.

    Raises:
        UnsupportedError: It cannot honour a field; ``param`` names it.
    """
    body: JSONObject = {
        "model": model_id,
        "messages": [_message(message, traits) for message in request.messages],
        "store": False,
        "stream": request.stream,
    }
    if request.stream:
        body["stream_options"] = {"include_usage": True}  # we bill by it, whoever asks
    _add_sampling(body, request, traits)
    _add_tools(body, request, traits)
    _add_format(body, request, traits)
    for name, value in _native(request, traits).items():
        body[name] = value
    return msgspec.json.encode(body)


def dropped_by_upstream(request: ChatRequest, traits: ModelTraits) -> tuple[str, ...]:
    """Return names of what does not travel: thoughts are signed for whoever had them."""
    hints = [name for name in request.native if name in HINTS and not traits.can(NEEDED[name])]
    thought = any(message.reasoning for message in request.messages)
    return (*hints, "messages.reasoning_content") if thought else tuple(hints)


def _native(request: ChatRequest, traits: ModelTraits) -> JSONObject:
    """Return the fields that OpenAI alone has; hints that this upstream lacks stay here."""
    sent: JSONObject = {}
    for name, value in request.native.items():
        if name not in HINTS or traits.can(NEEDED[name]):
            _need(traits, NEEDED[name], name)
            sent[name] = value
    return sent


def _need(traits: ModelTraits, capability: Capability, param: str) -> None:
    if not traits.can(capability):
        raise UnsupportedError("this model does not take the field", param=param)


def _add_sampling(body: JSONObject, request: ChatRequest, traits: ModelTraits) -> None:
    for name, value in (("temperature", request.temperature), ("top_p", request.top_p)):
        if value is not None:
            _need(traits, "sampling", name)
            body[name] = value
    if request.max_tokens is not None:
        body["max_completion_tokens"] = request.max_tokens
    if request.stop:
        body["stop"] = list(request.stop)
    if request.reasoning_effort is not None:
        _need(traits, "reasoning_effort", "reasoning_effort")
        body["reasoning_effort"] = request.reasoning_effort
    if request.service_tier is not None:
        _need(traits, "service_tier", "service_tier")
        body["service_tier"] = request.service_tier


def _add_tools(body: JSONObject, request: ChatRequest, traits: ModelTraits) -> None:
    if not request.tools:
        return
    _need(traits, "tools", "tools")
    body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice == "required":
        _need(traits, "forced_tools", "tool_choice")
    if request.forced_tool is not None:
        body["tool_choice"] = {"type": "function", "function": {"name": request.forced_tool}}
    elif request.tool_choice is not None:
        body["tool_choice"] = request.tool_choice
    if not request.parallel_tool_calls:
        _need(traits, "parallel_off", "parallel_tool_calls")
        body["parallel_tool_calls"] = False


def _tool(tool: ToolSpec) -> JSONObject:
    function: JSONObject = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _add_format(body: JSONObject, request: ChatRequest, traits: ModelTraits) -> None:
    wanted = request.response_format
    if wanted is None:
        return
    _need(traits, "json_schema", "response_format")
    if wanted.schema is None:
        body["response_format"] = {"type": "json_object"}
        return
    schema: JSONObject = {"name": wanted.name, "schema": wanted.schema, "strict": wanted.strict}
    if wanted.description is not None:
        schema["description"] = wanted.description
    body["response_format"] = {"type": "json_schema", "json_schema": schema}


def _message(message: Message, traits: ModelTraits) -> JSONObject:
    # Most compatible servers know no developer, and those that do take system for it.
    role = "system" if message.role == "developer" else message.role
    told: JSONObject = {"role": role, "content": _content(message, traits)}
    if message.tool_calls:
        told["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": msgspec.json.encode(call.arguments).decode(),
                },
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        told["tool_call_id"] = message.tool_call_id
    return told


def _content(message: Message, traits: ModelTraits) -> JSONValue:
    if not message.attachments:
        if len(message.text) > 1:
            return [_text(text) for text in message.text]
        return message.text[0] if message.text else (None if message.tool_calls else "")
    parts: list[JSONValue] = []
    attached = list(message.attachments)
    for number in range(len(message.text) + 1):
        parts += [_attachment(each, traits) for each in attached if each.at == number]
        parts += [_text(text) for text in message.text[number : number + 1]]
    return parts


def _text(text: str) -> JSONObject:
    return {"type": "text", "text": text}


def _attachment(attachment: Attachment, traits: ModelTraits) -> JSONObject:
    if attachment.text is not None:
        return _text(attachment.text)
    _need(traits, _NEEDED[attachment.kind], attachment.place)
    if attachment.kind == "image":
        url = f"data:image/{attachment.format};base64,{attachment.data}"
        return {"type": "image_url", "image_url": {"url": url}}
    if attachment.kind == "audio":
        sound: JSONObject = {"data": attachment.data, "format": attachment.format}
        return {"type": "input_audio", "input_audio": sound}
    kind = _MEDIA_TYPES.get(attachment.format, _BINARY)
    data = f"data:{kind};base64,{attachment.data}"
    return {"type": "file", "file": {"file_data": data, "filename": f"file.{attachment.format}"}}
