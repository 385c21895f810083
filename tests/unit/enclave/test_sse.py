"""Server-sent events: one strict form, the same in whatever pieces it comes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_enclave.sse import SSEError, SSEReader
from latensgate_shared.limits import SSE_EVENT_MAX_BYTES

STREAM = (
    b": comment\n\ndata: one\n\nevent: x\r\nid: 7\r\nretry: 9\r\ndata:two\r\ndata: three\r\n\r\n"
    b"data\n\ndata:  four \n\n\n\nunknown: x\n\ndata: [DONE]\n\n"
)
EVENTS = [b"one", b"two\nthree", b"", b" four ", b"[DONE]"]


def read(*pieces: bytes) -> list[bytes]:
    reader = SSEReader()
    found = [event for piece in pieces for event in reader.receive(piece)]
    reader.close()
    return found


def test_data_is_read_and_nothing_else() -> None:
    assert read(STREAM) == EVENTS


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_the_same_in_whatever_pieces(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    assert read(*(STREAM[a:b] for a, b in pairwise(places))) == EVENTS


def test_every_byte_by_itself() -> None:
    assert read(*(bytes([byte]) for byte in STREAM)) == EVENTS


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_anything_gives_events_or_an_error(data: bytes) -> None:
    try:
        whole = read(data)
    except SSEError:
        return
    assert read(*(bytes([byte]) for byte in data)) == whole


@pytest.mark.parametrize("data", [b"data: a", b"data: a\n", b"data: a\n\ndata: b\n", b"x"])
def test_an_event_that_is_cut_short_is_an_error(data: bytes) -> None:
    with pytest.raises(SSEError, match="within an event"):
        read(data)


@pytest.mark.parametrize("data", [b"data: a\rb\n\n", b"\xef\xbb\xbfdata: a\n\n", b"a\rdata: x\n\n"])
def test_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(SSEError, match="another form"):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"data: " + b"x" * SSE_EVENT_MAX_BYTES,
        b"data: x\n" * (SSE_EVENT_MAX_BYTES // 2 + 1),
        b"x" * (SSE_EVENT_MAX_BYTES + 1),
    ],
    ids=["long line", "many lines", "no line"],
)
def test_an_event_is_bounded(data: bytes) -> None:
    pieces = [data[place : place + 65_536] for place in range(0, len(data), 65_536)]
    with pytest.raises(SSEError, match="more than"):
        read(*pieces)


def test_many_events_of_the_largest_size_are_no_large_one() -> None:
    line = b"data: " + b"x" * (SSE_EVENT_MAX_BYTES // 2) + b"\n\n"
    reader = SSEReader()
    assert sum(len(reader.receive(line)) for _ in range(4)) == 4
