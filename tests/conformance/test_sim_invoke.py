"""botocore judges the simulated InvokeModel of embedding models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from botocore.exceptions import ClientError

from latensgate_sim import embeddings
from latensgate_sim.faults import throttled
from latensgate_sim.models import SCRIPTED_ID
from latensgate_sim.world import World, WorldConfig
from sim_clients import Clients

TITAN = {"inputText": "a red house"}
COHERE = {"texts": ["a", "b"], "input_type": "search_document"}
NOVA_PARAMS = {
    "embeddingPurpose": "GENERIC_INDEX",
    "text": {"truncationMode": "NONE", "value": "a"},
}
NOVA = {
    "schemaVersion": "nova-multimodal-embed-v1",
    "taskType": "SINGLE_EMBEDDING",
    "singleEmbeddingParams": NOVA_PARAMS,
}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World(WorldConfig(regions=("us-east-1",))) as made:
        yield made


@pytest.fixture(scope="module")
def clients(world: World) -> Iterator[Clients]:
    with closing(Clients(world)) as made:
        yield made


def invoke(world: World, clients: Clients, model_id: str, body: object) -> tuple[Any, int]:
    client = clients.runtime(world.service)
    answer = client.invoke_model(modelId=model_id, body=json.dumps(body).encode())
    assert answer["contentType"] == "application/json"
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    return json.loads(answer["body"].read()), int(headers["x-amzn-bedrock-input-token-count"])


def code_of(error: ClientError) -> str | None:
    return error.response.get("Error", {}).get("Code")


def test_titan(world: World, clients: Clients) -> None:
    told, tokens = invoke(world, clients, embeddings.TITAN_ID, TITAN)
    assert len(told["embedding"]) == 1024
    assert told["inputTextTokenCount"] == tokens == 3
    assert told["embeddingsByType"] == {"float": told["embedding"]}


@pytest.mark.parametrize("model_id", [embeddings.COHERE_V3_ID, embeddings.COHERE_V4_ID])
def test_cohere(world: World, clients: Clients, model_id: str) -> None:
    plain, _ = invoke(world, clients, model_id, COHERE)
    typed, tokens = invoke(world, clients, model_id, {**COHERE, "embedding_types": ["float"]})
    assert plain["response_type"] == "embeddings_floats"
    assert typed["response_type"] == "embeddings_by_type"
    assert typed["embeddings"] == {"float": plain["embeddings"]}
    assert tokens == len(plain["embeddings"]) == 2


def test_nova(world: World, clients: Clients) -> None:
    told, _ = invoke(world, clients, embeddings.NOVA_ID, NOVA)
    (entry,) = told["embeddings"]
    assert entry["embeddingType"] == "TEXT"
    assert len(entry["embedding"]) == 3072


@pytest.mark.parametrize(
    ("model_id", "body"),
    [
        (SCRIPTED_ID, TITAN),
        (embeddings.TITAN_ID, []),
        (embeddings.TITAN_ID, {}),
        (embeddings.TITAN_ID, {**TITAN, "other": 1}),
        (embeddings.TITAN_ID, {"inputText": ""}),
        (embeddings.TITAN_ID, {"inputText": "a" * 50_001}),
        (embeddings.TITAN_ID, {**TITAN, "dimensions": 7}),
        (embeddings.TITAN_ID, {**TITAN, "dimensions": True}),
        (embeddings.COHERE_V3_ID, {**COHERE, "texts": []}),
        (embeddings.COHERE_V3_ID, {**COHERE, "input_type": "x"}),
        (embeddings.COHERE_V3_ID, {**COHERE, "embedding_types": ["int8"]}),
        (embeddings.NOVA_ID, {**NOVA, "taskType": "x"}),
        (
            embeddings.NOVA_ID,
            {**NOVA, "singleEmbeddingParams": {**NOVA_PARAMS, "embeddingPurpose": "x"}},
        ),
        (
            embeddings.NOVA_ID,
            {
                **NOVA,
                "singleEmbeddingParams": {
                    **NOVA_PARAMS,
                    "text": {"truncationMode": "x", "value": "a"},
                },
            },
        ),
    ],
)
def test_what_no_model_takes(world: World, clients: Clients, model_id: str, body: object) -> None:
    with pytest.raises(ClientError) as caught:
        invoke(world, clients, model_id, body)
    assert code_of(caught.value) == "ValidationException"


def test_embedding_models_do_not_converse(world: World, clients: Clients) -> None:
    client = clients.runtime(world.service)
    with pytest.raises(ClientError, match="doesn't support the model"):
        client.converse(
            modelId=embeddings.NOVA_ID, messages=[{"role": "user", "content": [{"text": "a"}]}]
        )


def test_faults_strike_here_too(world: World, clients: Clients) -> None:
    world.home.bedrock.faults.on(throttled())
    with pytest.raises(ClientError) as caught:
        invoke(world, clients, embeddings.TITAN_ID, TITAN)
    assert code_of(caught.value) == "ThrottlingException"
