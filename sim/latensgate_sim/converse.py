"""What a Converse request asks, checked as Bedrock checks it (service model 2023-09-30, facts 4).

The simulator is stricter than Bedrock in one point: members that Converse does not know are
refused, so that a slip in a translation shows at once.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

from latensgate_sim.errors import AWSError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
Object: TypeAlias = "dict[str, JSON]"

_MEMBERS: Final = frozenset(
    {
        "messages",
        "system",
        "inferenceConfig",
        "toolConfig",
        "outputConfig",
        "additionalModelRequestFields",
        "additionalModelResponseFieldPaths",
        "requestMetadata",
        "serviceTier",
        "performanceConfig",
    }
)
_INFERENCE: Final = frozenset({"maxTokens", "temperature", "topP", "stopSequences"})
_BLOCKS: Final = frozenset(
    {
        "text",
        "toolUse",
        "toolResult",
        "image",
        "document",
        "audio",
        "reasoningContent",
        "cachePoint",
    }
)
_FORMATS: Final[dict[str, frozenset[str]]] = {
    "image": frozenset({"png", "jpeg", "gif", "webp"}),
    "document": frozenset({"pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"}),
    "audio": frozenset({"wav", "mp3"}),
}
_DOCUMENT_NAME: Final = re.compile(r"[A-Za-z0-9()\[\]-]+( [A-Za-z0-9()\[\]-]+)*")
_THINKING_MIN_TOKENS: Final = 1_024
_TIERS: Final = frozenset({"default", "flex", "priority", "reserved"})
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Turn:
    """One message; blocks stay as JSON objects of one member."""

    role: Literal["user", "assistant"]
    blocks: tuple[Object, ...]

    def texts(self) -> list[str]:
        """Return the text of text blocks and tool results, in order."""
        found: list[str] = []
        for block in self.blocks:
            if "text" in block:
                found.append(str(block["text"]))
            elif "toolResult" in block:
                found.append(result_text(cast("Object", block["toolResult"])))
        return found

    def media(self) -> list[str]:
        """Return what images, documents and sounds there are, as in ``image png``."""
        return [
            f"{kind} {cast('Object', block[kind])['format']}"
            for block in self.blocks
            for kind in _FORMATS
            if kind in block
        ]

    def ids(self, kind: Literal["toolUse", "toolResult"]) -> list[str]:
        """Return the ids of tool uses or results, in order."""
        blocks = (block[kind] for block in self.blocks if kind in block)
        return [str(cast("Object", block)["toolUseId"]) for block in blocks]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool the model may call."""

    name: str
    description: str
    schema: Object


@dataclass(frozen=True, slots=True)
class ConverseRequest:
    """A checked request.

    Attributes:
        forced_tool: Name of the tool that has to be called, ``"*"`` for any, None for free choice.
        output_schema: JSON schema that the answer has to meet, or None.
        mid_system: Instructions stand in the middle of the conversation.
        thinking: How the model was asked to think: ``thinking``, ``effort`` or ``nova``, or None.
        single_call: At most one tool may be called.
    """

    model_id: str
    turns: tuple[Turn, ...]
    system: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    forced_tool: str | None = None
    output_schema: Object | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: tuple[str, ...] = ()
    mid_system: bool = False
    thinking: str | None = None
    single_call: bool = False
    raw: Object = field(default_factory=dict[str, JSON])


def invalid(message: str) -> AWSError:
    """Make the error for a request that Bedrock refuses."""
    return AWSError(400, "ValidationException", message)


def parse_converse(model_id: str, body: bytes) -> ConverseRequest:
    """Read and check the body of Converse or ConverseStream.

    Raises:
        AWSError: SerializationException or ValidationException.
    """
    try:
        raw = json.loads(body)
    except ValueError:
        raise AWSError(400, "SerializationException", "not JSON") from None
    try:
        return _parse(model_id, cast("Object", raw))
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise invalid(f"Malformed input request: {type(error).__name__} {error}") from error


def result_text(result: Object) -> str:
    """Return the text of a toolResult; JSON content is written compactly."""
    return "\n".join(
        str(item["text"]) if "text" in item else json.dumps(item.get("json"))
        for item in cast("list[Object]", result.get("content", []))
    )


def _parse(model_id: str, raw: Object) -> ConverseRequest:
    _only(raw, _MEMBERS, "request")
    config = cast("Object", raw.get("inferenceConfig") or {})
    _only(config, _INFERENCE, "inferenceConfig")
    tools, forced = _tool_config(cast("Object | None", raw.get("toolConfig")))
    messages = _objects(raw["messages"])
    spoken = [item for item in messages if item["role"] != "system"]
    turns = tuple(_turn(item, index) for index, item in enumerate(spoken))
    _check_turns(turns, tools)
    instructions = [
        *_objects(raw.get("system")),
        *(
            block
            for item in messages
            if item["role"] == "system"
            for block in _objects(item["content"])
        ),
    ]
    own = cast("Object", raw.get("additionalModelRequestFields") or {})
    choice = cast("Object", own.get("tool_choice") or {})
    tier = cast("Object", raw.get("serviceTier") or {"type": "default"})
    if tier["type"] not in _TIERS:
        raise invalid("Value at 'serviceTier.type' is not a tier")
    stops = cast("Sequence[str]", config.get("stopSequences") or ())
    return ConverseRequest(
        model_id=model_id,
        turns=turns,
        system=tuple(str(item["text"]) for item in instructions if "text" in item),
        tools=tools,
        forced_tool=_own_choice(choice, tools) or forced,
        mid_system=len(spoken) < len(messages),
        thinking=_thinking(own, cast("Object", raw.get("outputConfig") or {})),
        single_call=choice.get("disable_parallel_tool_use") is True,
        output_schema=_output_schema(raw.get("outputConfig")),
        max_tokens=_max_tokens(config.get("maxTokens")),
        temperature=_fraction(config, "temperature"),
        top_p=_fraction(config, "topP"),
        stop_sequences=tuple(stops),
        raw=raw,
    )


def _own_choice(choice: Object, tools: Sequence[Tool]) -> str | None:
    """Read the choice that Claude takes past Converse."""
    if choice.get("type") == "tool":
        if choice["name"] not in {tool.name for tool in tools}:
            raise invalid("tool_choice names a tool that is not in tools")
        return str(choice["name"])
    return "*" if choice.get("type") == "any" else None


def _thinking(own: Object, output: Object) -> str | None:
    thinking = cast("Object", own.get("thinking") or {})
    if thinking.get("type") == "enabled":
        if cast("int", thinking["budget_tokens"]) < _THINKING_MIN_TOKENS:
            raise invalid("thinking.budget_tokens must be at least 1024")
        return "thinking"
    nova = cast("Object", own.get("reasoningConfig") or {})
    if nova.get("type") == "enabled":
        return "nova"
    return "effort" if "effort" in output else None


def _only(value: Mapping[str, JSON], known: frozenset[str], where: str) -> None:
    extra = sorted(set(value) - known)
    if extra:
        raise invalid(f"Malformed input request: extraneous key {extra} in {where}")


def _objects(value: JSON) -> list[Object]:
    return [dict(cast("Object", item)) for item in cast("list[JSON]", value or [])]


def _max_tokens(value: JSON) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise invalid("Value at 'inferenceConfig.maxTokens' must be at least 1")
    return value


def _fraction(config: Mapping[str, JSON], name: str) -> float | None:
    value = config.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise invalid(f"Value at 'inferenceConfig.{name}' must be between 0 and 1")
    return float(value)


def _turn(item: Object, index: int) -> Turn:
    role = cast("Literal['user', 'assistant']", item["role"])
    if role not in {"user", "assistant"}:
        raise invalid(f"Value at 'messages.{index}.role' must be one of [user, assistant]")
    blocks = tuple(_objects(item["content"]))
    if not blocks:
        raise invalid(f"The content field in the Message object at messages.{index} is empty.")
    for place, block in enumerate(blocks):
        if len(block) != 1 or not set(block) <= _BLOCKS:
            raise invalid(f"messages.{index}.content.{place}: exactly one known member is needed")
        if "text" in block and not str(block["text"]).strip():
            where = f"messages.{index}.content.{place}"
            raise invalid(f"The text field in the ContentBlock object at {where} is blank.")
        _check_media(block, f"messages.{index}.content.{place}")
    if any("document" in block for block in blocks) and not any("text" in each for each in blocks):
        raise invalid("A text block is needed beside a document block.")
    return Turn(role, blocks)


def _check_media(block: Object, where: str) -> None:
    for kind, formats in _FORMATS.items():
        if kind not in block:
            continue
        media = cast("Object", block[kind])
        if media["format"] not in formats:
            raise invalid(f"{where}.{kind}.format is not known")
        if not base64.b64decode(str(cast("Object", media["source"])["bytes"]), validate=True):
            raise invalid(f"{where}.{kind} is empty")
        if kind == "document" and not _DOCUMENT_NAME.fullmatch(str(media["name"])):
            raise invalid(f"{where}.document.name holds what a name may not hold")


def _check_turns(turns: Sequence[Turn], tools: Sequence[Tool]) -> None:
    if not turns or turns[0].role != "user":
        raise invalid("A conversation must start with a user message.")
    if turns[-1].role != "user":
        raise invalid("The conversation must end with a user message.")
    previous: Turn | None = None
    for index, turn in enumerate(turns):
        if previous is not None and previous.role == turn.role:
            raise invalid("A conversation must alternate between user and assistant roles.")
        uses = previous.ids("toolUse") if previous is not None else []
        if sorted(uses) != sorted(turn.ids("toolResult")):
            raise invalid(f"Expected toolResult blocks at messages.{index}.content for: {uses}")
        if (uses or turn.ids("toolUse")) and not tools:
            raise invalid(
                "The toolConfig field must be defined when using toolUse and toolResult blocks."
            )
        previous = turn


def _tool_config(config: Object | None) -> tuple[tuple[Tool, ...], str | None]:
    if config is None:
        return (), None
    tools = tuple(
        _tool(cast("Object", item["toolSpec"]))
        for item in _objects(config["tools"])
        if "toolSpec" in item
    )
    names = [tool.name for tool in tools]
    if not tools or len(set(names)) != len(names):
        raise invalid("toolConfig.tools needs at least one tool and distinct names")
    choice = cast("Object", config.get("toolChoice") or {"auto": {}})
    if "tool" in choice:
        name = str(cast("Object", choice["tool"])["name"])
        if name not in names:
            raise invalid(f"toolChoice names {name}, which is not in tools")
        return tools, name
    return tools, "*" if "any" in choice else None


def _tool(spec: Object) -> Tool:
    name = str(spec["name"])
    description = spec.get("description", "-")
    if not _TOOL_NAME.fullmatch(name) or not description:
        raise invalid("toolSpec needs a name of [a-zA-Z0-9_-]{1,64} and no empty description")
    schema = cast("Object", cast("Object", spec["inputSchema"])["json"])
    if schema.get("type") != "object":
        raise invalid("toolSpec.inputSchema.json.type must be object")
    return Tool(name, str(description), schema)


def _output_schema(config: JSON) -> Object | None:
    if not isinstance(config, dict) or "textFormat" not in config:
        return None
    text_format = cast("Object", config["textFormat"])
    structure = cast("Object", cast("Object", text_format["structure"])["jsonSchema"])
    return cast("Object", json.loads(str(structure["schema"])))
