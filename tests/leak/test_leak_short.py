"""The measurement of leaks works, and its order holds on a small sample."""

from __future__ import annotations

import pytest

from leak_answers import DEFAULT, SHAPED, TOPICS, WAYS, Word, watched
from leak_report import BEGIN, END, measured, table, written


def test_fixed_shape_is_nearer_to_chance_than_the_default() -> None:
    bare, default, shaped = measured(24, 7, (WAYS[0], DEFAULT, SHAPED))
    chance = 1 / len(TOPICS)
    assert bare.accuracy > default.accuracy > shaped.accuracy
    assert default.accuracy > 2 * chance
    assert shaped.records < default.records / 3
    assert DEFAULT.name in table([bare, default, shaped], 24, 7)


def test_a_stream_of_fixed_shape_shows_one_length_on_ticks() -> None:
    """What the words are changes nothing that is seen; the same tempo does."""
    tempo = [0.0313, 0.2017, 0.0529, 0.5011, 0.0107, 0.0923] * 5
    answers = [[Word(word, gap) for gap in tempo] for word in (" a", " bouillabaisse")]
    one, other = watched(SHAPED, answers)
    assert one == other
    assert len(set(one.size_bytes[1:])) == 1
    assert all(abs(at - 200 * round(at / 200)) <= 2 for at in one.at_ms)
    one, other = watched(DEFAULT, answers)
    assert one.at_ms == other.at_ms
    assert len(one.at_ms) == len(tempo) + 2


def test_the_table_goes_between_its_marks() -> None:
    assert written(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"
    with pytest.raises(ValueError, match="unpack"):
        written("no marks", "new")
