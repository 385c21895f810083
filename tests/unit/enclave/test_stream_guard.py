from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

import pytest

from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.chat_answer import (
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    Usage,
)
from latensgate_enclave.pii import (
    Budget,
    Direction,
    PIIHardFailError,
    TextPart,
    Tier1Engine,
    parse_policy,
)
from latensgate_enclave.pii.protection import Protection
from latensgate_enclave.stream_guard import StreamGuard

if TYPE_CHECKING:
    from latensgate_enclave.chat_answer import ChatDelta
    from latensgate_shared.strict_json import JSONObject

EMAIL, OTHER = "ann@example.com", "bob@example.org"
TENANT = "tnt_00000001"
CALL = ToolCallBegun(0, "call_1", "look_up")


@cache
def engine() -> Tier1Engine:
    return Tier1Engine()


def protection(**actions: str) -> Protection:
    """The rules of e-mail addresses by direction; an address of the caller has a surrogate."""
    rules: JSONObject = {each: {"action": action} for each, action in actions.items()}
    policy = parse_policy({"rules": {"EMAIL_ADDRESS": rules}})
    return Protection.under(policy, engine(), TENANT, b"s" * 32)


def surrogate(made: Protection) -> str:
    parts = [TextPart(f"I am {EMAIL}", Direction.PROMPT)]
    scanned = made.scan_request(parts, budget=Budget())
    return scanned.texts[0].removeprefix("I am ")


def passed(made: Protection, *deltas: ChatDelta, size: int = 3) -> list[ChatDelta]:
    """Pass deltas, texts in pieces of some size."""
    guard = StreamGuard(made, Budget())
    told: list[ChatDelta] = []
    for delta in deltas:
        match delta:
            case TextDelta(text):
                pieces: list[ChatDelta] = [TextDelta(each) for each in cut(text, size)]
            case ToolCallDelta(index, text):
                pieces = [ToolCallDelta(index, each) for each in cut(text, size)]
            case _:
                pieces = [delta]
        for piece in pieces:
            told += guard.push([piece])
    return [*told, *guard.end()]


def cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def text_of(told: list[ChatDelta]) -> str:
    return "".join(each.text for each in told if isinstance(each, TextDelta))


def arguments_of(told: list[ChatDelta]) -> object:
    joined = "".join(each.arguments for each in told if isinstance(each, ToolCallDelta))
    return json.loads(joined)


@pytest.mark.parametrize("answer", ["allow", "flag", "mask", "fail", "pseudonymise"])
@pytest.mark.parametrize("size", [1, 5, 1_000])
def test_the_callers_own_values_come_back_whatever_the_answers_policy(
    answer: str, size: int
) -> None:
    made = protection(prompt="pseudonymise", answer=answer)
    mark = surrogate(made)
    told = passed(
        made, TextDelta(f"Dear {mark}, hello {mark.lower()}."), Finished("stop"), size=size
    )
    assert text_of(told) == f"Dear {EMAIL}, hello {EMAIL}."
    assert told[-1] == Finished("stop")
    assert made.surrogate_counts() == {"made": 1, "restored": 2, "unknown": 0}
    assert made.tally.counts() == {}


def test_values_that_the_model_brings_fall_under_the_answers_policy() -> None:
    made = protection(prompt="pseudonymise", answer="mask")
    mark = surrogate(made)
    told = passed(made, TextDelta(f"{mark} or {OTHER} or [EMAIL_zzzz]"), Finished("stop"))
    assert text_of(told) == f"{EMAIL} or <EMAIL_ADDRESS> or [EMAIL_zzzz]"
    assert made.tally.counts() == {"EMAIL_ADDRESS": {"answer": 1}}
    assert made.surrogate_counts() == {"made": 1, "restored": 1, "unknown": 1}


def test_arguments_are_restored_as_json() -> None:
    made = protection(prompt="pseudonymise")
    mark = surrogate(made)
    text = json.dumps({"to": mark, "note": f"for {mark}!"})
    for size in (1, 4, 500):
        told = passed(made, CALL, ToolCallDelta(0, text), Finished("tool_calls"), size=size)
        assert arguments_of(told) == {"to": EMAIL, "note": f"for {EMAIL}!"}
        assert told[0] == CALL


def test_arguments_whose_policy_acts_leave_when_the_call_is_complete() -> None:
    made = protection(prompt="pseudonymise", tool_arguments="mask")
    mark = surrogate(made)
    text = json.dumps({"to": [mark, OTHER]})
    second = ToolCallBegun(1, "call_2", "look_up")
    told = passed(
        made,
        TextDelta("calling"),
        CALL,
        ToolCallDelta(0, text),
        second,
        ToolCallDelta(1, '{"a": 1}'),
        Finished("tool_calls"),
    )
    first = [each for each in told if isinstance(each, ToolCallDelta) and each.index == 0]
    assert json.loads(first[0].arguments) == {"to": [EMAIL, "<EMAIL_ADDRESS>"]}
    assert told.index(first[0]) < told.index(second)
    assert made.tally.counts() == {"EMAIL_ADDRESS": {"tool_arguments": 1}}


def test_arguments_that_the_policy_refuses_never_leave() -> None:
    made = protection(tool_arguments="fail")
    with pytest.raises(PIIHardFailError):
        passed(made, CALL, ToolCallDelta(0, json.dumps({"to": OTHER})), Finished("tool_calls"))
    assert made.tally.counts() == {"EMAIL_ADDRESS": {"tool_arguments": 1}}


def test_reasoning_is_text_of_its_own_and_loses_the_signature_of_what_was_changed() -> None:
    made = protection(prompt="pseudonymise", answer="mask")
    mark = surrogate(made)
    told = passed(
        made,
        ReasoningDelta(f"think of {mark} and {OTHER}"),
        ReasoningDelta(signature="sig"),
        ReasoningDelta(redacted="opaque"),
        ReasoningDelta("more"),
        TextDelta("done"),
        Usage(1, 2),
    )
    reasoning = [each for each in told if isinstance(each, ReasoningDelta)]
    first = "".join(each.text for each in reasoning[:-2])
    assert first == f"think of {EMAIL} and <EMAIL_ADDRESS>"
    assert [each.signature for each in reasoning if each.signature is not None] == [""]
    assert [each.redacted for each in reasoning if each.redacted] == ["opaque"]
    assert text_of(told) == "done"
    assert Usage(1, 2) in told


def test_reasoning_that_leaves_as_it_came_keeps_its_signature() -> None:
    """The one before it was changed, and the one between has none: neither counts here."""
    told = passed(
        protection(answer="mask"),
        ReasoningDelta(f"write to {OTHER}", "lost"),
        ReasoningDelta(f"never signed, of {OTHER}"),
        CALL,
        ToolCallDelta(0, "{}"),
        ReasoningDelta("think "),
        ReasoningDelta("again", "kept"),
    )
    signed = [each for each in told if isinstance(each, ReasoningDelta)]
    assert [each.signature for each in signed if each.signature is not None] == ["", "kept"]
    assert OTHER not in "".join(each.text for each in signed)


def test_text_goes_on_behind_a_call() -> None:
    made = protection(answer="mask")
    told = passed(made, CALL, ToolCallDelta(0, "{}"), TextDelta(f"see {OTHER}"), Finished("stop"))
    assert text_of(told) == "see <EMAIL_ADDRESS>"
    assert arguments_of(told) == {}


@pytest.mark.parametrize(
    "deltas",
    [
        [ToolCallDelta(0, "{}")],
        [CALL, ToolCallDelta(1, "{}")],
        [CALL, ToolCallDelta(0, '"\ud800"')],
    ],
)
def test_what_no_model_says_is_the_models_failure(deltas: list[ChatDelta]) -> None:
    with pytest.raises(UpstreamError):
        passed(protection(prompt="mask"), *deltas, size=9)


def test_what_only_is_counted_is_left_for_the_end() -> None:
    made = protection(answer="mask", tool_arguments="flag")
    parts = [TextPart(OTHER, Direction.ANSWER), TextPart(OTHER, Direction.TOOL_ARGUMENTS)]
    left = made.left_to_count(parts)
    assert left == parts[1:]
    counted = made.count_answer(left, budget=Budget())
    assert counted.verdict.counts == {"EMAIL_ADDRESS": {"tool_arguments": 1}}


def test_an_answer_in_one_piece_is_restored_and_scanned_alike() -> None:
    made = protection(prompt="pseudonymise", answer="mask")
    mark = surrogate(made)
    parts = [TextPart(f"{mark} {OTHER}", Direction.ANSWER)]
    scanned = made.scan_answer(parts, budget=Budget())
    assert scanned.texts == (f"{EMAIL} <EMAIL_ADDRESS>",)
    assert scanned.changed


def test_without_surrogates_nothing_is_restored() -> None:
    made = protection(prompt="mask")
    surrogate(made)
    scanned = made.scan_answer([TextPart("[EMAIL_zzzz]", Direction.ANSWER)], budget=Budget())
    assert not scanned.changed
    assert not made.waits()
