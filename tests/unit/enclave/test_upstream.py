"""Bedrock behind the enclave: checked credentials, evidence, nothing asked twice that may run."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from dataclasses import replace
from typing import cast
from unittest import mock

import msgspec
import pytest

from enclave_client import chat
from enclave_doubles import HOME, MODEL, OTHER, Accident, Bench, bench, credentials, in_loop
from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.aws.converse import build_converse_body
from latensgate_enclave.aws.converse_answer import ConverseReader
from latensgate_enclave.chat import parse_chat_request
from latensgate_enclave.chat_answer import ChatAnswer, Finished, TextDelta, Usage
from latensgate_enclave.egress import EgressError
from latensgate_enclave.identity import IdentityRefusedError
from latensgate_enclave.model_traits import ModelTraits
from latensgate_enclave.operation import Forwarding
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import (
    BREAKER_FAILURES_COUNT,
    BREAKER_OPEN_MIN_MS,
    UPSTREAM_ATTEMPTS_MAX_COUNT,
)
from latensgate_shared.strict_json import JSONObject
from latensgate_sim.errors import AWSError
from latensgate_sim.faults import Fault, FaultKind, throttled
from latensgate_sim.http_server import Request, Response
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
            "upstream": "bedrock",
            "attempts": 1,
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
            made.world.home.bedrock.faults.on(throttled(times=None))
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


TWO = (HOME, OTHER)


def over_regions(made: Bench, *regions: str) -> Forwarding:
    sent = forwarding(made)
    route = msgspec.structs.replace(sent.route, region="", regions=regions)
    return msgspec.structs.replace(sent, route=route)


async def asked(made: Bench, sent: Forwarding, *, stream: bool) -> list[JSONObject]:
    """Ask; return the evidence as it was told."""
    seen: list[JSONObject] = []
    if stream:
        async with made.parts.upstream.converse_stream(sent, seen.append) as pieces:
            async for _piece in pieces:
                pass
    else:
        await made.parts.upstream.converse(sent, seen.append)
    return seen


def error(status: int, name: str, *, times: int | None = 1) -> Fault:
    return Fault(FaultKind.ERROR, AWSError(status, name, "words"), times=times)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        throttled(times=2),
        error(429, "ModelNotReadyException", times=2),
        error(503, "ServiceUnavailableException", times=2),
    ],
    ids=["throttled", "not ready", "unavailable"],
)
def test_what_was_turned_away_is_asked_again_after_growing_pauses(
    fault: Fault, *, stream: bool
) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.identity.accept(credentials(made.world.service))
            made.world.home.bedrock.faults.on(fault)
            *_, evidence = await asked(made, forwarding(made), stream=stream)
            assert evidence["attempts"] == 3
            assert fault.error is not None
            failed = evidence["failed_attempts"]
            assert isinstance(failed, list)
            assert [each["place"] for each in failed if isinstance(each, dict)] == [HOME, HOME]
            first, second = made.monotonic.slept
            assert 0.125 <= first <= 0.25 <= second <= 0.5

    scenario()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        error(500, "InternalServerException"),
        error(408, "ModelTimeoutException"),
        error(424, "ModelErrorException"),
        error(400, "ServiceQuotaExceededException"),
        error(429, "ServiceQuotaExceededException"),
        error(400, "ValidationException"),
        Fault(FaultKind.CUT),
    ],
    ids=lambda fault: fault.error.code if fault.error else "cut",
)
def test_what_may_have_run_or_will_not_pass_is_asked_once(fault: Fault, *, stream: bool) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.identity.accept(credentials(made.world.service))
            made.world.home.bedrock.faults.on(fault)
            with pytest.raises(LatensgateError):
                await asked(made, over_regions(made, *TWO), stream=stream)
            assert len(made.world.home.bedrock.seen) == 1
            assert not made.world.regions[OTHER].bedrock.seen

    scenario()


@in_loop
async def test_a_stream_that_breaks_after_its_first_byte_is_not_asked_again() -> None:
    async with bench() as made:
        await made.identity.accept(credentials(made.world.service))
        made.world.home.bedrock.faults.on(throttled(after_events=0))
        with pytest.raises(UpstreamError):
            await asked(made, over_regions(made, *TWO), stream=True)
        assert len(made.world.home.bedrock.seen) == 1
        assert not made.world.regions[OTHER].bedrock.seen


@in_loop
async def test_attempts_are_bounded_and_each_failure_is_evidence() -> None:
    async with bench() as made:
        await made.identity.accept(credentials(made.world.service))
        made.world.home.bedrock.faults.on(throttled(times=None))
        seen: list[JSONObject] = []
        with pytest.raises(UpstreamError):
            await made.parts.upstream.converse(forwarding(made), seen.append)
        assert len(made.world.home.bedrock.seen) == UPSTREAM_ATTEMPTS_MAX_COUNT
        attempt = {"place": HOME, "code": "ERR_UPSTREAM_THROTTLED"}
        assert seen[-1]["failed_attempts"] == [attempt] * UPSTREAM_ATTEMPTS_MAX_COUNT


@pytest.mark.parametrize("stream", [False, True])
def test_the_next_region_of_the_list_takes_over_at_once(*, stream: bool) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.identity.accept(credentials(made.world.service))
            made.world.home.bedrock.faults.on(throttled(times=None))
            *_, evidence = await asked(made, over_regions(made, *TWO), stream=stream)
            assert (evidence["region"], evidence["attempts"]) == (OTHER, 2)
            assert evidence["failed_attempts"] == [
                {"place": HOME, "code": "ERR_UPSTREAM_THROTTLED"}
            ]
            assert made.monotonic.slept == []

    scenario()


@in_loop
async def test_no_other_region_is_asked_than_the_route_lists() -> None:
    async with bench() as made:
        await made.identity.accept(credentials(made.world.service))
        made.world.home.bedrock.faults.on(throttled(times=None))
        with pytest.raises(UpstreamError):
            await asked(made, forwarding(made), stream=False)
        assert not made.world.regions[OTHER].bedrock.seen


@in_loop
async def test_a_region_that_logs_is_passed_over_and_nothing_goes_there() -> None:
    async with bench() as made:
        await made.identity.accept(credentials(made.world.service))
        made.world.home.control.logging_accounts.add(ACCOUNT)
        await made.identity.recheck()
        *_, evidence = await asked(made, over_regions(made, *TWO), stream=False)
        assert (evidence["region"], evidence["attempts"]) == (OTHER, 1)
        assert evidence["failed_attempts"] == [{"place": HOME, "code": "ERR_UPSTREAM_LOGGING"}]
        assert not made.world.home.bedrock.seen
        with pytest.raises(IdentityRefusedError) as caught:
            await asked(made, forwarding(made), stream=False)
        assert caught.value.code is ErrorCode.ERR_UPSTREAM_LOGGING


@in_loop
async def test_a_tunnel_that_refuses_is_asked_again_and_the_failure_is_evidence() -> None:
    async with bench() as made:
        await made.identity.accept(credentials(made.world.service))
        made.egress.close()
        refusals = 2

        async def dial(host: str, port: int) -> tuple[StreamReader, StreamWriter]:
            nonlocal refusals
            refusals -= 1
            if refusals >= 0:
                raise EgressError(f"{host}: the tunnel refuses", nothing_sent=True)
            return await made.cloud.dial(host, port)

        with mock.patch.object(made.egress, "_dial", dial):
            evidence = await asked(made, forwarding(made), stream=False)
        attempts = [
            (each["attempts"], len(cast("list[object]", each.get("failed_attempts", []))))
            for each in evidence
        ]
        assert attempts == [(1, 1), (2, 2), (3, 2)]


@in_loop
async def test_a_retry_after_is_waited_for_if_the_call_has_the_time() -> None:
    async with bench(model_timeout_ms=60_000) as made:
        await made.identity.accept(credentials(made.world.service))
        waits = ["3", "70"]

        async def throttle(_request: Request) -> Response:
            named = {"x-amzn-errortype": "ThrottlingException", "retry-after": waits.pop(0)}
            return Response(429, named)

        made.cloud.instead["converse"] = throttle
        with pytest.raises(UpstreamError) as caught:
            await asked(made, forwarding(made), stream=False)
        assert made.monotonic.slept == [3.0]
        assert caught.value.retry_after_ms == 70_000
        assert waits == []


@in_loop
async def test_an_upstream_that_fails_in_a_row_is_left_alone_and_tried_by_one_call() -> None:
    async with bench() as made:
        await made.identity.accept(credentials(made.world.service))
        made.world.home.bedrock.faults.on(error(500, "InternalServerException", times=None))
        for _ in range(BREAKER_FAILURES_COUNT):
            with pytest.raises(UpstreamError):
                await asked(made, forwarding(made), stream=False)
        asked_before = len(made.world.home.bedrock.seen)
        with pytest.raises(UpstreamError) as caught:
            await asked(made, forwarding(made), stream=False)
        assert caught.value.code is ErrorCode.ERR_UPSTREAM_UNAVAILABLE
        assert caught.value.retry_after_ms == BREAKER_OPEN_MIN_MS
        assert len(made.world.home.bedrock.seen) == asked_before
        made.monotonic.advance(BREAKER_OPEN_MIN_MS / 1000)
        made.world.home.bedrock.faults.clear()
        await asked(made, forwarding(made), stream=False)
        await asked(made, forwarding(made), stream=False)


@in_loop
async def test_while_one_region_is_left_alone_the_other_one_answers() -> None:
    async with bench() as made:
        await made.identity.accept(credentials(made.world.service))
        made.world.home.bedrock.faults.on(error(500, "InternalServerException", times=None))
        for _ in range(BREAKER_FAILURES_COUNT):
            with pytest.raises(UpstreamError):
                await asked(made, over_regions(made, *TWO), stream=False)
        (evidence,) = await asked(made, over_regions(made, *TWO), stream=False)
        assert (evidence["region"], evidence["attempts"]) == (OTHER, 1)


@in_loop
async def test_a_probe_whose_caller_leaves_is_followed_by_another() -> None:
    async with bench() as made:
        await made.identity.accept(credentials(made.world.service))
        made.world.home.bedrock.faults.on(error(500, "InternalServerException", times=5))
        for _ in range(BREAKER_FAILURES_COUNT):
            with pytest.raises(UpstreamError):
                await asked(made, forwarding(made), stream=False)
        made.monotonic.advance(BREAKER_OPEN_MIN_MS / 1000)
        made.cloud.hold.clear()
        made.cloud.reached.clear()
        probe = asyncio.ensure_future(asked(made, forwarding(made), stream=False))
        await made.cloud.reached.wait()
        with pytest.raises(UpstreamError):  # one probe at a time
            await asked(made, forwarding(made), stream=False)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        made.cloud.hold.set()
        await asked(made, forwarding(made), stream=False)


@in_loop
async def test_a_place_that_logs_when_it_is_due_for_a_probe_is_probed_later() -> None:
    """A probe that was admitted and never sent would close the place for ever."""
    async with bench() as made:
        await made.identity.accept(credentials(made.world.service))
        made.world.home.bedrock.faults.on(error(500, "InternalServerException", times=None))
        for _ in range(BREAKER_FAILURES_COUNT):
            with pytest.raises(UpstreamError):
                await asked(made, forwarding(made), stream=False)
        made.world.home.bedrock.faults.clear()
        made.monotonic.advance(BREAKER_OPEN_MIN_MS / 1000)
        made.world.home.control.logging_accounts.add(ACCOUNT)
        await made.identity.accept(credentials(made.world.service))
        with pytest.raises(LatensgateError) as caught:
            await asked(made, forwarding(made), stream=False)
        assert caught.value.code is ErrorCode.ERR_UPSTREAM_LOGGING
        made.world.home.control.logging_accounts.clear()
        await made.identity.accept(credentials(made.world.service))
        await asked(made, forwarding(made), stream=False)


@in_loop
async def test_a_place_that_is_given_up_during_the_pause_is_not_asked() -> None:
    async with bench() as made:
        await made.identity.accept(credentials(made.world.service))
        made.world.home.bedrock.faults.on(throttled())
        upstream = made.parts.upstream
        others = error(500, "InternalServerException", times=None)

        async def meanwhile(seconds: float) -> None:
            made.monotonic.advance(seconds)
            made.world.home.bedrock.faults.on(others)
            for _ in range(BREAKER_FAILURES_COUNT):
                with pytest.raises(UpstreamError):
                    await upstream.converse(forwarding(made), list[JSONObject]().append)

        with (
            mock.patch.object(
                upstream,
                "_at",
                replace(upstream._at, sleep=meanwhile),  # pyright: ignore[reportPrivateUsage] # no other way in
            ),
            pytest.raises(UpstreamError) as caught,
        ):
            await upstream.converse(forwarding(made), list[JSONObject]().append)
        assert caught.value.code is ErrorCode.ERR_UPSTREAM_THROTTLED


@in_loop
async def test_a_model_of_its_own_deadline_is_not_asked_after_it() -> None:
    async with bench(model_timeout_ms=100) as made:
        await made.identity.accept(credentials(made.world.service))
        made.world.home.bedrock.faults.on(throttled(times=None))
        with pytest.raises(UpstreamError):
            await asked(made, forwarding(made), stream=False)
        assert len(made.world.home.bedrock.seen) == 1  # the shortest pause is longer
