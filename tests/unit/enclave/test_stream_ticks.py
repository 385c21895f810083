"""Streams whose floor or request asks for a shape: ticks, lengths, and nothing lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import pytest
from msgspec import structs

from enclave_client import EMAIL, ask, chat, fields, open_told, run, tell
from enclave_doubles import Bench, Recording, bench, in_loop, nothing
from latensgate_enclave.chat_answer import (
    ChatDelta,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    Usage,
)
from latensgate_enclave.measured import StreamFloor
from latensgate_enclave.pipeline import Pipeline
from latensgate_enclave.stream_ticks import Ticks, merged, on_ticks
from latensgate_shared.errors import ErrorCode
from latensgate_shared.hpke import TAG_BYTES
from latensgate_shared.limits import STREAM_FIXED_STEP_BYTES
from latensgate_shared.stream_shape import StreamShape
from latensgate_shared.strict_json import JSONObject
from latensgate_sim.faults import Fault, FaultKind

EVERY_MS = 60
BEGUN = ToolCallBegun(0, "call_1", "look_up")
DONE: list[ChatDelta] = [Finished("stop"), Usage(1, 1)]


async def paced(
    *pieces: Sequence[ChatDelta] | Exception, gap_s: float = 0.004
) -> AsyncGenerator[Sequence[ChatDelta]]:
    for piece in pieces:
        await asyncio.sleep(gap_s)
        if isinstance(piece, Exception):
            raise piece
        yield piece


def floored(made: Bench, floor: StreamFloor) -> Pipeline:
    """The pipeline of an image whose policy has this floor."""
    configuration = made.parts.configuration
    policy = structs.replace(configuration.policy, stream=floor)
    changed = structs.replace(configuration, policy=policy)
    return Pipeline(replace(made.parts, configuration=changed), nothing)


class Timed(Recording):
    """Notes when content leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.at_s: list[float] = []

    def content(self, framed: bytes) -> None:
        self.at_s.append(time.monotonic())
        super().content(framed)


# --- joining ---


def test_neighbours_are_joined_and_nothing_else() -> None:
    deltas: list[ChatDelta] = [
        ReasoningDelta("a"),
        ReasoningDelta("b", "sig"),
        ReasoningDelta("c"),
        ReasoningDelta(redacted="opaque"),
        ReasoningDelta("d"),
        TextDelta("e"),
        TextDelta("f"),
        BEGUN,
        ToolCallDelta(0, "{"),
        ToolCallDelta(0, "}"),
        ToolCallBegun(1, "call_2", "look_up"),
        ToolCallDelta(1, "{}"),
        TextDelta("g"),
        *DONE,
    ]
    assert merged(deltas) == [
        ReasoningDelta("ab", "sig"),
        ReasoningDelta("c"),
        ReasoningDelta(redacted="opaque"),
        ReasoningDelta("d"),
        TextDelta("ef"),
        BEGUN,
        ToolCallDelta(0, "{}"),
        ToolCallBegun(1, "call_2", "look_up"),
        ToolCallDelta(1, "{}"),
        TextDelta("g"),
        *DONE,
    ]
    assert merged([]) == []


# --- ticks ---


@in_loop
async def test_what_came_between_two_ticks_leaves_as_one() -> None:
    words = [[TextDelta(f"w{number} ")] for number in range(40)]
    ticks, began_s = Ticks(EVERY_MS), time.monotonic()
    told: list[Sequence[ChatDelta]] = []
    async for deltas in on_ticks(paced(*words), ticks):
        told.append(deltas)
        phase_s = (time.monotonic() - began_s) % (EVERY_MS / 1000)
        assert phase_s < 0.03, "it left between two ticks"
    assert all(len(each) == 1 for each in told)
    assert 2 <= len(told) <= 12
    joined = merged([delta for each in told for delta in each])
    assert joined == [TextDelta("".join(f"w{number} " for number in range(40)))]


@in_loop
async def test_a_tick_without_anything_is_none_and_a_failure_comes_behind_what_was_there() -> None:
    told = on_ticks(paced([TextDelta("a")], [], ValueError("broken"), gap_s=0.05), Ticks(10))
    assert await anext(told) == [TextDelta("a")]
    with pytest.raises(ValueError, match="broken"):
        await anext(told)


@in_loop
async def test_a_slow_caller_holds_the_model_back() -> None:
    asked = 0

    async def eager() -> AsyncGenerator[Sequence[ChatDelta]]:
        nonlocal asked
        for _ in range(1_000):
            asked += 1
            yield [TextDelta("a")]
            await asyncio.sleep(0.002)

    source = on_ticks(eager(), Ticks(10))
    await anext(source)
    before = asked
    await asyncio.sleep(0.1)
    assert asked <= before + 2
    await source.aclose()


@in_loop
async def test_a_caller_that_leaves_ends_the_reading() -> None:
    ended = asyncio.Event()

    async def endless() -> AsyncGenerator[Sequence[ChatDelta]]:
        try:
            while True:
                yield [TextDelta("a")]
                await asyncio.sleep(0.001)
        finally:
            ended.set()

    source = on_ticks(endless(), Ticks(10))
    await anext(source)
    await source.aclose()
    assert ended.is_set()


# --- whole streams ---


@in_loop
async def test_a_request_can_ask_for_records_of_one_length_on_ticks() -> None:
    async with bench() as made:
        await made.open()
        body = chat(f"I am {EMAIL}, and this is a long story. " * 3)
        plain = await tell(made, ask(made, body, stream=True))
        inside = fields(made, stream=StreamShape("fixed", EVERY_MS))
        asked, sink = ask(made, body, stream=True, inside=inside), Timed()
        await run(made.pipeline, asked, sink)
        told = open_told(asked, sink)
        assert told.code is None
        assert told.values.usage == plain.values.usage
        assert _said(told.deltas) == _said(plain.deltas)
        assert len(told.records) < len(plain.records)
        lengths = {len(piece) for piece in sink.pieces[1:]}
        assert len(lengths) == 1, "one class"
        assert sink.released is not None
        assert (len(sink.released.final) - 1 - TAG_BYTES) % STREAM_FIXED_STEP_BYTES == 0


def _said(deltas: list[JSONObject]) -> str:
    return "".join(str(each.get("content") or "") for each in deltas)


@in_loop
async def test_a_request_cannot_ask_for_less_than_the_floor() -> None:
    async with bench() as made:
        await made.open()
        pipeline = floored(made, StreamFloor(pad="fixed", coalesce_ms=20))
        for asked_for in (None, StreamShape("padme", 0)):
            inside = fields(made, stream=asked_for)
            asked, sink = ask(made, stream=True, inside=inside), Recording()
            await run(pipeline, asked, sink)
            told = open_told(asked, sink)
            assert told.code is None
            assert len({len(piece) for piece in sink.pieces[1:]}) == 1
            assert len(told.records) <= 5


@in_loop
async def test_by_default_the_first_token_waits_for_nothing() -> None:
    async with bench() as made:
        await made.open()
        made.world.home.bedrock.faults.on(Fault(FaultKind.SLOW, seconds=20, after_events=3))
        for shape in (None, StreamShape("fixed")):
            inside = fields(made, stream=shape)
            asked, sink = ask(made, stream=True, inside=inside), Recording()
            running = asyncio.create_task(run(made.pipeline, asked, sink))
            async with asyncio.timeout(5):
                while len(sink.pieces) < 2:  # noqa: ASYNC110  # the sink is no event source
                    await asyncio.sleep(0.005)
            running.cancel()
            await running
            assert open_told(asked, sink).code is ErrorCode.ERR_CANCELLED
            made.world.home.bedrock.faults.on(Fault(FaultKind.SLOW, seconds=20, after_events=3))


@in_loop
async def test_a_stream_on_ticks_that_is_left_is_booked_and_ends_sealed() -> None:
    async with bench() as made:
        await made.open()
        made.world.home.bedrock.faults.on(Fault(FaultKind.SLOW, seconds=20, after_events=5))
        inside = fields(made, stream=StreamShape("fixed", 1_000))
        asked, sink = ask(made, stream=True, inside=inside), Recording()
        running = asyncio.create_task(run(made.pipeline, asked, sink))
        while not made.world.home.bedrock.seen:  # noqa: ASYNC110  # no event source
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)
        running.cancel()
        await running
        told = open_told(asked, sink)
        assert (told.code, told.public.outcome) == (ErrorCode.ERR_CANCELLED, "cancelled")
        assert told.values.usage is not None
        lengths = {len(piece) for piece in sink.pieces[1:]}
        assert len(lengths) <= 1, "also the error has it"


@in_loop
async def test_a_model_that_stalls_on_ticks_ends_at_its_deadline() -> None:
    async with bench(model_timeout_ms=200) as made:
        await made.open()
        made.world.home.bedrock.faults.on(Fault(FaultKind.SLOW, seconds=20, after_events=3))
        inside = fields(made, stream=StreamShape("fixed", 30))
        told = await tell(made, ask(made, stream=True, inside=inside))
        assert told.code is ErrorCode.ERR_UPSTREAM_TIMEOUT
