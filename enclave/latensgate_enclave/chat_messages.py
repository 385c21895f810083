"""The messages of a chat request: parts, reasoning, calls and their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from latensgate_enclave.chat_parts import read_attachment
from latensgate_enclave.chat_values import (
    Message,
    ReasoningBlock,
    RequestInvalidError,
    ToolCall,
)
from latensgate_enclave.chat_wire import (
    AnyMessage,
    AssistantWire,
    DeveloperWire,
    FunctionMessageWire,
    ImagePartWire,
    PartWire,
    RefusalPartWire,
    SystemWire,
    TextPartWire,
    ThinkingWire,
    ToolWire,
    UserWire,
)
from latensgate_shared.errors import MalformedError, TooLargeError
from latensgate_shared.limits import (
    CHAT_ATTACHMENTS_MAX_COUNT,
    PII_REQUEST_MAX_CHARS,
    SEALED_REQUEST_MAX_BYTES,
)
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.chat_values import Attachment, Role
    from latensgate_enclave.chat_wire import AnyPart, CalledFunctionWire

_ROLES: Final[dict[type[AnyMessage], Role]] = {
    SystemWire: "system",
    DeveloperWire: "developer",
    UserWire: "user",
    AssistantWire: "assistant",
    ToolWire: "tool",
    FunctionMessageWire: "tool",
}


def read_messages(wire: Sequence[AnyMessage]) -> tuple[tuple[Message, ...], set[str]]:
    """Read all messages.

    Returns:
        The messages, and names of the fields that are left out of them.

    Raises:
        RequestInvalidError: A message that says nothing, or calls and answers that do not match.
        TooLargeError: Arguments of calls, or attachments, beyond their limits.
    """
    _check_arguments(wire)
    reader = _Reader()
    messages = tuple([reader.message(index, each) for index, each in enumerate(wire)])
    if sum(len(each.attachments) for each in messages) > CHAT_ATTACHMENTS_MAX_COUNT:
        raise TooLargeError(
            f"chat request: at most {CHAT_ATTACHMENTS_MAX_COUNT} attachments expected"
        )
    _check_tool_turns(messages)
    return messages, reader.left_out


class _Reader:
    """Reads one conversation: call ids are free text of the caller, and the model sees ours."""

    def __init__(self) -> None:
        self.left_out: set[str] = set()
        self._ids: dict[str, str] = {}
        self._functions: dict[str, list[str]] = {}
        self._made = 0

    def message(self, index: int, wire: AnyMessage) -> Message:
        """Read one message."""
        place = f"messages[{index}]"
        role = _ROLES[type(wire)]
        if not isinstance(wire, FunctionMessageWire) and wire.name is not None:
            self.left_out.add("messages.name")
        texts, attachments = self._content(wire.content, f"{place}.content")
        calls: tuple[ToolCall, ...] = ()
        reasoning: tuple[ReasoningBlock, ...] = ()
        if isinstance(wire, AssistantWire):
            texts += [wire.refusal] if (wire.refusal or "").strip() and wire.refusal else []
            calls = self._calls(wire, place)
            reasoning = self._reasoning(wire)
        if role == "user" and not texts and not attachments:
            raise RequestInvalidError("a message says nothing", param=f"{place}.content")
        call_id = self._answered(wire, place)
        return Message(role, tuple(texts), calls, call_id, tuple(attachments), reasoning)

    def _content(
        self, content: str | Sequence[AnyPart | RefusalPartWire] | None, place: str
    ) -> tuple[list[str], list[Attachment]]:
        if isinstance(content, str):
            return ([content] if content.strip() else []), []
        texts: list[str] = []
        attachments: list[Attachment] = []
        for number, part in enumerate(content or ()):
            if isinstance(part, PartWire) and part.prompt_cache_breakpoint is not None:
                self.left_out.add("messages.content.prompt_cache_breakpoint")
            if isinstance(part, TextPartWire | RefusalPartWire):
                text = part.text if isinstance(part, TextPartWire) else part.refusal
                texts += [text] if text.strip() else []
                continue
            if isinstance(part, ImagePartWire) and part.image_url.detail not in {None, "auto"}:
                self.left_out.add("messages.content.image_url.detail")
            attachments.append(read_attachment(part, len(texts), f"{place}[{number}]"))
        return texts, attachments

    def _reasoning(self, wire: AssistantWire) -> tuple[ReasoningBlock, ...]:
        """Read what we told of the model's thoughts; unsigned, no provider takes them back."""
        text = wire.reasoning_content or ""
        alone = sum(isinstance(each, ThinkingWire) for each in wire.thinking_blocks) == 1
        blocks = tuple(
            [
                # a long thought comes in a stream without being told again with its signature
                ReasoningBlock(each.thinking or (text if alone else ""), each.signature)
                if isinstance(each, ThinkingWire)
                else ReasoningBlock(redacted=each.data)
                for each in wire.thinking_blocks
                if not isinstance(each, ThinkingWire) or each.signature
            ]
        )
        if len(blocks) < len(wire.thinking_blocks):
            self.left_out.add("messages.thinking_blocks")
        if wire.reasoning_content and not blocks:
            self.left_out.add("messages.reasoning_content")
        return blocks

    def _calls(self, wire: AssistantWire, place: str) -> tuple[ToolCall, ...]:
        calls = [
            self._call(f"{place}.tool_calls[{number}]", each.function, self._own_id(each.id))
            for number, each in enumerate(wire.tool_calls)
        ]
        if wire.function_call is not None:
            own = self._own_id(f"function call {self._made}")
            self._made += 1
            self._functions.setdefault(wire.function_call.name, []).append(own)
            calls.append(self._call(f"{place}.function_call", wire.function_call, own))
        return tuple(calls)

    def _call(self, place: str, wire: CalledFunctionWire, own_id: str) -> ToolCall:
        try:
            arguments = parse_json_object(
                (wire.arguments or "{}").encode("utf-8", "surrogatepass"),
                max_bytes=SEALED_REQUEST_MAX_BYTES,
            )
        except MalformedError:
            param = f"{place}.function.arguments".replace("_call.function", "_call")
            raise RequestInvalidError(
                "the arguments of a tool call are not a JSON object", param=param
            ) from None
        return ToolCall(own_id, wire.name, arguments)

    def _answered(self, wire: AnyMessage, place: str) -> str | None:
        """Return our id of the call that a message answers."""
        if isinstance(wire, ToolWire):
            return self._own_id(wire.tool_call_id)
        if not isinstance(wire, FunctionMessageWire):
            return None
        waiting = self._functions.get(wire.name)
        if not waiting:
            raise RequestInvalidError(
                "a function message answers no call right before it", param=f"{place}.name"
            )
        return waiting.pop(0)

    def _own_id(self, given: str) -> str:
        """Number ids by first use; a blank, which no caller's id has, keeps our own apart."""
        return self._ids.setdefault(given, f"call_{len(self._ids)}")


def _check_arguments(messages: Sequence[AnyMessage]) -> None:
    """Bound JSON within JSON: the strict reader of the body saw each of these as one text."""
    chars = 0
    for message in messages:
        if isinstance(message, AssistantWire):
            chars += sum([len(call.function.arguments) for call in message.tool_calls])
            chars += len(message.function_call.arguments) if message.function_call else 0
    if chars > PII_REQUEST_MAX_CHARS:
        raise TooLargeError(
            f"chat request: at most {PII_REQUEST_MAX_CHARS} characters expected in the arguments "
            f"of all tool calls, found {chars}"
        )


def _check_tool_turns(messages: Sequence[Message]) -> None:
    """Every call is answered once, by the tool messages right behind it, and nothing else is."""
    unanswered: set[str] = set()
    for index, message in enumerate(messages):
        if message.tool_call_id is not None:
            if message.tool_call_id not in unanswered:
                raise RequestInvalidError(
                    "a tool message answers no call right before it",
                    param=f"messages[{index}].tool_call_id",
                )
            unanswered.remove(message.tool_call_id)
            continue
        if unanswered:
            raise RequestInvalidError("a tool call is not answered", param=f"messages[{index}]")
        unanswered = {call.id for call in message.tool_calls}
        if len(unanswered) != len(message.tool_calls):
            raise RequestInvalidError(
                "two tool calls have one id", param=f"messages[{index}].tool_calls"
            )
    if unanswered:
        raise RequestInvalidError("a tool call is not answered", param="messages")
