"""Responses requests: what is admitted, what becomes of it, and what each error is called."""

from __future__ import annotations

from typing import Any

import pytest

from latensgate_enclave.aws.converse import build_converse_body
from latensgate_enclave.chat_values import ReasoningBlock, RequestInvalidError, UnsupportedError
from latensgate_enclave.measured_upstreams import ModelRoute
from latensgate_enclave.model_traits import ModelTraits
from latensgate_enclave.responses import ParsedResponses, in_own_words, parse_responses_request
from latensgate_enclave.responses_operation import ResponsesOperation
from latensgate_shared.errors import ErrorCode
from latensgate_shared.strict_json import JSONObject

OPERATION = ResponsesOperation()
ROUTE = ModelRoute("us.anthropic.x", "full", region="us-east-1")
TOOL: dict[str, Any] = {"type": "function", "name": "f", "parameters": {"type": "object"}}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":1}', "id": "fc_1"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "done"}
USER = {"role": "user", "content": "hi"}


def parsed(**members: Any) -> ParsedResponses:  # noqa: ANN401 -- JSON
    return parse_responses_request({"model": "m", "input": "hi", **members})


def said(*items: object) -> list[tuple[str, tuple[str, ...]]]:
    chat = parsed(input=list(items)).chat
    return [(message.role, message.text) for message in chat.messages]


def test_a_text_is_the_users() -> None:
    found = parsed(instructions="be kind")
    assert [(m.role, m.text) for m in found.chat.messages] == [
        ("system", ("be kind",)),
        ("user", ("hi",)),
    ]
    assert found.origins == (None, None)
    assert found.dropped == ()


def test_messages_of_everybody() -> None:
    output: JSONObject = {
        "type": "output_text",
        "text": "o",
        "annotations": [],
        "logprobs": [],
    }
    found = said(
        {"role": "developer", "content": "d"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "u"}]},
        {
            "role": "assistant",
            "content": [output, {"type": "refusal", "refusal": "no"}],
            "id": "msg_1",
            "status": "completed",
            "phase": "commentary",
        },
        {"role": "assistant", "content": "more"},
        {"role": "system", "content": "s"},
        USER,
    )
    assert found == [
        ("developer", ("d",)),
        ("user", ("u",)),
        ("assistant", ("o", "no", "more")),
        ("system", ("s",)),
        ("user", ("hi",)),
    ]


def test_what_the_model_said_in_one_go_is_one_message() -> None:
    thought = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "hm"}],
        "content": [{"type": "reasoning_text", "text": "!"}],
        "encrypted_content": "c2ln",
        "status": "completed",
    }
    hidden: JSONObject = {"type": "reasoning", "summary": [], "encrypted_content": "aGlk"}
    plain = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "open"}]}
    empty: JSONObject = {"type": "reasoning", "summary": []}
    spoken = {"role": "assistant", "content": "let me see"}
    silent = {"role": "assistant", "content": ""}
    items = [USER, thought, hidden, plain, empty, spoken, silent, CALL, OUTPUT, USER]
    found = parsed(input=items, tools=[TOOL])
    assistant = found.chat.messages[1]
    assert assistant.text == ("let me see",)
    assert assistant.reasoning == (
        ReasoningBlock("hm!", "c2ln"),
        ReasoningBlock("", None, "aGlk"),
    )
    assert assistant.tool_calls[0].arguments == {"a": 1}
    assert found.chat.messages[2].text == ("done",)
    assert found.origins == (0, 1, 8, 9)


def test_results_may_be_parts() -> None:
    result = {**OUTPUT, "output": [{"type": "input_text", "text": "x"}]}
    found = parsed(input=[USER, CALL, result], tools=[TOOL])
    assert found.chat.messages[2].text == ("x",)


def test_images_and_documents() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
    document = {"type": "input_file", "file_data": "data:text/plain;base64,YQ=="}
    parts = [image, {**image, "detail": "low"}, document, {**document, "filename": "a.txt"}]
    said_with: Any = [{"role": "user", "content": parts}]
    assert OPERATION.parse({"model": "m", "input": said_with}).attachments() == 2
    (message,) = parsed(input=said_with).chat.messages
    assert [each.kind for each in message.attachments] == ["image", "image", "document", "document"]


def test_settings_are_said_in_the_words_of_chat() -> None:
    found = parsed(
        max_output_tokens=7,
        temperature=0.5,
        top_p=0.25,
        parallel_tool_calls=False,
        stream=True,
        stream_options={"include_obfuscation": False},
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        tools=[{**TOOL, "description": "d", "strict": True}],
        tool_choice={"type": "function", "name": "f"},
        user="u",
        prompt_cache_key="k",
        safety_identifier="s",
        metadata={"a": "b"},
        service_tier="flex",
        max_tool_calls=3,
        include=["reasoning.encrypted_content"],
        store=True,
        background=False,
        previous_response_id=None,
        truncation="disabled",
        top_logprobs=0,
    )
    chat = found.chat
    assert (chat.max_tokens, chat.temperature, chat.top_p) == (7, 0.5, 0.25)
    assert (chat.parallel_tool_calls, chat.stream, chat.obfuscate) == (False, True, False)
    assert (chat.reasoning_effort, chat.service_tier, chat.forced_tool) == ("low", "flex", "f")
    assert chat.response_format is not None
    assert chat.response_format.name == "n"
    assert chat.tools[0].strict
    assert found.dropped == ("prompt_cache_key", "safety_identifier", "store", "user")
    asked = found.asked.members
    assert found.asked.summary
    assert asked["service_tier"] == "flex"
    assert asked["store"] is False
    assert asked["metadata"] == {"a": "b"}
    assert asked["tool_choice"] == {"type": "function", "name": "f"}
    assert asked["text"] == {
        "format": {
            "type": "json_schema",
            "name": "n",
            "schema": {"type": "object"},
            "description": None,
            "strict": False,
        }
    }


@pytest.mark.parametrize(
    ("form", "has"),
    [({"type": "text"}, False), ({"type": "json_object"}, True), (None, False)],
)
def test_forms_of_text(form: object, has: bool) -> None:  # noqa: FBT001 -- drawn
    found = parsed(text={"format": form, "verbosity": "medium"})
    assert (found.chat.response_format is not None) is has
    assert found.asked.members["text"] == {
        "format": form or {"type": "text"},
        "verbosity": "medium",
    }


def test_some_tools_may_be_allowed() -> None:
    other = {**TOOL, "name": "g"}
    choice = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "g"}],
    }
    found = parsed(tools=[TOOL, other], tool_choice=choice)
    assert [tool.name for tool in found.chat.tools] == ["g"]
    assert found.asked.members["tool_choice"] == choice
    assert parsed(tools=[TOOL], tool_choice="required").asked.members["tool_choice"] == "required"


def test_an_older_name_of_the_summary() -> None:
    found = parsed(reasoning={"generate_summary": "concise"})
    assert found.asked.members["reasoning"] == {"effort": None, "summary": "concise"}
    assert found.chat.reasoning_effort is None
    assert not parsed(reasoning={"effort": "low"}).asked.summary


REFUSED: list[tuple[dict[str, Any], str, ErrorCode]] = [
    ({"input": None}, "input", ErrorCode.ERR_REQUEST_INVALID),
    ({"input": []}, "input", ErrorCode.ERR_REQUEST_INVALID),
    ({"input": [1]}, "input[0]", ErrorCode.ERR_REQUEST_INVALID),
    ({"input": ""}, "input", ErrorCode.ERR_REQUEST_INVALID),
    ({"model": None}, "model", ErrorCode.ERR_REQUEST_INVALID),
    ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", ErrorCode.ERR_UNSUPPORTED),
    ({"input": [{"type": "web_search_call"}]}, "input[0].type", ErrorCode.ERR_UNSUPPORTED),
    ({"input": [USER, OUTPUT]}, "input[1]", ErrorCode.ERR_REQUEST_INVALID),
    ({"input": [USER, CALL]}, "input", ErrorCode.ERR_REQUEST_INVALID),
    ({"input": [USER, CALL, USER]}, "input[2]", ErrorCode.ERR_REQUEST_INVALID),
    (
        {"input": [USER, {**CALL, "arguments": "x"}, OUTPUT]},
        "input[1]",
        ErrorCode.ERR_REQUEST_INVALID,
    ),
    ({"instructions": 1}, "instructions", ErrorCode.ERR_REQUEST_INVALID),
    ({"conversation": "c"}, "conversation", ErrorCode.ERR_UNSUPPORTED),
    ({"background": True}, "background", ErrorCode.ERR_UNSUPPORTED),
    ({"background_options": {}}, "background_options", ErrorCode.ERR_UNSUPPORTED),
    ({"previous_response_id": "r"}, "previous_response_id", ErrorCode.ERR_UNSUPPORTED),
    ({"prompt": {}}, "prompt", ErrorCode.ERR_UNSUPPORTED),
    ({"store": 1}, "store", ErrorCode.ERR_UNSUPPORTED),
    ({"truncation": "auto"}, "truncation", ErrorCode.ERR_UNSUPPORTED),
    ({"top_logprobs": 2}, "top_logprobs", ErrorCode.ERR_UNSUPPORTED),
    ({"moderation": {}}, "moderation", ErrorCode.ERR_UNSUPPORTED),
    ({"messages": []}, "messages", ErrorCode.ERR_UNSUPPORTED),
    ({"n": 2}, "n", ErrorCode.ERR_UNSUPPORTED),
    ({"metadata": {"a": 1}}, "metadata[...]", ErrorCode.ERR_REQUEST_INVALID),
    ({"metadata": {"a": "b" * 513}}, "metadata[...]", ErrorCode.ERR_REQUEST_INVALID),
    ({"max_output_tokens": 0}, "max_output_tokens", ErrorCode.ERR_REQUEST_INVALID),
    ({"temperature": 3}, "temperature", ErrorCode.ERR_REQUEST_INVALID),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort", ErrorCode.ERR_UNSUPPORTED),
    ({"tools": [TOOL, TOOL]}, "tools", ErrorCode.ERR_REQUEST_INVALID),
    ({"tools": [{**TOOL, "name": "a b"}]}, "tools[0].name", ErrorCode.ERR_REQUEST_INVALID),
    ({"tools": [{"type": "mcp"}]}, "tools[0].type", ErrorCode.ERR_UNSUPPORTED),
    ({"tool_choice": "required"}, "tool_choice", ErrorCode.ERR_REQUEST_INVALID),
    (
        {"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}},
        "text.format.name",
        ErrorCode.ERR_REQUEST_INVALID,
    ),
    (
        {"stream_options": {"include_obfuscation": True}},
        "stream_options",
        ErrorCode.ERR_REQUEST_INVALID,
    ),
    (
        {"stream_options": {"include_usage": True}},
        "stream_options.include_usage",
        ErrorCode.ERR_UNSUPPORTED,
    ),
]


@pytest.mark.parametrize(("members", "param", "code"), REFUSED)
def test_what_is_refused_names_its_field(
    members: dict[str, Any], param: str, code: ErrorCode
) -> None:
    with pytest.raises(RequestInvalidError) as caught:
        parsed(**members)
    assert caught.value.param == param
    assert caught.value.code is code


def test_what_the_model_cannot_names_its_field() -> None:
    request = OPERATION.parse({"model": "m", "input": "a", "tools": [TOOL]})
    with pytest.raises(UnsupportedError) as caught:
        request.translate(ROUTE, ModelTraits().without("tools"))
    assert caught.value.param == "tools"


@pytest.mark.parametrize(
    ("param", "own"),
    [
        ("max_tokens", "max_output_tokens"),
        ("max_completion_tokens", "max_output_tokens"),
        ("verbosity", "text.verbosity"),
        ("response_format", "text.format"),
        ("response_format.json_schema.schema", "text.format.schema"),
        ("tools[3].function.parameters", "tools[3].parameters"),
        ("tool_choice.function", "tool_choice"),
        ("messages", "input"),
        ("messages[1].content[2]", "input[5]"),
        ("messages[0].content", "input"),
        ("top_p", "top_p"),
    ],
)
def test_errors_speak_of_what_was_written(param: str, own: str) -> None:
    error = in_own_words(UnsupportedError("no", param=param), (None, 5))
    assert (error.param, error.code) == (own, ErrorCode.ERR_UNSUPPORTED)
    assert error.detail.endswith(": no")


def test_every_text_is_seen() -> None:
    word = "Zaphod"
    body: dict[str, Any] = {
        "model": "m",
        "instructions": f"i {word}",
        "input": [
            {"role": "user", "content": f"u {word}"},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": f"r {word}"}]},
            {**CALL, "arguments": f'{{"{word}":"{word}"}}'},
            {**OUTPUT, "output": f"o {word}"},
        ],
        "tools": [{**TOOL, "description": f"d {word}", "parameters": {"title": f"t {word}"}}],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"title": f"s {word}"}}},
    }
    request = OPERATION.parse(body)
    masked = request.with_texts([part.text.replace(word, "***") for part in request.parts()])
    assert masked is not None
    (call,) = masked.translate(ROUTE, ModelTraits())
    assert b"***" in call.body
    assert word.encode() not in call.body
    assert (masked.model, masked.stream) == ("m", False)


def test_a_masked_name_calls_no_tool() -> None:
    request = OPERATION.parse({"model": "m", "input": "a", "tools": [TOOL]})
    assert request.with_texts(["masked" for _ in request.parts()]) is None


def test_the_same_model_call_as_chat() -> None:
    from latensgate_enclave.chat import parse_chat_request  # noqa: PLC0415 -- compared with

    (call,) = OPERATION.parse({"model": "m", "input": "a", "instructions": "b"}).translate(
        ROUTE, ModelTraits()
    )
    messages: list[Any] = [{"role": "system", "content": "b"}, {"role": "user", "content": "a"}]
    chat = parse_chat_request({"model": "m", "messages": messages})
    assert call.body == build_converse_body(chat, ModelTraits())
