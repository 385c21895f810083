from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import rivals_page
import rivals_plot
import rivals_upstream

WAY = rivals_page.Column("directly", "", 0, 0, 0, 0, (1.0, 2.0), (0.5, 1.5), 100, 0, 0)
OURS = rivals_page.Column("Ours", "1", 0.5, 2, 30, 60, (3.0, 7.0), (2.0, 4.0), 80, 90, 2)
OTHER = dataclasses.replace(OURS, name="A<B", version="2", first_ms=(20.0, 40.0))


def test_what_is_added_is_less_the_direct_path() -> None:
    rows = dict(rivals_page.rows([WAY, OURS, OTHER]))
    assert rows["first token, added, p50, ms"] == ["(0.50)", "1.50", "19.50"]
    assert rows["first token, added, p99, ms"] == ["(1.50)", "2.50", "38.50"]
    assert rows["time of a request, added, p99, ms"] == ["(2.00)", "5.00", "5.00"]
    assert rows["tokens a second, the same"] == ["(6,400)", "5,120", "5,120"]


def test_the_section_is_replaced_and_nothing_else() -> None:
    part = f"{rivals_page.BEGIN}\nnew\n{rivals_page.END}"
    old = f"before\n{rivals_page.BEGIN}\nold\n{rivals_page.END}\nafter\n"
    assert rivals_page.page_with(old, part) == f"before\n{part}\nafter\n"
    assert rivals_page.page_with("before\n", part) == f"before\n\n{part}\n"


def test_a_lost_marker_is_told() -> None:
    with pytest.raises(SystemExit, match="lost its marker"):
        rivals_page.page_with(rivals_page.BEGIN, "new")


def test_the_longest_bar_fills_its_room_and_names_are_escaped() -> None:
    drawn = rivals_plot.plot(rivals_page.panels([WAY, OURS, OTHER]))
    picture = ET.fromstring(drawn)  # noqa: S314 -- our own text
    widths = [
        float(each.get("width", "")) for each in picture.iter() if each.get("fill") == "#9aa5b1"
    ]
    assert max(widths) == 480.0
    assert "A&lt;B 2" in drawn


def test_a_streamed_answer_has_every_token_once() -> None:
    wire = b"".join(rivals_upstream.pieces("fast", 5, usage=True))
    lines = [line[6:] for line in wire.split(b"\n") if line.startswith(b"data: {")]
    chunks = [json.loads(line) for line in lines]
    texts = [each["choices"][0]["delta"].get("content", "") for each in chunks if each["choices"]]
    assert "".join(texts) == " w000 w001 w002 w003 w004"
    assert chunks[-1]["usage"]["completion_tokens"] == 5
    assert wire.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("head", [b"content-length: 5", b"transfer-encoding: chunked"])
def test_a_body_is_taken_once_it_is_whole(head: bytes) -> None:
    wire = b"hello" if b"length" in head else b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
    assert rivals_upstream.body_of(head, wire) == b"hello"
    assert rivals_upstream.body_of(head, wire[:-1]) is None


def test_the_page_says_what_rivals_do_not_do() -> None:
    assert "They do not seal, scan, sign" in rivals_page.METHOD
    assert Path(rivals_page.PAGE).name == "benchmarks.md"
