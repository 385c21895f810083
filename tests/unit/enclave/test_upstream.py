"""Bedrock behind the enclave: checked credentials, evidence, nothing retried."""

from __future__ import annotations

import pytest

from enclave_client import chat
from enclave_doubles import HOME, MODEL, Accident, Bench, bench, credentials, in_loop
from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.aws.converse import build_converse_body
from latensgate_enclave.aws.converse_answer import ConverseReader
from latensgate_enclave.chat import parse_chat_request
from latensgate_enclave.chat_answer import ChatAnswer, Finished, TextDelta, Usage
from latensgate_enclave.identity import IdentityRefusedError
from latensgate_enclave.model_traits import ModelTraits
from latensgate_enclave.operation import Forwarding
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.strict_json import JSONObject
from latensgate_sim.faults import Fault, FaultKind, throttled
from latensgate_sim.world import ACCOUNT


def forwarding(made: Bench, text: str = "Hello") -> Forwarding:
    route = made.parts.configuration.deployment.models[MODEL]
    body = build_converse_body(parse_chat_request(chat(text)), ModelTraits())
    return Forwarding(route, body, ConverseReader(frozenset()))


@in_loop
async def test_an_answer_comes_with_evidence_of_who_gave_it() -> None:
    async with bench(invocation_logging="flag") as made:
        made.world.home.control.logging_accounts.add(ACCOUNT)
        await made.identity.accept(credentials(made.world.service))
        made.advance(5)
        seen: list[JSONObject] = []
        answer = await made.parts.upstream.converse(forwarding(made), seen.append)
        (evidence,) = seen
        assert isinstance(answer, ChatAnswer)
        assert answer.text == ("You said: Hello",)
        leaf = evidence.pop("leaf_certificate_sha256")
        assert isinstance(leaf, str)
        assert len(leaf) == 64
        assert evidence == {
            "host": f"bedrock-runtime.{HOME}.amazonaws.com",
            "account": ACCOUNT,
            "region": HOME,
            "invocation_logging": "on",
            "checked_at": made.clock.now_s() - 5,
        }
        assert made.cloud.happened[-1] == "converse"


@in_loop
async def test_a_stream_hands_out_deltas_and_the_same_evidence() -> None:
    async with bench() as made:
        await made.identity.accept(credentials(made.world.service))
        seen: list[JSONObject] = []
        await made.parts.upstream.converse(forwarding(made), seen.append)
        async with made.parts.upstream.converse_stream(forwarding(made), seen.append) as pieces:
            deltas = [delta async for piece in pieces for delta in piece]
        assert seen[0] == seen[1]
        assert "".join(each.text for each in deltas if isinstance(each, TextDelta)) == (
            "You said: Hello"
        )
        assert isinstance(deltas[-2], Finished)
        assert isinstance(deltas[-1], Usage)


@pytest.mark.parametrize("stream", [False, True])
def test_without_checked_credentials_nothing_is_sent(*, stream: bool) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            with pytest.raises(IdentityRefusedError):
                await call(made, stream=stream)
            assert made.cloud.happened == []

    scenario()


async def call(made: Bench, *, stream: bool, seen: list[JSONObject] | None = None) -> None:
    upstream, witness = made.parts.upstream, (seen if seen is not None else []).append
    if not stream:
        await upstream.converse(forwarding(made), witness)
        return
    async with upstream.converse_stream(forwarding(made), witness) as pieces:
        async for _piece in pieces:
            pass


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("accident", list(Accident))
def test_a_lost_call_is_told_and_not_repeated(accident: Accident, *, stream: bool) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.identity.accept(credentials(made.world.service))
            made.cloud.fail("converse-stream" if stream else "converse", accident)
            evidence: list[JSONObject] = []
            with pytest.raises(LatensgateError) as caught:
                await call(made, stream=stream, seen=evidence)
            assert caught.value.code is ErrorCode.ERR_UPSTREAM
            seen = len(made.world.home.bedrock.seen)
            assert seen == (1 if accident is Accident.LOST else 0)
            assert evidence[0]["account"] == ACCOUNT  # who was asked is known all the same

    scenario()


@pytest.mark.parametrize("stream", [False, True])
def test_what_bedrock_refuses_keeps_its_meaning(*, stream: bool) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.identity.accept(credentials(made.world.service))
            made.world.home.bedrock.faults.on(throttled())
            with pytest.raises(UpstreamError) as caught:
                await call(made, stream=stream)
            assert caught.value.code is ErrorCode.ERR_UPSTREAM_THROTTLED

    scenario()


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_none_is_a_failure(*, stream: bool) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.identity.accept(credentials(made.world.service))
            made.world.home.bedrock.faults.on(Fault(FaultKind.GARBAGE))
            with pytest.raises(LatensgateError) as caught:
                await call(made, stream=stream)
            assert caught.value.code is ErrorCode.ERR_UPSTREAM

    scenario()
