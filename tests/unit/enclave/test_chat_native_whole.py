"""Fields that only OpenAI's own interface has, through a whole enclave: what the policy allows."""

from __future__ import annotations

import json

import pytest

from enclave_client import ask, chat, fields, tell
from enclave_doubles import COMPATIBLE_MODEL, Bench, bench, deliver_credential, in_loop
from latensgate_shared.errors import ErrorCode
from latensgate_shared.strict_json import JSONObject, JSONValue
from latensgate_sim.openai_upstream import OpenAIUpstream

EMAIL = "ann@example.com"
TELLING: dict[str, JSONObject] = {
    "logprobs": {"logprobs": True, "top_logprobs": 1},
    "web_search_options": {"web_search_options": {}},
    "moderation": {"moderation": {"model": "judge-1"}},
    "modalities": {
        "modalities": ["text", "audio"],
        "audio": {"format": "wav", "voice": "alloy"},
    },
}
EVERYTHING: JSONObject = {
    name: each for member in TELLING.values() for name, each in member.items()
}


def acting(direction: str, action: str) -> JSONObject:
    return {"rules": {"EMAIL_ADDRESS": {direction: {"action": action}}}}


POLICIES: dict[str, JSONObject] = {
    "masks answers": acting("answer", "mask"),
    "refuses answers": acting("answer", "fail"),
    "masks arguments": acting("tool_arguments", "mask"),
    "gave a surrogate": acting("prompt", "pseudonymise"),
}


def asking(**members: JSONValue) -> JSONObject:
    return chat(f"I am {EMAIL}", model=COMPATIBLE_MODEL, **members)


async def opened(made: Bench, server: OpenAIUpstream) -> None:
    await made.open()
    deliver_credential(made, server.key)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_policy_could_not_reach_is_not_asked_for(policy: str) -> None:
    @in_loop
    async def scenario() -> None:
        server = OpenAIUpstream()
        async with bench(openai=server) as made:
            await opened(made, server)
            for number, (field, members) in enumerate(TELLING.items()):
                inside = fields(made, policy=POLICIES[policy])
                sealed = ask(made, asking(**members), stream=number % 2 == 0, inside=inside)
                error = (await tell(made, sealed)).records[-1].error
                assert error is not None
                assert (error.code, error.param) == (ErrorCode.ERR_UNSUPPORTED, field)
            assert not server.seen

    scenario()


@pytest.mark.parametrize("stream", [False, True])
def test_where_the_policy_leaves_answers_alone_all_comes_back(*, stream: bool) -> None:
    @in_loop
    async def scenario() -> None:
        server = OpenAIUpstream()
        async with bench(openai=server) as made:
            await opened(made, server)
            inside = fields(made, policy=acting("prompt", "mask"))
            body = asking(**EVERYTHING, prediction={"type": "content", "content": EMAIL})
            told = await tell(made, ask(made, body, stream=stream, inside=inside))
            assert told.code is None
            (sent,) = server.seen
            assert EMAIL.encode() not in sent
            assert json.loads(sent)["logprobs"] is True
            for found in ("url_citation", "moderation_results", "transcript", '"logprob"'):
                assert found in told.text
            assert "fp_simulated" in told.text
            assert EMAIL not in told.text

    scenario()


@pytest.mark.parametrize("policy", POLICIES)
def test_other_fields_are_sent_under_every_policy(policy: str) -> None:
    @in_loop
    async def scenario() -> None:
        server = OpenAIUpstream()
        async with bench(openai=server) as made:
            await opened(made, server)
            inside = fields(made, policy=POLICIES[policy])
            told = await tell(made, ask(made, asking(seed=7, verbosity="low"), inside=inside))
            assert told.code is (ErrorCode.ERR_PII_HARD_FAIL if "refuses" in policy else None)
            assert json.loads(server.seen[0])["seed"] == 7

    scenario()
