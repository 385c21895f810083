"""Messages of a chat request as Converse turns.

Each rule that others broke on has its place here: turns alternate and begin with the user; there
are no empty texts; all results of one turn's calls stand in one user turn; a document never stands
without a text; nothing that a caller named a file reaches the model.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from latensgate_enclave.chat_values import RequestInvalidError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.chat_values import Attachment, Message, ReasoningBlock
    from latensgate_enclave.model_traits import Capability, ModelTraits
    from latensgate_shared.strict_json import JSONObject, JSONValue

_NO_OUTPUT: Final = "(no output)"
"""Stands for the empty result of a tool: Converse refuses an empty text and a missing one."""
_BEGINNING: Final = "(start)"
"""Stands for the user where the assistant speaks first."""
_SEE_DOCUMENT: Final = "(document)"
"""Stands beside documents without a text, which Converse refuses."""
_INSTRUCTING: Final = frozenset({"system", "developer"})
_CAPABILITIES: Final[dict[str, Capability]] = {
    "image": "images",
    "document": "documents",
    "audio": "audio",
}


def split_system(
    messages: Sequence[Message], traits: ModelTraits
) -> tuple[list[str], list[Message]]:
    """Take the instructions out; the last of them speaks as the user where nobody else does.

    A model that takes instructions in the middle keeps them where they stand. Messages that say
    nothing, which no provider takes, are gone.

    Raises:
        RequestInvalidError: Nobody says anything.
    """
    messages = [each for each in messages if _says_something(each)]
    if not messages:
        raise RequestInvalidError("no message says anything", param="messages")
    spoken = [each for each in messages if each.role not in _INSTRUCTING]
    if not spoken:
        *instructions, last = messages
        return [text for each in instructions for text in each.text], [last]
    if not traits.can("system_mid"):
        instructions = [each for each in messages if each.role in _INSTRUCTING]
        return [text for each in instructions for text in each.text], spoken
    first = next(at for at, each in enumerate(messages) if each.role not in _INSTRUCTING)
    return [text for each in messages[:first] for text in each.text], list(messages[first:])


def _says_something(message: Message) -> bool:
    return bool(message.text or message.attachments or message.tool_calls or message.tool_call_id)


def turns(messages: Sequence[Message], traits: ModelTraits) -> list[JSONValue]:
    """Return the turns.

    Raises:
        UnsupportedError: The model cannot see an attachment, or go on for the assistant.
    """
    if messages[-1].role == "assistant" and not traits.can("prefill"):
        raise UnsupportedError("this model does not go on for the assistant", param="messages")
    made: list[tuple[str, list[JSONValue]]] = []
    numbers = iter(range(1, 1 + sum(len(each.attachments) for each in messages)))
    if messages[0].role == "assistant":
        made.append(("user", [{"text": _BEGINNING}]))
    alone = len(messages) == 1
    for message in messages:
        role = _role(message, alone=alone)
        if not made or made[-1][0] != role:
            made.append((role, []))
        for each in message.attachments:
            if not traits.can(_CAPABILITIES[each.kind]):
                raise UnsupportedError(f"this model takes no {each.kind}", param=each.place)
        thoughts = message.reasoning if traits.can("reasoning_thinking") else ()
        made[-1][1].extend([_reasoning(block) for block in thoughts])
        made[-1][1].extend(_blocks(message, [f"document {next(numbers)}" for _ in _files(message)]))
    return [{"role": role, "content": blocks} for role, blocks in made]


def _role(message: Message, *, alone: bool) -> str:
    if message.role == "assistant":
        return "assistant"
    return "system" if message.role in _INSTRUCTING and not alone else "user"


def _files(message: Message) -> list[Attachment]:
    return [each for each in message.attachments if each.kind == "document"]


def _blocks(message: Message, names: list[str]) -> list[JSONValue]:
    if message.tool_call_id is not None:
        texts: list[JSONValue] = [{"text": text} for text in message.text]
        content = texts or [{"text": _NO_OUTPUT}]
        return [{"toolResult": {"toolUseId": message.tool_call_id, "content": content}}]
    blocks: list[JSONValue] = []
    waiting = list(message.attachments)
    for number, text in enumerate(message.text):
        while waiting and waiting[0].at <= number:
            blocks.append(_attachment(waiting.pop(0), names))
        blocks.append({"text": text})
    blocks += [_attachment(each, names) for each in waiting]
    if not message.text and _files(message):
        blocks.append({"text": _SEE_DOCUMENT})
    return blocks + [
        {"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}}
        for call in message.tool_calls
    ]


def _attachment(attachment: Attachment, names: list[str]) -> JSONObject:
    data = attachment.data
    if attachment.text is not None:
        data = base64.b64encode(attachment.text.encode("utf-8", "replace")).decode()
    member: JSONObject = {"format": attachment.format, "source": {"bytes": data}}
    if attachment.kind == "document":
        member["name"] = names.pop(0)
    return {attachment.kind: member}


def _reasoning(block: ReasoningBlock) -> JSONObject:
    if block.redacted is not None:
        return {"reasoningContent": {"redactedContent": block.redacted}}
    told: JSONObject = {"text": block.text}
    if block.signature is not None:
        told["signature"] = block.signature
    return {"reasoningContent": {"reasoningText": told}}
