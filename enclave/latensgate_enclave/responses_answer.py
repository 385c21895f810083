"""A chat answer as the Responses object, and the pieces that its stream shares with it.

Shapes: OpenAI's OpenAPI document, schemas ``Response``, ``OutputMessage``, ``FunctionToolCall``,
``ReasoningItem``; every member that they or the Open Responses document require stands there, also
where its value is null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.chat_answer import ChatAnswer, CompletionHead, FinishReason, Usage
    from latensgate_enclave.chat_values import ReasoningBlock
    from latensgate_enclave.responses import Asked
    from latensgate_shared.strict_json import JSONObject, JSONValue

ItemStatus: TypeAlias = Literal["in_progress", "completed", "incomplete"]
ID_PREFIX: Final = "resp_"
_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


@dataclass(frozen=True, slots=True)
class Items:
    """Makes the items of one answer; their ids are made of the answer's own.

    Attributes:
        base: Id of the answer without its prefix.
        summary: Whether thoughts come as a summary.
    """

    base: str
    summary: bool

    def new_id(self, prefix: str, index: int) -> str:
        """Return the id of an item at its place in the output."""
        return f"{prefix}_{self.base}{index:04x}"

    def message(self, index: int, content: list[JSONObject], status: ItemStatus) -> JSONObject:
        """Return a message of the model."""
        return {
            "id": self.new_id("msg", index),
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [*content],
        }

    def call(
        self, index: int, call_id: str, name: str, arguments: str, status: ItemStatus
    ) -> JSONObject:
        """Return a call of a function."""
        return {
            "id": self.new_id("fc", index),
            "type": "function_call",
            "status": status,
            "call_id": call_id,
            "name": name,
            "arguments": arguments,
        }

    def reasoning(self, index: int, block: ReasoningBlock, status: ItemStatus) -> JSONObject:
        """Return thoughts; ``encrypted_content`` is what their provider knows them by again."""
        part = {"type": "summary_text" if self.summary else "reasoning_text", "text": block.text}
        parts: list[JSONValue] = [{**part}] if block.text else []
        item: JSONObject = {
            "id": self.new_id("rs", index),
            "type": "reasoning",
            "status": status,
            "summary": parts if self.summary else [],
            "content": [] if self.summary else parts,
        }
        proof = block.redacted if block.signature is None else block.signature
        return item if proof is None else item | {"encrypted_content": proof}


def text_part(text: str) -> JSONObject:
    """Return a part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def item_status(finish: FinishReason) -> ItemStatus:
    """Return the status of what was being said when the answer ended."""
    return "incomplete" if finish in _INCOMPLETE else "completed"


def render_response(answer: ChatAnswer, head: CompletionHead, asked: Asked) -> bytes:
    """Return the ``response`` object as JSON."""
    items = Items(head.id.removeprefix(ID_PREFIX), asked.summary)
    output = [
        items.reasoning(index, block, "completed") for index, block in enumerate(answer.reasoning)
    ]
    status = item_status(answer.finish_reason)
    text = "".join(answer.text)
    if text or not answer.tool_calls:
        output.append(items.message(len(output), [text_part(text)], status))
    for call in answer.tool_calls:
        arguments = msgspec.json.encode(call.arguments).decode()
        output.append(items.call(len(output), call.id, call.name, arguments, "completed"))
    made = response_object(head, asked, output, ended(answer.finish_reason, answer.usage, head))
    return msgspec.json.encode(made)


def response_object(
    head: CompletionHead, asked: Asked, output: Sequence[JSONObject], state: JSONObject
) -> JSONObject:
    """Return the object in any state of its answer."""
    return {
        "id": head.id,
        "object": "response",
        "created_at": head.created_s,
        "model": head.model,
        "output": [*output],
        **asked.members,
        **state,
    }


def in_progress() -> JSONObject:
    """Return what an answer says of its state while it comes."""
    return _state("in_progress")


def failed(code: str, message: str) -> JSONObject:
    """Return what an answer says of its state that ends with an error."""
    return _state("failed", error={"code": code, "message": message})


def ended(finish: FinishReason, usage: Usage, head: CompletionHead) -> JSONObject:
    """Return what an answer says of its state at its end."""
    told: JSONObject = {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    reason = _INCOMPLETE.get(finish)
    if reason is not None:
        return _state("incomplete", usage=told, incomplete_details={"reason": reason})
    return _state("completed", usage=told, completed_at=head.created_s)


def _state(status: str, **members: JSONValue) -> JSONObject:
    always = ("completed_at", "error", "incomplete_details", "usage")
    return {"status": status, **dict.fromkeys(always), **members}
