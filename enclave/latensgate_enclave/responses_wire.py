"""The JSON of a Responses request, as far as we admit it.

Kept apart from ``responses`` as ``chat_wire`` is from ``chat``. What means the same as in a chat
completions request is only told apart here; its values are judged there.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from latensgate_shared.limits import (
    CHAT_MESSAGES_MAX_COUNT,
    CHAT_TOOLS_MAX_COUNT,
    METADATA_KEY_MAX_CHARS,
    METADATA_MAX_COUNT,
    METADATA_VALUE_MAX_CHARS,
    NAME_MAX_CHARS,
)

_Status: TypeAlias = Literal["in_progress", "completed", "incomplete"]
_Nothing: TypeAlias = Annotated[list[object], Meta(max_length=0)]
_Metadata: TypeAlias = Annotated[
    dict[
        Annotated[str, Meta(max_length=METADATA_KEY_MAX_CHARS)],
        Annotated[str, Meta(max_length=METADATA_VALUE_MAX_CHARS)],
    ],
    Meta(max_length=METADATA_MAX_COUNT),
]


class InputTextWire(Struct, tag="input_text", tag_field="type", forbid_unknown_fields=True):
    """Text that somebody said."""

    text: str


class OutputTextWire(Struct, tag="output_text", tag_field="type", forbid_unknown_fields=True):
    """Text that the model said; clients echo what they got."""

    text: str
    annotations: _Nothing = []
    logprobs: _Nothing | None = None
    parsed: object = None  # added by the parse helpers of OpenAI's clients


class RefusalWire(Struct, tag="refusal", tag_field="type", forbid_unknown_fields=True):
    """What the model said instead of an answer."""

    refusal: str


class InputImageWire(Struct, tag="input_image", tag_field="type", forbid_unknown_fields=True):
    """An image."""

    image_url: str
    detail: str | None = None


class InputFileWire(Struct, tag="input_file", tag_field="type", forbid_unknown_fields=True):
    """A document."""

    file_data: str
    filename: str | None = None


ContentWire: TypeAlias = (
    InputTextWire | OutputTextWire | RefusalWire | InputImageWire | InputFileWire
)
_Parts: TypeAlias = Annotated[list[ContentWire], Meta(max_length=CHAT_MESSAGES_MAX_COUNT)]


class MessageWire(Struct, tag="message", tag_field="type", forbid_unknown_fields=True):
    """A message of anybody."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | _Parts
    id: str | None = None
    status: _Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCallWire(Struct, tag="function_call", tag_field="type", forbid_unknown_fields=True):
    """A call that the model made."""

    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: _Status | None = None
    parsed_arguments: object = None  # added by the parse helpers of OpenAI's clients


class FunctionCallOutputWire(
    Struct, tag="function_call_output", tag_field="type", forbid_unknown_fields=True
):
    """What came of a call."""

    call_id: str
    output: str | _Parts
    id: str | None = None
    status: _Status | None = None


class SummaryWire(Struct, tag="summary_text", tag_field="type", forbid_unknown_fields=True):
    """A piece of a reasoning summary."""

    text: str


class ReasoningTextWire(Struct, tag="reasoning_text", tag_field="type", forbid_unknown_fields=True):
    """A piece of reasoning."""

    text: str


class ReasoningItemWire(Struct, tag="reasoning", tag_field="type", forbid_unknown_fields=True):
    """What the model thought; ``encrypted_content`` proves to its provider that it was so."""

    summary: list[SummaryWire] = []
    content: list[ReasoningTextWire] | None = None
    encrypted_content: str | None = None
    id: str | None = None
    status: _Status | None = None


ItemWire: TypeAlias = MessageWire | FunctionCallWire | FunctionCallOutputWire | ReasoningItemWire


class FunctionToolWire(Struct, tag="function", tag_field="type", forbid_unknown_fields=True):
    """A function on offer."""

    name: str
    description: str | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None


class NamedToolWire(Struct, tag="function", tag_field="type", forbid_unknown_fields=True):
    """The one function to call."""

    name: str


class AllowedToolsWire(Struct, tag="allowed_tools", tag_field="type", forbid_unknown_fields=True):
    """The functions that may be called this time."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedToolWire], Meta(max_length=CHAT_TOOLS_MAX_COUNT)]


class PlainTextWire(Struct, tag="text", tag_field="type", forbid_unknown_fields=True):
    """An answer of any form."""


class JSONObjectWire(Struct, tag="json_object", tag_field="type", forbid_unknown_fields=True):
    """An answer that is a JSON object."""


class JSONSchemaWire(Struct, tag="json_schema", tag_field="type", forbid_unknown_fields=True):
    """An answer by a schema."""

    name: str
    schema: dict[str, object]
    description: str | None = None
    strict: bool | None = None


FormatWire: TypeAlias = PlainTextWire | JSONObjectWire | JSONSchemaWire


class TextWire(Struct, forbid_unknown_fields=True):
    """What form the answer has."""

    format: FormatWire | None = None
    verbosity: str | None = None


class ReasoningWire(Struct, forbid_unknown_fields=True):
    """How much the model thinks, and whether its thoughts come as a summary."""

    effort: str | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class ResponseStreamOptionsWire(Struct, forbid_unknown_fields=True):
    """Options of a stream."""

    include_obfuscation: bool | None = None  # either way: the seal pads


class ResponsesWire(Struct, forbid_unknown_fields=True):
    """The whole body, without what chat completions judge and what is admitted as a default."""

    model: Annotated[str, Meta(min_length=1, max_length=NAME_MAX_CHARS)]
    input: str | Annotated[list[ItemWire], Meta(min_length=1, max_length=CHAT_MESSAGES_MAX_COUNT)]
    instructions: str | None = None
    include: list[Literal["reasoning.encrypted_content"]] = []
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_tool_calls: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    metadata: _Metadata = {}
    parallel_tool_calls: bool = True
    prompt_cache_key: str | None = None
    reasoning: ReasoningWire | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    stream: bool = False
    stream_options: ResponseStreamOptionsWire | None = None
    temperature: float | None = None
    text: TextWire | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolWire | AllowedToolsWire | None = (
        None
    )
    tools: Annotated[list[FunctionToolWire], Meta(max_length=CHAT_TOOLS_MAX_COUNT)] = []
    top_p: float | None = None
    user: str | None = None
