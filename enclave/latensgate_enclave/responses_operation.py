"""Responses as an operation of the pipeline: chat completions in other words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from latensgate_enclave.chat import RequestInvalidError
from latensgate_enclave.chat_answer import ChatAnswer
from latensgate_enclave.chat_operation import ChatModelRequest
from latensgate_enclave.operation import of_kind
from latensgate_enclave.responses import in_own_words, parse_responses_request
from latensgate_enclave.responses_answer import ID_PREFIX, render_response
from latensgate_enclave.responses_stream import EventRenderer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.chat_answer import CompletionHead
    from latensgate_enclave.measured import ModelRoute
    from latensgate_enclave.model_traits import ModelTraits
    from latensgate_enclave.operation import Forwarding, ModelAnswer, ModelRequest
    from latensgate_enclave.pii import TextPart
    from latensgate_enclave.responses import Asked
    from latensgate_shared.strict_json import JSONObject


@dataclass(frozen=True, slots=True)
class ResponsesModelRequest:
    """A checked Responses request on its way through the pipeline.

    Attributes:
        inner: The same as a chat completions request.
        asked: What the answer repeats.
        origins: For each message of it, the item that it came from.
        dropped: Names of fields that are not forwarded, sorted.
    """

    inner: ChatModelRequest
    asked: Asked
    origins: tuple[int | None, ...]
    dropped: tuple[str, ...]

    @property
    def model(self) -> str:
        """The caller's name for a model."""
        return self.inner.model

    @property
    def stream(self) -> bool:
        """Whether the answer comes in pieces."""
        return self.inner.stream

    def parts(self) -> list[TextPart]:
        """Return every text that the request would forward."""
        return self.inner.parts()

    def attachments(self) -> int:
        """Count what goes on that no scan can look into."""
        return self.inner.attachments()

    def with_texts(self, texts: Sequence[str]) -> Self | None:
        """Return the request with its texts replaced; None where a masked name calls no tool."""
        masked = self.inner.with_texts(texts)
        if masked is None:
            return None
        return type(self)(masked, self.asked, self.origins, self.dropped)

    def translate(self, route: ModelRoute, traits: ModelTraits) -> tuple[Forwarding, ...]:
        """Return the model calls that answer it.

        Raises:
            RequestInvalidError: The model cannot honour a field; ``param`` names it.
        """
        try:
            return self.inner.translate(route, traits)
        except RequestInvalidError as error:
            raise in_own_words(error, self.origins) from None


@dataclass(frozen=True, slots=True)
class ResponsesOperation:
    """``responses``.

    Attributes:
        id_prefix: Of the ids of its answers.
    """

    id_prefix: str = ID_PREFIX

    def parse(self, body: JSONObject) -> ResponsesModelRequest:
        """Check a body; raises as `parse_responses_request`."""
        parsed = parse_responses_request(body)
        inner = ChatModelRequest(parsed.chat)
        return ResponsesModelRequest(inner, parsed.asked, parsed.origins, parsed.dropped)

    def render(
        self, head: CompletionHead, request: ModelRequest, answers: Sequence[ModelAnswer]
    ) -> bytes:
        """Return the ``response`` object as JSON."""
        asked = of_kind(request, ResponsesModelRequest).asked
        (answer,) = [of_kind(each, ChatAnswer) for each in answers]
        return render_response(answer, head, asked)

    def stream_renderer(self, head: CompletionHead, request: ModelRequest) -> EventRenderer:
        """Return what writes the events."""
        return EventRenderer(head, of_kind(request, ResponsesModelRequest).asked)
