"""A checked chat request as a value, and the errors that say what is wrong with one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import field

from latensgate_enclave.values import Value
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import NAME_MAX_CHARS

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject, JSONValue

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]
ToolChoiceMode: TypeAlias = Literal["none", "auto", "required"]
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
AttachmentKind: TypeAlias = Literal["image", "document", "audio"]


class RequestInvalidError(LatensgateError):
    """A field has a value that the OpenAI contract does not allow.

    Attributes:
        param: Path of the field, as in ``messages[0].role``. It may hold a name that the caller
            made up, so it goes into the sealed error and never into a log.
    """

    code = ErrorCode.ERR_REQUEST_INVALID

    def __init__(self, reason: str, *, param: str) -> None:
        super().__init__(f"request: {reason}")
        self.param = param[:NAME_MAX_CHARS]


class UnsupportedError(RequestInvalidError):
    """A field, or a value of it, that OpenAI allows and we cannot honour."""

    code = ErrorCode.ERR_UNSUPPORTED


class ToolCall(Value, frozen=True):
    """One call that the assistant made.

    Attributes:
        id: Ours; a tool message answers by it.
        name: Of the tool.
        arguments: Parsed from the JSON text of the wire; an empty text is an empty object.
    """

    id: str
    name: str
    arguments: JSONObject


class Attachment(Value, frozen=True):
    """An image, a document or a sound of a message.

    Attributes:
        kind: What it is.
        format: As Converse names it: ``png``, ``pdf``, ``wav`` …
        data: Base64 of the content; empty where ``text`` has it.
        text: The content of a document that is text, for the scan; None: nobody can scan it.
        at: How many texts of its message stand before it.
        place: Path of the part that held it.
    """

    kind: AttachmentKind
    format: str
    data: str
    text: str | None
    at: int
    place: str


class ReasoningBlock(Value, frozen=True):
    """What a model thought, as it said it.

    Attributes:
        text: Readable; empty where it is redacted.
        signature: By which the provider knows its own words again, or None.
        redacted: Base64 that only the provider reads, or None.
    """

    text: str = ""
    signature: str | None = None
    redacted: str | None = None


class Message(Value, frozen=True):
    """One message.

    Attributes:
        role: Who speaks.
        text: Text parts in order; blank ones are left out, since no provider takes them.
        tool_calls: Of an assistant.
        tool_call_id: Of a tool's answer, else None.
        attachments: In order.
        reasoning: Of an assistant, as it came from the provider.
    """

    role: Role
    text: tuple[str, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    attachments: tuple[Attachment, ...] = ()
    reasoning: tuple[ReasoningBlock, ...] = ()


class ToolSpec(Value, frozen=True):
    """One tool on offer.

    Attributes:
        name: 1 to 64 of ``[a-zA-Z0-9_-]``, unique in its request.
        description: Never empty.
        parameters: JSON Schema of the arguments; None: no arguments.
        strict: Whether arguments must follow the schema exactly.
    """

    name: str
    description: str | None
    parameters: JSONObject | None
    strict: bool = False


class ResponseFormat(Value, frozen=True):
    """The answer has to be JSON.

    Attributes:
        schema: That it has to follow; None: any object.
        name: 1 to 64 of ``[a-zA-Z0-9_-]``.
        description: Never empty.
        strict: Whether it must follow the schema exactly.
    """

    schema: JSONObject | None = None
    name: str = "answer"
    description: str | None = None
    strict: bool = False


class ChatRequest(Value, frozen=True):
    """A checked request.

    Attributes:
        model: The caller's name for a model: an alias, nothing that AWS knows.
        messages: At least one; every tool call has exactly one answer right behind it.
        tools: On offer.
        tool_choice: None if the caller did not say.
        forced_tool: Name of the one tool to call; ``tool_choice`` is then ``"required"``.
        max_tokens: Most tokens of the answer.
        temperature: 0 to 2.
        top_p: 0 to 1.
        stop: At most four sequences, none empty.
        stream: Whether the answer comes in chunks.
        include_usage: Whether a stream ends with a usage chunk.
        obfuscate: Whether chunks of a stream are filled up to like lengths.
        n: How many answers.
        parallel_tool_calls: Whether one answer may hold several calls.
        response_format: None: text.
        reasoning_effort: None if the caller did not say.
        service_tier: ``flex`` or ``priority``; None: the default one.
        functions: Tools came in the form that OpenAI has given up, and are called in it.
        dropped: Names of fields that are not forwarded, sorted.
        native: Fields that only OpenAI's own interface has (`chat_native`), as it is sent them.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoiceMode | None = None
    forced_tool: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    obfuscate: bool = True
    n: int = 1
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None
    reasoning_effort: Effort | None = None
    service_tier: str | None = None
    functions: bool = False
    dropped: tuple[str, ...] = ()
    native: JSONObject = field(default_factory=dict[str, "JSONValue"])

    def attachments(self) -> dict[str, int]:
        """Count by kind what no scan sees."""
        counts: dict[str, int] = {}
        for message in self.messages:
            for each in message.attachments:
                if each.text is None:
                    counts[each.kind] = counts.get(each.kind, 0) + 1
        return counts
