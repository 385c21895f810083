"""Chat completions as an operation of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import msgspec

from latensgate_enclave.aws.converse import build_converse_body, offered_tools
from latensgate_enclave.aws.converse_answer import ConverseReader
from latensgate_enclave.chat import ChatRequest, UnsupportedError, parse_chat_request
from latensgate_enclave.chat_answer import ChatAnswer, ChunkRenderer, render_completion
from latensgate_enclave.chat_texts import request_parts, tool_names, with_request_texts
from latensgate_enclave.operation import Forwarding, of_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.chat_answer import CompletionHead
    from latensgate_enclave.measured import ModelRoute
    from latensgate_enclave.model_traits import ModelTraits
    from latensgate_enclave.operation import ModelAnswer, ModelRequest
    from latensgate_enclave.pii import TextPart
    from latensgate_shared.strict_json import JSONObject


@dataclass(frozen=True, slots=True)
class ChatModelRequest:
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

    def with_texts(self, texts: Sequence[str]) -> Self | None:
        """Return the request with its texts replaced; None where a masked name calls no tool."""
        masked = with_request_texts(self.chat, texts)
        return type(self)(masked) if tool_names(masked) == tool_names(self.chat) else None

    def translate(self, route: ModelRoute, traits: ModelTraits) -> tuple[Forwarding, ...]:
        """Return the model calls that answer it.

        Raises:
            UnsupportedError: The model cannot honour a field; ``param`` names it.
        """
        if traits.embeds:
            raise UnsupportedError("this model makes embeddings alone", param="model")
        body = build_converse_body(self.chat, traits)
        return (Forwarding(route, body, ConverseReader(offered_tools(self.chat))),)


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
        of_kind(request, ChatModelRequest)
        (answer,) = [of_kind(each, ChatAnswer) for each in answers]
        return msgspec.json.encode(render_completion(answer, head))

    def stream_renderer(self, head: CompletionHead, request: ModelRequest) -> ChunkRenderer:
        """Return what writes the ``chat.completion.chunk`` objects."""
        chat = of_kind(request, ChatModelRequest).chat
        return ChunkRenderer(head, include_usage=chat.include_usage)
