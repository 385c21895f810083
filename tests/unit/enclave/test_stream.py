"""A streamed answer: passed through or held, and sealed to its end whatever happens."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import pytest
from msgspec import structs

from enclave_client import EMAIL, Told, ask, chat, fields, is_hash_of, open_told, run, tell, tool
from enclave_doubles import MODEL, TENANT, Accident, Bench, Recording, bench, in_loop, nothing
from latensgate_enclave import stream as stream_module
from latensgate_enclave.chat_answer import (
    ChatAnswer,
    ChatDelta,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    Usage,
)
from latensgate_enclave.chat_values import ToolCall
from latensgate_enclave.operation import Forwarding
from latensgate_enclave.pii import parse_floor
from latensgate_enclave.pipeline import Pipeline
from latensgate_enclave.steps import Released
from latensgate_enclave.stream_guard import StreamGuard
from latensgate_enclave.upstream import Upstreams
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import CHUNK_FRAMED_MAX_BYTES
from latensgate_shared.strict_json import JSONObject
from latensgate_sim.errors import AWSError
from latensgate_sim.faults import Fault, FaultKind, throttled

FLAGGED: JSONObject = {"rules": {"EMAIL_ADDRESS": {"*": {"action": "flag"}}}}
MASKED: JSONObject = {"rules": {"EMAIL_ADDRESS": {"answer": {"action": "mask"}}}}
REFUSED: JSONObject = {"rules": {"EMAIL_ADDRESS": {"answer": {"action": "fail"}}}}
MASKED_ARGUMENTS: JSONObject = {"rules": {"EMAIL_ADDRESS": {"tool_arguments": {"action": "mask"}}}}


def said(told: Told) -> str:
    return "".join(str(delta.get("content") or "") for delta in told.deltas)


def arguments(told: Told) -> str:
    pieces: list[str] = []
    for delta in told.deltas:
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            assert isinstance(calls[0], dict)
            function = calls[0]["function"]
            assert isinstance(function, dict)
            pieces.append(str(function["arguments"]))
    return "".join(pieces)


def finish_reasons(told: Told) -> list[object]:
    found: list[object] = []
    for record in told.records:
        choices = record.body_object.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            found.append(choices[0]["finish_reason"])
    return [reason for reason in found if reason]


class Scripted:
    """An upstream that gives the deltas of a test."""

    def __init__(self, *deltas: Sequence[ChatDelta]) -> None:
        self.deltas = deltas

    @asynccontextmanager
    async def converse_stream(
        self, _forwarding: object, witness: Callable[[JSONObject], None]
    ) -> AsyncGenerator[AsyncIterator[Sequence[ChatDelta]]]:
        async def pieces() -> AsyncIterator[Sequence[ChatDelta]]:
            for delta in self.deltas:
                yield delta

        witness({"host": "scripted"})
        yield pieces()


def flagging(made: Bench) -> Pipeline:
    """A pipeline whose floor changes nothing, so that pieces leave as they come."""
    return Pipeline(replace(made.parts, floor=parse_floor(FLAGGED)), nothing)


def scripted(made: Bench, *deltas: Sequence[ChatDelta]) -> Pipeline:
    upstream = cast("Upstreams", Scripted(*deltas))
    return Pipeline(replace(flagging(made).parts, upstream=upstream), nothing)


@in_loop
async def test_pieces_leave_as_they_come_and_are_counted_at_the_end() -> None:
    async with bench() as made:
        await made.open()
        body = chat(f"I am {EMAIL}", stream_options={"include_usage": True})
        told = await tell(made, ask(made, body, stream=True), pipeline=flagging(made))
        assert told.code is None
        assert said(told) == f"You said: I am {EMAIL}"
        assert len(told.records) > 5
        assert told.deltas[0]["role"] == "assistant"
        assert finish_reasons(told) == ["stop"]
        assert told.records[-1].body_object["usage"] == told.values.usage
        assert told.values.pii_detected
        private = told.private
        assert is_hash_of(private["returned"], b"".join(each.body for each in told.records))
        assert is_hash_of(private["forwarded"], made.world.home.bedrock.seen[-1])
        assert private["upstream"] is not None
        assert made.parts.receipts.totals()[TENANT]["requests"] == 1


@in_loop
async def test_usage_is_not_told_in_the_stream_unless_asked_for() -> None:
    async with bench() as made:
        await made.open()
        told = await tell(made, ask(made, stream=True))
        assert "usage" not in told.text
        assert told.values.usage is not None


@in_loop
async def test_an_answer_that_the_policy_masks_is_held_and_masked() -> None:
    async with bench() as made:
        await made.open()
        asked = ask(made, chat(f"I am {EMAIL}"), stream=True, inside=fields(made, policy=MASKED))
        told = await tell(made, asked)
        assert said(told) == "You said: I am <EMAIL_ADDRESS>"
        assert EMAIL not in told.text
        assert finish_reasons(told) == ["stop"]
        assert len(told.records) == 3  # the role, the whole text, the end


@in_loop
async def test_an_answer_that_the_policy_refuses_never_leaves() -> None:
    async with bench() as made:
        await made.open()
        asked = ask(made, chat(f"I am {EMAIL}"), stream=True, inside=fields(made, policy=REFUSED))
        told = await tell(made, asked)
        assert (told.code, told.public.outcome) == (ErrorCode.ERR_PII_HARD_FAIL, "refused")
        assert EMAIL not in told.text
        assert told.values.usage is not None


@pytest.mark.parametrize("held", [False, True])
def test_tool_calls_are_streamed(*, held: bool) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            body = chat(f"q is {EMAIL}", tools=[tool()], tool_choice="required", max_tokens=100)
            inside = fields(made, policy=MASKED_ARGUMENTS) if held else None
            asked = ask(made, body, stream=True, inside=inside)
            told = await tell(made, asked, pipeline=flagging(made))
            assert told.code is None
            assert isinstance(json.loads(arguments(told)), dict)
            assert finish_reasons(told) == ["tool_calls"]

    scenario()


@in_loop
async def test_masked_arguments_are_held_too() -> None:
    async with bench() as made:
        await made.open()
        pipeline = scripted(
            made,
            [ToolCallBegun(0, "id", "look_up")],
            [ToolCallDelta(0, '{"q": "bob@exam')],
            [ToolCallDelta(0, 'ple.com"}'), Finished("tool_calls"), Usage(1, 1)],
        )
        body = chat(tools=[tool()])
        asked = ask(made, body, stream=True, inside=fields(made, policy=MASKED_ARGUMENTS))
        told = await tell(made, asked, pipeline=pipeline)
        assert json.loads(arguments(told)) == {"q": "<EMAIL_ADDRESS>"}
        assert "exam" not in told.text


@pytest.mark.parametrize("held", [False, True])
def test_long_pieces_are_cut_so_that_they_fit(*, held: bool) -> None:
    @in_loop
    async def scenario() -> None:
        text, long = "\x01" * 20_001, json.dumps({"q": "\\" * 20_000})
        async with bench() as made:
            await made.open()
            pipeline = scripted(
                made,
                [TextDelta(text), ToolCallBegun(0, "id", "look_up"), ToolCallDelta(0, long)],
                [Finished("tool_calls")],
            )
            inside = fields(made, policy=MASKED) if held else None
            asked = ask(made, chat(tools=[tool()]), stream=True, inside=inside)
            sink = Recording()
            await run(pipeline, asked, sink)
            told = open_told(asked, sink)
            assert told.code is None
            assert said(told) == text
            assert json.loads(arguments(told)) == json.loads(long)
            assert max(map(len, sink.pieces)) <= CHUNK_FRAMED_MAX_BYTES
            assert told.values.usage is not None
            assert told.values.usage["estimated"] is True  # the model told none

    scenario()


@in_loop
async def test_a_long_thought_is_cut_and_its_signature_follows() -> None:
    async with bench() as made:
        await made.open()
        thoughts = [ReasoningDelta("x" * 20_000, "c2ln"), ReasoningDelta("y" * 9_000)]
        pipeline = scripted(made, [*thoughts, TextDelta("a"), Finished("stop"), Usage(1, 1)])
        told = await tell(made, ask(made, stream=True), pipeline=pipeline)
        assert told.code is None
        found = "".join(str(delta.get("reasoning_content") or "") for delta in told.deltas)
        assert (found.count("x"), found.count("y")) == (20_000, 9_000)
        assert "c2ln" in told.text


class Unary:
    """An upstream that answers in one piece, to a request that streams."""

    async def converse(self, call: Forwarding, witness: Callable[[JSONObject], None]) -> ChatAnswer:
        assert call.whole
        witness({"host": "scripted"})
        return ChatAnswer(("a",), (ToolCall("id", "look_up", {}),), "tool_calls", Usage(1, 1))


@in_loop
async def test_a_whole_answer_is_streamed_at_its_end() -> None:
    async with bench() as made:
        await made.open()
        upstream = cast("Upstreams", Unary())
        policy = made.parts.configuration.policy
        able = {name: words - {"tools_streaming"} for name, words in policy.capabilities.items()}
        configuration = structs.replace(
            made.parts.configuration, policy=structs.replace(policy, capabilities=able)
        )
        parts = replace(made.parts, upstream=upstream, configuration=configuration)
        asked = ask(made, chat(tools=[tool()]), stream=True)
        told = await tell(made, asked, pipeline=Pipeline(parts, nothing))
        assert told.code is None
        assert (said(told), arguments(told)) == ("a", "{}")
        assert finish_reasons(told) == ["tool_calls"]


@pytest.mark.parametrize("policy", ["mask", "flag"])
def test_long_pieces_are_scanned_beside_the_loop(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that says all at once, or ends a long call, must not hold everyone else up."""
    beside: list[bool] = []
    push, end = StreamGuard.push, StreamGuard.end

    def seen(guard: StreamGuard, deltas: Sequence[ChatDelta]) -> list[ChatDelta]:
        beside.append(threading.current_thread() is not threading.main_thread())
        return push(guard, deltas)

    def ended(guard: StreamGuard) -> list[ChatDelta]:
        beside.append(threading.current_thread() is not threading.main_thread())
        return end(guard)

    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            long = "word " * 2_000
            pipeline = scripted(
                made,
                [TextDelta("short")],
                [TextDelta(long)],
                [ToolCallBegun(0, "id", "look_up")],
                [ToolCallDelta(0, json.dumps({"q": long}))],
                [Finished("tool_calls")],
            )
            monkeypatch.setattr(StreamGuard, "push", seen)
            monkeypatch.setattr(StreamGuard, "end", ended)
            inside = fields(made, policy={"rules": {"URL": {"*": {"action": policy}}}})
            told = await tell(made, ask(made, stream=True, inside=inside), pipeline=pipeline)
            assert told.code is None

    scenario()
    # `end` within `push` runs where that runs; the last one ends a stream that holds nothing more.
    masked = [False, True, False, False, True, True, True, False]
    assert beside == (masked if policy == "mask" else [False] * len(beside))


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1, "a": 2}', '{"a": "\ud800"}'])
def test_arguments_that_nobody_can_scan_are_the_models_failure(text: str) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            pipeline = scripted(
                made, [ToolCallBegun(0, "id", "t"), ToolCallDelta(0, text), Finished("tool_calls")]
            )
            asked = ask(made, stream=True, inside=fields(made, policy=MASKED))
            told = await tell(made, asked, pipeline=pipeline)
            assert (told.code, told.public.outcome) == (ErrorCode.ERR_UPSTREAM, "failed")

    scenario()


@in_loop
async def test_a_refusal_is_the_whole_stream() -> None:
    async with bench() as made:
        await made.open()
        told = await tell(made, ask(made, chat(logprobs=True), stream=True))
        assert (told.code, told.public.outcome) == (ErrorCode.ERR_UNSUPPORTED, "refused")
        assert len(told.records) == 1
        assert told.private["returned"] is None
        assert not made.world.home.bedrock.seen


@in_loop
async def test_a_throttled_model_is_told_inside() -> None:
    async with bench() as made:
        await made.open()
        made.world.home.bedrock.faults.on(throttled(times=None))
        told = await tell(made, ask(made, stream=True))
        assert (told.code, told.public.outcome) == (ErrorCode.ERR_UPSTREAM_THROTTLED, "failed")


@pytest.mark.parametrize("kind", [FaultKind.ERROR, FaultKind.CUT, FaultKind.GARBAGE])
def test_a_failure_in_the_middle_is_sealed_behind_what_has_left(kind: FaultKind) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            error = AWSError(424, "ModelStreamErrorException", f"about {EMAIL}")
            made.world.home.bedrock.faults.on(Fault(kind, error, after_events=4))
            asked = ask(made, chat("one two three four"), stream=True)
            told = await tell(made, asked, pipeline=flagging(made))
            assert told.public.outcome == "failed"
            assert told.records[-1].error is not None
            assert said(told).startswith("You said")
            assert EMAIL not in told.text
            sent = b"".join(each.body for each in told.records if each.error is None)
            assert is_hash_of(told.private["returned"], sent)
            assert told.values.usage is not None
            assert told.values.usage["estimated"] is True  # it has cost something all the same
            assert made.parts.receipts.totals()[TENANT]["requests"] == 1

    scenario()


@pytest.mark.parametrize("accident", list(Accident))
def test_a_lost_model_call_is_a_failure(accident: Accident) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            made.cloud.fail("converse-stream", accident)
            told = await tell(made, ask(made, stream=True))
            assert (told.code, told.public.outcome) == (ErrorCode.ERR_UPSTREAM, "failed")

    scenario()


@in_loop
async def test_a_model_that_stalls_ends_at_its_deadline() -> None:
    async with bench(model_timeout_ms=200) as made:
        await made.open()
        slow = Fault(FaultKind.SLOW, seconds=20, after_events=3)
        made.world.home.bedrock.faults.on(slow)
        told = await tell(made, ask(made, stream=True))
        assert (told.code, told.public.outcome) == (ErrorCode.ERR_UPSTREAM_TIMEOUT, "failed")


@in_loop
async def test_a_cancelled_stream_ends_in_a_sealed_final_and_cuts_the_model() -> None:
    async with bench() as made:
        await made.open()
        made.world.home.bedrock.faults.on(Fault(FaultKind.SLOW, seconds=20, after_events=3))
        asked, sink = ask(made, stream=True), Recording()
        running = asyncio.create_task(run(flagging(made), asked, sink))
        while len(sink.pieces) < 2:  # noqa: ASYNC110  # the sink is no event source
            await asyncio.sleep(0.01)
        running.cancel()
        await running
        told = open_told(asked, sink)
        assert (told.code, told.public.outcome) == (ErrorCode.ERR_CANCELLED, "cancelled")
        assert told.private["returned"] is not None


class Gone(Recording):
    """The parent's connection is lost after a number of pieces."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def content(self, framed: bytes) -> None:
        if len(self.pieces) == self.after:
            raise LatensgateError("the parent is gone", code=ErrorCode.ERR_CANCELLED)
        super().content(framed)

    def finish(self, released: Released, content: bytes) -> None:
        del released, content
        raise LatensgateError("the parent is gone", code=ErrorCode.ERR_CANCELLED)


@pytest.mark.parametrize("after", [0, 2])
def test_a_parent_that_is_gone_ends_the_stream(after: int) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            sink = Gone(after)
            with pytest.raises(LatensgateError) as caught:
                await run(flagging(made), ask(made, stream=True), sink)
            assert caught.value.code is ErrorCode.ERR_CANCELLED
            assert sink.released is None

    scenario()


@in_loop
async def test_a_stream_that_does_not_open_is_not_sealed() -> None:
    async with bench() as made:
        await made.open()
        asked, sink = ask(made, stream=True), Recording()
        made.keys.drop()
        with pytest.raises(LatensgateError):
            await run(made.pipeline, asked, sink)
        assert sink.begun is None


@pytest.mark.parametrize(
    ("name", "most"), [("_STREAM_MAX_BYTES", 5_000), ("_STREAM_MAX_CHUNKS", 9)]
)
def test_a_stream_too_long_for_its_frames_ends_sealed_and_receipted(
    monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(stream_module, name, most)

    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            pieces = [[TextDelta("word ")] for _ in range(100)]
            told = await tell(made, ask(made, stream=True), pipeline=scripted(made, *pieces))
            assert told.code is ErrorCode.ERR_TOO_LARGE
            assert 0 < len(said(told)) < 500
            sent = b"".join(each.body for each in told.records[:-1])
            assert is_hash_of(told.private["returned"], sent)

    scenario()


@in_loop
async def test_a_masked_thought_is_told_without_its_signature() -> None:
    """Its provider would refuse words that it did not sign in the next turn."""
    async with bench() as made:
        await made.open()
        thoughts = [
            ReasoningDelta("x " * 5_000 + EMAIL, "bG9zdA=="),
            ReasoningDelta("as it came", "a2VwdA=="),
        ]
        pipeline = scripted(made, [*thoughts, TextDelta("a"), Finished("stop"), Usage(1, 1)])
        inside = fields(made, policy=MASKED)
        told = await tell(made, ask(made, stream=True, inside=inside), pipeline=pipeline)
        blocks = [
            each
            for delta in told.deltas
            for each in cast("list[JSONObject]", delta.get("thinking_blocks", []))
        ]
        assert [each["signature"] for each in blocks] == [None, "a2VwdA=="]
        assert blocks[1]["thinking"] == "as it came"
        assert (EMAIL in told.text, "bG9zdA" in told.text) == (False, False)


@in_loop
async def test_a_failed_stream_of_responses_says_so_in_its_own_words_too() -> None:
    async with bench() as made:
        await made.open()
        error = AWSError(424, "ModelStreamErrorException", "m")
        made.world.home.bedrock.faults.on(Fault(FaultKind.ERROR, error, after_events=4))
        asked = ask(
            made,
            {"model": MODEL, "input": "one two", "stream": True},
            operation="responses",
            stream=True,
        )
        told = await tell(made, asked, pipeline=flagging(made))
        assert told.public.outcome == "failed"
        kinds = [record.body_object["type"] for record in told.records if record.error is None]
        assert (kinds[0], kinds[-1]) == ("response.created", "response.failed")
        assert told.records[-1].error is not None
