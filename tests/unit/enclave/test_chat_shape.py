"""What a model's row lacks is done to its answer, whole or in any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latensgate_enclave.aws.bedrock import UpstreamError
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
from latensgate_enclave.chat_deltas import Collector, as_deltas
from latensgate_enclave.chat_shape import PLAIN, Shape, ShapedStream
from latensgate_enclave.chat_values import ReasoningBlock, ToolCall

USED = Usage(1, 1)


def answer(text: str = "", *calls: ToolCall, finish: str = "stop", size: int = 0) -> ChatAnswer:
    reason = "tool_calls" if calls else finish
    return ChatAnswer((text,) if text else (), calls, reason, USED, size)  # type: ignore[arg-type]  # a test's word


def test_nothing_to_do_is_nothing_done() -> None:
    given_answer = answer("a")
    assert PLAIN.is_plain
    assert PLAIN.shaped(given_answer) is given_answer


def test_the_arguments_of_the_answer_tool_are_the_text() -> None:
    shape = Shape(answer_tool="give_answer")
    call = ToolCall("t", "give_answer", {"a": 1})
    assert shape.shaped(answer("preamble", call, call)) == answer('{"a":1}')
    other = ToolCall("u", "f", {"b": 2})
    made = shape.shaped(answer("", other))
    assert (made.text, made.tool_calls, made.finish_reason) == ((), (other,), "tool_calls")


def test_one_call_at_a_time() -> None:
    first, second = ToolCall("t", "f", {"a": 1}), ToolCall("u", "f", {"b": 2})
    assert Shape(single_call=True).shaped(answer("x", first, second)) == answer("x", first)


@pytest.mark.parametrize(
    "text", ['{"a": 1}', ' {"a": 1}\n', '```json\n{"a": 1}\n```', '```{"a": 1}```']
)
def test_told_json_is_checked_and_unwrapped(text: str) -> None:
    assert Shape(check_json=True).shaped(answer(text)) == answer('{"a": 1}')


@pytest.mark.parametrize("text", ["", "no", "[1]", '{"a": 1} and more', "\ud800"])
def test_told_json_that_is_none_is_the_models_failure(text: str) -> None:
    with pytest.raises(UpstreamError):
        Shape(check_json=True).shaped(answer(text))


def test_json_that_was_cut_for_length_is_told_as_it_is() -> None:
    cut = answer('{"a": ', finish="length")
    assert Shape(check_json=True).shaped(cut) == cut


TEXTS = st.text(st.sampled_from("ab\n "), max_size=12)
STOPS = st.lists(st.text(st.sampled_from("\n "), min_size=1, max_size=3), min_size=1, max_size=3)


@given(st.lists(TEXTS, max_size=6), STOPS)
def test_a_stop_sequence_ends_the_text_however_it_is_cut(
    pieces: list[str], stops: list[str]
) -> None:
    text = "".join(pieces)
    places = [place for place in (text.find(stop) for stop in stops) if place >= 0]
    stream = ShapedStream(Shape(stops=tuple(stops)))
    deltas = stream.receive([TextDelta(piece) for piece in pieces])
    deltas += stream.receive([Finished("length"), USED])
    said = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    assert said == text[: min(places)] if places else said == text
    assert deltas[-2:] == [Finished("stop" if places else "length"), USED]
    assert Shape(stops=tuple(stops)).shaped(answer(text, finish="length")).finish_reason == (
        "stop" if places else "length"
    )


def test_no_more_is_held_than_may_begin_a_stop_sequence() -> None:
    stream = ShapedStream(Shape(stops=("\n\n",)))
    assert stream.receive([TextDelta("a")]) == [TextDelta("a")]
    assert stream.receive([TextDelta("b\n")]) == [TextDelta("b")]
    assert stream.receive([TextDelta("c")]) == [TextDelta("\nc")]


def test_nothing_follows_a_stop_sequence() -> None:
    stream = ShapedStream(Shape(stops=("\n",)))
    deltas: list[ChatDelta] = [TextDelta("a\nb"), TextDelta("c"), ToolCallBegun(0, "t", "f")]
    deltas += [ToolCallDelta(0, "{}"), Finished("tool_calls")]
    assert stream.receive(deltas) == [TextDelta("a"), Finished("stop")]


def test_thoughts_pass() -> None:
    stream = ShapedStream(Shape(check_json=True))
    assert stream.receive([ReasoningDelta("x")]) == [ReasoningDelta("x")]
    blocks = (ReasoningBlock("x", "c2ln"), ReasoningBlock(redacted="AAA="), ReasoningBlock("y"))
    whole = ChatAnswer(("a",), (), "stop", USED, 3, reasoning=blocks)
    collector = Collector()
    collector.add(as_deltas(whole))
    assert collector.answer() == whole
