"""Images, documents and sounds: out of the request itself, named neutrally, scanned if text."""

from __future__ import annotations

import base64

import pytest

from latensgate_enclave.chat import parse_chat_request
from latensgate_enclave.chat_texts import request_parts, with_request_texts
from latensgate_enclave.chat_values import (
    Attachment,
    ChatRequest,
    Message,
    ReasoningBlock,
    RequestInvalidError,
    UnsupportedError,
)
from latensgate_shared.errors import TooLargeError
from latensgate_shared.limits import CHAT_ATTACHMENTS_MAX_COUNT
from latensgate_shared.strict_json import JSONObject, JSONValue


def parse(*messages: JSONObject, **members: JSONValue) -> ChatRequest:
    return parse_chat_request({"model": "m", "messages": list[JSONValue](messages), **members})


def user(*parts: JSONObject) -> JSONObject:
    return {"role": "user", "content": list[JSONValue](parts)}


def text(value: str, **more: JSONValue) -> JSONObject:
    return {"type": "text", "text": value, **more}


def image(url: str, **more: JSONValue) -> JSONObject:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def file(**members: JSONValue) -> JSONObject:
    return {"type": "file", "file": members}


def b64(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def test_parts_keep_their_places() -> None:
    found = parse(
        user(
            image("data:image/jpg;base64,AAAA", detail="high"),
            text("a", prompt_cache_breakpoint={"mode": "explicit"}),
            {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "mp3"}},
            text(" "),
            file(file_data="data:application/pdf;base64,CCCC", filename="Ada Lovelace.pdf"),
        )
    )
    (message,) = found.messages
    assert message.text == ("a",)
    content = "messages[0].content"
    assert message.attachments == (
        Attachment("image", "jpeg", "AAAA", None, 0, f"{content}[0]"),
        Attachment("audio", "mp3", "BBBB", None, 1, f"{content}[2]"),
        Attachment("document", "pdf", "CCCC", None, 1, f"{content}[4]"),
    )
    assert found.dropped == (
        "messages.content.image_url.detail",
        "messages.content.prompt_cache_breakpoint",
    )
    assert found.attachments() == {"image": 1, "audio": 1, "document": 1}
    assert "AAAA" not in repr(found)


def test_a_document_that_is_text_is_scanned() -> None:
    for part in (
        file(file_data=b64("mail bob"), filename="x.TXT"),
        file(file_data="data:text/markdown;base64," + b64("mail bob")),
    ):
        found = parse(user(part))
        assert [each.text for each in request_parts(found)] == ["mail bob"]
        assert not found.attachments()
        masked = with_request_texts(found, ["<X>"])
        assert masked.messages[0].attachments[0].text == "<X>"


UNSUPPORTED: list[tuple[JSONObject, str]] = [
    (image("https://example.com/a.png"), "image_url.url"),
    (image("data:image/png,raw"), "image_url.url"),
    (image("data:image/png"), "image_url.url"),
    (image(f"data:image/png{';' * 300};base64,AAAA"), "image_url.url"),
    (image("data:image/svg+xml;base64,AAAA"), "image_url.url"),
    (file(file_id="file-1"), "file.file_id"),
    (file(file_data="AAAA", filename="a.exe"), "file.file_data"),
    (file(file_data="AAAA"), "file.file_data"),
]
INVALID: list[tuple[JSONObject, str]] = [
    (image("data:image/png;base64,?"), "image_url.url"),
    (image("data:image/png;base64,"), "image_url.url"),
    (file(filename="a.pdf"), "file.file_data"),
    (file(file_data="/w==", filename="a.txt"), "file.file_data"),
    (file(file_data=b64(" "), filename="a.txt"), "file.file_data"),
    ({"type": "input_audio", "input_audio": {"data": "é", "format": "wav"}}, "input_audio.data"),
]


@pytest.mark.parametrize(("part", "param"), UNSUPPORTED + INVALID)
def test_what_cannot_be_taken_is_refused_by_name(part: JSONObject, param: str) -> None:
    with pytest.raises(RequestInvalidError) as caught:
        parse(user(text("x"), part))
    assert caught.value.param == f"messages[0].content[1].{param}"
    is_unsupported = any(part is each for each, _ in UNSUPPORTED)
    assert isinstance(caught.value, UnsupportedError) == is_unsupported


def test_attachments_are_counted() -> None:
    part = image("data:image/png;base64,AAAA")
    parse(user(*[part] * CHAT_ATTACHMENTS_MAX_COUNT))
    with pytest.raises(TooLargeError):
        parse(user(*[part] * CHAT_ATTACHMENTS_MAX_COUNT), user(part))


def assistant(**members: JSONValue) -> JSONObject:
    return {"role": "assistant", "content": "a", **members}


def test_signed_thoughts_come_back_and_unsigned_ones_are_listed() -> None:
    signed: JSONObject = {"type": "thinking", "thinking": "why", "signature": "c2ln"}
    hidden: JSONObject = {"type": "redacted_thinking", "data": "AAA="}
    start = user(text("x"))
    found = parse(start, assistant(thinking_blocks=[signed, hidden], reasoning_content="why"))
    blocks = (ReasoningBlock("why", "c2ln"), ReasoningBlock(redacted="AAA="))
    assert found.messages[1].reasoning == blocks
    assert found.dropped == ()
    unsigned: JSONObject = {"type": "thinking", "thinking": "why", "signature": None}
    assert parse(start, assistant(thinking_blocks=[unsigned])).dropped == (
        "messages.thinking_blocks",
    )
    assert parse(start, assistant(reasoning_content="why")).dropped == (
        "messages.reasoning_content",
    )
    long = parse(
        start, assistant(reasoning_content="why", thinking_blocks=[{**signed, "thinking": ""}])
    )
    assert long.messages[1].reasoning == (ReasoningBlock("why", "c2ln"),)
    twice = parse(start, assistant(thinking_blocks=[{**signed, "thinking": ""}, signed]))
    assert [each.text for each in twice.messages[1].reasoning] == ["", "why"]


def test_a_thought_that_is_masked_loses_its_signature() -> None:
    signed: JSONObject = {"type": "thinking", "thinking": "bob", "signature": "c2ln"}
    hidden: JSONObject = {"type": "redacted_thinking", "data": "AAA="}
    found = parse(user(text("x")), assistant(thinking_blocks=[signed, hidden]))
    texts = [each.text for each in request_parts(found)]
    assert texts == ["x", "a", "bob"]
    assert with_request_texts(found, texts) == found
    masked = with_request_texts(found, ["x", "a", "<X>"])
    assert masked.messages[1].reasoning == (ReasoningBlock("<X>"), ReasoningBlock(redacted="AAA="))


def test_functions_that_are_given_up_are_tools() -> None:
    call: JSONObject = {"name": "f", "arguments": '{"a": 1}'}
    found = parse(
        user(text("x")),
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "f", "content": "found"},
        {"role": "assistant", "function_call": call},
        {"role": "function", "name": "f", "content": None},
        functions=[{"name": "f"}],
        function_call="auto",
    )
    ids = [call.id for each in found.messages for call in each.tool_calls]
    assert ids == ["call_0", "call_1"]
    assert [each.tool_call_id for each in found.messages if each.role == "tool"] == ids
    assert (found.functions, found.parallel_tool_calls, found.tool_choice) == (True, False, "auto")
    assert (
        parse(user(text("x")), functions=[{"name": "f"}], function_call={"name": "f"}).forced_tool
        == "f"
    )


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "name": "f", "content": "x"}, "messages[1].name"),
        (
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{"}},
            "messages[1].function_call.arguments",
        ),
    ],
)
def test_functions_that_do_not_match(message: JSONObject, param: str) -> None:
    with pytest.raises(RequestInvalidError) as caught:
        parse(user(text("x")), message)
    assert caught.value.param == param


def test_formats_and_choices() -> None:
    tools: list[JSONValue] = [{"type": "function", "function": {"name": name}} for name in "fg"]
    allowed: JSONObject = {
        "mode": "required",
        "tools": [{"type": "function", "function": {"name": "g"}}],
    }
    found = parse(
        user(text("x")),
        tools=tools,
        tool_choice={"type": "allowed_tools", "allowed_tools": allowed},
        service_tier="flex",
        reasoning_effort="low",
        parallel_tool_calls=False,
        n=2,
        max_tokens=5,
        max_completion_tokens=5,
    )
    assert ([tool.name for tool in found.tools], found.tool_choice) == (["g"], "required")
    assert (found.service_tier, found.reasoning_effort, found.n) == ("flex", "low", 2)
    assert (found.max_tokens, found.parallel_tool_calls) == (5, False)
    schema: JSONObject = {"type": "object", "title": "bob"}
    form: JSONObject = {
        "type": "json_schema",
        "json_schema": {"name": "n", "description": "d", "schema": schema, "strict": True},
    }
    structured = parse(user(text("x")), response_format=form)
    assert structured.response_format is not None
    assert structured.response_format.schema == schema
    texts = [each.text for each in request_parts(structured)]
    assert texts == ["x", "n", "d", "type", "object", "title", "bob"]
    assert with_request_texts(structured, texts) == structured
    bare: JSONObject = {"type": "json_schema", "json_schema": {"name": "n"}}
    assert parse(user(text("x")), response_format=bare).response_format is not None


def test_an_assistant_may_have_said_nothing() -> None:
    assert parse(user(text("x")), {"role": "assistant"}).messages[1] == Message("assistant", ())
