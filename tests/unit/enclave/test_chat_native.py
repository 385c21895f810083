"""Fields that only OpenAI's own interface has: scanned, sent, and what comes back for them."""

from __future__ import annotations

import json
from typing import cast

import pytest

from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.aws.converse import build_converse_body
from latensgate_enclave.aws.eventstream import EventMessage
from latensgate_enclave.chat import parse_chat_request
from latensgate_enclave.chat_answer import (
    ChatAnswer,
    ChatDelta,
    CompletionHead,
    Finished,
    NativeDelta,
    TextDelta,
    Usage,
)
from latensgate_enclave.chat_deltas import Collector
from latensgate_enclave.chat_native import NativeAnswer, unscannable
from latensgate_enclave.chat_operation import ChatModelRequest
from latensgate_enclave.chat_render import ChunkRenderer, render_completion
from latensgate_enclave.chat_values import ChatRequest, Message, UnsupportedError
from latensgate_enclave.model_traits import ModelTraits
from latensgate_enclave.openai_upstream_answer import OpenAIStream, parse_openai_answer
from latensgate_shared.strict_json import JSONObject, JSONValue

HEAD = CompletionHead("chatcmpl-1", 7, "m")
TOKEN: JSONObject = {"token": "Hi", "bytes": [72, 105], "logprob": -0.5}
LOGPROBS: JSONObject = {"content": [{**TOKEN, "top_logprobs": [TOKEN]}], "refusal": None}
CITATION: JSONObject = {
    "type": "url_citation",
    "url_citation": {"start_index": 0, "end_index": 2, "title": "T", "url": "https://a.example"},
}
AUDIO: JSONObject = {"id": "a1", "data": "QUJD", "expires_at": 5, "transcript": "Hi"}
FOUND: JSONObject = {
    "categories": {"violence": False},
    "category_applied_input_types": {"violence": ["text"]},
    "category_scores": {"violence": 0.5},
    "flagged": False,
    "model": "judge-1",
    "type": "moderation_result",
}
VERDICT: JSONObject = {"type": "moderation_results", "model": "judge-1", "results": [FOUND]}
FAILED: JSONObject = {"type": "error", "code": "busy", "message": "SECRET"}
ALL = frozenset({"logprobs", "web_search_options", "modalities", "moderation"})
FIELDS: JSONObject = {
    "audio": {"format": "wav", "voice": {"id": "voice_1"}},
    "logit_bias": {"50256": -100},
    "modalities": ["text", "audio"],
    "moderation": {"model": "judge-1", "policy": {"input": {"mode": "score"}}},
    "prediction": {"type": "content", "content": [{"type": "text", "text": "Ada wrote"}]},
    "seed": 4111111111111111,
    "verbosity": "low",
    "web_search_options": {
        "search_context_size": "low",
        "user_location": {"type": "approximate", "approximate": {"city": "Bonn"}},
    },
}


def parsed(**members: JSONValue) -> ChatRequest:
    return parse_chat_request(
        {"model": "m", "messages": [{"role": "user", "content": "x"}], **members}
    )


def test_defaults_are_absent_and_others_are_kept_as_they_came() -> None:
    assert parsed(modalities=["text"], logit_bias={}, seed=None).native == {}
    assert parsed(**FIELDS).native == FIELDS


def test_the_scan_sees_every_text_that_the_caller_chose_and_nothing_else() -> None:
    texts = [part.text for part in ChatModelRequest(parsed(**FIELDS)).parts()]
    own = ["voice_1", "50256", "judge-1", "Ada wrote", "4111111111111111", "Bonn"]
    assert texts == ["x", *own]


def masked(text: str) -> ChatModelRequest | None:
    request = ChatModelRequest(parsed(**FIELDS))
    texts = ["<X>" if part.text == text else part.text for part in request.parts()]
    return request.with_texts(texts)


@pytest.mark.parametrize("text", ["voice_1", "50256", "judge-1", "4111111111111111"])
def test_a_masked_name_names_nothing(text: str) -> None:
    assert masked(text) is None


@pytest.mark.parametrize(("text", "field"), [("Ada wrote", "prediction"), ("Bonn", "web")])
def test_a_masked_text_travels_masked(text: str, field: str) -> None:
    found = masked(text)
    assert found is not None
    native = json.dumps(found.chat.native)
    assert "<X>" in native
    assert text not in native, field


def test_what_no_scan_can_reach() -> None:
    assert set(unscannable(parsed(**FIELDS, logprobs=True).native)) == ALL
    assert unscannable(parsed(audio=FIELDS["audio"], seed=1, verbosity="low").native) == ()


@pytest.mark.parametrize(
    "both",
    [
        {"max_tokens": 0, "max_completion_tokens": 0},
        {"max_completion_tokens": 0},
        {"max_tokens": 0},
    ],
)
def test_no_token_at_all_is_not_for_converse(both: JSONObject) -> None:
    request = parsed(**both)
    assert request.max_tokens == 0
    with pytest.raises(UnsupportedError) as caught:
        build_converse_body(request, ModelTraits())
    assert caught.value.param == "max_completion_tokens"


FUNCTION: JSONObject = {"name": "f", "description": "d", "parameters": {"foo": "bar"}}


def test_tools_that_stand_there_in_both_forms_are_one_offer() -> None:
    tools: list[JSONValue] = [{"type": "function", "function": {**FUNCTION, "strict": True}}]
    found = parsed(tools=tools, functions=[FUNCTION], tool_choice="none", function_call="none")
    assert (len(found.tools), found.functions, found.tool_choice) == (1, False, "none")
    assert found.tools[0].strict


def test_converse_is_told_that_arguments_are_an_object() -> None:
    request = parsed(tools=[{"type": "function", "function": FUNCTION}])
    body = json.loads(build_converse_body(request, ModelTraits()))
    (tool,) = body["toolConfig"]["tools"]
    assert tool["toolSpec"]["inputSchema"]["json"] == {"type": "object", "foo": "bar"}


def test_options_of_a_stream_without_one_are_listed() -> None:
    found = parsed(stream_options={"include_usage": True}, store=True)
    assert found.dropped == ("store", "stream_options")
    assert parsed(stream=True, stream_options={"include_usage": True}).dropped == ()


# --- answers ---


def whole(message: JSONObject, choice: JSONObject, **more: JSONValue) -> bytes:
    told: JSONObject = {"message": message, "finish_reason": "stop", **choice}
    return json.dumps({"choices": [told], "usage": {"prompt_tokens": 1}, **more}).encode()


EVERYTHING = whole(
    {"content": "Hi", "annotations": [CITATION], "audio": AUDIO},
    {"logprobs": LOGPROBS},
    moderation={"input": VERDICT, "output": FAILED},
    service_tier="flex",
    system_fingerprint="fp_1",
)


def rendered(answer: ChatAnswer) -> JSONObject:
    request = ChatRequest("m", (Message("user", ("x",)),))
    return render_completion([answer], HEAD, request)


def test_what_was_asked_for_comes_back() -> None:
    told = rendered(parse_openai_answer(EVERYTHING, frozenset(), 0, ALL))
    (choice,) = cast("list[JSONObject]", told["choices"])
    message = cast("JSONObject", choice["message"])
    assert choice["logprobs"] == LOGPROBS
    assert (message["annotations"], message["audio"]) == ([CITATION], AUDIO)
    assert (told["service_tier"], told["system_fingerprint"]) == ("flex", "fp_1")
    moderation = cast("JSONObject", told["moderation"])
    assert moderation["input"] == VERDICT
    assert "SECRET" not in json.dumps(told)


def test_what_was_not_asked_for_is_ignored() -> None:
    told = rendered(parse_openai_answer(EVERYTHING, frozenset()))
    (choice,) = cast("list[JSONObject]", told["choices"])
    assert choice["logprobs"] is None
    assert "moderation" not in told
    assert "audio" not in json.dumps(choice)
    one = parse_openai_answer(EVERYTHING, frozenset(), 0, frozenset({"moderation"})).native
    assert (one.message, one.logprobs) == ({}, None)
    assert (
        "moderation"
        not in parse_openai_answer(EVERYTHING, frozenset(), 0, frozenset({"logprobs"})).native.head
    )


@pytest.mark.parametrize(("tier", "mark"), [("words of its own", "two words"), (5, {}), (None, 1)])
def test_heads_in_other_words_are_left_out(tier: JSONValue, mark: JSONValue) -> None:
    raw = whole({"content": "x"}, {}, service_tier=tier, system_fingerprint=mark)
    told = rendered(parse_openai_answer(raw, frozenset()))
    assert told["service_tier"] == "default"
    assert "system_fingerprint" not in told


@pytest.mark.parametrize(
    "raw",
    [
        whole({"content": "x"}, {"logprobs": {"content": [{"token": 1, "logprob": 0}]}}),
        whole({"content": "x"}, {"logprobs": {"content": [{**TOKEN, "bytes": [256]}]}}),
        whole({"content": "x", "audio": {"data": "not base64!"}}, {}),
        whole({"content": "x"}, {}, moderation={"input": VERDICT}),
        whole({"content": "x"}, {"logprobs": {"content": [{**TOKEN, "token": "?"}]}}).replace(
            b'"?"', b'"\\ud800"'
        ),
    ],
)
def test_what_is_not_of_openais_form_is_an_error(raw: bytes) -> None:
    with pytest.raises(UpstreamError):
        parse_openai_answer(raw, frozenset(), 0, ALL)


def test_the_scan_counts_citations_and_the_words_of_a_sound() -> None:
    answer = parse_openai_answer(EVERYTHING, frozenset(), 0, ALL)
    texts = [part.text for part in answer.parts()]
    assert texts == ["Hi", "T", "https://a.example", "Hi"]
    again = answer.with_texts(["Hi", "<T>", "<U>", "<S>"])
    assert "<T>" in json.dumps(again.native.message)
    assert again.native.logprobs == LOGPROBS


# --- streams ---


def received(asked: frozenset[str], *events: object) -> list[ChatDelta]:
    stream = OpenAIStream(frozenset(), asked)
    raw = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in events]
    return [delta for data in raw for delta in stream.receive(EventMessage({}, data))]


EVENTS: tuple[object, ...] = (
    {"choices": [{"delta": {"content": "Hi"}, "logprobs": LOGPROBS}], "service_tier": "flex"},
    {
        "choices": [
            {
                "delta": {"annotations": [CITATION], "audio": {"transcript": "Hi"}},
                "finish_reason": "stop",
            }
        ],
        "service_tier": "flex",
    },
    {"choices": [], "moderation": {"input": VERDICT, "output": VERDICT}},
    b"[DONE]",
)


def test_a_stream_tells_it_behind_its_piece_and_before_the_end() -> None:
    found = received(ALL, *EVENTS)
    assert found == [
        NativeDelta(NativeAnswer(head={"service_tier": "flex"})),
        TextDelta("Hi"),
        NativeDelta(NativeAnswer(logprobs=LOGPROBS)),
        NativeDelta(
            NativeAnswer({"annotations": [CITATION], "audio": {"transcript": "Hi"}}),
        ),
        Finished("stop"),
        NativeDelta(NativeAnswer(head={"moderation": {"input": VERDICT, "output": VERDICT}})),
    ]
    assert received(frozenset(), *EVENTS)[1:] == [TextDelta("Hi"), Finished("stop")]


def test_chunks_tell_it() -> None:
    request = ChatRequest("m", (Message("user", ("x",)),), stream=True, obfuscate=False)
    renderer = ChunkRenderer(HEAD, request)
    chunks = renderer.begin(0)
    for delta in received(ALL, *EVENTS):
        chunks += renderer.render(delta)
    told = [json.loads(chunk) for chunk in chunks]
    assert [each.get("service_tier") for each in told] == [None, *["flex"] * 5]
    assert told[2]["choices"][0]["logprobs"] == LOGPROBS
    assert told[3]["choices"][0]["delta"]["annotations"] == [CITATION]
    assert told[4]["choices"][0]["finish_reason"] == "stop"
    assert (told[5]["choices"], told[5]["moderation"]["input"]) == ([], VERDICT)


def test_what_left_in_pieces_is_counted_as_a_whole() -> None:
    collector = Collector()
    collector.add(received(ALL, *EVENTS))
    collector.add([NativeDelta(NativeAnswer({"audio": {"transcript": " you"}})), Usage(1, 1)])
    texts = [part.text for part in collector.answer().parts()]
    assert texts == ["Hi", "T", "https://a.example", "Hi you"]
