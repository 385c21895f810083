"""Bedrock InvokeModel for embedding models: what each family is asked, and what it answers.

Forms: Bedrock user guide, "Inference request parameters", pages Amazon Titan Text Embeddings V2,
Cohere Embed v3 and v4, Amazon Nova Multimodal Embeddings. None of them cuts a text that is too
long in silence: it is told not to.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, Protocol, Self, TypeAlias

import msgspec
from msgspec import Meta

from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.chat import UnsupportedError
from latensgate_enclave.chat_answer import Usage
from latensgate_enclave.embeddings import EmbeddingsAnswer
from latensgate_shared.errors import TooLargeError
from latensgate_shared.limits import (
    EMBEDDING_DIMENSIONS_MAX_COUNT,
    EMBEDDINGS_INPUTS_MAX_COUNT,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.embeddings import EmbeddingsRequest
    from latensgate_enclave.http1 import HttpResponse
    from latensgate_enclave.measured_upstreams import ModelRoute
    from latensgate_enclave.pii import TextPart
    from latensgate_shared.strict_json import JSONObject

_TOKENS_HEADER: Final = "x-amzn-bedrock-input-token-count"
_TOKENS: Final = re.compile("[0-9]{1,9}")
_FLOAT_JSON_MAX_BYTES: Final = 24
"""Of one number of a vector, as JSON writes 64-bit floats, with its comma."""
_FLOAT_BASE64_BYTES: Final = 6
_Float32: TypeAlias = Annotated[float, Meta(ge=-3.4028234e38, le=3.4028234e38)]
_Vector: TypeAlias = Annotated[
    list[_Float32], Meta(min_length=1, max_length=EMBEDDING_DIMENSIONS_MAX_COUNT)
]


_Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""Sums of them stand in receipts and totals, which hold integers below 2**53."""


class _Titan(msgspec.Struct):
    embedding: _Vector
    inputTextTokenCount: _Count = 0  # noqa: N815 -- AWS's name


class _ByType(msgspec.Struct):
    float: list[_Vector]


class _Cohere(msgspec.Struct):
    embeddings: list[_Vector] | _ByType


class _NovaEmbedding(msgspec.Struct):
    embedding: _Vector


class _Nova(msgspec.Struct):
    embeddings: Annotated[list[_NovaEmbedding], Meta(min_length=1, max_length=1)]


class _OpenAIEmbedding(msgspec.Struct):
    index: int
    embedding: _Vector


class _OpenAIUsage(msgspec.Struct, frozen=True):
    prompt_tokens: _Count = 0


class _OpenAI(msgspec.Struct):
    data: list[_OpenAIEmbedding]
    usage: _OpenAIUsage = _OpenAIUsage()


@dataclass(frozen=True, slots=True)
class Vectors:
    """What one call gave."""

    vectors: list[list[float]]
    tokens: int


class Family(Protocol):
    """How one family of models is asked."""

    @property
    def texts_max_count(self) -> int:
        """Texts of one call."""
        ...

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Lengths of vectors that it can give; the first is what it gives unasked."""
        ...

    @property
    def cuts(self) -> bool:
        """Whether the first numbers of its vectors are vectors, too."""
        ...

    def body(self, texts: Sequence[str], dimensions: int | None) -> JSONObject:
        """Return the body of InvokeModel."""
        ...

    def vectors(self, body: bytes) -> Vectors:
        """Read an answer.

        Raises:
            msgspec.DecodeError: It is not of this family's form.
        """
        ...


class TitanV2:
    """``amazon.titan-embed-text-v2:0``."""

    texts_max_count = 1
    dimensions = (1024, 512, 256)
    cuts = True

    def body(self, texts: Sequence[str], dimensions: int | None) -> JSONObject:
        """Return the body of InvokeModel."""
        asked: JSONObject = {"inputText": texts[0], "normalize": True}
        return asked if dimensions is None else asked | {"dimensions": dimensions}

    def vectors(self, body: bytes) -> Vectors:
        """Read an answer."""
        answer = msgspec.json.decode(body, type=_Titan)
        return Vectors([answer.embedding], answer.inputTextTokenCount)


class CohereV3:
    """``cohere.embed-english-v3`` and ``cohere.embed-multilingual-v3``."""

    texts_max_count = 96
    dimensions: tuple[int, ...] = (1024,)
    cuts = False

    def body(self, texts: Sequence[str], dimensions: int | None) -> JSONObject:  # noqa: ARG002 -- it has one length alone
        """Return the body of InvokeModel."""
        return {
            "texts": list(texts),
            "input_type": "search_document",
            "truncate": "NONE",
            "embedding_types": ["float"],
        }

    def vectors(self, body: bytes) -> Vectors:
        """Read an answer; its form depends on whether types were asked for."""
        found = msgspec.json.decode(body, type=_Cohere).embeddings
        return Vectors(found.float if isinstance(found, _ByType) else found, 0)


class CohereV4(CohereV3):
    """``cohere.embed-v4:0``."""

    dimensions = (1536, 1024, 512, 256)
    cuts = True

    def body(self, texts: Sequence[str], dimensions: int | None) -> JSONObject:
        """Return the body of InvokeModel."""
        asked = super().body(texts, None)
        return asked if dimensions is None else asked | {"output_dimension": dimensions}


class Nova2:
    """``amazon.nova-2-multimodal-embeddings-v1:0``, of texts."""

    texts_max_count = 1
    dimensions = (3072, 1024, 384, 256)
    cuts = True

    def body(self, texts: Sequence[str], dimensions: int | None) -> JSONObject:
        """Return the body of InvokeModel."""
        text: JSONObject = {"truncationMode": "NONE", "value": texts[0]}
        asked: JSONObject = {"embeddingPurpose": "GENERIC_INDEX", "text": text}
        if dimensions is not None:
            asked["embeddingDimension"] = dimensions
        return {
            "schemaVersion": "nova-multimodal-embed-v1",
            "taskType": "SINGLE_EMBEDDING",
            "singleEmbeddingParams": asked,
        }

    def vectors(self, body: bytes) -> Vectors:
        """Read an answer."""
        answer = msgspec.json.decode(body, type=_Nova)
        return Vectors([each.embedding for each in answer.embeddings], 0)


@dataclass(frozen=True, slots=True)
class OpenAIFamily:
    """Any model behind an upstream of kind ``openai``: its server knows what it can.

    Attributes:
        model_id: What the server calls it.
        texts_max_count: Texts of one call.
        dimensions: Not known here.
        cuts: Left to the server.
    """

    model_id: str
    texts_max_count: int = EMBEDDINGS_INPUTS_MAX_COUNT
    dimensions: tuple[int, ...] = ()
    cuts: bool = False

    def body(self, texts: Sequence[str], dimensions: int | None) -> JSONObject:
        """Return the body of ``POST /embeddings``."""
        asked: JSONObject = {"model": self.model_id, "input": [*texts], "encoding_format": "float"}
        return asked if dimensions is None else asked | {"dimensions": dimensions}

    def vectors(self, body: bytes) -> Vectors:
        """Read an answer; its entries may come in any order, each text's once."""
        answer = msgspec.json.decode(body, type=_OpenAI)
        entries = sorted(answer.data, key=lambda each: each.index)
        if [each.index for each in entries] != list(range(len(entries))):
            raise msgspec.ValidationError("indices from 0 on, each once, expected")
        return Vectors([each.embedding for each in entries], answer.usage.prompt_tokens)


FAMILIES: Final[dict[str, Family]] = {
    "embed_titan_v2": TitanV2(),
    "embed_cohere_v3": CohereV3(),
    "embed_cohere_v4": CohereV4(),
    "embed_nova_2": Nova2(),
}
"""Words of the capability table: the row of an embedding model has exactly one."""
_OPENAI_WORD: Final = "embed_openai"


def family_of(able: frozenset[str], route: ModelRoute) -> Family:
    """Return the family that a capability row names.

    Raises:
        UnsupportedError: The model makes no embeddings, or not behind this kind of upstream.
    """
    if not route.is_bedrock and _OPENAI_WORD in able:
        return OpenAIFamily(route.model_id)
    for word in able & FAMILIES.keys():
        if route.is_bedrock:
            return FAMILIES[word]
    raise UnsupportedError("this model makes no embeddings", param="model")


def asked_dimensions(request: EmbeddingsRequest, family: Family) -> int | None:
    """Return the length of vectors to ask the model for; they are cut to what the caller wants.

    Models whose vectors may be cut are trained for it (their cards say Matryoshka): the first
    numbers of a vector are a shorter one of the same text.

    Raises:
        UnsupportedError: The model cannot give vectors of this length.
    """
    wanted, known = request.dimensions, family.dimensions
    if wanted is None or not known or wanted in known:
        return wanted
    longer = [each for each in known if each > wanted]
    if not family.cuts or not longer:
        raise UnsupportedError("this model gives no vectors of this length", param="dimensions")
    return min(longer)


def invoke_bodies(request: EmbeddingsRequest, family: Family, answer_max_bytes: int) -> list[bytes]:
    """Return the bodies of all calls, each with as many texts as the model takes.

    Args:
        request: What is asked.
        family: Of the model.
        answer_max_bytes: What an answer may have; known to be too long, it is not asked for.

    Raises:
        UnsupportedError: The model cannot give vectors of this length.
        TooLargeError: The answer would be longer than an answer may be.
    """
    asked = asked_dimensions(request, family)
    each = _FLOAT_BASE64_BYTES if request.encoding == "base64" else _FLOAT_JSON_MAX_BYTES
    length = request.dimensions or max(family.dimensions, default=1)
    if len(request.texts) * length * each > answer_max_bytes:
        raise TooLargeError("embeddings: fewer texts, fewer dimensions or base64 expected")
    step = family.texts_max_count
    return [
        msgspec.json.encode(family.body(request.texts[place : place + step], asked))
        for place in range(0, len(request.texts), step)
    ]


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """What one call gave; no text of anybody is in it.

    Attributes:
        vectors: In the order of the call's texts; never in ``repr``: they tell much of their texts.
        usage: What it cost.
        size_bytes: Of its JSON.
    """

    vectors: list[list[float]] = field(repr=False)
    usage: Usage
    size_bytes: int

    def parts(self) -> list[TextPart]:
        """Return every text that the answer would return: none."""
        return []

    def with_texts(self, texts: Sequence[str]) -> Self:  # noqa: ARG002 -- there are none
        """Return the answer as it is."""
        return self


@dataclass(frozen=True, slots=True)
class CallReader:
    """Reads the answers of InvokeModel to the calls of one request.

    Attributes:
        family: Of the model.
    """

    family: Family

    def whole(self, response: HttpResponse) -> CallAnswer:
        """Read an answer with status 200.

        Raises:
            UpstreamError: It is not of the family's form.
        """
        try:
            found = self.family.vectors(response.body)
        except (msgspec.DecodeError, RecursionError):
            raise UpstreamError("model: the embeddings are not of the form expected") from None
        counted = _TOKENS.fullmatch(response.headers.get(_TOKENS_HEADER, ""))
        tokens = found.tokens or (int(counted[0]) if counted else 0)
        return CallAnswer(found.vectors, Usage(tokens, 0), len(response.body))

    def stream(self) -> NoReturn:
        """Embeddings do not stream.

        Raises:
            TypeError: Always.
        """
        raise TypeError("embeddings do not stream")


def joined_answer(request: EmbeddingsRequest, calls: Sequence[CallAnswer]) -> EmbeddingsAnswer:
    """Put the vectors of all calls together.

    Raises:
        UpstreamError: Not one vector for each text, all of one length, none shorter than asked for.
    """
    vectors = [vector for call in calls for vector in call.vectors]
    lengths = {len(vector) for vector in vectors}
    wanted = request.dimensions
    if len(vectors) != len(request.texts) or len(lengths) != 1 or max(lengths) < (wanted or 1):
        raise UpstreamError("model: not one embedding of the length asked for to each text")
    if wanted is not None and lengths != {wanted}:
        vectors = [_cut(vector, wanted) for vector in vectors]
    return EmbeddingsAnswer(vectors, sum(call.usage.prompt_tokens for call in calls))


def _cut(vector: Sequence[float], dimensions: int) -> list[float]:
    """Return the beginning of a vector, of length 1 again."""
    kept = vector[:dimensions]
    length = math.hypot(*kept) or 1.0
    return [number / length for number in kept]
