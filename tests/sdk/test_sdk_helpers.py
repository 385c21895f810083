"""The official client's helpers over chat completions; run again with its older versions."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from latensgate import AsyncLatensgate, Latensgate, NoReceiptError, errors, receipt_of
from sdk_gateway import Gateway
from stack import MODEL

MakeAsyncClient = Callable[..., AsyncLatensgate]
MESSAGES: Any = [{"role": "user", "content": "Get weather, please"}]


class Weather(BaseModel):
    city: str


def tools() -> Any:  # noqa: ANN401 -- the official client's own type
    made: Any = openai.pydantic_function_tool(Weather, name="get_weather")
    made["function"]["parameters"].pop("title", None)
    return [made]


def completions(lg: Latensgate | AsyncLatensgate, where: str) -> Any:  # noqa: ANN401 -- of several versions
    client: Any = lg
    found: Any = client.beta.chat.completions if where == "beta" else client.chat.completions
    return found


def has(lg: Latensgate | AsyncLatensgate, where: str, name: str) -> bool:
    return hasattr(completions(lg, where), name)


@pytest.mark.parametrize("where", ["beta", "chat"])
def test_what_is_parsed_keeps_its_receipt(lg: Latensgate, where: str) -> None:
    if not has(lg, where, "parse"):
        pytest.skip("openai 1.60 has it under beta alone")
    answer = completions(lg, where).parse(model=MODEL, messages=MESSAGES, tools=tools())
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather)
    receipt = receipt_of(answer)
    assert receipt.outcome == "answered"
    assert answer.attestation_hash == receipt.attestation_hash
    assert answer.audit_receipt_id == receipt.audit_receipt_id
    assert answer.model_dump()["choices"][0]["finish_reason"] == "tool_calls"
    assert receipt_of(copy.deepcopy(answer)) == receipt


def test_what_is_parsed_by_a_task_keeps_its_receipt(make_async: MakeAsyncClient) -> None:
    async def run() -> None:
        async with make_async() as lg:
            answer = await completions(lg, "beta").parse(
                model=MODEL, messages=MESSAGES, tools=tools()
            )
            assert receipt_of(answer).outcome == "answered"

    asyncio.run(run())


def test_a_schema_is_kept(lg: Latensgate) -> None:
    answer = completions(lg, "beta").parse(model=MODEL, messages=MESSAGES, response_format=Weather)
    assert isinstance(answer.choices[0].message.parsed, Weather)
    assert receipt_of(answer).outcome == "answered"


def test_what_cannot_be_honoured_is_refused_by_the_enclave(lg: Latensgate) -> None:
    """Converse has no log probabilities, so nobody pretends."""
    with pytest.raises(errors.LatensgateClientError) as caught:
        lg.chat.completions.create(model=MODEL, messages=MESSAGES, logprobs=True)
    assert caught.value.error_code.name == "ERR_UNSUPPORTED"
    assert receipt_of(caught.value).outcome == "refused"


def test_the_stream_helper(lg: Latensgate) -> None:
    with completions(lg, "beta").stream(model=MODEL, messages=MESSAGES, tools=tools()) as stream:
        with pytest.raises(NoReceiptError):
            receipt_of(stream)
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
        assert receipt_of(stream).outcome == "answered"
    assert "chunk" in kinds
    assert isinstance(final.choices[0].message.tool_calls[0].function.parsed_arguments, Weather)


def test_the_stream_helper_of_tasks(make_async: MakeAsyncClient) -> None:
    async def run() -> None:
        async with make_async() as lg:
            asked = completions(lg, "beta").stream(model=MODEL, messages=MESSAGES)
            async with asked as stream:
                async for _ in stream:
                    pass
                assert receipt_of(stream).outcome == "answered"

    asyncio.run(run())


def test_a_stream_helper_that_is_left_harms_nobody(lg: Latensgate, gateway: Gateway) -> None:
    with completions(lg, "beta").stream(model=MODEL, messages=MESSAGES) as stream:
        next(iter(stream))
    answer = lg.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert receipt_of(answer).outcome == "answered"
    assert gateway.runs == 2


def test_streams_of_raw_and_streamed_responses(lg: Latensgate) -> None:
    asked: Any = {"model": MODEL, "messages": MESSAGES, "stream": True}
    raw: Any = lg.chat.completions.with_raw_response
    raw = raw.create(**asked)
    stream: Any = raw.parse()
    assert list(stream)
    assert receipt_of(stream) == receipt_of(raw)
    streaming: Any = lg.chat.completions.with_streaming_response
    with streaming.create(**asked) as response:
        assert "data: [DONE]" in list(response.iter_lines())
        assert receipt_of(response).outcome == "answered"


def test_an_error_of_the_consumer_passes_as_it_is(lg: Latensgate) -> None:
    stream = lg.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)

    def consume() -> None:
        with stream:
            for _ in stream:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        consume()
    assert stream.response.is_closed


def test_answers_can_be_copied_and_pickled(lg: Latensgate) -> None:
    answer = lg.chat.completions.create(model=MODEL, messages=MESSAGES)
    for other in (copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):  # noqa: S301 -- our own
        assert receipt_of(other) == receipt_of(answer)
        assert other.audit_receipt_id == answer.audit_receipt_id
    assert "receipt=" not in repr(answer)
