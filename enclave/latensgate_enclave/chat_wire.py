"""The JSON of a chat completions request, as far as we admit it.

Kept apart from ``chat`` so that the OpenAI names, which change with OpenAI, stand on one page.
Every structure refuses members that it does not name.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from latensgate_enclave.chat_native_wire import NativeWire
from latensgate_enclave.chat_values import Effort, ToolChoiceMode
from latensgate_shared.limits import (
    CHAT_CHOICES_MAX_COUNT,
    CHAT_MESSAGES_MAX_COUNT,
    CHAT_STOP_MAX_CHARS,
    CHAT_STOP_MAX_COUNT,
    CHAT_TOOLS_MAX_COUNT,
    NAME_MAX_CHARS,
)

_ToolName: TypeAlias = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}\Z")]
_CallId: TypeAlias = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.:-]{1,64}\Z")]
_Tokens: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Stop: TypeAlias = Annotated[str, Meta(min_length=1, max_length=CHAT_STOP_MAX_CHARS)]
_Opaque: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9+/=_-]+\Z")]
"""What only a provider reads: no scan sees it, so it may hold no words."""


class CacheBreakpointWire(Struct, forbid_unknown_fields=True):
    """Where OpenAI would end a cached prefix; nothing is cached here."""

    mode: Literal["explicit"]
    ttl: Literal["30m", "12h"] | None = None


class PartWire(Struct, tag_field="type", forbid_unknown_fields=True, kw_only=True):
    """What all parts of a user's content have."""

    prompt_cache_breakpoint: CacheBreakpointWire | None = None


class TextPartWire(PartWire, tag="text"):
    """A text part."""

    text: str


class ImageURLWire(Struct, forbid_unknown_fields=True):
    """Where an image is: in the address itself."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePartWire(PartWire, tag="image_url"):
    """An image part."""

    image_url: ImageURLWire


class FileWire(Struct, forbid_unknown_fields=True):
    """A file: its content as a data URL or as plain base64."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePartWire(PartWire, tag="file"):
    """A file part."""

    file: FileWire


class AudioWire(Struct, forbid_unknown_fields=True):
    """A sound."""

    data: str
    format: Literal["wav", "mp3"]


class AudioPartWire(PartWire, tag="input_audio"):
    """A sound part."""

    input_audio: AudioWire


class RefusalPartWire(Struct, tag="refusal", tag_field="type", forbid_unknown_fields=True):
    """A part in which the assistant refused."""

    refusal: str


AnyPart: TypeAlias = TextPartWire | ImagePartWire | FilePartWire | AudioPartWire
_UserParts: TypeAlias = Annotated[list[AnyPart], Meta(max_length=CHAT_MESSAGES_MAX_COUNT)]
_Parts: TypeAlias = Annotated[list[TextPartWire], Meta(max_length=CHAT_MESSAGES_MAX_COUNT)]
_AssistantParts: TypeAlias = Annotated[
    list[TextPartWire | RefusalPartWire], Meta(max_length=CHAT_MESSAGES_MAX_COUNT)
]


class CalledFunctionWire(Struct, forbid_unknown_fields=True):
    """Name and arguments (JSON text) of one call."""

    name: _ToolName
    arguments: str


class CallWire(Struct, tag="function", tag_field="type", forbid_unknown_fields=True):
    """One tool call of the assistant."""

    id: _CallId
    function: CalledFunctionWire
    index: int | None = None  # clients echo it from streams; it says what the order says


class SpokenMessageWire(Struct, tag_field="role", forbid_unknown_fields=True):
    """What all messages but those of the assistant have."""

    content: str | _Parts
    name: str | None = None


class SystemWire(SpokenMessageWire, tag="system"):
    """Role ``system``."""


class DeveloperWire(SpokenMessageWire, tag="developer"):
    """Role ``developer``."""


class UserWire(Struct, tag="user", tag_field="role", forbid_unknown_fields=True):
    """Role ``user``: the one that may send more than text."""

    content: str | _UserParts
    name: str | None = None


class ToolWire(SpokenMessageWire, tag="tool", kw_only=True):
    """Role ``tool``: the result of a call."""

    tool_call_id: _CallId


class FunctionMessageWire(Struct, tag="function", tag_field="role", forbid_unknown_fields=True):
    """Role ``function``, which OpenAI has given up: the result of the call right before it."""

    name: _ToolName
    content: str | None = None


class ThinkingWire(Struct, tag="thinking", tag_field="type", forbid_unknown_fields=True):
    """What the model thought, as an answer of ours told it."""

    thinking: str
    signature: _Opaque | None = None


class RedactedThinkingWire(
    Struct, tag="redacted_thinking", tag_field="type", forbid_unknown_fields=True
):
    """What the model thought and only its provider reads."""

    data: _Opaque


class AssistantWire(Struct, tag="assistant", tag_field="role", forbid_unknown_fields=True):
    """Role ``assistant``; clients echo what they got, empty annotations included."""

    content: str | _AssistantParts | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: Annotated[list[CallWire], Meta(max_length=CHAT_TOOLS_MAX_COUNT)] = []
    function_call: CalledFunctionWire | None = None
    annotations: Annotated[list[object], Meta(max_length=0)] = []
    reasoning_content: str | None = None
    thinking_blocks: Annotated[
        list[ThinkingWire | RedactedThinkingWire], Meta(max_length=CHAT_TOOLS_MAX_COUNT)
    ] = []


class FunctionWire(Struct, forbid_unknown_fields=True):
    """A function on offer."""

    name: _ToolName
    description: str | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None


class OfferedToolWire(Struct, tag="function", tag_field="type", forbid_unknown_fields=True):
    """A tool on offer."""

    function: FunctionWire


class NamedFunctionWire(Struct, forbid_unknown_fields=True):
    """Names a function."""

    name: _ToolName


class NamedChoiceWire(Struct, tag="function", tag_field="type", forbid_unknown_fields=True):
    """A ``tool_choice`` that names one function."""

    function: NamedFunctionWire


class AllowedToolsWire(Struct, forbid_unknown_fields=True):
    """Some of the tools on offer."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedChoiceWire], Meta(min_length=1, max_length=CHAT_TOOLS_MAX_COUNT)]


class AllowedChoiceWire(Struct, tag="allowed_tools", tag_field="type", forbid_unknown_fields=True):
    """A ``tool_choice`` that leaves some of the tools."""

    allowed_tools: AllowedToolsWire


class TextFormatWire(Struct, tag="text", tag_field="type", forbid_unknown_fields=True):
    """Text: the default."""


class ObjectFormatWire(Struct, tag="json_object", tag_field="type", forbid_unknown_fields=True):
    """Any JSON object."""


class SchemaWire(Struct, forbid_unknown_fields=True):
    """A JSON Schema with a name."""

    name: _ToolName
    schema: dict[str, object] | None = None
    description: str | None = None
    strict: bool | None = None


class SchemaFormatWire(Struct, tag="json_schema", tag_field="type", forbid_unknown_fields=True):
    """JSON of a schema."""

    json_schema: SchemaWire


class StreamOptionsWire(Struct, forbid_unknown_fields=True):
    """Options of a stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


AnyMessage: TypeAlias = (
    SystemWire | DeveloperWire | UserWire | AssistantWire | ToolWire | FunctionMessageWire
)
AnyChoice: TypeAlias = ToolChoiceMode | NamedChoiceWire | AllowedChoiceWire
AnyFormat: TypeAlias = TextFormatWire | ObjectFormatWire | SchemaFormatWire


class RequestWire(NativeWire, forbid_unknown_fields=True, kw_only=True):
    """The whole body, without what is left out before."""

    model: Annotated[str, Meta(min_length=1, max_length=NAME_MAX_CHARS)]
    messages: Annotated[
        list[AnyMessage],
        Meta(min_length=1, max_length=CHAT_MESSAGES_MAX_COUNT),
    ]
    max_tokens: _Tokens | None = None
    max_completion_tokens: _Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: _Stop | Annotated[list[_Stop], Meta(max_length=CHAT_STOP_MAX_COUNT)] = field(
        default_factory=list[_Stop]
    )
    stream: bool = False
    stream_options: StreamOptionsWire | None = None
    tools: Annotated[list[OfferedToolWire], Meta(max_length=CHAT_TOOLS_MAX_COUNT)] = field(
        default_factory=list[OfferedToolWire]
    )
    tool_choice: AnyChoice | None = None
    functions: Annotated[list[FunctionWire], Meta(max_length=CHAT_TOOLS_MAX_COUNT)] = field(
        default_factory=list[FunctionWire]
    )
    function_call: Literal["none", "auto"] | NamedFunctionWire | None = None
    parallel_tool_calls: bool = True
    n: Annotated[int, Meta(ge=1, le=CHAT_CHOICES_MAX_COUNT)] = 1
    response_format: AnyFormat | None = None
    reasoning_effort: Effort | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] = "auto"
