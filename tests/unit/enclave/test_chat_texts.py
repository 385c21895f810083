"""One walk over all texts: what is seen is what is put back, in one order."""

from __future__ import annotations

from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from latensgate_enclave.chat import ChatRequest, Message, Role, ToolCall, ToolSpec
from latensgate_enclave.chat_answer import ChatAnswer, Usage
from latensgate_enclave.chat_texts import (
    answer_parts,
    request_parts,
    with_answer_texts,
    with_request_texts,
)
from latensgate_enclave.pii import Direction, PIITooLargeError, TextPart
from latensgate_shared.limits import PII_REQUEST_MAX_CHARS, PII_TEXT_COST_CHARS
from latensgate_shared.strict_json import JSONObject, JSONValue

_Built = TypeVar("_Built")


def built(kind: type[_Built], **members: st.SearchStrategy[object]) -> st.SearchStrategy[_Built]:
    """As ``st.builds``, which reads annotations that stand for type checkers alone."""
    return st.fixed_dictionaries(members).map(lambda given: kind(**given))


TEXT = st.text(max_size=6)
SCALARS: st.SearchStrategy[JSONValue] = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | TEXT
)
VALUES: st.SearchStrategy[JSONValue] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECTS: st.SearchStrategy[JSONObject] = st.dictionaries(TEXT, VALUES, max_size=3)
CALLS = built(ToolCall, id=st.sampled_from(["a", "b", "call_0"]), name=TEXT, arguments=OBJECTS)
ROLES: tuple[Role, ...] = ("system", "developer", "user", "assistant", "tool")
MESSAGES = built(
    Message,
    role=st.sampled_from(ROLES),
    text=st.lists(TEXT, max_size=2).map(tuple),
    tool_calls=st.lists(CALLS, max_size=2).map(tuple),
    tool_call_id=st.none() | st.sampled_from(["a", "b", "call_0"]),
)
TOOLS = built(ToolSpec, name=TEXT, description=st.none() | TEXT, parameters=st.none() | OBJECTS)
REQUESTS = built(
    ChatRequest,
    model=st.just("m"),
    messages=st.lists(MESSAGES, max_size=3).map(tuple),
    tools=st.lists(TOOLS, max_size=2).map(tuple),
    forced_tool=st.none() | TEXT,
    stop=st.lists(TEXT, max_size=2).map(tuple),
)
ANSWERS = built(
    ChatAnswer,
    text=st.lists(TEXT, max_size=2).map(tuple),
    tool_calls=st.lists(CALLS, max_size=2).map(tuple),
    finish_reason=st.just("stop"),
    usage=st.just(Usage(1, 2)),
)


def texts(parts: list[TextPart]) -> list[str]:
    return [part.text for part in parts]


def marked(parts: list[TextPart]) -> list[str]:
    """Change every text into one that no other has."""
    return [f"<{number}>{part.text}" for number, part in enumerate(parts)]


@given(REQUESTS)
@settings(deadline=None, max_examples=30)
def test_putting_the_same_texts_back_changes_nothing_but_call_ids(request: ChatRequest) -> None:
    parts = request_parts(request)
    same = with_request_texts(request, texts(parts))
    assert request_parts(same) == parts
    assert with_request_texts(same, texts(parts)) == same  # ids are ours now
    assert replace(same, messages=()) == replace(request, messages=())
    for before, after in zip(request.messages, same.messages, strict=True):
        assert (before.role, before.text) == (after.role, after.text)
        pairs = zip(before.tool_calls, after.tool_calls, strict=True)
        assert all((a.name, a.arguments) == (b.name, b.arguments) for a, b in pairs)


@given(ANSWERS)
@settings(deadline=None, max_examples=30)
def test_an_answer_with_the_same_texts_is_the_same(answer: ChatAnswer) -> None:
    assert with_answer_texts(answer, texts(answer_parts(answer))) == answer


@given(REQUESTS)
@settings(deadline=None, max_examples=30)
def test_every_changed_text_of_a_request_lands_in_its_own_place(request: ChatRequest) -> None:
    changed = marked(request_parts(request))
    assert texts(request_parts(with_request_texts(request, changed))) == changed


@given(ANSWERS)
@settings(deadline=None, max_examples=30)
def test_every_changed_text_of_an_answer_lands_in_its_own_place(answer: ChatAnswer) -> None:
    changed = marked(answer_parts(answer))
    assert texts(answer_parts(with_answer_texts(answer, changed))) == changed


def request_with(arguments: JSONObject) -> ChatRequest:
    return ChatRequest("m", (Message("assistant", (), (ToolCall("x", "tool", arguments),)),))


def arguments_of(request: ChatRequest) -> JSONObject:
    return request.messages[0].tool_calls[0].arguments


def masked(arguments: JSONObject, *secrets: str) -> JSONObject:
    request = request_with(arguments)
    changed = ["<X>" if text in secrets else text for text in texts(request_parts(request))]
    return arguments_of(with_request_texts(request, changed))


def test_a_number_that_is_masked_becomes_text_and_others_stay_numbers() -> None:
    given_arguments: JSONObject = {"card": 4111111111111111, "n": [1, 2.5, True, None]}
    assert masked(given_arguments, "4111111111111111") == {"card": "<X>", "n": [1, 2.5, True, None]}


def test_names_of_members_are_masked_and_none_is_lost() -> None:
    arguments: JSONObject = {"bob@example.com": 1, "eve@example.com": 2, "<X>_2": 3}
    found = masked(arguments, "bob@example.com", "eve@example.com")
    assert found == {"<X>": 1, "<X>_2": 2, "<X>_2_2": 3}


def test_values_carry_the_name_of_their_member_as_a_hint() -> None:
    parts = request_parts(request_with({"iban": ["a", {"inner": 7}]}))
    assert [(part.text, part.hint) for part in parts] == [
        ("tool", ""),
        ("iban", ""),
        ("a", "iban"),
        ("inner", ""),
        ("7", "inner"),
    ]


def test_texts_go_in_the_direction_that_policy_names() -> None:
    request = ChatRequest(
        "m",
        (
            Message("user", ("u",)),
            Message("assistant", ("s",), (ToolCall("i", "t", {"k": "v"}),)),
            Message("tool", ("r",), tool_call_id="i"),
        ),
        tools=(ToolSpec("t", "d", {"p": "q"}),),
        forced_tool="t",
        stop=("e",),
    )
    directions = {part.text: part.direction for part in request_parts(request)}
    assert directions["r"] is Direction.TOOL_RESULTS
    assert directions["k"] is directions["v"] is Direction.TOOL_ARGUMENTS
    assert all(directions[text] is Direction.PROMPT for text in ("u", "s", "d", "p", "q", "e"))
    answer = ChatAnswer(("a",), (ToolCall("i", "t", {"k": 1}),), "stop", Usage(0, 0))
    assert [(part.text, part.direction) for part in answer_parts(answer)] == [
        ("a", Direction.ANSWER),
        ("k", Direction.TOOL_ARGUMENTS),
        ("1", Direction.TOOL_ARGUMENTS),
    ]


def test_too_few_texts_are_a_fault_and_not_a_shorter_request() -> None:
    request = request_with({"a": "b"})
    with pytest.raises((StopIteration, RuntimeError)):
        with_request_texts(request, texts(request_parts(request))[:-1])


def test_more_texts_than_a_scan_takes_on_are_not_even_gathered() -> None:
    most = PII_REQUEST_MAX_CHARS // PII_TEXT_COST_CHARS
    numbers: list[JSONValue] = [*range(most - 2)]
    assert len(request_parts(request_with({"n": numbers}))) == most
    with pytest.raises(PIITooLargeError):
        request_parts(request_with({"n": [*numbers, 0]}))


def test_the_parts_of_one_message_go_on_and_those_of_the_next_do_not() -> None:
    request = ChatRequest("m", (Message("user", ("a", "b")), Message("user", ("c",))))
    assert [part.continues for part in request_parts(request)] == [False, True, False]
