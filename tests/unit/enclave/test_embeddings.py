"""Embeddings: what is admitted, what each family of models is asked, what its answers become."""

from __future__ import annotations

import base64
import json
import math
import struct
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.aws.invoke import (
    FAMILIES,
    CallAnswer,
    CallReader,
    Family,
    OpenAIFamily,
    family_of,
)
from latensgate_enclave.chat import parse_chat_request
from latensgate_enclave.chat_answer import CompletionHead, Usage
from latensgate_enclave.chat_operation import ChatModelRequest
from latensgate_enclave.chat_values import RequestInvalidError, UnsupportedError
from latensgate_enclave.embeddings import EmbeddingsAnswer, EmbeddingsRequest, render_embeddings
from latensgate_enclave.embeddings_operation import EmbeddingsOperation
from latensgate_enclave.http1 import HttpResponse
from latensgate_enclave.measured_upstreams import ModelRoute
from latensgate_enclave.model_traits import EMBEDDINGS, ModelTraits
from latensgate_enclave.operation import ModelAnswer
from latensgate_shared.errors import ErrorCode, TooLargeError
from latensgate_shared.model_rows import EMBEDDING_ROWS
from latensgate_shared.strict_json import JSONObject
from latensgate_sim import embeddings as simulated
from paths import REPOSITORY

OPERATION = EmbeddingsOperation()
HEAD = CompletionHead("", 1, "m")
IDS = {
    "embed_titan_v2": simulated.TITAN_ID,
    "embed_cohere_v3": simulated.COHERE_V3_ID,
    "embed_cohere_v4": simulated.COHERE_V4_ID,
    "embed_nova_2": simulated.NOVA_ID,
}
ELSEWHERE = ModelRoute("text-embedding-3-small", "openai-embed", upstream="other")


def route(word: str) -> ModelRoute:
    return ModelRoute(IDS[word], "row", region="us-east-1")


def asked(**members: object) -> dict[str, Any]:
    return {"model": "m", "input": "a", **members}


def bodies(body: dict[str, Any], word: str) -> list[Any]:
    calls = OPERATION.parse(body).translate(route(word), ModelTraits(frozenset({word})))
    assert {(call.method, call.whole) for call in calls} == {("invoke", True)}
    return [json.loads(call.body) for call in calls]


def answered(body: dict[str, Any], word: str) -> Any:  # noqa: ANN401 -- JSON
    """Ask the simulated model and render what it says."""
    request = OPERATION.parse(body)
    calls = request.translate(route(word), ModelTraits(frozenset({word})))
    answers: list[ModelAnswer] = []
    for call in calls:
        told = simulated.invoke(IDS[word], call.body)
        headers = {"x-amzn-bedrock-input-token-count": str(told.input_tokens)}
        answers.append(call.reader.whole(HttpResponse(200, headers, told.body)))
    return json.loads(OPERATION.render(HEAD, request, answers))


@pytest.mark.parametrize("word", IDS)
def test_a_family_answers(word: str) -> None:
    told = answered(asked(input=["one two", "three"]), word)
    assert told["object"] == "list"
    assert told["model"] == "m"
    assert told["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert [(each["object"], each["index"]) for each in told["data"]] == [
        ("embedding", 0),
        ("embedding", 1),
    ]
    expected = FAMILIES[word].dimensions[0]
    assert told["data"][1]["embedding"] == simulated.embed("three", expected)


@pytest.mark.parametrize("word", ["embed_titan_v2", "embed_cohere_v4", "embed_nova_2"])
@pytest.mark.parametrize("dimensions", [1, 255, 256, 300, 1024])
def test_any_shorter_length_is_a_beginning(word: str, dimensions: int) -> None:
    told = answered(asked(dimensions=dimensions), word)
    (entry,) = told["data"]
    native = min(each for each in FAMILIES[word].dimensions if each >= dimensions)
    whole = simulated.embed("a", native)
    assert len(entry["embedding"]) == dimensions
    assert math.hypot(*entry["embedding"]) == pytest.approx(1)
    scale = math.hypot(*whole[:dimensions])
    assert entry["embedding"][0] == pytest.approx(whole[0] / scale)


@pytest.mark.parametrize(
    ("word", "dimensions"),
    [("embed_titan_v2", 1025), ("embed_cohere_v3", 512), ("embed_nova_2", 4096)],
)
def test_a_length_that_no_model_gives(word: str, dimensions: int) -> None:
    with pytest.raises(UnsupportedError) as caught:
        bodies(asked(dimensions=dimensions), word)
    assert caught.value.param == "dimensions"


def test_what_each_family_is_asked() -> None:
    assert bodies(asked(dimensions=512), "embed_titan_v2") == [
        {"inputText": "a", "normalize": True, "dimensions": 512}
    ]
    cohere = {"input_type": "search_document", "truncate": "NONE", "embedding_types": ["float"]}
    assert bodies(asked(), "embed_cohere_v3") == [{"texts": ["a"], **cohere}]
    assert bodies(asked(dimensions=512), "embed_cohere_v4") == [
        {"texts": ["a"], **cohere, "output_dimension": 512}
    ]
    (nova,) = bodies(asked(dimensions=384), "embed_nova_2")
    assert nova["singleEmbeddingParams"] == {
        "embeddingPurpose": "GENERIC_INDEX",
        "embeddingDimension": 384,
        "text": {"truncationMode": "NONE", "value": "a"},
    }


def test_texts_are_shared_out() -> None:
    texts = [f"text {n}" for n in range(200)]
    assert [len(each["texts"]) for each in bodies(asked(input=texts), "embed_cohere_v4")] == [
        96,
        96,
        8,
    ]
    assert len(bodies(asked(input=texts), "embed_titan_v2")) == 200


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=5))
def test_base64_is_the_32_bit_floats(texts: list[str]) -> None:
    words = {"embed_cohere_v4": asked(input=texts, dimensions=256)}
    for word, body in words.items():
        plain, packed = answered(body, word), answered({**body, "encoding_format": "base64"}, word)
        for one, other in zip(plain["data"], packed["data"], strict=True):
            raw = base64.b64decode(other["embedding"], validate=True)
            assert raw == struct.pack("<256f", *one["embedding"])


@pytest.mark.parametrize(
    ("members", "param", "kind"),
    [
        ({"input": [1, 2]}, "input", UnsupportedError),
        ({"input": [[1]]}, "input", UnsupportedError),
        ({"input": ["a", 1]}, "input", UnsupportedError),
        ({"input": []}, "input", RequestInvalidError),
        ({"input": None}, "input", RequestInvalidError),
        ({"input": " "}, "input", RequestInvalidError),
        ({"input": ["a", ""]}, "input[1]", RequestInvalidError),
        ({"input": ["a"] * 2049}, "input", RequestInvalidError),
        ({"model": None}, "model", RequestInvalidError),
        ({"dimensions": 0}, "dimensions", RequestInvalidError),
        ({"dimensions": 4097}, "dimensions", RequestInvalidError),
        ({"encoding_format": "int8"}, "encoding_format", UnsupportedError),
        ({"stream": True}, "stream", UnsupportedError),
        ({"other": 1}, "other", UnsupportedError),
    ],
)
def test_what_is_refused(
    members: dict[str, object], param: str, kind: type[RequestInvalidError]
) -> None:
    with pytest.raises(RequestInvalidError) as caught:
        OPERATION.parse(asked(**members))
    assert type(caught.value) is kind
    assert caught.value.param == param


def test_every_text_is_seen_and_put_back() -> None:
    request = OPERATION.parse(asked(input=["a", "b"], user="u"))
    assert (request.model, request.stream, request.dropped) == ("m", False, ("user",))
    assert [part.text for part in request.parts()] == ["a", "b"]
    assert request.with_texts(["c", "d"]) == OPERATION.parse(asked(input=["c", "d"], user="u"))
    assert "'a'" not in repr(request)
    assert request.attachments() == 0


def test_an_answer_that_would_be_too_long_is_not_asked_for() -> None:
    texts = ["a"] * 2000
    with pytest.raises(TooLargeError):
        bodies(asked(input=texts), "embed_titan_v2")
    assert len(bodies(asked(input=texts, encoding_format="base64"), "embed_titan_v2")) == 2000


def test_rows_and_words_belong_together() -> None:
    table = tomllib.loads((REPOSITORY / "enclave/policy.toml").read_text())["capabilities"]
    rows = {name for name, words in table.items() if EMBEDDINGS & set(words)}
    assert rows == EMBEDDING_ROWS
    assert {word for name in rows for word in table[name]} == EMBEDDINGS
    assert set(FAMILIES) == EMBEDDINGS - {"embed_openai"}
    assert all(len(table[name]) == 1 for name in rows)


@pytest.mark.parametrize(
    ("where", "word"),
    [(route("embed_titan_v2"), "tools"), (route("embed_titan_v2"), "embed_openai")],
)
def test_a_model_that_makes_none(where: ModelRoute, word: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        family_of(frozenset({word}), where)
    assert caught.value.param == "model"
    with pytest.raises(UnsupportedError):
        family_of(frozenset({"embed_titan_v2"}), ELSEWHERE)


def test_a_server_of_openais_interface() -> None:
    request = OPERATION.parse(asked(input=["a", "b"], dimensions=2))
    (call,) = request.translate(ELSEWHERE, ModelTraits(frozenset({"embed_openai"})))
    assert json.loads(call.body) == {
        "model": "text-embedding-3-small",
        "input": ["a", "b"],
        "encoding_format": "float",
        "dimensions": 2,
    }
    entries = [{"index": 1, "embedding": [0, 1]}, {"index": 0, "embedding": [1, 0]}]
    told = json.dumps({"data": entries, "usage": {"prompt_tokens": 2}}).encode()
    answer = call.reader.whole(HttpResponse(200, {}, told))
    rendered = json.loads(OPERATION.render(HEAD, request, [answer]))
    assert [each["embedding"] for each in rendered["data"]] == [[1.0, 0.0], [0.0, 1.0]]
    assert rendered["usage"]["prompt_tokens"] == 2
    (plain,) = OPERATION.parse(asked()).translate(
        ELSEWHERE, ModelTraits(frozenset({"embed_openai"}))
    )
    assert "dimensions" not in json.loads(plain.body)


@pytest.mark.parametrize(
    "body",
    [
        {"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [0]}]},
        {"data": [{"index": 1, "embedding": [1]}, {"index": 2, "embedding": [0]}]},
        {"data": [{"index": 0, "embedding": [1]}], "usage": {"prompt_tokens": 2**31}},
    ],
)
def test_a_server_that_mixes_texts_up_or_counts_beyond_bounds(body: JSONObject) -> None:
    with pytest.raises(UpstreamError):
        read(OpenAIFamily("any"), json.dumps(body).encode())


def test_a_count_beyond_bounds_would_stand_in_totals() -> None:
    body = json.dumps({"embedding": [1.0], "inputTextTokenCount": 2**53}).encode()
    with pytest.raises(UpstreamError):
        read(FAMILIES["embed_titan_v2"], body)


# --- answers that are none ---


def read(family: Family, body: bytes, **headers: str) -> CallAnswer:
    return CallReader(family).whole(HttpResponse(200, headers, body))


@pytest.mark.parametrize("word", IDS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"{}",
        b"[]",
        b'{"embedding":[]}',
        b'{"embedding":[1e999]}',
        b'{"embedding":[1e39]}',
        b'{"embedding":["a"]}',
        b'{"embeddings":{}}',
        b'{"embeddings":[]}x',
        b'{"embeddings":[{"embedding":[]}]}',
        b'{"embeddings":[[]]}',
        b'{"x":' + b"[" * 5_000,
        json.dumps({"embedding": [0] * 5000, "embeddings": [[0] * 5000]}).encode(),
    ],
)
def test_answers_of_another_form(word: str, body: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        read(FAMILIES[word], body)
    assert caught.value.code is ErrorCode.ERR_UPSTREAM


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(IDS)), st.binary(max_size=60))
def test_nothing_but_typed_errors_leaves(word: str, body: bytes) -> None:
    with pytest.raises(UpstreamError):
        read(FAMILIES[word], body)


@pytest.mark.parametrize(
    ("counted", "tokens"),
    [("7", 7), ("", 0), ("-1", 0), ("x", 0), ("9" * 10, 0), ("²", 0)],
)
def test_tokens_stand_in_a_header(counted: str, tokens: int) -> None:
    body = b'{"embeddings":[[1]]}'
    answer = CallReader(FAMILIES["embed_cohere_v3"]).whole(
        HttpResponse(200, {"x-amzn-bedrock-input-token-count": counted}, body)
    )
    assert answer.usage == Usage(tokens, 0)
    assert answer.size_bytes == len(body)
    assert answer.parts() == []
    assert answer.with_texts([]) is answer
    assert "1" not in repr(answer).partition("usage")[0]


@pytest.mark.parametrize(
    "vectors", [[], [[1.0]], [[1.0], [1.0, 2.0]], [[1.0]] * 3, [[1.0, 1.0]] * 3]
)
def test_vectors_and_texts_must_match(vectors: list[list[float]]) -> None:
    request = OPERATION.parse(asked(input=["a", "b"]))
    with pytest.raises(UpstreamError, match="not one embedding"):
        OPERATION.render(HEAD, request, [CallAnswer(vectors, Usage(1, 0), 1)])


def test_vectors_shorter_than_asked_for() -> None:
    request = OPERATION.parse(asked(dimensions=3))
    with pytest.raises(UpstreamError):
        OPERATION.render(HEAD, request, [CallAnswer([[1.0, 0.0]], Usage(1, 0), 1)])
    nothing = OPERATION.render(HEAD, request, [CallAnswer([[0.0] * 4], Usage(1, 0), 1)])
    assert json.loads(nothing)["data"][0]["embedding"] == [0.0] * 3


def test_vectors_are_not_printed() -> None:
    answer = EmbeddingsAnswer([[0.123]], 1)
    assert "0.123" not in repr(answer)
    assert b"0.123" in render_embeddings(answer, EmbeddingsRequest("m", ("a",)))


def test_embeddings_do_not_stream() -> None:
    with pytest.raises(TypeError):
        OPERATION.stream_renderer(HEAD, OPERATION.parse(asked()))
    with pytest.raises(TypeError):
        CallReader(FAMILIES["embed_titan_v2"]).stream()


@pytest.mark.parametrize("word", IDS)
def test_no_row_of_embeddings_chats(word: str) -> None:
    chat = parse_chat_request({"model": "m", "messages": [{"role": "user", "content": "a"}]})
    with pytest.raises(UnsupportedError) as caught:
        ChatModelRequest(chat).translate(route(word), ModelTraits(frozenset({word})))
    assert caught.value.param == "model"
