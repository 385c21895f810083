"""Embeddings as an operation of the pipeline: as many calls of InvokeModel as the model needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Self

from latensgate_enclave.aws.invoke import (
    CallAnswer,
    CallReader,
    family_of,
    invoke_bodies,
    joined_answer,
)
from latensgate_enclave.embeddings import (
    EmbeddingsRequest,
    parse_embeddings_request,
    render_embeddings,
)
from latensgate_enclave.operation import Forwarding, of_kind
from latensgate_shared.limits import CHUNK_FRAMED_MAX_BYTES, SEALED_ANSWER_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.chat_answer import CompletionHead
    from latensgate_enclave.measured import ModelRoute
    from latensgate_enclave.model_traits import ModelTraits
    from latensgate_enclave.operation import ModelAnswer, ModelRequest
    from latensgate_enclave.pii import TextPart
    from latensgate_shared.strict_json import JSONObject

_ANSWER_MAX_BYTES = SEALED_ANSWER_MAX_BYTES * 8 // 9 - 2 * CHUNK_FRAMED_MAX_BYTES
"""Padding adds an eighth at most for answers of this size, framing and the final chunk the rest."""


@dataclass(frozen=True, slots=True)
class EmbeddingsModelRequest:
    """A checked embeddings request on its way through the pipeline.

    Attributes:
        inner: The request.
    """

    inner: EmbeddingsRequest

    @property
    def model(self) -> str:
        """The caller's name for a model."""
        return self.inner.model

    @property
    def stream(self) -> bool:
        """Whether the answer comes in pieces: never."""
        return False

    @property
    def dropped(self) -> tuple[str, ...]:
        """Names of fields that are not forwarded, sorted."""
        return self.inner.dropped

    def parts(self) -> list[TextPart]:
        """Return every text that the request would forward."""
        return self.inner.parts()

    def attachments(self) -> int:
        """Count what goes on that no scan can look into: nothing."""
        return 0

    def with_texts(self, texts: Sequence[str]) -> Self | None:
        """Return the request with its texts replaced."""
        return type(self)(self.inner.with_texts(texts))

    def translate(self, route: ModelRoute, traits: ModelTraits) -> tuple[Forwarding, ...]:
        """Return the model calls that answer it.

        Raises:
            UnsupportedError: No such vectors from this model.
            TooLargeError: The answer would be longer than an answer may be.
        """
        family = family_of(traits.able, route)
        reader = CallReader(family)
        return tuple(
            Forwarding(route, body, reader, "invoke", whole=True)
            for body in invoke_bodies(self.inner, family, _ANSWER_MAX_BYTES)
        )


@dataclass(frozen=True, slots=True)
class EmbeddingsOperation:
    """``embeddings``.

    Attributes:
        id_prefix: Embeddings have no id.
    """

    id_prefix: str = ""

    def parse(self, body: JSONObject) -> EmbeddingsModelRequest:
        """Check a body; raises as `parse_embeddings_request`."""
        return EmbeddingsModelRequest(parse_embeddings_request(body))

    def render(
        self,
        head: CompletionHead,  # noqa: ARG002 -- an embeddings answer says neither id nor time
        request: ModelRequest,
        answers: Sequence[ModelAnswer],
    ) -> bytes:
        """Return the ``list`` object as JSON."""
        inner = of_kind(request, EmbeddingsModelRequest).inner
        calls = [of_kind(each, CallAnswer) for each in answers]
        return render_embeddings(joined_answer(inner, calls), inner)

    def stream_renderer(
        self,
        head: CompletionHead,  # noqa: ARG002 -- never asked for
        request: ModelRequest,  # noqa: ARG002 -- never asked for
    ) -> NoReturn:
        """Embeddings do not stream: their request has no ``stream``.

        Raises:
            TypeError: Always.
        """
        raise TypeError("embeddings do not stream")
