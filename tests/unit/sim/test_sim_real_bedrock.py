"""The way to the real Bedrock, with a second simulated world in the place of AWS."""

import json
import ssl
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
from botocore.credentials import Credentials
from mypy_boto3_bedrock_runtime.type_defs import MessageTypeDef

from latensgate_sim.real_bedrock import BedrockForwarder
from latensgate_sim.world import World, WorldConfig
from sim_clients import Clients

MODEL_ID = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
QUESTION: Sequence[MessageTypeDef] = [{"role": "user", "content": [{"text": "Say anything."}]}]


class Source:
    """As a boto3 session."""

    def __init__(self, world: World | None) -> None:
        self.world = world

    def get_credentials(self) -> Credentials | None:
        if self.world is None:
            return None
        held = self.world.service
        return Credentials(held.access_key_id, held.secret_access_key, held.session_token)


@pytest.fixture(scope="module")
def amazon() -> Iterator[World]:
    with World() as world:
        yield world


def forwarding(amazon: World, source: Source, port: int | None = None) -> World:
    port = port or amazon.ports["bedrock-runtime.us-east-1.amazonaws.com"]
    tls = ssl.create_default_context(cafile=str(amazon.ca_path))
    tls.check_hostname = False  # the test's Amazon is reached by address
    endpoint = f"https://127.0.0.1:{port}"
    return World(WorldConfig(forward=BedrockForwarder(source, endpoint=endpoint, tls=tls)))


def test_unary_and_stream_pass_through_signed_anew(amazon: World) -> None:
    with forwarding(amazon, Source(amazon)) as world, closing(Clients(world)) as clients:
        client = clients.runtime(world.service)
        before = len(amazon.home.bedrock.seen)
        answer = client.converse(modelId=MODEL_ID, messages=QUESTION)
        assert "text" in json.dumps(answer["output"])
        assert json.loads(amazon.home.bedrock.seen[-1])["messages"] == QUESTION
        stream = client.converse_stream(modelId=MODEL_ID, messages=QUESTION)["stream"]
        kinds = [next(iter(event)) for event in stream]
        assert kinds[0] == "messageStart"
        assert kinds[-1] == "metadata"
        assert len(amazon.home.bedrock.seen) == before + 2


@pytest.mark.parametrize("case", ["no credentials", "foreign credentials", "nobody there"])
def test_what_fails_fails_as_aws_would(amazon: World, case: str) -> None:
    with World() as other:
        source = {"no credentials": Source(None), "foreign credentials": Source(other)}.get(case)
        port = 1 if case == "nobody there" else None
        forwarded = forwarding(amazon, source or Source(amazon), port)
        with forwarded as world, closing(Clients(world)) as clients:
            client = clients.runtime(world.service)
            with pytest.raises(client.exceptions.ClientError) as raised:
                client.converse(modelId=MODEL_ID, messages=QUESTION)
            expected = "ServiceUnavailable" if case == "nobody there" else "UnrecognizedClient"
            assert f"{expected}Exception" in str(raised.value)
