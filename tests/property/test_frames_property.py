"""Frames under any interleaving, any bytes and any cut."""

from __future__ import annotations

from collections import deque
from random import Random

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_shared import cbor
from latensgate_shared.errors import ErrorCode
from latensgate_shared.frames import (
    TRANSITIONS,
    Accepted,
    Cancel,
    Chunk,
    End,
    Error,
    Event,
    FrameConnection,
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

seeds = st.integers(0, 2**32).map(Random)


class Side:
    """One end whose bytes reach the other late and in pieces."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.frames = FrameConnection(role)
        self.outgoing = bytearray()
        self.calls: set[int] = set()
        self.seen: list[Event] = []
        self.sent: list[Event] = []
        self.pongs: deque[int] = deque()

    def send(self, event: Event) -> None:
        self.outgoing += self.frames.send(event)
        self.sent.append(event)

    def take(self, data: bytes) -> None:
        for event in self.frames.receive(data):
            self.seen.append(event)
            if isinstance(event, Request):
                self.calls.add(event.call_id)
            elif isinstance(event, Ping):
                self.pongs.append(event.token)

    def act(self, chance: Random) -> None:
        """Do one thing that the rules allow, if the dice find one."""
        if self.pongs:
            self.send(Pong(self.pongs.popleft()))
        elif self.role is Role.PARENT and self.frames.can_request and chance.random() < 0.2:
            call_id = self.frames.next_call_id + chance.randrange(3)
            self.calls.add(call_id)
            self.send(Request(call_id, "op", {"n": call_id}))
        elif self.calls:
            self.move(chance.choice(sorted(self.calls)), chance)

    def move(self, call_id: int, chance: Random) -> None:
        state = self.frames.state_of(call_id)
        if state is State.CLOSED:
            self.calls.discard(call_id)
            return
        kinds = sorted(TRANSITIONS[self.role].get(state, {}))
        if kinds:
            self.send(event_of(chance.choice(kinds), call_id, chance))

    def finish(self, chance: Random) -> None:
        """Bring every call towards its end."""
        for call_id in sorted(self.calls):
            kinds = TRANSITIONS[self.role].get(self.frames.state_of(call_id), {})
            for kind in (Kind.END, Kind.ERROR):
                if kind in kinds and self.frames.state_of(call_id) is not State.CLOSED:
                    self.send(event_of(kind, call_id, chance))
                    break


def event_of(kind: Kind, call_id: int, chance: Random) -> Event:
    data = chance.randbytes(chance.choice([1, 30, 300]))
    events: dict[Kind, Event] = {
        Kind.ACCEPTED: Accepted(call_id),
        Kind.HEAD: Head(call_id, {"h": data}),
        Kind.CHUNK: Chunk(call_id, data),
        Kind.END: End(call_id),
        Kind.ERROR: Error(call_id, ErrorCode.ERR_UPSTREAM),
        Kind.CANCEL: Cancel(call_id),
    }
    return events[kind]


def deliver(source: Side, target: Side, count: int) -> None:
    data = bytes(source.outgoing[:count])
    del source.outgoing[:count]
    target.take(data)


@settings(max_examples=120, deadline=None)
@given(seeds)
def test_two_sides_that_keep_the_rules_never_fault_each_other(chance: Random) -> None:
    parent, enclave = Side(Role.PARENT), Side(Role.ENCLAVE)
    for _ in range(300):
        side, other = chance.choice([(parent, enclave), (enclave, parent)])
        if chance.random() < 0.5:
            side.act(chance)
        else:
            deliver(side, other, chance.randrange(400))
    for _ in range(4):
        parent.finish(chance)
        deliver(parent, enclave, 2**30)
        enclave.finish(chance)
        deliver(enclave, parent, 2**30)
    assert parent.frames.open_calls == enclave.frames.open_calls == 0
    assert parent.seen == enclave.sent
    assert [e for e in parent.sent if e not in enclave.seen and not droppable(e)] == []
    assert len(enclave.seen) <= len(parent.sent)


def droppable(event: Event) -> bool:
    """Whether the enclave may have ended the call before it came."""
    return isinstance(event, Chunk | End | Cancel)


heads = st.dictionaries(
    st.text(max_size=5),
    st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=9) | st.none(),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(heads, max_size=5), seeds)
def test_any_cut_gives_the_same_events(
    contents: list[dict[str, cbor.CBORValue]], chance: Random
) -> None:
    source, target = FrameConnection(Role.PARENT), FrameConnection(Role.ENCLAVE)
    events: list[Event] = [Request(i, "op", head) for i, head in enumerate(contents, start=1)]
    wire = b"".join(source.send(event) for event in events)
    got: list[Event] = []
    while wire:
        size = chance.randrange(1, 40)
        got += target.receive(wire[:size])
        wire = wire[size:]
    assert got == events
    assert target.buffered_bytes == 0


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_events_or_the_typed_error(data: bytes, framed: bool) -> None:  # noqa: FBT001 - hypothesis passes it
    connection = FrameConnection(Role.ENCLAVE)
    wire = len(data).to_bytes(4, "big") + data if framed else data
    try:
        connection.receive(wire)
    except RemoteProtocolError:
        with pytest.raises(LocalProtocolError):
            connection.receive(b"")


mutations = st.tuples(st.integers(0, 60), st.integers(0, 255))


@settings(max_examples=400, deadline=None)
@given(st.integers(1, 2**53 - 1), st.binary(min_size=1, max_size=300), st.lists(mutations))
def test_the_fast_reader_admits_what_the_general_reader_admits(
    call_id: int, data: bytes, changes: list[tuple[int, int]]
) -> None:
    opener = FrameConnection(Role.PARENT)
    opener.send(Request(call_id, "op", {}))
    body = bytearray(opener.send(Chunk(call_id, data))[4:])
    assert bytes(body) == cbor.encode([Kind.CHUNK, call_id, data])
    assert cbor2.loads(bytes(body)) == [3, call_id, data]
    for at, value in changes:
        body[at % len(body)] = value
    frame = bytes(body)
    receiver = FrameConnection(Role.ENCLAVE)
    receiver.receive(FrameConnection(Role.PARENT).send(Request(call_id, "op", {})))
    try:
        events = receiver.receive(len(frame).to_bytes(4, "big") + frame)
    except RemoteProtocolError:
        return
    if isinstance(event := events[0], Chunk):
        assert cbor.decode(frame, max_bytes=1_000) == [Kind.CHUNK, event.call_id, event.data]


HEADS = st.dictionaries(st.text(max_size=4), st.none() | st.booleans() | st.integers(0, 300))


@settings(max_examples=400, deadline=None)
@given(st.integers(1, 2**53 - 1), HEADS, st.lists(mutations))
def test_the_flat_reader_admits_what_the_general_reader_admits(
    call_id: int, fields: dict[str, cbor.CBORValue], changes: list[tuple[int, int]]
) -> None:
    """Of heads, and of ends, which mostly have no fields."""
    for kind, event in ((Kind.HEAD, Head(call_id, fields)), (Kind.END, End(call_id, fields))):
        body = bytearray(cbor.encode([kind, call_id, fields]))
        for at, value in changes:
            body[at % len(body)] = value
        frame = bytes(body)
        parent, enclave = FrameConnection(Role.PARENT), FrameConnection(Role.ENCLAVE)
        asked = parent.send(Request(call_id, "op", {})) + parent.send(End(call_id))
        enclave.receive(asked)
        parent.receive(enclave.send(Accepted(call_id)))
        if kind is Kind.END:
            parent.receive(enclave.send(Head(call_id, {})))
        if not changes:
            assert enclave.send(event)[4:] == frame
        try:
            read = parent.receive(len(frame).to_bytes(4, "big") + frame)[0]
        except RemoteProtocolError:
            continue
        if isinstance(read, (Head, End)):
            assert cbor.decode(frame, max_bytes=9_000) == [read.kind, read.call_id, read.head]
