"""Embeddings and responses by the official client, over a gateway and a real enclave.

``test_sdk_matrix`` runs this file again with older versions of the client.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from latensgate import AsyncLatensgate, Latensgate, NoReceiptError, errors, receipt_of
from latensgate_shared.errors import ErrorCode
from latensgate_sim.faults import throttled
from sdk_gateway import Asked, Gateway, Told
from stack import MODEL

MakeAsyncClient = Callable[..., AsyncLatensgate]
TITAN, COHERE, NOVA = "titan-embed-text-v2", "cohere-embed-v4", "nova-embed-2"
COHERE_V3 = "cohere-embed-multilingual-v3"
WORD = "xylophone-4711"
needs_responses = pytest.mark.skipif(
    not hasattr(openai.OpenAI, "responses"), reason="openai 1.60 has no responses"
)
TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather of a place.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Answer(BaseModel):
    city: str


def responses(lg: Latensgate | AsyncLatensgate) -> Any:  # noqa: ANN401 -- of several versions
    client: Any = lg
    return client.responses


# --- embeddings ---


@pytest.mark.parametrize(
    ("model", "dimensions"), [(TITAN, 1024), (COHERE, 1536), (COHERE_V3, 1024), (NOVA, 3072)]
)
def test_embeddings_of_each_family(lg: Latensgate, model: str, dimensions: int) -> None:
    answer = lg.embeddings.create(model=model, input=["the red house", "a red house", "tax law"])
    vectors = [each.embedding for each in answer.data]
    assert [each.index for each in answer.data] == [0, 1, 2]
    assert {len(vector) for vector in vectors} == {dimensions}
    assert answer.usage.prompt_tokens == 8
    assert answer.usage.total_tokens == 8
    assert answer.model == model
    near, far = (sum(map(float.__mul__, vectors[0], vectors[n])) for n in (1, 2))
    assert near > far + 0.2
    receipt = receipt_of(answer)
    assert receipt.usage["total_tokens"] == 8
    named: Any = answer
    assert receipt.attestation_hash == named.attestation_hash
    assert type(answer).__name__ == "ConfidentialEmbeddings"


def test_both_encodings_say_the_same(lg: Latensgate) -> None:
    as_base64 = lg.embeddings.create(model=TITAN, input=WORD, dimensions=256)
    as_floats = lg.embeddings.create(
        model=TITAN, input=WORD, dimensions=256, encoding_format="float"
    )
    for one, other in zip(as_base64.data[0].embedding, as_floats.data[0].embedding, strict=True):
        assert one == pytest.approx(other, rel=1e-6)


def test_many_texts_of_a_model_that_takes_one_keep_their_order(lg: Latensgate) -> None:
    texts = [f"text number {n}" for n in range(30)]
    together = lg.embeddings.create(model=TITAN, input=texts, dimensions=256)
    alone = lg.embeddings.create(model=TITAN, input=texts[17], dimensions=256)
    assert together.data[17].embedding == alone.data[0].embedding
    assert len(together.data) == len(texts)


def test_embeddings_raw_and_async(lg: Latensgate, make_async: MakeAsyncClient) -> None:
    raw = lg.embeddings.with_raw_response.create(model=TITAN, input=WORD)
    assert receipt_of(raw).outcome == "answered"
    assert len(raw.parse().data) == 1
    with lg.embeddings.with_streaming_response.create(model=TITAN, input=WORD) as streamed:
        assert json.loads(streamed.read())["object"] == "list"

    async def run() -> None:
        async with make_async() as client:
            answer = await client.embeddings.create(model=COHERE, input=[WORD, "b"])
            assert receipt_of(answer).outcome == "answered"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({"input": [1, 2, 3]}, "input", ErrorCode.ERR_UNSUPPORTED),
        ({"input": [[1, 2], [3]]}, "input", ErrorCode.ERR_UNSUPPORTED),
        ({"input": ["a", " "]}, "input[1]", ErrorCode.ERR_REQUEST_INVALID),
        ({"input": ""}, "input", ErrorCode.ERR_REQUEST_INVALID),
        ({"input": []}, "input", ErrorCode.ERR_REQUEST_INVALID),
        ({"input": "a", "dimensions": 2048}, "dimensions", ErrorCode.ERR_UNSUPPORTED),
        ({"input": "a", "model": MODEL}, "model", ErrorCode.ERR_UNSUPPORTED),
        ({"input": "a", "extra_body": {"x": 1}}, "x", ErrorCode.ERR_UNSUPPORTED),
    ],
)
def test_embeddings_that_are_refused(
    lg: Latensgate, asked: dict[str, Any], param: str, code: ErrorCode
) -> None:
    members: dict[str, Any] = {"model": TITAN, **asked}
    with pytest.raises(errors.LatensgateClientError) as caught:
        lg.embeddings.create(**members)
    assert caught.value.error_code is code
    assert caught.value.param == param
    assert receipt_of(caught.value).outcome == "refused"


def test_an_embedding_model_does_not_chat(lg: Latensgate) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        lg.chat.completions.create(model=TITAN, messages=[{"role": "user", "content": "a"}])
    assert caught.value.param == "model"


def test_embeddings_of_a_throttled_model(lg: Latensgate, gateway: Gateway) -> None:
    patient = lg.with_options(max_retries=0)
    faults = gateway.stack.world.home.bedrock.faults
    faults.on(throttled(times=None))
    try:
        with pytest.raises(openai.RateLimitError):
            patient.embeddings.create(model=TITAN, input=["a", "b", "c"])
    finally:
        faults.clear()


# --- responses ---


@needs_responses
def test_a_response(lg: Latensgate) -> None:
    answer = responses(lg).create(
        model=MODEL,
        input=f"The word is {WORD}.",
        instructions="Be brief.",
        metadata={"a": "b"},
        max_output_tokens=500,
    )
    assert answer.output_text == f"You said: The word is {WORD}."
    assert answer.id.startswith("resp_")
    assert answer.object == "response"
    assert answer.status == "completed"
    assert answer.metadata == {"a": "b"}
    assert answer.instructions == "Be brief."
    assert answer.usage.total_tokens == receipt_of(answer).usage["total_tokens"]
    assert answer.attestation_hash == receipt_of(answer).attestation_hash
    assert answer.to_dict()["store"] is False


@needs_responses
def test_a_response_ends_where_its_tokens_do(lg: Latensgate) -> None:
    answer = responses(lg).create(model=MODEL, input="many words to say again", max_output_tokens=2)
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output[0].status == "incomplete"


@needs_responses
def test_events_of_a_stream(lg: Latensgate) -> None:
    with responses(lg).create(model=MODEL, input=WORD, stream=True) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == events[-1].response.output_text == f"You said: {WORD}"
    assert receipt_of(stream).outcome == "answered"


@needs_responses
def test_a_stream_ends_with_its_last_event_as_openais_do(lg: Latensgate) -> None:
    streaming = responses(lg).with_streaming_response.create(model=MODEL, input=WORD, stream=True)
    with streaming as response:
        lines = [line for line in response.iter_lines() if line]
    assert lines[-2] == "event: response.completed"
    assert json.loads(lines[-1].removeprefix("data: "))["type"] == "response.completed"


@needs_responses
def test_events_longer_than_a_chunk_arrive_whole(lg: Latensgate) -> None:
    text = "語" * 22_000 + '"'
    with responses(lg).stream(model=MODEL, input=text) as stream:
        final = stream.get_final_response()
    assert final.output_text == f"You said: {text}"
    assert receipt_of(stream).outcome == "answered"


@needs_responses
def test_a_conversation_with_a_tool(lg: Latensgate) -> None:
    asked: Any = [{"role": "user", "content": "Get weather of Rome"}]
    first = responses(lg).create(model=MODEL, input=asked, tools=[TOOL], tool_choice="required")
    (call,) = first.output
    assert call.type == "function_call"
    assert json.loads(call.arguments)["city"]
    asked += first.output
    asked.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny"})
    second = responses(lg).create(model=MODEL, input=asked, tools=[TOOL])
    assert second.output_text == "Tool result: sunny"


@needs_responses
def test_a_tool_call_in_a_stream(lg: Latensgate) -> None:
    with responses(lg).stream(model=MODEL, input="Get weather of Rome", tools=[TOOL]) as stream:
        deltas = [e.delta for e in stream if e.type == "response.function_call_arguments.delta"]
        final = stream.get_final_response()
    (call,) = final.output
    assert json.loads("".join(deltas)) == json.loads(call.arguments)
    assert call.name == "get_weather"


@needs_responses
def test_what_is_parsed_keeps_its_receipt(lg: Latensgate) -> None:
    if not hasattr(responses(lg), "parse"):
        pytest.skip("this version has no responses.parse")
    answer = responses(lg).parse(model=MODEL, input="Rome", text_format=Answer)
    assert isinstance(answer.output_parsed, Answer)
    assert receipt_of(answer).audit_receipt_id == answer.audit_receipt_id
    if openai.__version__.startswith("2."):
        pytest.skip("pydantic warns of the items of openai 2.x themselves")
    told = json.loads(answer.model_dump_json())  # warnings of pydantic are errors here
    assert told["output"][0]["content"][0]["parsed"] == answer.output_parsed.model_dump()


@needs_responses
def test_async_raw_and_streaming_responses(make_async: MakeAsyncClient) -> None:
    async def run() -> None:
        async with make_async() as lg:
            answer = await responses(lg).create(model=MODEL, input=WORD)
            assert answer.output_text.endswith(WORD)
            raw = await responses(lg).with_raw_response.create(model=MODEL, input=WORD)
            assert receipt_of(raw).outcome == "answered"
            async with responses(lg).stream(model=MODEL, input=WORD) as stream:
                final = await stream.get_final_response()
            assert final.output_text.endswith(WORD)
            assert receipt_of(stream).outcome == "answered"
            streaming = responses(lg).with_streaming_response.create(model=MODEL, input=WORD)
            async with streaming as whole:
                assert json.loads(await whole.read())["object"] == "response"

    asyncio.run(run())


@needs_responses
@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
        ({"input": [{"role": "user", "content": list[str]()}]}, "input[0]"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"extra_body": {"messages": list[str]()}}, "messages"),
    ],
)
def test_responses_that_are_refused(lg: Latensgate, asked: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        responses(lg).create(**{"model": MODEL, "input": "a", **asked})
    assert caught.value.param == param
    assert receipt_of(caught.value).outcome == "refused"


@needs_responses
@pytest.mark.parametrize("call", ["retrieve", "delete", "cancel"])
def test_nothing_is_stored(lg: Latensgate, gateway: Gateway, call: str) -> None:
    before = len(gateway.asked)
    with pytest.raises(errors.LatensgateClientError) as caught:
        getattr(responses(lg), call)("resp_1")
    assert caught.value.error_code is ErrorCode.ERR_UNSUPPORTED
    assert len(gateway.asked) == before


@needs_responses
def test_a_stream_that_fails_says_so_twice(lg: Latensgate, gateway: Gateway) -> None:
    faults = gateway.stack.world.home.bedrock.faults
    faults.on(throttled(after_events=3))
    kinds: list[str] = []
    stream = responses(lg).create(model=MODEL, input="some words to say again", stream=True)
    with pytest.raises(openai.RateLimitError) as caught:
        kinds.extend(event.type for event in stream)
    assert kinds[-1] == "response.failed"
    assert receipt_of(caught.value).outcome == "failed"


CUTS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "the end": lambda events: events[:-1],
    "most of it": lambda events: events[:4],
    "one in the middle": lambda events: events[:4] + events[5:],
    "two the other way round": lambda events: [*events[:3], events[4], events[3], *events[5:]],
    "one twice": lambda events: [*events[:4], *events[3:]],
}


@needs_responses
@pytest.mark.parametrize("name", CUTS)
def test_a_stream_of_responses_that_is_not_whole_is_an_error(
    lg: Latensgate, gateway: Gateway, name: str
) -> None:
    def twist(asked: Asked, told: Told) -> Told:
        if not asked.inference:
            return told
        events = [each for each in told.body.split(b"\n\n") if each.startswith(b"data:")]
        return replace(told, body=b"\n\n".join([*CUTS[name](events), b""]))

    gateway.twist = twist
    kinds: list[str] = []
    stream = responses(lg).create(model=MODEL, input="word " * 200, stream=True)
    with pytest.raises((errors.AnswerInvalid, errors.AnswerTruncated)) as caught:
        kinds.extend(event.type for event in stream)
    assert "response.completed" not in kinds  # not before the receipt was verified
    assert isinstance(caught.value, errors.LatensgateClientError)
    with pytest.raises(NoReceiptError):
        receipt_of(stream)
