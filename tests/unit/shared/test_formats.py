from __future__ import annotations

import base64

import pytest

from latensgate_shared import formats
from latensgate_shared.strict_json import JSONError


@pytest.mark.parametrize("length", range(8))
def test_base64_of_every_tail(length: int) -> None:
    data = bytes(range(250, 250 + min(length, 6))) + bytes(max(0, length - 6))
    told = formats.to_base64(data)
    assert told == base64.b64encode(data).decode()
    assert formats.base64_bytes(told, "x", length) == data
    if length:
        with pytest.raises(JSONError):
            formats.base64_bytes(told, "x", length - 1)


@pytest.mark.parametrize(
    "value",
    ["AB==", "AAB=", "A", "AA", "AA=", "AAA", "AAAA=", "AA==AA==", "AA A", "AAAA\n", " AAAA",
     "AA-_", "A===", "====", "=AAA", "ä===", "\ud800", None, 1, b"AAAA", ["AAAA"]],
)  # fmt: skip
def test_base64_has_one_spelling(value: object) -> None:
    with pytest.raises(JSONError):
        formats.base64_bytes(value, "x", 100)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-474b-bcce-b302099a8057"),
        ("01890a5d-ac96-774b-8cce-b302099a8057", "01890a5d-ac96-774b-7cce-b302099a8057"),
        ("01890a5d-ac96-774b-9cce-b302099a8057", "01890A5D-ac96-774b-9cce-b302099a8057"),
        ("01890a5d-ac96-774b-acce-b302099a8057", "01890a5dac96774baccebcceb302099a8057"),
        ("01890a5d-ac96-7000-acce-b302099a8057", "01890a5d-ac96-7000-acce-b302099a8057\n"),
    ],
)
def test_uuid7(good: str, bad: str) -> None:
    assert formats.uuid7(good, "x") == good
    with pytest.raises(JSONError, match="version 7"):
        formats.uuid7(bad, "x")


def test_unknown_members_are_counted_and_not_repeated() -> None:
    with pytest.raises(JSONError, match=r"1 unknown member\(s\); allowed: a, b") as caught:
        formats.members({"a": 1, "secret": 1}, "thing", {"a"}, {"b"})
    assert "secret" not in caught.value.detail
    assert formats.members({"a": 1, "b": 1}, "thing", {"a"}, {"b"}) == {"a": 1, "b": 1}


def test_integers_and_booleans_are_not_confused() -> None:
    assert formats.integer(0, "x") == 0
    assert formats.boolean(value=False, what="x") is False
    for value in (True, 1.0, -1, 2**53, "1", None):
        with pytest.raises(JSONError):
            formats.integer(value, "x")
    for value in (0, 1, None, "true"):
        with pytest.raises(JSONError):
            formats.boolean(value, "x")


def test_text_is_counted_in_characters() -> None:
    assert formats.text("\U0001f512" * 4, "x", 4)
    for value in ("", "aaaaa", None, 4):
        with pytest.raises(JSONError, match="1 to 4"):
            formats.text(value, "x", 4)


def test_hex_is_lower_case_and_of_one_length() -> None:
    assert formats.hex_bytes("00ff", "x", 2) == b"\x00\xff"
    for value in ("00FF", "00f", "00ff00", "00 f", "\u0660" * 4, None):
        with pytest.raises(JSONError):
            formats.hex_bytes(value, "x", 2)
