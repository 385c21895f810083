"""Every text of a request or an answer, in one fixed order: seen, and put back changed.

One walk serves both: first it collects the texts for the scan, then it puts the scanned texts in
their places. What the walk does not visit is not forwarded with caller content in it: message roles
and numbers come from closed sets, tool call ids are our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from msgspec.structs import replace

from latensgate_enclave.chat_native import with_native_texts
from latensgate_enclave.chat_values import (
    Attachment,
    ChatRequest,
    Message,
    ReasoningBlock,
    ResponseFormat,
    ToolCall,
    ToolSpec,
)
from latensgate_enclave.pii import Direction, PIITooLargeError, TextPart
from latensgate_shared.limits import PII_REQUEST_MAX_CHARS, PII_TEXT_COST_CHARS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from latensgate_enclave.chat_answer import ChatAnswer
    from latensgate_shared.strict_json import JSONObject, JSONValue

See: TypeAlias = "Callable[[TextPart], str]"
_PARTS_MAX_COUNT: Final = PII_REQUEST_MAX_CHARS // PII_TEXT_COST_CHARS
"""The scan refuses more; known here before memory is spent on them."""


def request_parts(request: ChatRequest) -> list[TextPart]:
    """Return every text that the request would forward.

    Raises:
        PIITooLargeError: More texts than one scan takes on.
    """
    parts: list[TextPart] = []
    _rewrite_request(request, _collector(parts))
    return parts


def answer_parts(answer: ChatAnswer) -> list[TextPart]:
    """Return every text that the answer would return.

    Raises:
        PIITooLargeError: More texts than one scan takes on.
    """
    parts: list[TextPart] = []
    _rewrite_answer(answer, _collector(parts))
    return parts


def with_request_texts(request: ChatRequest, texts: Iterable[str]) -> ChatRequest:
    """Return the request with its texts replaced, in the order of `request_parts`."""
    return _rewrite_request(request, _replacer(texts))


def tool_names(request: ChatRequest) -> list[str | None]:
    """Return the names by which tools are offered and called: masked, they would call nothing."""
    called = [call.name for message in request.messages for call in message.tool_calls]
    form = request.response_format
    offered = [tool.name for tool in request.tools]
    return [*called, *offered, request.forced_tool, None if form is None else form.name]


def with_answer_texts(answer: ChatAnswer, texts: Iterable[str]) -> ChatAnswer:
    """Return the answer with its texts replaced, in the order of `answer_parts`."""
    return _rewrite_answer(answer, _replacer(texts))


def _collector(parts: list[TextPart]) -> See:
    def see(part: TextPart) -> str:
        if len(parts) == _PARTS_MAX_COUNT:
            raise PIITooLargeError("the request holds more texts than one scan takes on")
        parts.append(part)
        return part.text

    return see


def _replacer(texts: Iterable[str]) -> See:
    following = iter(texts)
    return lambda _part: next(following)


def _rewrite_request(request: ChatRequest, see: See) -> ChatRequest:
    prompt = Direction.PROMPT
    return replace(
        request,
        messages=tuple([_message(message, see) for message in request.messages]),
        tools=tuple([_tool(tool, see) for tool in request.tools]),
        forced_tool=request.forced_tool and see(TextPart(request.forced_tool, prompt)),
        stop=tuple([see(TextPart(text, prompt)) for text in request.stop]),
        response_format=request.response_format and _format(request.response_format, see),
        native=with_native_texts(request.native, lambda text: see(TextPart(text, prompt))),
    )


def _message(message: Message, see: See) -> Message:
    direction = Direction.TOOL_RESULTS if message.role == "tool" else Direction.PROMPT
    texts = [
        # The model reads the parts of a message as one text, so they are scanned as one, too.
        see(TextPart(text, direction, continues=number > 0))
        for number, text in enumerate(message.text)
    ]
    return Message(
        message.role,
        tuple(texts),
        tuple([_call(call, see) for call in message.tool_calls]),
        message.tool_call_id,
        tuple([_attachment(each, see) for each in message.attachments]),
        tuple([_reasoning(each, see, Direction.PROMPT) for each in message.reasoning]),
    )


def _attachment(attachment: Attachment, see: See) -> Attachment:
    if attachment.text is None:
        return attachment
    return replace(attachment, text=see(TextPart(attachment.text, Direction.PROMPT)))


def _reasoning(block: ReasoningBlock, see: See, direction: Direction) -> ReasoningBlock:
    """Change what is readable; the provider's signature is of its own words and goes with them."""
    if block.redacted is not None:
        return block
    seen = see(TextPart(block.text, direction))
    return block if seen == block.text else ReasoningBlock(seen)


def _call(call: ToolCall, see: See) -> ToolCall:
    direction = Direction.TOOL_ARGUMENTS
    name = see(TextPart(call.name, direction))
    return ToolCall(call.id, name, _object(call.arguments, see, direction))


def _tool(tool: ToolSpec, see: See) -> ToolSpec:
    prompt = Direction.PROMPT
    return ToolSpec(
        see(TextPart(tool.name, prompt)),
        tool.description and see(TextPart(tool.description, prompt)),
        tool.parameters and _object(tool.parameters, see, prompt),
        tool.strict,
    )


def _format(form: ResponseFormat, see: See) -> ResponseFormat:
    prompt = Direction.PROMPT
    return replace(
        form,
        name=see(TextPart(form.name, prompt)),
        description=form.description and see(TextPart(form.description, prompt)),
        schema=form.schema and _object(form.schema, see, prompt),
    )


def _rewrite_answer(answer: ChatAnswer, see: See) -> ChatAnswer:
    return replace(
        answer,
        reasoning=tuple([_reasoning(each, see, Direction.ANSWER) for each in answer.reasoning]),
        text=tuple(see(TextPart(text, Direction.ANSWER)) for text in answer.text),
        tool_calls=tuple(
            ToolCall(call.id, call.name, _object(call.arguments, see, Direction.TOOL_ARGUMENTS))
            for call in answer.tool_calls
        ),
        native=answer.native.with_texts(lambda text: see(TextPart(text, Direction.ANSWER))),
    )


def _object(value: JSONObject, see: See, direction: Direction) -> JSONObject:
    rewritten: JSONObject = {}
    alike: dict[str, int] = {}
    for name, member in value.items():
        seen_name = unique = see(TextPart(name, direction))
        while unique in rewritten:  # names that were masked alike are numbered, so that all stay
            alike[seen_name] = alike.get(seen_name, 1) + 1
            unique = f"{seen_name}_{alike[seen_name]}"
        rewritten[unique] = _value(member, see, direction, name)
    return rewritten


def _value(value: JSONValue, see: See, direction: Direction, hint: str) -> JSONValue:
    if isinstance(value, dict):
        return _object(value, see, direction)
    if isinstance(value, list):
        return [_value(item, see, direction, hint) for item in value]
    if isinstance(value, str):
        return see(TextPart(value, direction, hint))
    if value is None or isinstance(value, bool):
        return value
    written = str(value)  # a number may be a card or a phone number
    seen = see(TextPart(written, direction, hint))
    return value if seen == written else seen
