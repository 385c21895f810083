from __future__ import annotations

import json
from contextlib import suppress

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_shared.errors import MalformedError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import JSON_MAX_SAFE_INTEGER
from latensgate_shared.strict_json import (
    JSONValue,
    parse_json,
    parse_json_members,
    parse_json_object,
)

LIMIT = 1 << 20
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


def reads_back(value: float) -> bool:
    """Not so for whole doubles of 2^53 to 1e21: their canonical text looks like an integer."""
    return not JSON_MAX_SAFE_INTEGER < abs(value) < 1e21


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-JSON_MAX_SAFE_INTEGER, JSON_MAX_SAFE_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False).filter(reads_back)
    | TEXT
)
VALUES: st.SearchStrategy[JSONValue] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)
JSON_LIKE = st.text('{}[]",:\\u0dD8eE+-.19 tfn\n\x00ä', max_size=40).map(str.encode)


@settings(max_examples=300)
@given(VALUES)
def test_canonical_form_is_that_of_another_implementation(value: JSONValue) -> None:
    assert canonicalize(value) == rfc8785.dumps(value)


@settings(max_examples=100)
@given(VALUES, st.booleans(), st.sampled_from([None, 0, 2]))
def test_parsing_undoes_writing(value: JSONValue, ascii_only: bool, indent: int | None) -> None:  # noqa: FBT001 - drawn
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert parse_json(text, max_bytes=LIMIT) == value
    canonical = canonicalize(value)
    assert canonicalize(parse_json(canonical, max_bytes=LIMIT)) == canonical


@settings(max_examples=500)
@given(st.binary(max_size=60) | JSON_LIKE)
def test_only_typed_errors_leave_the_parser_and_it_takes_no_more_than_json(data: bytes) -> None:
    try:
        value = parse_json(data, max_bytes=LIMIT)
    except MalformedError:
        return
    assert value == json.loads(data.decode())
    json.dumps(value, ensure_ascii=False).encode()  # no surrogate came through


@settings(max_examples=500)
@given(st.binary(max_size=60) | JSON_LIKE | JSON_LIKE.map(lambda inner: b"{" + inner + b"}"))
def test_both_readers_of_objects_agree(data: bytes) -> None:
    try:
        whole = parse_json_object(data, max_bytes=LIMIT)
    except MalformedError:
        with pytest.raises(MalformedError):
            parse_json_members(data, max_bytes=LIMIT)
        return
    members = parse_json_members(data, max_bytes=LIMIT)
    assert {name: member.value for name, member in members.items()} == whole
    for member in members.values():
        assert parse_json(member.text.encode(), max_bytes=LIMIT) == member.value


@settings(max_examples=200)
@given(st.lists(st.integers(0xD800, 0xDFFF) | st.integers(0, 0x7F), max_size=8))
def test_escaped_surrogates_pass_in_pairs_only(units: list[int]) -> None:
    text = '"' + "".join(f"\\u{unit:04x}" for unit in units) + '"'
    whole = "".join(map(chr, units)).encode("utf-16-le", "surrogatepass")
    expected = None
    with suppress(UnicodeDecodeError):
        expected = whole.decode("utf-16-le")
    try:
        assert parse_json(text.encode(), max_bytes=LIMIT) == expected
    except MalformedError:
        assert expected is None
