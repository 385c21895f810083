from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from latensgate_enclave.pii.findings import Finding
from latensgate_enclave.pii.replacing import outside
from latensgate_enclave.pii.restore import HELD_MAX_CHARS, Restorer, known_spans
from latensgate_enclave.pii.surrogates import Surrogates, folded, label_of
from latensgate_shared.pii_names import Category

SECRET = b"s" * 32
EMAIL, PHONE = Category.EMAIL_ADDRESS, Category.PHONE_NUMBER


def restored(surrogates: Surrogates, text: str, *, json_text: bool = False) -> str:
    restorer = Restorer(surrogates, json_text=json_text)
    return restorer.push(text) + restorer.end()


def made() -> tuple[Surrogates, str]:
    surrogates = Surrogates(SECRET)
    return surrogates, surrogates.of(EMAIL, "ann@example.com")


def test_a_surrogate_is_short_bracketed_ascii_and_says_what_it_stands_for() -> None:
    _, mark = made()
    assert mark.startswith("[EMAIL_")
    assert mark.isascii()
    assert len(mark) == len("[EMAIL_]") + 4


def test_the_same_value_has_the_same_surrogate_for_the_same_secret_only() -> None:
    surrogates, mark = made()
    assert surrogates.of(EMAIL, "ann@example.com") == mark
    assert Surrogates(SECRET).of(EMAIL, "ann@example.com") == mark
    assert Surrogates(b"t" * 32).of(EMAIL, "ann@example.com") != mark
    assert Surrogates(SECRET).of(EMAIL, "Ann@example.com") != mark
    assert surrogates.of(PHONE, "ann@example.com")[1:6] == "PHONE"


def test_every_label_is_letters_and_no_two_categories_share_one() -> None:
    labels = [label_of(category) for category in Category]
    assert all(label.isascii() and label.isalpha() and label.isupper() for label in labels)
    assert len(set(labels)) == len(labels)
    assert max(map(len, labels)) <= 12
    assert min(map(len, labels)) >= 2


def test_a_text_of_the_caller_in_this_form_makes_the_id_longer() -> None:
    _, mark = made()
    surrogates = Surrogates(SECRET)
    surrogates.avoid([f"quoted: {mark.lower()}"])
    other = surrogates.of(EMAIL, "ann@example.com")
    assert other[: len(mark) - 1] == mark[:-1]
    assert len(other) == len(mark) + 4
    assert restored(surrogates, f"{mark} {other}") == f"{mark} ann@example.com"


def test_two_values_never_share_a_surrogate() -> None:
    surrogates = Surrogates(SECRET)
    values = [f"user{number}@example.com" for number in range(4_000)]
    marks = [surrogates.of(EMAIL, value) for value in values]
    assert len({mark.lower() for mark in marks}) == len(marks)
    assert restored(surrogates, " ".join(marks)) == " ".join(values)
    assert len(surrogates) == 4_000


def test_an_id_has_an_end() -> None:
    taken: list[str] = []
    for _ in range(8):
        surrogates = Surrogates(SECRET)
        surrogates.avoid(taken)
        taken.append(surrogates.of(EMAIL, "ann@example.com"))
    assert [len(mark) for mark in taken] == [12, 16, 20, 24, 28, 32, 32, 32]


CHANGES: list[Callable[[str], str]] = [
    str,
    str.lower,
    str.upper,
    lambda mark: f"**{mark}**",
    lambda mark: mark.replace("_", "\\_"),
    lambda mark: mark.replace("[", "\\[").replace("]", "\\]"),
    lambda mark: mark.replace("_", "-"),
    lambda mark: mark.replace("_", "\u2011"),
    lambda mark: mark.replace("_", " "),
    lambda mark: mark.strip("[]"),
    lambda mark: f"`{mark}`",
    lambda mark: f"<{mark.strip('[]')}>",
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("before", "after"), [("", ""), ("to ", ", please"), ("(", ")."), ("é", "é")]
)
def test_what_models_do_to_a_surrogate_is_undone(
    change: Callable[[str], str], before: str, after: str
) -> None:
    surrogates, mark = made()
    changed = change(mark)
    told = restored(surrogates, before + changed + after)
    assert "ann@example.com" in told
    assert mark.strip("[]").lower() not in told.lower()
    rest = changed.replace("\\", "")
    if rest.startswith("["):
        assert told == f"{before}ann@example.com{after}"


def test_escapes_in_json_text_are_read_and_values_are_written_as_json() -> None:
    surrogates = Surrogates(SECRET)
    mark = surrogates.of(Category.CUSTOM, 'a "quoted"\nname')
    escaped = mark.replace("[", "\\u005b").replace("]", "\\u005D")
    for written in (mark, escaped):
        told = restored(surrogates, f'{{"to": "{written}"}}', json_text=True)
        assert json.loads(told) == {"to": 'a "quoted"\nname'}


def test_a_lone_surrogate_in_a_value_is_no_fault_in_json() -> None:
    surrogates = Surrogates(SECRET)
    mark = surrogates.of(Category.CUSTOM, "a\ud800b")
    assert restored(surrogates, mark) == "a\ud800b"
    assert json.loads(restored(surrogates, f'"{mark}"', json_text=True)) == "a?b"


def test_names_that_are_not_of_this_request_stay_and_are_reported() -> None:
    surrogates, _ = made()
    restorer = Restorer(surrogates)
    text = "see [EMAIL_zzzz], [NAME_abcd], [see below], EMAIL_zzzz and [EMAIL_ADDRESS]"
    assert restorer.push(text) + restorer.end() == text
    assert (restorer.restored, restorer.unknown) == (0, 2)


def test_a_name_inside_a_word_is_none() -> None:
    surrogates, mark = made()
    name = mark.strip("[]")
    for text in (f"x{name}", f"{name}x", f"{name}1"):
        assert restored(surrogates, text) == text


def test_without_surrogates_nothing_is_held_but_what_is_cut() -> None:
    restorer = Restorer(Surrogates(SECRET))
    assert restorer.push("Email me at once") == "Email me at once"


TEXTS = [
    "Dear {0}, call {1}; {0} knows. [{0}] **{0}** {1}{0}{1} [EMAIL {0}] EMAI EMAIL_ x",
    "\\{0} \\\\{1} {0}\\ [EMAIL_k7q [PHONE_ \\u005 {1}",
    '{{"a":"\\u005bEMAIL_{2}\\u005d","b":"\\\\u005bEMAIL_{2}\\\\u005D"}}',
    "EMAIL {2} EMAIL\\_{2} EMAIL\u2011{2} email-{2}! [email {2}] EMAIL__{2} [[{2}]]",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("json_text", [False, True])
def test_every_split_gives_what_the_whole_gives(text: str, *, json_text: bool) -> None:
    surrogates, mark = made()
    phone = surrogates.of(PHONE, "+1 212 555 0134")
    text = text.format(mark, phone, mark[7:-1])
    whole = restored(surrogates, text, json_text=json_text)
    assert "ann@example.com" in whole or "\\u005 " in text
    for size in range(1, len(text)):
        restorer = Restorer(surrogates, json_text=json_text)
        told: list[str] = []
        for start in range(0, len(text), size):
            told.append(restorer.push(text[start : start + size]))
            given = len(text[: start + size])
            assert given - sum(map(len, told)) <= HELD_MAX_CHARS or "@" in "".join(told)
        assert "".join(told) + restorer.end() == whole
    for cut in range(len(text)):
        restorer = Restorer(surrogates, json_text=json_text)
        assert restorer.push(text[:cut]) + restorer.push(text[cut:]) + restorer.end() == whole


def test_a_name_folds_alike_however_it_is_written() -> None:
    assert folded("EMAIL_k7q2") == folded("email\\_K7Q2") == folded("Email\u2011k7q2")
    assert folded("EMAIL k7q2") == "email_k7q2"


def test_where_surrogates_stand_is_known_and_not_found_again() -> None:
    surrogates, mark = made()
    text = f"ann {mark} bob"
    first, last = known_spans(surrogates, text)[0]
    assert text[first:last] == mark
    assert known_spans(Surrogates(SECRET), text) == []

    def found(start: int, end: int) -> Finding:
        return Finding(EMAIL, start, end, 1.0, "r")

    spans = [(first, last)]
    assert outside([found(0, 3)], [], text) == [found(0, 3)]
    assert outside([found(0, 3), found(last, len(text))], spans, text) == [
        found(0, 3),
        found(last, len(text)),
    ]
    assert outside([found(0, len(text))], spans, text) == [
        found(0, first),
        found(last, len(text)),
    ]
    assert outside([found(first + 1, last - 1)], spans, text) == []
