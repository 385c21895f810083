"""What answers behind the simulated Bedrock: the interface, the table of ids, ``scripted``."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

from latensgate_sim.converse import ConverseRequest, Object, Tool, invalid

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from latensgate_sim.converse import JSON


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of the answer's text, one token of a stream."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """What the model thinks before it answers, whole, with the provider's signature."""

    text: str
    signature: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call, whole."""

    tool_use_id: str
    name: str
    arguments: Object


@dataclass(frozen=True, slots=True)
class Stop:
    """The end, with the model's own count of tokens."""

    reason: str
    input_tokens: int
    output_tokens: int


Event: TypeAlias = TextPiece | Thought | ToolCall | Stop


class Model(Protocol):
    """Answers a conversation; the last event is a ``Stop``."""

    blocking: bool
    """Whether ``run`` computes for long and belongs into a thread."""

    def run(self, request: ConverseRequest, cancelled: threading.Event) -> Iterator[Event]:
        """Yield the answer; ends early once ``cancelled`` is set."""
        ...


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What one model id can do.

    Attributes:
        engine: ``scripted``, ``local`` or ``default`` (whatever the world was started with).
        sampling: Takes temperature and topP.
        forced_tools: Takes toolChoice ``any`` and ``tool``.
        stream_tools: Takes tools with ConverseStream.
        media: Takes images, documents and sounds.
        output_schema: Takes ``outputConfig.textFormat``.
        thinks: How it is asked to think: ``thinking``, ``effort``, ``nova``; None: not at all.
        mid_system: Takes instructions in the middle of a conversation.
        context_tokens: Longest input.
    """

    engine: str = "default"
    sampling: bool = True
    forced_tools: bool = True
    stream_tools: bool = True
    media: bool = True
    output_schema: bool = True
    thinks: str | None = None
    mid_system: bool = False
    context_tokens: int = 200_000

    def check(self, request: ConverseRequest, *, stream: bool) -> None:
        """Refuse what this model does not take.

        Raises:
            AWSError: ValidationException.
        """
        if not self.sampling and (request.temperature is not None or request.top_p is not None):
            raise invalid("temperature and topP are not supported by this model.")
        if not self.forced_tools and request.forced_tool is not None:
            raise invalid("toolChoice any and tool are not supported by this model.")
        if not self.stream_tools and stream and request.tools:
            raise invalid("This model doesn't support tool use in streaming mode.")
        if not self.media and any(turn.media() for turn in request.turns):
            raise invalid("This model doesn't support this kind of content.")
        if not self.output_schema and request.output_schema is not None:
            raise invalid("This model doesn't support structured output.")
        if request.thinking not in {None, self.thinks}:
            raise invalid("This model does not think in this way.")
        if request.mid_system and not self.mid_system:
            raise invalid("Instructions must stand before the conversation.")
        if count_input(request) > self.context_tokens:
            raise invalid("Input is too long for requested model.")
        self._check_thoughts(request)

    def _check_thoughts(self, request: ConverseRequest) -> None:
        """Demand back, unchanged, what was thought before a tool was called."""
        for turn in request.turns:
            for block in turn.blocks:
                if "reasoningContent" in block and not is_own_thought(block):
                    raise invalid("Invalid `signature` in `thinking` block")
            starts = turn.blocks and "reasoningContent" in turn.blocks[0]
            if request.thinking == "thinking" and turn.ids("toolUse") and not starts:
                raise invalid("Expected `thinking`, but found `tool_use`.")
        if request.thinking == "thinking" and request.forced_tool is not None:
            raise invalid("Thinking may not be enabled when tool_choice forces tool use.")


def signature_of(text: str) -> str:
    """Sign a thought, so that it is known again; nobody is kept from doing the same."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def is_own_thought(block: Object) -> bool:
    """Whether a reasoning block is one of ours, unchanged."""
    told = cast("Object", cast("Object", block["reasoningContent"]).get("reasoningText") or {})
    return told.get("signature") == signature_of(str(told.get("text")))


SCRIPTED_ID: Final = "latensgate.scripted-v1:0"
LOCAL_ID: Final = "latensgate.smollm2-135m-v1:0"
CATALOGUE: Final = {
    SCRIPTED_ID: ModelCard(engine="scripted"),
    LOCAL_ID: ModelCard(engine="local", context_tokens=8_192),
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0": ModelCard(thinks="thinking"),
    "us.anthropic.claude-sonnet-5-5": ModelCard(
        sampling=False, forced_tools=False, thinks="effort", mid_system=True
    ),
    "us.amazon.nova-2-lite-v1:0": ModelCard(output_schema=False, thinks="nova"),
    "us.meta.llama4-maverick-17b-instruct-v1:0": ModelCard(
        stream_tools=False, forced_tools=False, output_schema=False
    ),
    "openai.gpt-oss-120b-1:0": ModelCard(media=False, output_schema=False),
}
"""Real ids with the differences that a gateway has to know, and one id for each engine."""

_TOKEN: Final = re.compile(r"\s?\w{1,6}|\s?[^\w\s]|\s")
_TURN_TOKENS: Final = 4
_ARGUMENT_MAX_CHARS: Final = 200
_SCHEMA_MAX_DEPTH: Final = 12


def split_tokens(text: str) -> list[str]:
    """Split text into what ``scripted`` counts as tokens; joined they are the text again.

    A token is up to six letters or digits or one other character, each with at most one blank
    before it, or a blank that is left over.
    """
    return _TOKEN.findall(text)


def count_input(request: ConverseRequest) -> int:
    """Count the input of ``scripted``: tokens of all texts, tool calls and tools, four a turn."""
    texts = list(request.system)
    for turn in request.turns:
        texts += turn.texts()
        texts += [json.dumps(block["toolUse"]) for block in turn.blocks if "toolUse" in block]
    texts += [f"{tool.name} {tool.description} {json.dumps(tool.schema)}" for tool in request.tools]
    return sum(len(split_tokens(text)) for text in texts) + _TURN_TOKENS * len(request.turns)


class ScriptedModel:
    """Answers out of the request alone: the same request gets the same answer.

    * it was asked to think: a thought, signed, before anything else
    * the last turn holds tool results: ``Tool result: `` and their text
    * a tool is forced, or one fits the last text: a call with arguments of its schema; all that
      fit, where several may be called
    * an output schema is given, or the instructions ask for a JSON object: an object of the schema
    * otherwise: ``You said: `` and the last text, and what images and documents came with it
    """

    blocking = False

    def run(self, request: ConverseRequest, cancelled: threading.Event) -> Iterator[Event]:
        """Yield the answer token by token."""
        input_tokens = count_input(request)
        output = 0
        if request.thinking is not None:
            text = f"The last turn has {len(_last_text(request))} characters."
            yield Thought(text, signature_of(text))
            output = len(split_tokens(text))
        tools = _wanted_tools(request)
        for number, tool in enumerate(tools):
            arguments = cast("Object", sample(tool.schema, _last_text(request)))
            yield ToolCall(_tool_use_id(request, number), tool.name, arguments)
            output += len(split_tokens(json.dumps(arguments)))
        if tools:
            yield Stop("tool_use", input_tokens, output)
            return
        pieces, reason = _limit(_reply(request), request)
        for piece in pieces:
            if cancelled.is_set():
                return
            yield TextPiece(piece)
        yield Stop(reason, input_tokens, output + len(pieces))


def _last_text(request: ConverseRequest) -> str:
    return "\n".join(request.turns[-1].texts())


def _reply(request: ConverseRequest) -> str:
    text = _last_text(request)
    if request.turns[-1].ids("toolResult"):
        return f"Tool result: {text}"
    schema = request.output_schema or _told_schema(request.system)
    if schema is not None:
        return json.dumps(sample(schema, text))
    media = "".join(f" [{each}]" for each in request.turns[-1].media())
    return f"You said: {text}{media}" if text or media else "You sent no text."


def _told_schema(instructions: Sequence[str]) -> Object | None:
    """Return the schema that instructions hold, as a model reads it out of them."""
    for text in instructions:
        if "JSON object" not in text:
            continue
        try:
            return cast("Object", json.loads(text[text.index("{") : text.rindex("}") + 1]))
        except ValueError:
            return {"type": "object", "properties": {"answer": {"type": "string"}}}
    return None


def _limit(text: str, request: ConverseRequest) -> tuple[list[str], str]:
    reason = "end_turn"
    places = [text.find(stop) for stop in request.stop_sequences]
    found = [place for place in places if place >= 0]
    if found:
        text, reason = text[: min(found)], "stop_sequence"
    pieces = split_tokens(text)
    if request.max_tokens is not None and len(pieces) > request.max_tokens:
        return pieces[: request.max_tokens], "max_tokens"
    return pieces, reason


def _wanted_tools(request: ConverseRequest) -> list[Tool]:
    if request.forced_tool == "*":
        return [request.tools[0]]
    if request.forced_tool is not None:
        return [tool for tool in request.tools if tool.name == request.forced_tool]
    if request.turns[-1].ids("toolResult"):
        return []
    fitting = [tool for tool in request.tools if _fits(tool, _last_text(request))]
    return fitting[:1] if request.single_call else fitting


def _words(text: str) -> set[str]:
    return set(re.findall("[a-z]{4,}", text.casefold().replace("_", " "))) - _COMMON_WORDS


def _fits(tool: Tool, text: str) -> bool:
    """A tool fits if the text holds all words of its name, or one that says what it is for."""
    named = [word for word in re.split(r"[_-]+", tool.name.casefold()) if word]
    if named and all(word in text.casefold() for word in named):
        return True
    return bool(_words(text) & _words(f"{tool.name} {tool.description}"))


_COMMON_WORDS: Final = frozenset(
    re.findall(
        "[a-z]+",
        """about also current does find from function gets give given have into like look make more
        need please result should tell that their them then there this tool used user value want
        what when where which will with would your""",
    )
)
"""They say nothing of what a tool is for."""


def _tool_use_id(request: ConverseRequest, number: int) -> str:
    written = json.dumps([request.raw, number], sort_keys=True)
    return f"tooluse_{hashlib.sha256(written.encode()).hexdigest()[:22]}"


def sample(schema: Object, text: str, *, root: Object | None = None, depth: int = 0) -> JSON:
    """Make a value of a JSON schema: first choices, smallest sizes, ``text`` wherever text fits.

    Raises:
        AWSError: A schema that is nested or refers too deep.
    """
    if depth > _SCHEMA_MAX_DEPTH:
        raise invalid("The JSON schema is nested too deep.")
    root = schema if root is None else root
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            first = cast("list[Object]", schema[key])[0]
            return sample(first, text, root=root, depth=depth + 1)
    if "$ref" in schema:
        target = _referred(root, str(schema["$ref"]))
        return sample(target, text, root=root, depth=depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return cast("list[JSON]", schema["enum"])[0]
    return _of_type(schema, text, root, depth)


def _of_type(schema: Object, text: str, root: Object, depth: int) -> JSON:
    kind = schema.get("type", "object")
    first_kind = kind[0] if isinstance(kind, list) else kind
    if first_kind == "object":
        properties = cast("dict[str, Object]", schema.get("properties") or {})
        return {
            name: sample(part, text, root=root, depth=depth + 1)
            for name, part in properties.items()
        }
    if first_kind == "array":
        items = cast("Object", schema.get("items") or {"type": "string"})
        count = max(1, int(cast("int", schema.get("minItems", 1))))
        return [sample(items, text, root=root, depth=depth + 1)] * count
    return _scalar(str(first_kind), schema, text)


def _scalar(kind: str, schema: Object, text: str) -> JSON:
    if kind in {"integer", "number"}:
        return cast("int", schema.get("minimum", 1))
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    longest = min(_ARGUMENT_MAX_CHARS, int(cast("int", schema.get("maxLength", 200))))
    shortest = int(cast("int", schema.get("minLength", 0)))
    return text[:longest].ljust(shortest, "x")


def _referred(root: Object, reference: str) -> Object:
    value: JSON = root
    for part in reference.removeprefix("#/").split("/"):
        if not isinstance(value, dict) or part not in value:
            raise invalid(f"The JSON schema refers to {reference}, which it does not hold.")
        value = value[part]
    return cast("Object", value)


def joined(events: Sequence[Event]) -> str:
    """Return the text of an answer."""
    return "".join(event.text for event in events if isinstance(event, TextPiece))
