"""Who pays for streams that nobody reads to their end, and what ends when a caller goes away."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from enclave_client import Told, ask, chat, open_told, run
from enclave_doubles import (
    COMPATIBLE_MODEL,
    TENANT,
    Bench,
    Recording,
    bench,
    deliver_credential,
    in_loop,
)
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import ESTIMATED_TOKEN_BYTES
from latensgate_shared.strict_json import JSONObject
from latensgate_sim.faults import Fault, FaultKind
from latensgate_sim.openai_upstream import OpenAIUpstream

SLOW_S = 2.0


def body(model: str) -> JSONObject:
    words = " ".join(["word"] * 40)
    return chat(words, model=model) if model else chat(words)


async def left_in_the_middle(made: Bench, model: str) -> Told:
    """Ask for a stream whose model stalls, and go away after some pieces."""
    asked, sink = ask(made, body(model), stream=True), Recording()
    running = asyncio.create_task(run(made.pipeline, asked, sink))
    while not sink.pieces:  # noqa: ASYNC110  # the sink is no event source
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    assert made.cloud.happened[-1] in {"converse-stream", "completions"}
    open_before = len(made.cloud.server.connections)
    running.cancel()
    await running
    async with asyncio.timeout(5):
        while len(made.cloud.server.connections) >= open_before:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.01)
    return open_told(asked, sink)


@pytest.mark.parametrize("model", ["", COMPATIBLE_MODEL], ids=["bedrock", "openai"])
def test_a_stream_that_its_caller_leaves_is_cut_booked_and_has_a_receipt(model: str) -> None:
    @in_loop
    async def scenario() -> None:
        server = OpenAIUpstream()
        async with bench(openai=server) as made:
            await made.open()
            deliver_credential(made, server.key)
            slow = Fault(FaultKind.SLOW, seconds=SLOW_S, after_events=4)
            (server if model else made.world.home.bedrock).faults.on(slow)
            told = await left_in_the_middle(made, model)
            assert (told.code, told.public.outcome) == (ErrorCode.ERR_CANCELLED, "cancelled")
            usage = cast("JSONObject", told.private["usage"])
            assert usage["estimated"] is True
            forwarded = len(server.seen[0] if model else made.world.home.bedrock.seen[0])
            assert usage["prompt_tokens"] == -(-forwarded // ESTIMATED_TOKEN_BYTES)
            assert made.parts.receipts.totals()[TENANT]["requests"] == 1

    scenario()


@in_loop
async def test_a_caller_that_leaves_before_the_model_was_reached_pays_nothing() -> None:
    async with bench() as made:
        await made.open()
        made.cloud.hold.clear()
        made.cloud.reached.clear()
        asked, sink = ask(made, chat("Hello"), stream=True), Recording()
        running = asyncio.create_task(run(made.pipeline, asked, sink))
        await made.cloud.reached.wait()
        running.cancel()
        await running
        told = open_told(asked, sink)
        assert told.code is ErrorCode.ERR_CANCELLED
        assert told.private["usage"] == {}
        assert told.values.usage is None
