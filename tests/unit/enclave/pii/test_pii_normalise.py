from __future__ import annotations

import pytest

from latensgate_enclave.pii.normalise import fold, view_of


def test_plain_ascii_is_its_own_view() -> None:
    view = view_of("a b\tc\r\n~")
    assert view.text == "a b\tc\r\n~"
    assert view.data == b"a b\tc\r\n~"
    assert view.original(2, 5) == (2, 5)


@pytest.mark.parametrize(
    ("character", "expected"),
    [
        ("a", "a"),
        ("\uff14", "4"),  # full-width digit
        ("٣", "3"),  # Arabic-Indic digit
        ("é", "e"),
        ("\u0301", ""),  # combining acute
        ("\u200b", ""),  # zero-width space
        ("\u202e", ""),  # right-to-left override
        ("\u00ad", ""),  # soft hyphen
        ("\u3164", ""),  # Hangul filler
        ("\u2800", ""),  # braille blank
        ("\x00", ""),
        ("\u2011", "-"),  # non-breaking hyphen
        ("\u2212", "-"),  # minus
        ("\u00a0", " "),
        ("\u2028", "\n"),
        ("\u2029", "\n"),
        ("。", "."),
        ("｡", "."),
        ("\uff20", "@"),
        ("“", '"'),
        ("ﬁ", "fi"),
        ("中", "\xff"),
        ("\U00010400", "\xff"),  # a letter beyond the Basic Multilingual Plane
        ("€", "\x80"),
        ("\U0001f600", "\x80"),
        ("\ud800", "\x80"),  # a lone surrogate
    ],
)
def test_one_code_point_folds_alone(character: str, expected: str) -> None:
    assert fold(character) == expected


@pytest.mark.parametrize(
    ("text", "view", "span", "original"),
    [
        ("x\u200b41\u200b1y", "x411y", (1, 4), "41\u200b1"),
        ("ﬁne", "fine", (1, 3), "ﬁn"),  # half of a ligature is all of it
        ("ﬁne", "fine", (0, 1), "ﬁ"),
        ("éa", "ea", (0, 2), "éa"),
        ("e\u0301a", "ea", (1, 2), "a"),
        ("\u200b", "", (0, 0), ""),
        ("ab\U0001f600cd", "ab\x80cd", (3, 5), "cd"),
    ],
)
def test_spans_lead_back_to_the_text(
    text: str, view: str, span: tuple[int, int], original: str
) -> None:
    made = view_of(text)
    assert made.text == view
    assert made.data == view.encode("latin-1")
    if span[1] > span[0]:
        start, end = made.original(*span)
        assert text[start:end] == original
