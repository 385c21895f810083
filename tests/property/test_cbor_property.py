from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_shared.cbor import decode, encode
from latensgate_shared.cose import parse_sign1
from latensgate_shared.errors import MalformedError

if TYPE_CHECKING:
    from latensgate_shared.cbor import CBORValue

integers = st.integers(-(1 << 64), (1 << 64) - 1)
texts = st.text(max_size=30)
keys = st.one_of(integers, texts)
scalars = st.one_of(integers, st.binary(max_size=300), texts, st.booleans(), st.none())
values = cast(
    "st.SearchStrategy[CBORValue]",
    st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=5), st.dictionaries(keys, inner, max_size=5)
        ),
        max_leaves=20,
    ),
)


@settings(deadline=None)
@given(values)
def test_what_is_written_is_read_again(value: CBORValue) -> None:
    data = encode(value)
    assert decode(data, max_bytes=len(data)) == value


@settings(deadline=None)
@given(values)
def test_another_library_reads_the_same(value: CBORValue) -> None:
    assert cbor2.loads(encode(value)) == value


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_what_is_read_has_one_form_per_order(data: bytes) -> None:
    """Whatever is accepted, another library reads alike and writes back to the same bytes."""
    try:
        value = decode(data, max_bytes=64)
    except MalformedError:
        return
    assert cbor2.loads(data) == value
    assert cbor2.dumps(value) == data


@settings(max_examples=300, deadline=None)
@given(values, st.data())
def test_damage_raises_typed_errors_only(value: CBORValue, data: st.DataObject) -> None:
    damaged = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    for reader in (decode, parse_sign1):
        with contextlib.suppress(MalformedError):
            reader(bytes(damaged), max_bytes=1 << 16)


@settings(deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_garbage_raises_typed_errors_only(data: bytes, indefinite: bool) -> None:  # noqa: FBT001 -- drawn by hypothesis
    with contextlib.suppress(MalformedError):
        decode(data, max_bytes=200, indefinite_root_map=indefinite)


@settings(deadline=None)
@given(st.dictionaries(texts, integers, max_size=6))
def test_an_indefinite_root_reads_like_a_definite_one(members: dict[str, int]) -> None:
    body = b"".join(encode(key) + encode(value) for key, value in members.items())
    data = b"\xbf" + body + b"\xff"
    assert decode(data, max_bytes=len(data), indefinite_root_map=True) == members
