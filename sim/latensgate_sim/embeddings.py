"""Bedrock's InvokeModel for the embedding models: Titan v2, Cohere v3 and v4, Nova 2.

Vectors come from the text alone: each word points somewhere of its own, and a text points where its
words do together. So the same text gets the same vector, and texts that share words lie closer than
texts that do not: enough to build and test a search on. As in ``converse``, members that a model
does not know are refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from latensgate_sim.converse import Object, invalid
from latensgate_sim.errors import AWSError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from latensgate_sim.converse import JSON

TITAN_ID: Final = "amazon.titan-embed-text-v2:0"
COHERE_V3_ID: Final = "cohere.embed-multilingual-v3"
COHERE_V4_ID: Final = "cohere.embed-v4:0"
NOVA_ID: Final = "amazon.nova-2-multimodal-embeddings-v1:0"
_WORD: Final = re.compile(r"\w+|[^\w\s]")
_COHERE_TEXTS_MAX_COUNT: Final = 96
_TEXT_MAX_CHARS: Final = {TITAN_ID: 50_000, COHERE_V3_ID: 2_048, NOVA_ID: 8_192}


@dataclass(frozen=True, slots=True)
class Embedded:
    """An answer.

    Attributes:
        body: JSON of the model's family.
        input_tokens: Bedrock tells them in a header.
    """

    body: bytes
    input_tokens: int


def embed(text: str, dimensions: int) -> list[float]:
    """Return a vector of length 1."""
    total = [0.0] * dimensions
    for word in _WORD.findall(text.casefold()) or [text]:
        for index, number in enumerate(_direction(word, dimensions)):
            total[index] += number - 127.5
    length = math.sqrt(sum(number * number for number in total)) or 1.0
    return [number / length for number in total]


def _direction(word: str, dimensions: int) -> bytes:
    return hashlib.shake_128(word.encode("utf-8", "surrogatepass")).digest(dimensions)


def count_tokens(text: str) -> int:
    """Count words and marks."""
    return len(_WORD.findall(text))


def invoke(model_id: str, body: bytes) -> Embedded:
    """Answer InvokeModel.

    Raises:
        AWSError: ValidationException, also for models that make no embeddings.
    """
    answer = _ANSWERS.get(model_id.removeprefix("us.").removeprefix("global."))
    if answer is None:
        raise invalid("The provided model identifier is invalid.")
    try:
        return answer(cast("Object", json.loads(body)))
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise invalid(f"Malformed input request: {type(error).__name__} {error}") from error


def _titan(asked: Object) -> Embedded:
    _only(asked, {"inputText", "dimensions", "normalize", "embeddingTypes"})
    text = _text(asked["inputText"], TITAN_ID)
    dimensions = _dimensions(asked.get("dimensions"), 1024, {256, 512, 1024})
    vector, tokens = embed(text, dimensions), count_tokens(text)
    members = {"embedding": vector, "embeddingsByType": {"float": vector}}
    return _answer({**members, "inputTextTokenCount": tokens}, tokens)


def _cohere_v3(asked: Object) -> Embedded:
    return _cohere(asked, COHERE_V3_ID, 1024)


def _cohere_v4(asked: Object) -> Embedded:
    wanted = _dimensions(asked.pop("output_dimension", None), 1536, {256, 512, 1024, 1536})
    return _cohere(asked, COHERE_V4_ID, wanted)


def _cohere(asked: Object, model_id: str, dimensions: int) -> Embedded:
    _only(asked, {"texts", "input_type", "truncate", "embedding_types"})
    texts = [_text(text, model_id) for text in cast("list[JSON]", asked["texts"])]
    if not 0 < len(texts) <= _COHERE_TEXTS_MAX_COUNT:
        raise invalid(f"texts: 1 to {_COHERE_TEXTS_MAX_COUNT} expected")
    if asked["input_type"] not in {
        "search_document",
        "search_query",
        "classification",
        "clustering",
    }:
        raise invalid("input_type: not a valid enum value")
    vectors = [embed(text, dimensions) for text in texts]
    typed = "embedding_types" in asked
    if typed and asked["embedding_types"] != ["float"]:
        raise invalid("embedding_types: this simulator knows float alone")
    members = {
        "id": hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:32],
        "texts": texts,
        "response_type": "embeddings_by_type" if typed else "embeddings_floats",
        "embeddings": {"float": vectors} if typed else vectors,
    }
    return _answer(members, sum(count_tokens(text) for text in texts))


def _nova(asked: Object) -> Embedded:
    _only(asked, {"schemaVersion", "taskType", "singleEmbeddingParams"})
    versions = (asked.get("schemaVersion"), asked["taskType"])
    if versions != ("nova-multimodal-embed-v1", "SINGLE_EMBEDDING"):
        raise invalid("schemaVersion or taskType: not a valid value")
    wanted = cast("Object", asked["singleEmbeddingParams"])
    _only(wanted, {"embeddingPurpose", "embeddingDimension", "text"})
    if wanted["embeddingPurpose"] != "GENERIC_INDEX":
        raise invalid("embeddingPurpose: this simulator knows GENERIC_INDEX alone")
    told = cast("Object", wanted["text"])
    _only(told, {"truncationMode", "value"})
    if told["truncationMode"] not in {"NONE", "START", "END"}:
        raise invalid("truncationMode: not a valid enum value")
    text = _text(told["value"], NOVA_ID)
    sizes = {256, 384, 1024, 3072}
    vector = embed(text, _dimensions(wanted.get("embeddingDimension"), 3072, sizes))
    embedding = {"embeddingType": "TEXT", "embedding": vector}
    return _answer({"embeddings": [embedding]}, count_tokens(text))


def _only(value: Object, known: set[str]) -> None:
    extra = sorted(set(value) - known)
    if extra:
        raise invalid(f"Malformed input request: extraneous key {extra}")


def _text(value: JSON, model_id: str) -> str:
    if not isinstance(value, str) or not value:
        raise invalid("expected minLength: 1, actual: 0")
    if len(value) > _TEXT_MAX_CHARS.get(model_id, 500_000):
        raise invalid("Malformed input request: the text is too long")
    return value


def _dimensions(value: JSON, usual: int, known: set[int]) -> int:
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, int) or value not in known:
        raise invalid(f"dimensions: one of {sorted(known)} expected")
    return value


def _answer(members: Mapping[str, object], tokens: int) -> Embedded:
    return Embedded(json.dumps(members).encode(), tokens)


_ANSWERS: Final[Mapping[str, Callable[[Object], Embedded]]] = {
    TITAN_ID: _titan,
    COHERE_V3_ID: _cohere_v3,
    COHERE_V4_ID: _cohere_v4,
    NOVA_ID: _nova,
}
EMBEDDING_IDS: Final = frozenset(_ANSWERS)


def refuse_converse(model_id: str) -> None:
    """Refuse a conversation with a model that has none.

    Raises:
        AWSError: ValidationException, with Bedrock's words.
    """
    if model_id in EMBEDDING_IDS:
        raise AWSError(
            400, "ValidationException", "This action doesn't support the model that you provided."
        )
