"""A streamed answer as the events of a Responses stream.

Each item of the output is added, filled and done before the next one begins, each event has the
next sequence number, and the last one holds the whole answer. Of the delta events there is one for
each token, so what they repeat is written once for each item and not made anew.

Shapes: OpenAI's OpenAPI document, schema ``ResponseStreamEvent``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from latensgate_enclave.chat_answer import (
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
)
from latensgate_enclave.chat_values import ReasoningBlock
from latensgate_enclave.responses_answer import (
    ID_PREFIX,
    Items,
    ended,
    failed,
    in_progress,
    item_status,
    response_object,
    text_part,
)

if TYPE_CHECKING:
    from latensgate_enclave.chat_answer import ChatDelta, CompletionHead, FinishReason, Usage
    from latensgate_enclave.responses import Asked
    from latensgate_enclave.responses_answer import ItemStatus
    from latensgate_shared.error_answers import WireError
    from latensgate_shared.strict_json import JSONObject

_Kind: TypeAlias = Literal["message", "reasoning_text", "summary_text", "call"]
_DELTAS: Final[dict[_Kind, str]] = {
    "message": "response.output_text.delta",
    "reasoning_text": "response.reasoning_text.delta",
    "summary_text": "response.reasoning_summary_text.delta",
    "call": "response.function_call_arguments.delta",
}
_NUMBER: Final = b'"sequence_number":'
_TOO_MANY: Final = 429


@dataclass(slots=True)
class _OpenItem:
    """The item that is being said.

    Attributes:
        kind: Of it.
        at: Members by which its events name it.
        pieces: What was said of it.
        call: Its id and name, if it is a call.
        block: What its provider knows it by, if it is a thought.
        head: The JSON of its delta events up to the delta itself.
        tail: And behind it, up to the sequence number.
    """

    kind: _Kind
    at: JSONObject
    pieces: list[str] = field(default_factory=list[str])
    call: ToolCallBegun | None = None
    block: ReasoningBlock = field(default_factory=ReasoningBlock)
    head: bytes = field(init=False)
    tail: bytes = field(init=False)

    def __post_init__(self) -> None:
        opening = msgspec.json.encode({"type": _DELTAS[self.kind], **self.at})
        self.head = opening[:-1] + b',"delta":'
        self.tail = (b',"logprobs":[],' if self.kind == "message" else b",") + _NUMBER


class EventRenderer:
    """Writes the events of one streamed answer, each as JSON.

    Args:
        head: What names the answer.
        asked: What it repeats of its request.
    """

    __slots__ = ("_asked", "_finish", "_head", "_items", "_number", "_open", "_output")

    def __init__(self, head: CompletionHead, asked: Asked) -> None:
        self._head = head
        self._asked = asked
        self._items = Items(head.id.removeprefix(ID_PREFIX), asked.summary)
        self._output: list[JSONObject] = []
        self._open: _OpenItem | None = None
        self._finish: FinishReason = "stop"
        self._number = -1

    def begin(self, choice: int) -> list[bytes]:  # noqa: ARG002 -- a response has one answer
        """Return the first events; nothing is said yet."""
        response = self._response(in_progress())
        return [
            self._event("response.created", response=response),
            self._event("response.in_progress", response=response),
        ]

    def render(self, delta: ChatDelta) -> list[bytes]:
        """Return the events of a piece."""
        if isinstance(delta, TextDelta):
            return [*self._in_message(), self._delta(delta.text)]
        if isinstance(delta, ToolCallDelta):
            return [self._delta(delta.arguments)]
        if isinstance(delta, ReasoningDelta):
            return self._thought(delta)
        if isinstance(delta, ToolCallBegun):
            return [*self._done("completed"), *self._begun(delta)]
        if isinstance(delta, Finished):
            self._finish = delta.finish_reason
        return []

    def end(self, usage: Usage) -> list[bytes]:
        """Return the last events; the very last holds the whole answer."""
        events = [] if self._output or self._open else self._in_message()
        events += self._done(item_status(self._finish))
        state = ended(self._finish, usage, self._head)
        return [*events, self._event(f"response.{state['status']}", response=self._response(state))]

    def fail(self, error: WireError) -> list[bytes]:
        """Return the event of an answer that cannot go on; the sealed error follows it."""
        limited = error.code.http_status == _TOO_MANY
        code = "rate_limit_exceeded" if limited else "server_error"
        response = self._response(failed(code, error.message))
        return [self._event("response.failed", response=response)]

    def _response(self, state: JSONObject) -> JSONObject:
        return response_object(self._head, self._asked, self._output, state)

    def _event(self, kind: str, **members: object) -> bytes:
        self._number += 1
        return msgspec.json.encode({"type": kind, **members, "sequence_number": self._number})

    def _delta(self, text: str) -> bytes:
        item = self._open
        if item is None:
            raise TypeError("an open item expected")
        item.pieces.append(text)
        self._number += 1
        return b"".join((item.head, msgspec.json.encode(text), item.tail, b"%d}" % self._number))

    # --- items begin ---

    def _added(self, item: JSONObject) -> bytes:
        index = len(self._output)
        return self._event("response.output_item.added", output_index=index, item=item)

    def _in_message(self) -> list[bytes]:
        if self._open is not None and self._open.kind == "message":
            return []
        events = self._done("completed")
        index = len(self._output)
        item = self._items.message(index, [], "in_progress")
        at: JSONObject = {"item_id": item["id"], "output_index": index, "content_index": 0}
        self._open = _OpenItem("message", at)
        part = {"part": text_part("")}
        return [
            *events,
            self._added(item),
            self._event("response.content_part.added", **at, **part),
        ]

    def _begun(self, call: ToolCallBegun) -> list[bytes]:
        index = len(self._output)
        item = self._items.call(index, call.id, call.name, "", "in_progress")
        at: JSONObject = {"item_id": item["id"], "output_index": index}
        self._open = _OpenItem("call", at, call=call)
        return [self._added(item)]

    def _thought(self, delta: ReasoningDelta) -> list[bytes]:
        """Say a piece of a thought; a signed or a redacted one ends its item."""
        events: list[bytes] = []
        if self._open is None or self._open.kind not in {"reasoning_text", "summary_text"}:
            events = [*self._done("completed"), *self._thinking(says=bool(delta.text))]
        if delta.text:
            events.append(self._delta(delta.text))
        ends = delta.signature is not None or delta.redacted is not None
        if self._open is not None and ends:
            self._open.block = ReasoningBlock("", delta.signature or None, delta.redacted)
            events += self._done("completed")
        return events

    def _thinking(self, *, says: bool) -> list[bytes]:
        index = len(self._output)
        item = self._items.reasoning(index, ReasoningBlock(), "in_progress")
        summary = self._asked.summary
        place = "summary_index" if summary else "content_index"
        at: JSONObject = {"item_id": item["id"], "output_index": index, place: 0}
        self._open = _OpenItem("summary_text" if summary else "reasoning_text", at)
        events = [self._added(item)]
        if summary and says:
            part = {"type": "summary_text", "text": ""}
            events.append(self._event("response.reasoning_summary_part.added", **at, part=part))
        return events

    # --- items end ---

    def _done(self, status: ItemStatus) -> list[bytes]:
        """Finish the item that is open, if one is."""
        item, self._open = self._open, None
        if item is None:
            return []
        index, text = len(self._output), "".join(item.pieces)
        if item.call is not None:
            events, whole = self._call_done(item, item.call, text, status)
        elif item.kind == "message":
            events, whole = self._message_done(item, text, status)
        else:
            events, whole = self._thought_done(item, text, status)
        self._output.append(whole)
        return [*events, self._event("response.output_item.done", output_index=index, item=whole)]

    def _message_done(
        self, item: _OpenItem, text: str, status: ItemStatus
    ) -> tuple[list[bytes], JSONObject]:
        part = text_part(text)
        whole = self._items.message(len(self._output), [part], status)
        kind = "response.output_text.done"
        events = [
            self._event(kind, **item.at, text=text, logprobs=[]),
            self._event("response.content_part.done", **item.at, part=part),
        ]
        return events, whole

    def _call_done(
        self, item: _OpenItem, call: ToolCallBegun, text: str, status: ItemStatus
    ) -> tuple[list[bytes], JSONObject]:
        whole = self._items.call(len(self._output), call.id, call.name, text or "{}", status)
        kind = "response.function_call_arguments.done"
        told = {"name": call.name, "arguments": text or "{}"}
        return [self._event(kind, **item.at, **told)], whole

    def _thought_done(
        self, item: _OpenItem, text: str, status: ItemStatus
    ) -> tuple[list[bytes], JSONObject]:
        block = ReasoningBlock(text, item.block.signature, item.block.redacted)
        whole = self._items.reasoning(len(self._output), block, status)
        if not text:
            return [], whole
        kind = _DELTAS[item.kind].removesuffix("delta") + "done"
        events = [self._event(kind, **item.at, text=text)]
        if item.kind == "summary_text":
            part = {"type": "summary_text", "text": text}
            events.append(self._event("response.reasoning_summary_part.done", **item.at, part=part))
        return events, whole
