"""Frames: what each side may send, how bytes become events, and whose fault a broken rule is."""

from __future__ import annotations

import itertools

import cbor2
import pytest

from latensgate_shared import frames, limits
from latensgate_shared.errors import ErrorCode, MalformedError
from latensgate_shared.frames import (
    TRANSITIONS,
    Accepted,
    Cancel,
    Chunk,
    End,
    Error,
    Event,
    FrameConnection,
    FrameError,
    Head,
    Kind,
    LocalProtocolError,
    Ping,
    Pong,
    RemoteProtocolError,
    Request,
    Role,
    State,
)
from paths import REPOSITORY

PARENT, ENCLAVE = Role.PARENT, Role.ENCLAVE


def prefixed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def raw(*array: object) -> bytes:
    """Write a frame as a second CBOR implementation does."""
    return prefixed(cbor2.dumps(list(array), canonical=True))


class Pair:
    """A parent and an enclave joined without a delay."""

    def __init__(self) -> None:
        self.parent = FrameConnection(PARENT)
        self.enclave = FrameConnection(ENCLAVE)

    def up(self, *events: Event) -> list[Event]:
        return [got for event in events for got in self.enclave.receive(self.parent.send(event))]

    def down(self, *events: Event) -> list[Event]:
        return [got for event in events for got in self.parent.receive(self.enclave.send(event))]

    def reach(self, state: State) -> None:
        """Bring call 1 into ``state`` on both sides."""
        self.up(Request(1, "inference", {}))
        for sender, event in PATHS[state]:
            (self.up if sender is PARENT else self.down)(event)
        assert self.parent.state_of(1) is self.enclave.state_of(1) is state

    def sides(self, sender: Role) -> tuple[FrameConnection, FrameConnection]:
        """Return the sender's side, then the receiver's."""
        if sender is PARENT:
            return self.parent, self.enclave
        return self.enclave, self.parent


_ACCEPTED = (ENCLAVE, Accepted(1))
_END = (PARENT, End(1))
_CANCEL = (PARENT, Cancel(1))
_HEAD = (ENCLAVE, Head(1, {}))
PATHS: dict[State, list[tuple[Role, Event]]] = {
    State.UPLOADING: [],
    State.UPLOADING_ACCEPTED: [_ACCEPTED],
    State.UPLOADED: [_END],
    State.ACCEPTED: [_END, _ACCEPTED],
    State.ANSWERING: [_END, _ACCEPTED, _HEAD],
    State.REFUSED: [(ENCLAVE, Error(1, ErrorCode.ERR_OVERLOADED))],
    State.ABORTED: [_CANCEL],
    State.ABORTED_ACCEPTED: [_ACCEPTED, _CANCEL],
    State.CANCELLED: [_END, _CANCEL],
    State.CANCELLED_ACCEPTED: [_END, _ACCEPTED, _CANCEL],
    State.CANCELLED_ANSWERING: [_END, _ACCEPTED, _HEAD, _CANCEL],
}
EVENTS: dict[Kind, Event] = {
    Kind.ACCEPTED: Accepted(1),
    Kind.HEAD: Head(1, {"a": 1}),
    Kind.CHUNK: Chunk(1, b"data"),
    Kind.END: End(1),
    Kind.ERROR: Error(1, ErrorCode.ERR_CANCELLED),
    Kind.CANCEL: Cancel(1),
}
WIRE: dict[Kind, bytes] = {
    Kind.ACCEPTED: raw(1, 1),
    Kind.HEAD: raw(2, 1, {"a": 1}),
    Kind.CHUNK: raw(3, 1, b"data"),
    Kind.END: raw(4, 1, {}),
    Kind.ERROR: raw(5, 1, "ERR_CANCELLED"),
    Kind.CANCEL: raw(6, 1),
}


def test_a_whole_call() -> None:
    pair = Pair()
    question: list[Event] = [
        Request(1, "inference", {"model": "m", "n": [1, None, True, b"x"]}),
        Chunk(1, b"sealed"),
        End(1),
    ]
    answer: list[Event] = [Accepted(1), Head(1, {}), Chunk(1, b"one"), End(1, {"ok": 1})]
    assert pair.up(*question) == question
    assert pair.down(*answer) == answer
    assert pair.parent.open_calls == pair.enclave.open_calls == 0


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        (Request(1, "op", {"b": 1, "a": b"\0"}), raw(0, 1, "op", {"a": b"\0", "b": 1})),
        (Ping(300), raw(7, 300)),
    ],
)
def test_request_and_ping_are_these_bytes(event: Event, wire: bytes) -> None:
    assert FrameConnection(PARENT).send(event) == wire
    assert FrameConnection(ENCLAVE).receive(wire) == [event]


@pytest.mark.parametrize("sender", list(Role))
@pytest.mark.parametrize("kind", list(EVENTS))
@pytest.mark.parametrize("state", list(PATHS))
def test_the_table_is_what_both_sides_hold_to(state: State, kind: Kind, sender: Role) -> None:
    expected = TRANSITIONS[sender].get(state, {}).get(kind)
    pair = Pair()
    pair.reach(state)
    ours, theirs = pair.sides(sender)
    event = Head(1, {"a": 1}) if kind is Kind.HEAD else EVENTS[kind]
    if expected is None:
        with pytest.raises(LocalProtocolError):
            ours.send(event)
        with pytest.raises(RemoteProtocolError):
            theirs.receive(WIRE[kind])
        assert ours.state_of(1) is state
    else:
        assert ours.send(event) == WIRE[kind]
        delivered = theirs.receive(WIRE[kind])
        assert ours.state_of(1) is theirs.state_of(1) is expected
        assert delivered == ([] if state is State.REFUSED else [event])


@pytest.mark.parametrize("state", list(PATHS))
def test_only_the_enclave_ends_a_call_that_it_has_not_refused(state: State) -> None:
    ends = {
        sender
        for sender in Role
        for after in TRANSITIONS[sender].get(state, {}).values()
        if after is State.CLOSED
    }
    assert PARENT not in ends or state is State.REFUSED
    assert state is State.REFUSED or Kind.ERROR in TRANSITIONS[ENCLAVE][state]


def test_bytes_may_come_in_any_pieces() -> None:
    source = FrameConnection(PARENT)
    big = Chunk(1, bytes(70_000))
    events: list[Event] = [Request(1, "op", {"k": "v"}), Chunk(1, b"xyz"), big, Ping(1), End(1)]
    wire = b"".join(source.send(event) for event in events)
    for step in (1, 3, 4, 5, 1_000, len(wire)):
        enclave = FrameConnection(ENCLAVE)
        pieces = (wire[start : start + step] for start in range(0, len(wire), step))
        assert list(itertools.chain(*map(enclave.receive, pieces))) == events
        assert enclave.buffered_bytes == 0


def test_an_incomplete_frame_gives_nothing_and_is_counted() -> None:
    enclave = FrameConnection(ENCLAVE)
    wire = raw(0, 1, "op", {})
    for size in range(1, len(wire)):
        assert enclave.receive(wire[size - 1 : size]) == []
        assert enclave.buffered_bytes == size
    assert enclave.receive(wire[-1:] + b"\0") == [Request(1, "op", {})]
    assert enclave.buffered_bytes == 1


@pytest.mark.parametrize("length", [0, limits.FRAME_MAX_BYTES + 1, 2**32 - 1])
def test_the_length_is_judged_before_anything_is_buffered(length: int) -> None:
    enclave = FrameConnection(ENCLAVE)
    prefix = length.to_bytes(4, "big")
    assert enclave.receive(prefix[:3]) == []
    with pytest.raises(RemoteProtocolError, match=f"a frame of {length} bytes"):
        enclave.receive(prefix[3:])


def test_a_frame_of_the_largest_size_passes_and_one_byte_more_does_not() -> None:
    pair = Pair()
    overhead = len(raw(0, 2**32, "op", {"x": bytes(limits.FRAME_MAX_BYTES)}))
    overhead -= limits.FRAME_MAX_BYTES + 4
    largest = Request(2**32, "op", {"x": bytes(limits.FRAME_MAX_BYTES - overhead)})
    too_large = Request(2**32 + 1, "op", {"x": bytes(limits.FRAME_MAX_BYTES - overhead + 1)})
    assert len(pair.parent.send(largest)) == limits.FRAME_MAX_BYTES + 4
    with pytest.raises(LocalProtocolError, match="bytes") as caught:
        pair.parent.send(too_large)
    assert caught.value.code is ErrorCode.ERR_TOO_LARGE
    assert pair.parent.next_call_id == 2**32 + 1  # nothing moved


def test_a_chunk_of_the_largest_size_passes_and_one_byte_more_does_not() -> None:
    pair = Pair()
    pair.up(Request(2**32, "op", {}))
    chunk = Chunk(2**32, bytes(frames.CHUNK_DATA_MAX_BYTES))
    assert pair.up(chunk) == [chunk]
    with pytest.raises(LocalProtocolError, match="a chunk of"):
        pair.parent.send(Chunk(2**32, chunk.data + b"\0"))
    small = Pair()
    small.up(Request(1, "op", {}))
    fits_the_frame = raw(3, 1, chunk.data + b"\0")
    assert len(fits_the_frame) < limits.FRAME_MAX_BYTES
    with pytest.raises(RemoteProtocolError, match="a chunk of"):
        small.enclave.receive(fits_the_frame)


BAD_FRAMES: dict[str, bytes] = {
    "no array": prefixed(b"\xa0"),
    "no CBOR": prefixed(b"\xff"),
    "truncated inside": prefixed(b"\x83\x03"),
    "bytes after": prefixed(cbor2.dumps([6, 1]) + b"\0"),
    "empty array": raw(),
    "unknown kind": raw(9, 1),
    "kind alone": raw(1),
    "an element too many": raw(1, 1, 1),
    "text as kind": raw("1", 1),
    "true as kind": raw(True, 1),  # noqa: FBT003 - the value under test
    "true as id": raw(6, True),  # noqa: FBT003 - the value under test
    "null as id": raw(6, None),
    "negative id": raw(0, -1, "op", {}),
    "id zero": raw(0, 0, "op", {}),
    "id too large": raw(0, limits.CALL_ID_MAX + 1, "op", {}),
    "empty operation": raw(0, 1, "", {}),
    "long operation": raw(0, 1, "o" * 257, {}),
    "operation of bytes": raw(0, 1, b"op", {}),
    "head of a list": raw(0, 1, "op", []),
    "integer name in head": raw(0, 1, "op", {1: 1}),
    "float in head": raw(0, 1, "op", {"x": 0.5}),
    "tag in head": raw(0, 1, "op", {"x": cbor2.CBORTag(1, 1)}),
    "long form of an id": prefixed(b"\x84\x00\x18\x01\x62op\xa0"),
    "indefinite array": prefixed(b"\x9f\x06\x01\xff"),
    "call never opened": raw(6, 1),
    "chunk never opened": raw(3, 1, bytes(100)),
    "pong unasked": raw(8, 1),
    "ping negative": raw(7, -1),
    "ping too large": raw(7, limits.CALL_ID_MAX + 1),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_bad_frames_are_the_peers_fault_and_fatal(name: str) -> None:
    enclave = FrameConnection(ENCLAVE)
    with pytest.raises(RemoteProtocolError) as caught:
        enclave.receive(BAD_FRAMES[name])
    assert isinstance(caught.value, FrameError)
    assert isinstance(caught.value, MalformedError)
    assert caught.value.code is ErrorCode.ERR_MALFORMED
    assert not enclave.can_request
    with pytest.raises(LocalProtocolError, match="failed"):
        enclave.receive(b"")
    with pytest.raises(LocalProtocolError, match="failed"):
        enclave.send(Ping(1))


BAD_CHUNKS: dict[str, bytes] = {
    "empty": raw(3, 1, b""),
    "text": raw(3, 1, "data" * 10),
    "id in long form": prefixed(b"\x83\x03\x18\x01\x58\x20" + bytes(32)),
    "id of no form": prefixed(b"\x83\x03\x1c\x01\x58\x20" + bytes(32)),
    "negative id": prefixed(b"\x83\x03\x20\x58\x20" + bytes(32)),
    "length in long form": prefixed(b"\x83\x03\x01\x59\x00\x20" + bytes(32)),
    "length too short": prefixed(b"\x83\x03\x01\x58\x1f" + bytes(32)),
    "length too long": prefixed(b"\x83\x03\x01\x58\x21" + bytes(32)),
    "another id": raw(3, 2, bytes(32)),
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_bad_chunks(name: str) -> None:
    pair = Pair()
    pair.reach(State.UPLOADING)
    with pytest.raises(RemoteProtocolError):
        pair.enclave.receive(BAD_CHUNKS[name])


@pytest.mark.parametrize(
    "call_id",
    [1, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, limits.CALL_ID_MAX],
)
@pytest.mark.parametrize("size", [1, 23, 24, 255, 256, 65_535, 65_536])
def test_chunks_are_written_as_the_general_writer_would(call_id: int, size: int) -> None:
    pair = Pair()
    pair.up(Request(call_id, "op", {}))
    wire = pair.parent.send(Chunk(call_id, bytes(size)))
    assert wire == raw(3, call_id, bytes(size))
    assert pair.enclave.receive(wire) == [Chunk(call_id, bytes(size))]


FIELDS: list[dict[str, object]] = [
    {},
    {"a": 1, "b": b"\x01", "c": "x", "d": True, "e": None, "f": -1},
    {"a": 24, "b": bytes(300), "c": "x" * 300, "a long name of its own, for once": 1},
    {"a": [1]},
    {"a": {"b": 1}},
]


@pytest.mark.parametrize("fields", FIELDS)
@pytest.mark.parametrize("kind", [Kind.HEAD, Kind.END])
@pytest.mark.parametrize("call_id", [1, 24, 2**32])
def test_answers_are_read_as_the_general_reader_would(
    call_id: int, kind: Kind, fields: dict[str, object]
) -> None:
    pair = Pair()
    pair.up(Request(call_id, "op", {}), End(call_id))
    pair.down(Accepted(call_id))
    if kind is Kind.END:
        pair.down(Head(call_id, {}))
    (event,) = pair.parent.receive(raw(kind, call_id, fields))
    assert isinstance(event, Head | End)
    assert (event.call_id, event.head) == (call_id, fields)


BAD_HEADS: dict[str, bytes] = {
    "deeper than any value": raw(
        2, 1, {"a": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}
    ),
    "integer as a name": raw(2, 1, {1: 1}),
    "name twice": prefixed(b"\x83\x02\x01\xa2\x61a\x01\x61a\x01"),
    "name not UTF-8": prefixed(b"\x83\x02\x01\xa1\x61\xff\x01"),
    "name cut": prefixed(b"\x83\x02\x01\xa1\x63a"),
    "value missing": prefixed(b"\x83\x02\x01\xa1\x61a"),
    "no fields": prefixed(b"\x83\x02\x01"),
    "nothing": prefixed(b"\x83\x02"),
    "a list of fields": raw(2, 1, [1]),
    "id in long form": prefixed(b"\x83\x02\x18\x01\xa0"),
    "id cut": prefixed(b"\x83\x02\x1b\x01"),
    "bytes after": prefixed(b"\x83\x02\x01\xa0\x00"),
}


@pytest.mark.parametrize("name", BAD_HEADS)
def test_bad_heads(name: str) -> None:
    pair = Pair()
    pair.reach(State.ACCEPTED)
    with pytest.raises(RemoteProtocolError):
        pair.parent.receive(BAD_HEADS[name])


@pytest.mark.parametrize("name", ["ERR_NOT_OURS", "err_malformed", "boom: secret text"])
def test_no_text_crosses_as_an_error(name: str) -> None:
    pair = Pair()
    pair.reach(State.UPLOADED)
    with pytest.raises(RemoteProtocolError, match="closed enumeration") as caught:
        pair.parent.receive(raw(5, 1, name))
    assert name not in str(caught.value)


def test_every_code_crosses_as_its_name() -> None:
    pair = Pair()
    for call_id, code in enumerate(ErrorCode, start=1):
        pair.up(Request(call_id, "op", {}), End(call_id))
        assert pair.down(Error(call_id, code)) == [Error(call_id, code)]


def test_only_the_parent_calls() -> None:
    with pytest.raises(LocalProtocolError, match="only the parent"):
        FrameConnection(ENCLAVE).send(Request(1, "op", {}))
    with pytest.raises(RemoteProtocolError, match="only the parent"):
        FrameConnection(PARENT).receive(raw(0, 1, "op", {}))


def test_the_end_of_a_request_has_no_fields() -> None:
    pair = Pair()
    pair.reach(State.UPLOADING)
    with pytest.raises(LocalProtocolError, match="it has none"):
        pair.parent.send(End(1, {"a": 1}))
    with pytest.raises(RemoteProtocolError, match="it has none"):
        pair.enclave.receive(raw(4, 1, {"a": 1}))


def test_call_ids_only_grow() -> None:
    pair = Pair()
    pair.up(Request(5, "op", {}))
    assert pair.parent.next_call_id == 6
    for call_id in (4, 5):
        with pytest.raises(LocalProtocolError, match="only grow"):
            pair.parent.send(Request(call_id, "op", {}))
    pair.down(Error(5, ErrorCode.ERR_OVERLOADED))
    pair.up(Cancel(5))
    with pytest.raises(RemoteProtocolError, match="only grow"):
        pair.enclave.receive(raw(0, 5, "op", {}))


def test_open_calls_are_bounded_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CALLS_MAX_OPEN", 2)
    pair = Pair()
    pair.up(Request(1, "op", {}), Request(2, "op", {}))
    assert not pair.parent.can_request
    with pytest.raises(LocalProtocolError) as caught:
        pair.parent.send(Request(3, "op", {}))
    assert caught.value.code is ErrorCode.ERR_OVERLOADED
    with pytest.raises(RemoteProtocolError):
        pair.enclave.receive(raw(0, 3, "op", {}))


@pytest.mark.parametrize("sender", list(Role))
def test_bodies_are_bounded_by_direction(sender: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CALL_BODY_MAX_BYTES", 10)
    pair = Pair()
    pair.up(Request(1, "op", {}), Chunk(1, b"123456789"))
    if sender is ENCLAVE:
        pair.up(End(1))
        pair.down(Accepted(1), Head(1, {}), Chunk(1, b"123456789"))
    ours, theirs = pair.sides(sender)
    with pytest.raises(LocalProtocolError) as local:
        ours.send(Chunk(1, b"12"))
    assert local.value.code is ErrorCode.ERR_TOO_LARGE
    with pytest.raises(RemoteProtocolError) as remote:
        theirs.receive(raw(3, 1, b"12"))
    assert remote.value.code is ErrorCode.ERR_TOO_LARGE
    assert ours.send(Chunk(1, b"1")) == raw(3, 1, b"1")  # the refused one did not count


def test_a_refused_body_is_swallowed_and_still_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CALL_BODY_MAX_BYTES", 10)
    pair = Pair()
    pair.reach(State.REFUSED)
    assert pair.up(Chunk(1, b"12345"), Chunk(1, b"12345")) == []
    with pytest.raises(RemoteProtocolError):
        pair.enclave.receive(raw(3, 1, b"1"))


def test_a_late_cancel_is_tolerated_once_and_never_sent_knowingly() -> None:
    pair = Pair()
    pair.reach(State.ANSWERING)
    ending = pair.enclave.send(End(1, {}))
    assert pair.enclave.receive(pair.parent.send(Cancel(1))) == []  # they crossed
    assert pair.parent.receive(ending) == [End(1, {})]
    assert pair.parent.state_of(1) is State.CLOSED
    with pytest.raises(LocalProtocolError, match="not open"):
        pair.parent.send(Cancel(1))
    with pytest.raises(RemoteProtocolError, match="not open"):
        pair.enclave.receive(raw(6, 1))


@pytest.mark.parametrize("state", [State.ABORTED, State.CANCELLED, State.CANCELLED_ANSWERING])
def test_a_cancelled_call_takes_no_cancel_after_its_end(state: State) -> None:
    pair = Pair()
    pair.reach(state)
    pair.down(Error(1, ErrorCode.ERR_CANCELLED))
    with pytest.raises(RemoteProtocolError):
        pair.enclave.receive(raw(6, 1))


def test_a_refused_call_may_be_cancelled_late_only_if_its_body_ended() -> None:
    for last, tolerated in ((End(1), True), (Cancel(1), False)):
        pair = Pair()
        pair.reach(State.REFUSED)
        pair.up(last)
        if tolerated:
            assert pair.enclave.receive(raw(6, 1)) == []
        with pytest.raises(RemoteProtocolError):
            pair.enclave.receive(raw(6, 1))


def test_the_memory_of_finished_calls_is_bounded() -> None:
    pair = Pair()
    bound = 2 * limits.CALLS_MAX_OPEN
    for call_id in range(1, bound + 2):
        pair.up(Request(call_id, "op", {}), End(call_id))
        pair.down(Error(call_id, ErrorCode.ERR_OVERLOADED))
    assert pair.enclave.receive(raw(6, 2)) == []
    with pytest.raises(RemoteProtocolError):
        pair.enclave.receive(raw(6, 1))


@pytest.mark.parametrize("role", list(Role))
def test_pings_go_both_ways_one_at_a_time(role: Role) -> None:
    ours, theirs = FrameConnection(role), FrameConnection(role.peer)
    for token in (0, 7):
        assert theirs.receive(ours.send(Ping(token))) == [Ping(token)]
        with pytest.raises(LocalProtocolError, match="second ping"):
            ours.send(Ping(8))
        assert ours.receive(theirs.send(Pong(token))) == [Pong(token)]
    ours.send(Ping(1))
    with pytest.raises(RemoteProtocolError, match="no ping"):
        ours.receive(raw(8, 2))
    theirs.receive(raw(7, 3))
    with pytest.raises(RemoteProtocolError, match="second ping"):
        theirs.receive(raw(7, 4))


@pytest.mark.parametrize("value", ["\ud800", 2**64])
def test_what_cannot_be_written_is_our_own_fault_and_moves_nothing(value: str | int) -> None:
    parent = FrameConnection(PARENT)
    with pytest.raises(LocalProtocolError, match="CBOR") as caught:
        parent.send(Request(1, "op", {"x": value}))
    assert not isinstance(caught.value, MalformedError)
    assert parent.open_calls == 0
    assert parent.send(Request(1, "op", {})) == raw(0, 1, "op", {})


def test_a_clean_end_of_file_is_no_fault_and_is_final() -> None:
    connection = FrameConnection(ENCLAVE)
    connection.receive_eof()
    with pytest.raises(LocalProtocolError):
        connection.send(Ping(1))


def test_an_end_of_file_within_a_frame_or_a_call_is_the_peers_fault() -> None:
    partial = FrameConnection(ENCLAVE)
    partial.receive(b"\0")
    busy = FrameConnection(PARENT)
    busy.send(Request(1, "op", {}))
    for connection in (partial, busy):
        with pytest.raises(RemoteProtocolError, match="closed with"):
            connection.receive_eof()


def test_split_body_covers_the_body_in_chunks_that_can_be_sent() -> None:
    body = bytes(range(256)) * 1_200
    chunks = list(frames.split_body(1, body))
    assert b"".join(chunk.data for chunk in chunks) == body
    assert [len(chunk.data) for chunk in chunks[:-1]] == [frames.CHUNK_DATA_MAX_BYTES] * 2
    assert list(frames.split_body(1, b"")) == []


def test_the_page_lists_every_transition_and_no_other() -> None:
    page = (REPOSITORY / "docs" / "spec" / "frames.md").read_text(encoding="utf-8")
    rows = {
        f"| {state.name} | {sender.value} | {kind.name} | {after.name} |"
        for sender, states in TRANSITIONS.items()
        for state, moves in states.items()
        for kind, after in moves.items()
    }
    names = tuple(f"| {state.name} |" for state in State)
    assert {line for line in page.splitlines() if line.startswith(names)} == rows


def test_a_local_fault_says_internal() -> None:
    with pytest.raises(LocalProtocolError) as caught:
        FrameConnection(PARENT).send(Cancel(1))
    assert caught.value.code is ErrorCode.ERR_INTERNAL
