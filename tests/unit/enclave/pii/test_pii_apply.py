from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from latensgate_enclave.pii import (
    Budget,
    Category,
    Direction,
    Finding,
    PIIHardFailError,
    PIITooLargeError,
    TextPart,
    Tier1Engine,
    apply,
    parse_policy,
    scan_texts,
)
from latensgate_enclave.pii.findings import merge
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import PII_TEXT_COST_CHARS

if TYPE_CHECKING:
    from latensgate_enclave.pii import Policy

PROMPT = Direction.PROMPT
TEXT = "0123456789abcdefghij"


@pytest.fixture(scope="module")
def engine() -> Tier1Engine:
    return Tier1Engine()


def policy(**actions: str) -> Policy:
    return parse_policy({"rules": {c: {"*": {"action": a}} for c, a in actions.items()}})


def finding(category: Category, start: int, end: int, score: float = 0.5) -> Finding:
    return Finding(category, start, end, score, "test")


def test_masks_and_flags() -> None:
    found = [
        finding(Category.EMAIL_ADDRESS, 2, 5),
        finding(Category.URL, 6, 8),
        finding(Category.EMAIL_ADDRESS, 10, 12, 0.3),
    ]
    scanned = apply(TEXT, found, policy(EMAIL_ADDRESS="mask", URL="flag"), PROMPT)
    assert scanned.text == "01<EMAIL_ADDRESS>56789abcdefghij"
    assert scanned.verdict.counts == {"EMAIL_ADDRESS": {"prompt": 1}, "URL": {"prompt": 1}}
    assert scanned.verdict.detected


def test_nothing_found_or_nothing_asked_leaves_the_text() -> None:
    for found in ([], [finding(Category.URL, 0, 9)]):
        scanned = apply(TEXT, found, policy(EMAIL_ADDRESS="fail"), PROMPT)
        assert scanned.text == TEXT
        assert not scanned.verdict.detected


def test_overlapping_masks_make_one_stretch_named_by_the_longest() -> None:
    found = [
        finding(Category.EMAIL_ADDRESS, 1, 4),
        finding(Category.URL, 3, 9),
        finding(Category.US_SSN, 8, 10),
        finding(Category.US_SSN, 10, 11),
    ]
    rules = policy(EMAIL_ADDRESS="mask", URL="mask", US_SSN="mask")
    assert apply(TEXT, found, rules, PROMPT).text == "0<URL><US_SSN>bcdefghij"


def test_what_nobody_asked_for_hides_nothing() -> None:
    found = [finding(Category.URL, 0, 20, 1.0), finding(Category.EMAIL_ADDRESS, 5, 9)]
    scanned = apply(TEXT, found, policy(URL="allow", EMAIL_ADDRESS="mask"), PROMPT)
    assert scanned.text == "01234<EMAIL_ADDRESS>9abcdefghij"


@pytest.mark.parametrize(
    ("card", "phone", "expected"),
    [
        ("mask", "mask", {"CREDIT_CARD": {"prompt": 1}}),
        ("mask", "flag", {"CREDIT_CARD": {"prompt": 1}}),
        ("flag", "mask", {"CREDIT_CARD": {"prompt": 1}, "PHONE_NUMBER": {"prompt": 1}}),
    ],
)
def test_a_certain_finding_explains_only_what_asks_no_more(
    card: str, phone: str, expected: dict[str, dict[str, int]]
) -> None:
    found = [finding(Category.CREDIT_CARD, 2, 12, 1.0), finding(Category.PHONE_NUMBER, 4, 12)]
    scanned = apply(TEXT, found, policy(CREDIT_CARD=card, PHONE_NUMBER=phone), PROMPT)
    assert scanned.verdict.counts == expected


def test_a_hard_fail_names_categories_and_counts_only() -> None:
    found = [finding(Category.US_SSN, 0, 5), finding(Category.US_SSN, 6, 9)]
    with pytest.raises(PIIHardFailError) as caught:
        apply(TEXT, found, policy(US_SSN="fail"), PROMPT)
    assert caught.value.code is ErrorCode.ERR_PII_HARD_FAIL
    assert caught.value.counts == {"US_SSN": {"prompt": 2}}
    assert caught.value.detail.endswith("(US_SSN in prompt: 2)")


def test_many_texts_under_one_policy(engine: Tier1Engine) -> None:
    rules = parse_policy(
        {
            "rules": {
                "EMAIL_ADDRESS": {"*": {"action": "mask"}, "answer": {"action": "allow"}},
                "US_SSN": {"tool_arguments": {"action": "mask"}},
            }
        }
    )
    parts = [
        TextPart("I am ann@example.com", PROMPT),
        TextPart("219099998", Direction.TOOL_ARGUMENTS, hint="ssn"),
        TextPart("219099998", Direction.TOOL_ARGUMENTS),
        TextPart("bob@example.com", Direction.TOOL_RESULTS),
        TextPart("bob@example.com", Direction.ANSWER),
    ]
    scanned = scan_texts(engine, rules, parts)
    assert scanned.texts == (
        "I am <EMAIL_ADDRESS>",
        "<US_SSN>",
        "219099998",
        "<EMAIL_ADDRESS>",
        "bob@example.com",
    )
    assert scanned.verdict.counts == {
        "EMAIL_ADDRESS": {"prompt": 1, "tool_results": 1},
        "US_SSN": {"tool_arguments": 1},
    }


def test_a_hard_fail_counts_over_all_texts(engine: Tier1Engine) -> None:
    parts = [TextPart("ann@example.com", PROMPT), TextPart("bob@example.com", Direction.ANSWER)]
    with pytest.raises(PIIHardFailError) as caught:
        scan_texts(engine, policy(EMAIL_ADDRESS="fail"), parts)
    assert caught.value.counts == {"EMAIL_ADDRESS": {"answer": 1, "prompt": 1}}
    assert "example" not in str(caught.value)


def test_the_budget_is_shared_by_the_calls_of_a_request(engine: Tier1Engine) -> None:
    rules = policy(EMAIL_ADDRESS="mask")
    part = TextPart("ann@example.com", PROMPT)
    budget = Budget(max_chars=2 * (len(part.text) + PII_TEXT_COST_CHARS))
    scan_texts(engine, rules, [part, part], budget=budget)
    with pytest.raises(PIITooLargeError):
        scan_texts(engine, rules, [TextPart("", PROMPT)], budget=budget)
    with pytest.raises(PIITooLargeError):
        scan_texts(engine, rules, [part, part], budget=Budget(max_findings=1))


def test_merge_joins_one_category_and_keeps_the_best() -> None:
    email, url = Category.EMAIL_ADDRESS, Category.URL
    merged = merge(
        [
            finding(url, 0, 9),
            Finding(email, 4, 9, 0.9, "good"),
            finding(email, 0, 5),
            finding(email, 1, 3),
            finding(email, 9, 10),
        ]
    )
    assert merged == (
        Finding(email, 0, 9, 0.9, "good"),
        finding(url, 0, 9),
        finding(email, 9, 10),
    )


CARD = "4111 1111 1111 1111"


def parts_of(*texts: str) -> list[TextPart]:
    return [TextPart(text, PROMPT, continues=number > 0) for number, text in enumerate(texts)]


def test_what_is_split_over_the_parts_of_a_message_is_found_and_masked(engine: Tier1Engine) -> None:
    rules = policy(CREDIT_CARD="mask", EMAIL_ADDRESS="mask")
    for cut in range(1, len(CARD)):
        scanned = scan_texts(
            engine, rules, parts_of(f"pay {CARD[:cut]}", CARD[cut:], "or bob@example.com")
        )
        assert scanned.texts == ("pay <CREDIT_CARD>", "<CREDIT_CARD>", "or <EMAIL_ADDRESS>")
        assert scanned.verdict.counts == {
            "CREDIT_CARD": {"prompt": 1},
            "EMAIL_ADDRESS": {"prompt": 1},
        }
        assert scanned.changed


def test_what_is_split_over_many_parts_leaves_none_of_them_out(engine: Tier1Engine) -> None:
    scanned = scan_texts(
        engine, policy(CREDIT_CARD="mask"), parts_of("4111 ", "1111 1111", " 1111")
    )
    assert scanned.texts == ("<CREDIT_CARD>",) * 3


def test_what_is_split_can_refuse(engine: Tier1Engine) -> None:
    with pytest.raises(PIIHardFailError) as caught:
        scan_texts(engine, policy(CREDIT_CARD="fail"), parts_of(CARD[:9], CARD[9:]))
    assert caught.value.counts == {"CREDIT_CARD": {"prompt": 1}}


def test_parts_of_two_messages_are_two_texts(engine: Tier1Engine) -> None:
    parts = [TextPart(CARD[:9], PROMPT), TextPart(CARD[9:], PROMPT)]
    scanned = scan_texts(engine, policy(CREDIT_CARD="mask"), parts)
    assert scanned.texts == (CARD[:9], CARD[9:])
    assert not scanned.changed


def test_words_at_a_border_are_found_as_they_stand(engine: Tier1Engine) -> None:
    """Joined, the number would be the end of a word, and none."""
    scanned = scan_texts(engine, policy(CREDIT_CARD="mask"), parts_of("card", CARD))
    assert scanned.texts == ("card", "<CREDIT_CARD>")


def test_texts_that_no_rule_changed_are_the_very_same(engine: Tier1Engine) -> None:
    scanned = scan_texts(engine, policy(EMAIL_ADDRESS="flag"), parts_of("bob@example.com", "x"))
    assert scanned.verdict.detected
    assert not scanned.changed


def test_an_allowed_value_is_left_where_its_neighbour_is_masked(engine: Tier1Engine) -> None:
    masked = parse_policy(
        {
            "rules": {"EMAIL_ADDRESS": {"*": {"action": "mask"}}},
            "lists": {"allow": ["Ann@example.com"]},
        }
    )
    text = TextPart("ann@example.com, bob@example.com", PROMPT)
    scanned = scan_texts(engine, masked, [text])
    assert scanned.texts == ("ann@example.com, <EMAIL_ADDRESS>",)
    assert scanned.verdict.counts == {"EMAIL_ADDRESS": {"prompt": 1}}
