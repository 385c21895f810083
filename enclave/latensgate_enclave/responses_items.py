"""From the items of a Responses request to the messages of a chat completions request.

Everything that the model said in one go (text, thoughts, calls) stands in one message there, and in
items of its own here. Each message remembers the item that it began with, so that an error about
the one can name the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latensgate_enclave.responses_wire import (
    FunctionCallOutputWire,
    FunctionCallWire,
    InputFileWire,
    InputImageWire,
    MessageWire,
    RefusalWire,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.responses_wire import ContentWire, ItemWire, ReasoningItemWire
    from latensgate_shared.strict_json import JSONObject, JSONValue


class Conversation:
    """Messages, and the item that each began with.

    Attributes:
        messages: As chat completions take them.
        origins: As many: index of the item, or None of the instructions.
    """

    def __init__(self, instructions: str | None) -> None:
        self.messages: list[JSONObject] = []
        self.origins: list[int | None] = []
        self._saying: JSONObject | None = None
        if instructions is not None:
            self._add(None, {"role": "system", "content": instructions})

    def say(self, text: str) -> None:
        """Take the whole input as one text of the user."""
        self._add(None, {"role": "user", "content": text})

    def take(self, items: Sequence[ItemWire]) -> None:
        """Take all items."""
        for index, item in enumerate(items):
            if isinstance(item, FunctionCallOutputWire):
                content = _content(item.output)
                told: JSONObject = {"role": "tool", "tool_call_id": item.call_id}
                self._add(index, told | {"content": content})
            elif isinstance(item, MessageWire) and item.role != "assistant":
                self._add(index, {"role": item.role, "content": _content(item.content)})
            else:
                self._assistant(index, item)

    def _assistant(
        self, index: int, item: MessageWire | FunctionCallWire | ReasoningItemWire
    ) -> None:
        saying: JSONObject = {"role": "assistant"} if self._saying is None else self._saying
        if self._saying is None:
            self._add(index, saying)
            self._saying = saying
        if isinstance(item, MessageWire):
            _extend(saying, "content", _parts(item.content))
        elif isinstance(item, FunctionCallWire):
            _extend(saying, "tool_calls", [_call(item)])
        else:
            _extend(saying, "thinking_blocks", _thoughts(item))

    def _add(self, origin: int | None, message: JSONObject) -> None:
        self.messages.append(message)
        self.origins.append(origin)
        self._saying = None


def _extend(message: JSONObject, name: str, more: list[JSONValue]) -> None:
    there = message.setdefault(name, [])
    if isinstance(there, list):  # pragma: no branch  # made here
        there.extend(more)


def _call(item: FunctionCallWire) -> JSONObject:
    function: JSONObject = {"name": item.name, "arguments": item.arguments}
    return {"id": item.call_id, "type": "function", "function": function}


def _thoughts(item: ReasoningItemWire) -> list[JSONValue]:
    """Return the block that `Items.reasoning` made this item of."""
    told = "".join(part.text for part in [*item.summary, *(item.content or ())])
    proof = item.encrypted_content
    if not told:
        return [{"type": "redacted_thinking", "data": proof}] if proof else []
    block: JSONObject = {"type": "thinking", "thinking": told}
    return [block if proof is None else block | {"signature": proof}]


def _content(content: str | Sequence[ContentWire]) -> JSONValue:
    return content if isinstance(content, str) else _parts(content)


def _parts(content: str | Sequence[ContentWire]) -> list[JSONValue]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [_part(part) for part in content]


def _part(part: ContentWire) -> JSONObject:
    if isinstance(part, RefusalWire):
        return {"type": "refusal", "refusal": part.refusal}
    if isinstance(part, InputImageWire):
        image: JSONObject = {"url": part.image_url}
        if part.detail is not None:
            image["detail"] = part.detail
        return {"type": "image_url", "image_url": image}
    if isinstance(part, InputFileWire):
        document: JSONObject = {"file_data": part.file_data}
        if part.filename is not None:
            document["filename"] = part.filename
        return {"type": "file", "file": document}
    return {"type": "text", "text": part.text}
