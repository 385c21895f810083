"""An OpenAI-compatible upstream behind the enclave: what is sent, what is believed, what fails."""

from __future__ import annotations

import json
from typing import cast

import msgspec
import pytest

from enclave_client import ask, chat, tell, tool
from enclave_doubles import COMPATIBLE_MODEL, Bench, bench, deliver_credential, in_loop
from latensgate_enclave.openai_upstream import OpenAIProvider
from latensgate_enclave.openai_upstream_answer import OpenAIReader
from latensgate_enclave.operation import Forwarding
from latensgate_shared.errors import ErrorCode
from latensgate_shared.strict_json import JSONObject
from latensgate_sim.errors import AWSError
from latensgate_sim.faults import Fault, FaultKind
from latensgate_sim.openai_upstream import HOST, OpenAIUpstream


def asking(text: str = "Hello", **members: object) -> JSONObject:
    return chat(text, **{"model": COMPATIBLE_MODEL, **members})  # type: ignore[arg-type]  # JSON


async def opened(made: Bench, server: OpenAIUpstream) -> None:
    await made.open()
    deliver_credential(made, server.key)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_comes_with_evidence_and_nothing_of_the_caller_leaves(*, stream: bool) -> None:
    @in_loop
    async def scenario() -> None:
        server = OpenAIUpstream()
        async with bench(openai=server) as made:
            await opened(made, server)
            body = asking(user="alice", metadata={"team": "x"}, store=False)
            told = await tell(made, ask(made, body, stream=stream))
            assert told.code is None
            assert "You" in told.text
            assert "Hello" in told.text
            (sent,) = map(json.loads, server.seen)
            assert (sent["store"], sent["model"]) == (False, "scripted")
            assert not {"user", "metadata"} & set(sent)
            assert server.keys_seen == type(server.keys_seen)([f"Bearer {server.key}"])
            upstream = cast("JSONObject", told.private["upstream"])
            assert len(str(upstream.pop("leaf_certificate_sha256"))) == 64
            assert upstream == {
                "host": HOST,
                "location": "a rack",
                "upstream": "house",
                "attempts": 1,
            }
            assert told.private["model_served"] == "scripted"
            assert cast("JSONObject", told.private["usage"])["completion_tokens"]
            assert made.cloud.dialled[-1] == f"{HOST}:443"

    scenario()


@pytest.mark.parametrize("stream", [False, True])
def test_tools_go_both_ways(*, stream: bool) -> None:
    @in_loop
    async def scenario() -> None:
        server = OpenAIUpstream()
        async with bench(openai=server) as made:
            await opened(made, server)
            body = asking(tools=[tool()], tool_choice="required")
            told = await tell(made, ask(made, body, stream=stream))
            assert told.code is None
            assert '"look_up"' in told.text
            assert '"tool_calls"' in told.text

    scenario()


@in_loop
async def test_without_a_credential_nothing_is_sent_and_the_error_says_what_to_do() -> None:
    server = OpenAIUpstream()
    async with bench(openai=server) as made:
        await made.open()
        told = await tell(made, ask(made, asking()))
        assert told.code is ErrorCode.ERR_UPSTREAM_CREDENTIAL
        assert "upstream-credential push" in told.code.hint
        assert not server.seen


@in_loop
async def test_a_credential_that_the_upstream_refuses_is_told() -> None:
    server = OpenAIUpstream()
    async with bench(openai=server) as made:
        await made.open()
        deliver_credential(made, "sk-wrong")
        told = await tell(made, ask(made, asking()))
        assert told.code is ErrorCode.ERR_UPSTREAM_CREDENTIAL
        assert "sk-wrong" not in made.log.getvalue()


def refusal(status: int, code: str) -> Fault:
    return Fault(FaultKind.ERROR, AWSError(status, code, "the prompt was SECRET"), times=None)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "code", "asked"),
    [
        (refusal(429, "rate_limit_exceeded"), ErrorCode.ERR_UPSTREAM_THROTTLED, 4),
        (refusal(429, "insufficient_quota"), ErrorCode.ERR_UPSTREAM_THROTTLED, 1),
        (refusal(503, "unavailable"), ErrorCode.ERR_UPSTREAM, 4),
        (refusal(500, "server_error"), ErrorCode.ERR_UPSTREAM, 1),
        (refusal(400, "bad"), ErrorCode.ERR_UPSTREAM_REFUSED, 1),
        (refusal(404, "model_not_found"), ErrorCode.ERR_MODEL_UNKNOWN, 1),
        (refusal(504, "timeout"), ErrorCode.ERR_UPSTREAM_TIMEOUT, 1),
        (Fault(FaultKind.CUT, times=None), ErrorCode.ERR_UPSTREAM, 1),
        (Fault(FaultKind.GARBAGE, times=None), ErrorCode.ERR_UPSTREAM, 1),
    ],
)
def test_failures_are_typed_and_their_words_stay_out(
    fault: Fault, code: ErrorCode, asked: int, *, stream: bool
) -> None:
    @in_loop
    async def scenario() -> None:
        server = OpenAIUpstream()
        async with bench(openai=server) as made:
            await opened(made, server)
            server.faults.on(fault)
            told = await tell(made, ask(made, asking(), stream=stream))
            assert told.code is code
            assert "SECRET" not in told.text
            assert len(server.seen) == asked

    scenario()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.CUT, after_events=3),
        Fault(FaultKind.GARBAGE, after_events=3),
        Fault(FaultKind.ERROR, AWSError(500, "x", "SECRET"), after_events=3),
    ],
    ids=lambda fault: fault.kind.name,
)
def test_a_stream_that_breaks_is_an_error_behind_what_has_left(fault: Fault) -> None:
    @in_loop
    async def scenario() -> None:
        server = OpenAIUpstream()
        async with bench(openai=server) as made:
            await opened(made, server)
            server.faults.on(fault)
            told = await tell(made, ask(made, asking("many words " * 20), stream=True))
            assert told.code is ErrorCode.ERR_UPSTREAM
            assert "SECRET" not in told.text
            assert len(server.seen) == 1

    scenario()


@in_loop
async def test_a_stream_without_done_is_no_answer_but_has_cost_something() -> None:
    server = OpenAIUpstream(forgets_done=True)
    async with bench(openai=server) as made:
        await opened(made, server)
        told = await tell(made, ask(made, asking(), stream=True))
        assert told.code is ErrorCode.ERR_UPSTREAM
        usage = cast("JSONObject", told.private["usage"])
        assert usage["completion_tokens"]
        totals = made.parts.receipts.totals()
        assert [each["requests"] for each in totals.values()] == [1]


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_tells_no_usage_is_estimated(*, stream: bool) -> None:
    @in_loop
    async def scenario() -> None:
        server = OpenAIUpstream(tells_usage=False)
        async with bench(openai=server) as made:
            await opened(made, server)
            told = await tell(made, ask(made, asking(), stream=stream))
            assert told.code is None
            usage = cast("JSONObject", told.private["usage"])
            assert usage["estimated"] is True
            assert usage["completion_tokens"] == 4  # "You said: Hello" has 15 bytes

    scenario()


@in_loop
async def test_an_upstream_that_asks_no_credential_gets_none() -> None:
    server = OpenAIUpstream(key="")
    async with bench(openai=server) as made:
        await made.open()
        table = msgspec.structs.replace(
            made.parts.configuration.deployment.upstreams["house"], credential="none"
        )
        provider = OpenAIProvider("house", table, made.parts.upstream_credentials)
        route = made.parts.configuration.deployment.models[COMPATIBLE_MODEL]
        sent = Forwarding(route, b"{}", OpenAIReader(frozenset(), 2))
        request = provider.prepare(sent, HOST, stream=False).request
        assert "authorization" not in dict(request.headers)
        assert request.path == "/v1/chat/completions"
