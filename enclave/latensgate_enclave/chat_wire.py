"""The JSON of a chat completions request, as far as we admit it.

Kept apart from ``chat`` so that the OpenAI names, which change with OpenAI, stand on one page.
Every structure refuses members that it does not name.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from latensgate_shared.limits import (
    CHAT_MESSAGES_MAX_COUNT,
    CHAT_STOP_MAX_COUNT,
    CHAT_TOOLS_MAX_COUNT,
    NAME_MAX_CHARS,
)

ToolChoiceMode: TypeAlias = Literal["none", "auto", "required"]

_ToolName: TypeAlias = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}\Z")]
_CallId: TypeAlias = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.:-]{1,64}\Z")]
_Tokens: TypeAlias = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Stop: TypeAlias = Annotated[str, Meta(min_length=1)]


class TextPartWire(Struct, tag="text", tag_field="type", forbid_unknown_fields=True):
    """A text part."""

    text: str


class RefusalPartWire(Struct, tag="refusal", tag_field="type", forbid_unknown_fields=True):
    """A part in which the assistant refused."""

    refusal: str


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


class UserWire(SpokenMessageWire, tag="user"):
    """Role ``user``."""


class ToolWire(SpokenMessageWire, tag="tool", kw_only=True):
    """Role ``tool``: the result of a call."""

    tool_call_id: _CallId


class AssistantWire(Struct, tag="assistant", tag_field="role", forbid_unknown_fields=True):
    """Role ``assistant``; clients echo what they got, empty annotations included."""

    content: str | _AssistantParts | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: Annotated[list[CallWire], Meta(max_length=CHAT_TOOLS_MAX_COUNT)] = []
    annotations: Annotated[list[object], Meta(max_length=0)] = []


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


class StreamOptionsWire(Struct, forbid_unknown_fields=True):
    """Options of a stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # either way: the seal pads


AnyMessage: TypeAlias = SystemWire | DeveloperWire | UserWire | AssistantWire | ToolWire


class RequestWire(Struct, forbid_unknown_fields=True):
    """The whole body."""

    model: Annotated[str, Meta(min_length=1, max_length=NAME_MAX_CHARS)]
    messages: Annotated[
        list[AnyMessage],
        Meta(min_length=1, max_length=CHAT_MESSAGES_MAX_COUNT),
    ]
    max_tokens: _Tokens | None = None
    max_completion_tokens: _Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: _Stop | Annotated[list[_Stop], Meta(max_length=CHAT_STOP_MAX_COUNT)] = []
    stream: bool = False
    stream_options: StreamOptionsWire | None = None
    tools: Annotated[list[OfferedToolWire], Meta(max_length=CHAT_TOOLS_MAX_COUNT)] = []
    tool_choice: ToolChoiceMode | NamedChoiceWire | None = None
