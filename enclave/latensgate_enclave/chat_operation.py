"""Chat completions as an operation of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import msgspec

from latensgate_enclave.aws.converse import (
    answer_tool,
    build_converse_body,
    dropped_by_model,
    late_stops,
    offered_tools,
    structured_by,
    uses_tools,
)
from latensgate_enclave.aws.converse_answer import ConverseReader
from latensgate_enclave.chat import ChatRequest, UnsupportedError, parse_chat_request
from latensgate_enclave.chat_answer import ChatAnswer
from latensgate_enclave.chat_native import fixed_native, unscannable
from latensgate_enclave.chat_render import ChunkRenderer, render_completion
from latensgate_enclave.chat_shape import Shape
from latensgate_enclave.chat_texts import request_parts, tool_names, with_request_texts
from latensgate_enclave.openai_upstream_answer import OpenAIReader
from latensgate_enclave.openai_upstream_request import build_openai_body, dropped_by_upstream
from latensgate_enclave.operation import Forwarding, of_kind
from latensgate_enclave.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.chat_answer import CompletionHead
    from latensgate_enclave.measured import ModelRoute
    from latensgate_enclave.model_traits import ModelTraits
    from latensgate_enclave.operation import ModelAnswer, ModelRequest
    from latensgate_enclave.pii import TextPart
    from latensgate_shared.strict_json import JSONObject


class ChatModelRequest(Value, frozen=True):
    """A checked chat request on its way through the pipeline.

    Attributes:
        chat: The request.
    """

    chat: ChatRequest

    @property
    def model(self) -> str:
        """The caller's name for a model."""
        return self.chat.model

    @property
    def stream(self) -> bool:
        """Whether the answer comes in pieces."""
        return self.chat.stream

    @property
    def dropped(self) -> tuple[str, ...]:
        """Names of fields that are not forwarded, sorted."""
        return self.chat.dropped

    def parts(self) -> list[TextPart]:
        """Return every text that the request would forward."""
        return request_parts(self.chat)

    def attachments(self) -> int:
        """Count what goes on that no scan can look into."""
        return sum(self.chat.attachments().values())

    def with_texts(self, texts: Sequence[str]) -> Self | None:
        """Return the request with its texts replaced; None where a masked name calls no tool."""
        masked = with_request_texts(self.chat, texts)
        is_same = _names(masked) == _names(self.chat)
        return type(self)(masked) if is_same else None

    def translate(self, route: ModelRoute, traits: ModelTraits) -> tuple[Forwarding, ...]:
        """Return the model calls that answer it.

        Raises:
            UnsupportedError: The model cannot honour a field; ``param`` names it.
        """
        if not route.is_bedrock:
            return (_openai(self.chat, route, traits),) * self.chat.n
        if traits.embeds:
            raise UnsupportedError("this model makes embeddings alone", param="model")
        return (_converse(self.chat, route, traits),) * self.chat.n


def _names(chat: ChatRequest) -> tuple[object, ...]:
    """Return what names something: masked, it would name nothing."""
    return tool_names(chat), fixed_native(chat.native)


def _openai(chat: ChatRequest, route: ModelRoute, traits: ModelTraits) -> Forwarding:
    body = build_openai_body(chat, route.model_id, traits)
    offered = frozenset(tool.name for tool in chat.tools)
    asked = frozenset(unscannable(chat.native))
    return Forwarding(
        route,
        body,
        OpenAIReader(offered, len(body), asked),
        dropped=dropped_by_upstream(chat, traits),
        unscannable=tuple(sorted(asked)),
    )


def _converse(chat: ChatRequest, route: ModelRoute, traits: ModelTraits) -> Forwarding:
    structured = structured_by(chat, traits)
    shape = Shape(
        answer_tool=answer_tool(chat) if structured == "tool" else None,
        single_call=not chat.parallel_tool_calls,
        check_json=structured == "told",
        stops=late_stops(chat),
    )
    return Forwarding(
        route,
        build_converse_body(chat, traits),
        ConverseReader(offered_tools(chat), shape),
        whole=chat.stream and not traits.can("tools_streaming") and _sends_tools(chat, structured),
        dropped=dropped_by_model(chat, traits, structured),
    )


def _sends_tools(chat: ChatRequest, structured: str | None) -> bool:
    return uses_tools(chat) or structured == "tool"


@dataclass(frozen=True, slots=True)
class ChatOperation:
    """``chat.completions``.

    Attributes:
        id_prefix: Of the ids of its answers.
    """

    id_prefix: str = "chatcmpl-"

    def parse(self, body: JSONObject) -> ChatModelRequest:
        """Check a body; raises as `parse_chat_request`."""
        return ChatModelRequest(parse_chat_request(body))

    def render(
        self, head: CompletionHead, request: ModelRequest, answers: Sequence[ModelAnswer]
    ) -> bytes:
        """Return the ``chat.completion`` object as JSON."""
        chat = of_kind(request, ChatModelRequest).chat
        choices = [of_kind(each, ChatAnswer) for each in answers]
        return msgspec.json.encode(render_completion(choices, head, chat))

    def stream_renderer(self, head: CompletionHead, request: ModelRequest) -> ChunkRenderer:
        """Return what writes the ``chat.completion.chunk`` objects."""
        chat = of_kind(request, ChatModelRequest).chat
        return ChunkRenderer(head, chat)
