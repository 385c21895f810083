"""An OpenAI embeddings request as a value, and its answer.

Texts only. Token ids are refused: they are the vocabulary of OpenAI's models, nobody here could
scan them for personal data, and no model of Bedrock takes them (docs/adr/0035).

Wire reference: OpenAI's OpenAPI document, schemas ``CreateEmbeddingRequest`` and
``CreateEmbeddingResponse``.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from latensgate_enclave.chat import RequestInvalidError, UnsupportedError
from latensgate_enclave.openai_wire import converted
from latensgate_enclave.pii import Direction, TextPart
from latensgate_shared.limits import (
    EMBEDDING_DIMENSIONS_MAX_COUNT,
    EMBEDDINGS_INPUTS_MAX_COUNT,
    NAME_MAX_CHARS,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

    from latensgate_shared.strict_json import JSONObject

Encoding: TypeAlias = Literal["float", "base64"]


class EmbeddingsWire(Struct, forbid_unknown_fields=True):
    """The body, as far as we admit it."""

    model: Annotated[str, Meta(min_length=1, max_length=NAME_MAX_CHARS)]
    input: (
        str | Annotated[list[str | int | list[int]], Meta(max_length=EMBEDDINGS_INPUTS_MAX_COUNT)]
    )
    dimensions: Annotated[int, Meta(ge=1, le=EMBEDDING_DIMENSIONS_MAX_COUNT)] | None = None
    encoding_format: Encoding = "float"
    user: str | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """A checked request.

    Attributes:
        model: The caller's name for a model.
        texts: At least one, none blank; never in ``repr``.
        dimensions: Numbers of a vector; None: as many as the model gives.
        encoding: How vectors are written.
        dropped: Names of fields that are not forwarded.
        stream: Never.
    """

    model: str
    texts: tuple[str, ...] = field(repr=False)
    dimensions: int | None = None
    encoding: Encoding = "float"
    dropped: tuple[str, ...] = ()
    stream: bool = False

    def parts(self) -> list[TextPart]:
        """Return every text that would be forwarded."""
        return [TextPart(text, Direction.PROMPT) for text in self.texts]

    def with_texts(self, texts: Iterable[str]) -> Self:
        """Return the request with its texts replaced, in the order of `parts`."""
        return replace(self, texts=tuple(texts))


@dataclass(frozen=True, slots=True)
class EmbeddingsAnswer:
    """Vectors in the order of the texts; never in ``repr``: they tell much of their texts."""

    vectors: Sequence[Sequence[float]] = field(repr=False)
    prompt_tokens: int


def parse_embeddings_request(body: JSONObject) -> EmbeddingsRequest:
    """Check the body of an embeddings request.

    Raises:
        UnsupportedError: A field or value that cannot be honoured; ``param`` names it.
        RequestInvalidError: A value outside the contract; ``param`` names it.
    """
    wire = converted(body, EmbeddingsWire)
    return EmbeddingsRequest(
        model=wire.model,
        texts=_texts(wire.input),
        dimensions=wire.dimensions,
        encoding=wire.encoding_format,
        dropped=("user",) if wire.user is not None else (),
    )


def _texts(given: str | Sequence[str | int | list[int]]) -> tuple[str, ...]:
    texts = (given,) if isinstance(given, str) else tuple(given)
    found = tuple(text for text in texts if isinstance(text, str))
    if len(found) < len(texts):
        raise UnsupportedError("texts expected, not the ids of tokens", param="input")
    if not found:
        raise RequestInvalidError("at least one text expected", param="input")
    for index, text in enumerate(found):
        if not text.strip():
            place = "input" if isinstance(given, str) else f"input[{index}]"
            raise RequestInvalidError("a text says nothing", param=place)
    return found


def render_embeddings(answer: EmbeddingsAnswer, request: EmbeddingsRequest) -> bytes:
    """Return the ``list`` object of embeddings as JSON."""
    as_base64 = request.encoding == "base64"
    tokens = answer.prompt_tokens
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": _base64(vector) if as_base64 else vector,
                }
                for index, vector in enumerate(answer.vectors)
            ],
            "model": request.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _base64(vector: Sequence[float]) -> str:
    """Write 32-bit floats, little endian, as OpenAI's clients read them."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
