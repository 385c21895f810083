"""Chat completions from seal to seal: order of chunks, several answers, thoughts, waits."""

from __future__ import annotations

import json
from typing import cast

import pytest

from enclave_client import Told, ask, chat, fields, tell, tool
from enclave_doubles import bench, in_loop
from latensgate_shared.errors import ErrorCode
from latensgate_shared.strict_json import JSONObject, JSONValue
from latensgate_sim.errors import AWSError
from latensgate_sim.faults import Fault, FaultKind, throttled


def choices(told: Told) -> list[JSONObject]:
    return cast("list[JSONObject]", told.body["choices"])


def chunks(told: Told) -> list[JSONObject]:
    return [record.body_object for record in told.records]


def message(told: Told) -> JSONObject:
    return cast("JSONObject", choices(told)[0]["message"])


@in_loop
async def test_the_order_of_chunks_is_openais() -> None:
    async with bench() as made:
        await made.open()
        body = chat("one two three", stream_options={"include_usage": True})
        found = chunks(await tell(made, ask(made, body, stream=True)))
        assert len({(each["id"], each["created"], each["model"]) for each in found}) == 1
        *told, usage = found
        first = cast("list[JSONObject]", told[0]["choices"])[0]
        assert first["delta"] == {"role": "assistant", "content": "", "refusal": None}
        every = [cast("list[JSONObject]", each["choices"])[0] for each in told]
        assert all({"index", "delta", "logprobs", "finish_reason"} == each.keys() for each in every)
        assert [each["finish_reason"] for each in every] == [None] * (len(every) - 1) + ["stop"]
        assert every[-1]["delta"] == {}
        assert not any("role" in cast("JSONObject", each["delta"]) for each in every[1:])
        assert all(each["usage"] is None for each in told)
        assert usage["choices"] == []
        assert cast("JSONObject", usage["usage"])["total_tokens"]


@pytest.mark.parametrize("stream", [False, True])
def test_several_answers_are_several_calls_and_one_usage(*, stream: bool) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            one = await tell(made, ask(made, chat("a b c"), stream=stream))
            three = await tell(made, ask(made, chat("a b c", n=3), stream=stream))
            once, thrice = one.values.usage, three.values.usage
            assert once is not None
            assert thrice is not None
            assert thrice["total_tokens"] == 3 * cast("int", once["total_tokens"])
            if not stream:
                assert [each["index"] for each in choices(three)] == [0, 1, 2]
                return
            ended = [
                choice["index"]
                for each in chunks(three)
                for choice in cast("list[JSONObject]", each["choices"])
                if choice["finish_reason"]
            ]
            assert ended == [0, 1, 2]

    scenario()


@pytest.mark.parametrize("after_events", [None, 3])
def test_a_throttle_tells_how_long_to_wait(after_events: int | None) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            made.world.home.bedrock.faults.on(throttled(after_events=after_events, times=None))
            told = await tell(made, ask(made, chat("a b c d"), stream=after_events is not None))
            error = told.records[-1].error
            assert error is not None
            assert error.code is ErrorCode.ERR_UPSTREAM_THROTTLED
            assert error.retry_after_ms == 1_000

    scenario()


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("ValidationException", "Input is too long.", ErrorCode.ERR_CONTEXT_LENGTH),
        ("ValidationException", "S3CRET", ErrorCode.ERR_UPSTREAM_REFUSED),
        ("ServiceQuotaExceededException", "S3CRET", ErrorCode.ERR_UPSTREAM_QUOTA),
        ("AccessDeniedException", "S3CRET", ErrorCode.ERR_UPSTREAM_DENIED),
    ],
)
@pytest.mark.parametrize("after_events", [None, 2])
def test_a_providers_refusal_is_told_by_class_and_never_by_its_words(
    name: str, text: str, code: ErrorCode, after_events: int | None
) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            fault = Fault(
                FaultKind.ERROR, AWSError(400, name, text), after_events=after_events, times=None
            )
            made.world.home.bedrock.faults.on(fault)
            told = await tell(made, ask(made, stream=after_events is not None))
            assert told.code is code
            assert text not in told.text
            assert (code.http_status, code.openai_code) in {
                (400, "context_length_exceeded"),
                (400, "ERR_UPSTREAM_REFUSED"),
                (429, "insufficient_quota"),
                (403, "ERR_UPSTREAM_DENIED"),
            }

    scenario()


@in_loop
async def test_a_stream_that_ends_early_in_good_order_is_an_error() -> None:
    async with bench() as made:
        await made.open()
        made.world.home.bedrock.faults.on(Fault(FaultKind.END, after_events=3))
        told = await tell(made, ask(made, chat("a b c d"), stream=True))
        assert (told.code, told.public.outcome) == (ErrorCode.ERR_UPSTREAM, "failed")


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_survive_a_conversation_with_tools(*, stream: bool) -> None:
    """The simulated Claude demands its thought back, unchanged and in front of the call."""

    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            offered: JSONObject = {"tools": [tool()], "reasoning_effort": "low"}
            question: JSONObject = {"role": "user", "content": "please look up Ada"}
            body: JSONObject = {**chat(), **offered, "messages": [question]}
            first = await tell(made, ask(made, body, stream=stream))
            assert first.code is None
            said = _joined(first) if stream else message(first)
            assert said["reasoning_content"]
            (call,) = cast("list[JSONObject]", said["tool_calls"])
            result: JSONObject = {"role": "tool", "tool_call_id": call["id"], "content": "found"}
            messages: list[JSONValue] = [question, said, result]
            body["messages"] = messages
            again = await tell(made, ask(made, body))
            assert again.code is None
            assert str(message(again)["content"]).startswith("Tool result")
            cut = {name: value for name, value in said.items() if name != "thinking_blocks"}
            messages[1] = cut
            lost = await tell(made, ask(made, body))
            assert lost.code is ErrorCode.ERR_UPSTREAM_REFUSED

    scenario()


def _joined(told: Told) -> JSONObject:
    """Put the deltas of a stream together as clients do."""
    whole: JSONObject = {"role": "assistant", "content": None, "reasoning_content": ""}
    blocks: list[JSONValue] = []
    call: JSONObject = {}
    arguments = ""
    for delta in told.deltas:
        whole["reasoning_content"] = str(whole["reasoning_content"]) + str(
            delta.get("reasoning_content") or ""
        )
        blocks += cast("list[JSONValue]", delta.get("thinking_blocks") or [])
        for piece in cast("list[JSONObject]", delta.get("tool_calls") or []):
            function = cast("JSONObject", piece["function"])
            arguments += str(function["arguments"])
            call = {**piece, **call}
    named = cast("JSONObject", call["function"])["name"]
    call["function"] = {"name": named, "arguments": arguments}
    return {**whole, "thinking_blocks": blocks, "tool_calls": [call]}


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
def test_json_is_json(kind: str) -> None:
    @in_loop
    async def scenario() -> None:
        schema: JSONObject = {
            "type": "object",
            "properties": {"town": {"type": "string"}},
            "required": ["town"],
        }
        named: JSONObject = {"name": "place", "schema": schema}
        form: JSONObject = {"type": kind}
        if kind == "json_schema":
            form["json_schema"] = named
        async with bench() as made:
            await made.open()
            told = await tell(made, ask(made, chat("Paris", response_format=form)))
            assert told.code is None
            found = json.loads(str(message(told)["content"]))
            assert found.keys() == ({"town"} if kind == "json_schema" else {"answer"})

    scenario()


@in_loop
async def test_fields_that_a_model_is_not_sent_stand_in_the_receipt() -> None:
    async with bench() as made:
        await made.open()
        body = chat(seed=1, prediction={"type": "content", "content": "x"}, metadata={"a": "b"})
        told = await tell(made, ask(made, body))
        assert told.private["fields_dropped"] == ["metadata", "prediction", "seed"]


_HARD = ErrorCode.ERR_PII_HARD_FAIL
IMAGE: JSONObject = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SEEN: JSONObject = {"messages": [{"role": "user", "content": [IMAGE]}]}


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (None, None),
        ("allow", None),
        ("mask", ErrorCode.ERR_PII_HARD_FAIL),
        ("fail", ErrorCode.ERR_PII_HARD_FAIL),
    ],
)
def test_attachments_go_on_as_the_policy_says_and_are_counted(
    action: str | None, code: ErrorCode | None
) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            policy: JSONObject = {"rules": {"ATTACHMENT": {"prompt": {"action": action}}}}
            inside = fields(made, policy=policy) if action else None
            told = await tell(made, ask(made, chat() | SEEN, inside=inside))
            assert told.code is code
            pii = cast("JSONObject", told.private["pii"])
            assert pii["counts"] == {"ATTACHMENT": {"prompt": 1}}
            assert bool(made.world.home.bedrock.seen) == (code is None)

    scenario()
