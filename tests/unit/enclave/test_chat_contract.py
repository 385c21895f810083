"""Every field of OpenAI's contract has a fate, the documentation tells it, and none is silent."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from typing import get_type_hints

import pytest
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)

from latensgate_enclave.chat import parse_chat_request
from latensgate_enclave.chat_native import HINTS, NEEDED
from latensgate_enclave.chat_operation import ChatModelRequest
from latensgate_enclave.chat_values import RequestInvalidError, UnsupportedError
from latensgate_enclave.measured import ModelRoute
from latensgate_enclave.model_traits import CAPABILITIES, ModelTraits
from latensgate_enclave.operation import Forwarding, of_kind
from latensgate_shared.strict_json import JSONObject, JSONValue
from paths import REPOSITORY

PAGE = (REPOSITORY / "docs/compatibility.md").read_text()
FIELDS = frozenset(
    {
        *get_type_hints(CompletionCreateParamsNonStreaming),
        *get_type_hints(CompletionCreateParamsStreaming),
    }
)
TOOL: JSONObject = {"type": "function", "function": {"name": "f"}}
BASE: JSONObject = {
    "model": "m",
    "messages": [{"role": "user", "content": "x"}],
    "tools": [TOOL],
    "max_tokens": 9_000,
    "stream": False,
}
ROUTE = ModelRoute("id", "us-east-1", "row")
ALL = ModelTraits()
SAMPLES: dict[str, JSONObject] = {
    "audio": {"audio": {"voice": "x", "format": "wav"}},
    "frequency_penalty": {"frequency_penalty": 0.5},
    "function_call": {"tools": None, "functions": [{"name": "f"}], "function_call": {"name": "f"}},
    "functions": {"tools": None, "functions": [{"name": "f", "description": "d"}]},
    "logit_bias": {"logit_bias": {"1": 5}},
    "logprobs": {"logprobs": True},
    "max_completion_tokens": {"max_tokens": None, "max_completion_tokens": 7},
    "max_tokens": {"max_tokens": 7},
    "messages": {"messages": [{"role": "user", "content": "other"}]},
    "metadata": {"metadata": {"a": "b"}},
    "modalities": {"modalities": ["text", "audio"]},
    "model": {"model": "other"},
    "moderation": {"moderation": {"model": "x"}},
    "n": {"n": 3},
    "parallel_tool_calls": {"parallel_tool_calls": False},
    "prediction": {"prediction": {"type": "content", "content": "x"}},
    "presence_penalty": {"presence_penalty": -1},
    "prompt_cache_key": {"prompt_cache_key": "k"},
    "prompt_cache_options": {"prompt_cache_options": {"mode": "explicit"}},
    "prompt_cache_retention": {"prompt_cache_retention": "24h"},
    "reasoning_effort": {"reasoning_effort": "high"},
    "response_format": {"response_format": {"type": "json_object"}},
    "safety_identifier": {"safety_identifier": "s"},
    "seed": {"seed": 7},
    "service_tier": {"service_tier": "priority"},
    "stop": {"stop": ["END"]},
    "store": {"store": True},
    "stream": {"stream": True},
    "stream_options": {"stream": True, "stream_options": {"include_usage": True}},
    "temperature": {"temperature": 0.5},
    "tool_choice": {"tool_choice": "required"},
    "tools": {"tools": [TOOL, {"type": "function", "function": {"name": "g"}}]},
    "top_logprobs": {"top_logprobs": 2},
    "top_p": {"top_p": 0.5},
    "user": {"user": "u"},
    "verbosity": {"verbosity": "high"},
    "web_search_options": {"web_search_options": {}},
}

EVERYTHING: JSONObject = {
    name: value
    for field in sorted(SAMPLES)
    if field in NEEDED
    for name, value in SAMPLES[field].items()
}


def rows(title: str) -> dict[str, str]:
    """Read first and second column of a table of the page."""
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `([a-z_]+)` \| ([^|]+?) \|", section, re.MULTILINE)
    return dict(found)


def asked(members: JSONObject) -> ChatModelRequest:
    return ChatModelRequest(parse_chat_request({**BASE, **members}))


def called(request: ChatModelRequest) -> tuple[Forwarding, ...]:
    return request.translate(ROUTE, ALL)


def fate(field: str) -> str:
    """Find out what happens to a field."""
    try:
        request = asked(SAMPLES[field])
        calls = called(request)
    except UnsupportedError as error:
        return "refused" if error.param == field else f"refused as {error.param}"
    before = called(asked({}))
    if field in {*request.dropped, *calls[0].dropped}:
        assert [each.body for each in calls] == [each.body for each in before]
        return "listed"
    (call, *more), plain = calls, before[0]
    if more or (call.reader != plain.reader and field == "response_format"):
        return "emulated"
    if call.body != plain.body:
        return "mapped"
    return "answer" if request.chat != asked({}).chat else "silent"


def test_the_page_names_every_field_and_no_other() -> None:
    assert rows("Fields of the request").keys() == FIELDS == SAMPLES.keys()
    assert len(FIELDS) == 37


@pytest.mark.parametrize("field", sorted(FIELDS - {"model"}))
def test_every_field_has_the_fate_that_the_page_tells(field: str) -> None:
    assert fate(field) == rows("Fields of the request")[field]


UPSTREAM = ModelRoute("id", "row", upstream="house")
BY_UPSTREAM = rows("Fields that only an upstream of kind `openai` takes")


def test_the_page_names_what_only_such_an_upstream_takes() -> None:
    assert {field: word.strip("`") for field, word in BY_UPSTREAM.items()} == NEEDED


@pytest.mark.parametrize("field", sorted(NEEDED))
def test_an_upstream_of_openais_kind_is_sent_what_its_row_names(field: str) -> None:
    request = asked(SAMPLES[field])
    (call,) = request.translate(UPSTREAM, ALL)
    assert json.loads(call.body)[field] == SAMPLES[field][field]
    assert field not in call.dropped
    lacking = ALL.without(NEEDED[field])
    if field in HINTS:
        (call,) = request.translate(UPSTREAM, lacking)
        assert field not in json.loads(call.body)
        assert field in call.dropped
        return
    with pytest.raises(UnsupportedError) as caught:
        request.translate(UPSTREAM, lacking)
    assert caught.value.param == field


def test_the_full_row_takes_everything() -> None:
    table = tomllib.loads((REPOSITORY / "enclave/policy.toml").read_text())["capabilities"]
    traits = ModelTraits(frozenset(table["openai-chat"]))
    assert set(NEEDED.values()) <= traits.able
    assert asked(EVERYTHING).translate(UPSTREAM, traits)


def test_the_page_names_every_capability() -> None:
    assert rows("Capability words").keys() == CAPABILITIES


def test_the_measured_rows_hold_known_words_only() -> None:
    table = tomllib.loads((REPOSITORY / "enclave/policy.toml").read_text())["capabilities"]
    for name, words in table.items():
        assert ModelTraits(frozenset(words)).embeds or CAPABILITIES.issuperset(words), name


def test_the_tests_that_the_page_names_exist() -> None:
    section = PAGE.partition("## Complaints")[2]
    named = set(re.findall(r"`(test_\w+)`", section))
    assert len(named) > 10
    defined: set[str] = set()
    for file in (REPOSITORY / "tests/unit/enclave").glob("test_*.py"):
        tree = ast.parse(file.read_text())
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        defined |= {node.name for node in ast.walk(tree) if isinstance(node, functions)}
    assert named <= defined


@pytest.mark.parametrize(
    ("word", "members", "param"),
    [
        ("sampling", {"temperature": 0.5}, "temperature"),
        ("sampling", {"top_p": 0.5}, "top_p"),
        ("tools", {}, "tools"),
        ("forced_tools", {"tool_choice": "required"}, "tool_choice"),
        ("service_tier", {"service_tier": "flex"}, "service_tier"),
    ],
)
def test_what_a_row_lacks_is_refused_by_name(word: str, members: JSONObject, param: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        asked(members).translate(ROUTE, ModelTraits(CAPABILITIES - {word}))
    assert caught.value.param == param


IMAGE: JSONObject = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SOUND: JSONObject = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
FILE: JSONObject = {"type": "file", "file": {"file_data": "AAAA", "filename": "Ada.PDF"}}


@pytest.mark.parametrize(
    ("word", "part"), [("images", IMAGE), ("audio", SOUND), ("documents", FILE)]
)
def test_a_model_that_cannot_see_it_refuses_an_attachment(word: str, part: JSONObject) -> None:
    content: list[JSONValue] = [{"type": "text", "text": "see"}, part]
    request = asked({"messages": [{"role": "user", "content": content}]})
    (call,) = called(request)
    assert b"Ada" not in call.body
    with pytest.raises(RequestInvalidError) as caught:
        request.translate(ROUTE, ModelTraits(CAPABILITIES - {word}))
    assert caught.value.param == "messages[0].content[1]"


def test_a_value_of_another_operation_is_a_mistake_of_ours() -> None:
    assert of_kind("x", str) == "x"
    with pytest.raises(TypeError):
        of_kind("x", int)


def test_a_masked_name_calls_no_tool() -> None:
    request = asked({})
    texts = [part.text for part in request.parts()]
    assert request.with_texts(texts) is not None
    assert request.with_texts(["<X>"] * len(texts)) is None
