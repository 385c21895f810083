"""Fuzz targets for frames: bytes at a busy connection, and two ends that talk by a script."""

from __future__ import annotations

from copy import deepcopy

from fuzz_forms import Script
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.frames import (
    CHUNK_DATA_MAX_BYTES,
    Accepted,
    Cancel,
    Chunk,
    End,
    Error,
    Event,
    FrameConnection,
    Head,
    HeadMap,
    LocalProtocolError,
    Ping,
    Pong,
    Request,
    Role,
)
from latensgate_shared.limits import CALL_ID_MAX, FRAME_MAX_BYTES

STEPS_MAX_COUNT = 200


def fuzz_frames(data: bytes) -> None:
    """Frames: the first byte says the role and how the rest is cut; the calls are busy."""
    if not data:
        return
    role = Role.PARENT if data[0] & 1 else Role.ENCLAVE
    piece = 1 + (data[0] >> 1)
    pieces = [data[start : start + piece] for start in range(1, len(data), piece)]
    if _read_frames(role, pieces) != _read_frames(role, [data[1:]]):
        raise AssertionError("what is read depends on how the bytes were cut")


def _read_frames(role: Role, pieces: list[bytes]) -> list[Event] | None:
    """What a connection makes of these bytes; None if it refuses them."""
    connection = deepcopy(BUSY[role])
    events: list[Event] = []
    try:
        for piece in pieces:
            events += connection.receive(piece)
        connection.receive_eof()
    except LatensgateError:
        return None
    return events


def _busy_pair() -> dict[Role, FrameConnection]:
    """Two ends of a connection with calls in several states, so that many rules are in reach."""
    parent, enclave = FrameConnection(Role.PARENT), FrameConnection(Role.ENCLAVE)
    for call_id in (1, 2, 3):
        enclave.receive(parent.send(Request(call_id, "inference", {})))
    asked: list[Event] = [Chunk(2, b"body"), End(2), End(3)]
    answered: list[Event] = [Accepted(2), Accepted(3), Head(3, {"status": 200})]
    for event in asked:
        enclave.receive(parent.send(event))
    for event in answered:
        parent.receive(enclave.send(event))
    enclave.receive(parent.send(Cancel(2)))
    enclave.receive(parent.send(Ping(7)))
    parent.receive(enclave.send(Ping(8)))
    return {Role.PARENT: parent, Role.ENCLAVE: enclave}


BUSY = _busy_pair()


def frame_seeds() -> tuple[bytes, ...]:
    """What the peer may send next on the busy connection, in one piece, for either role."""
    from_enclave: list[Event] = [
        Chunk(3, b"answer, long enough for the fast reader"),
        End(3, {"n": 1}),
        Error(3, ErrorCode.ERR_INTERNAL),
        Error(1, ErrorCode.ERR_TOO_LARGE),
        Accepted(1),
        Head(2, {}),
        Pong(7),
    ]
    from_parent: list[Event] = [
        Request(4, "health", {}),
        Request(CALL_ID_MAX, "inference", {"model": "m", "stream": True, "nonce": bytes(32)}),
        Chunk(1, b"x" * 300),
        End(1),
        Cancel(3),
        Cancel(1),
        Pong(8),
    ]
    to_parent = [b"\xff" + deepcopy(BUSY[Role.ENCLAVE]).send(event) for event in from_enclave]
    to_enclave = [b"\xfe" + deepcopy(BUSY[Role.PARENT]).send(event) for event in from_parent]
    return (*to_parent, *to_enclave)


def fuzz_frame_talk(data: bytes) -> None:
    """Two ends by a script: whatever one may send, the other takes, however frames cross.

    Unless the script says that a byte changes on the way: then only a typed error may come.
    """
    script = Script(data)
    talk = _Talk()
    for _ in range(STEPS_MAX_COUNT):
        if not script.left:
            break
        try:
            talk.step(script)
        except LocalProtocolError:
            continue
        except LatensgateError as error:
            if talk.clean:
                raise AssertionError("one end sent what the other refuses") from error
            return


class _Talk:
    """Two ends and the bytes under way between them."""

    def __init__(self) -> None:
        self.ends = {role: FrameConnection(role) for role in Role}
        self.under_way = {role: bytearray() for role in Role}
        self.clean = True

    def step(self, script: Script) -> None:
        """Send, deliver, or damage something."""
        what = script.byte()
        sender = Role.PARENT if what & 1 else Role.ENCLAVE
        match what >> 1 & 7:
            case 0 | 1 | 2 | 3:
                self._send(sender, script)
            case 4 | 5:
                self._deliver(sender, len(self.under_way[sender]))
            case 6:
                self._deliver(sender, script.byte())
            case _:
                self._damage(sender, script)

    def _send(self, sender: Role, script: Script) -> None:
        end = self.ends[sender]
        self.under_way[sender] += end.send(_event(script, end))
        if not 0 <= end.open_calls <= end.next_call_id:
            raise AssertionError("more calls are open than were made")

    def _deliver(self, sender: Role, count: int) -> None:
        piece = bytes(self.under_way[sender][:count])
        del self.under_way[sender][:count]
        end = self.ends[sender.peer]
        end.receive(piece)
        if end.buffered_bytes > FRAME_MAX_BYTES + 3:
            raise AssertionError("more than one frame is held")

    def _damage(self, sender: Role, script: Script) -> None:
        if not self.under_way[sender]:
            return
        self.clean = False
        at = script.number() % len(self.under_way[sender])
        self.under_way[sender][at : at + script.byte() % 3] = script.take(script.byte() % 4)


_CALL_IDS = (0, -1, CALL_ID_MAX, CALL_ID_MAX + 1)
_SIZES = (0, 1, 23, 24, 255, 256, 65_535, 65_536, CHUNK_DATA_MAX_BYTES, CHUNK_DATA_MAX_BYTES + 1)


def _event(script: Script, end: FrameConnection) -> Event:
    kind = script.byte() % 16
    call_id = _call_id(script, end)
    match kind:
        case 4:
            return Head(call_id, _head(script))
        case 5 | 10 | 11:
            return Chunk(call_id, bytes(_SIZES[script.byte() % len(_SIZES)]))
        case 6 | 12:
            return End(call_id, _head(script))
        case 0 | 1 | 2 | 9:
            return Request(call_id, "inference" * (script.byte() % 30), _head(script))
        case _:
            return _bare_event(kind, call_id, script)


def _bare_event(kind: int, call_id: int, script: Script) -> Event:
    """An event of a number and no more than a code."""
    match kind:
        case 3:
            return Accepted(call_id)
        case 7 | 13:
            return Error(call_id, ErrorCode.ERR_INTERNAL)
        case 8 | 14:
            return Cancel(call_id)
        case _:
            token = script.byte() - 1
            return Ping(token) if script.byte() & 1 else Pong(token)


def _call_id(script: Script, end: FrameConnection) -> int:
    choice = script.byte()
    if choice >= 0xFC:
        return _CALL_IDS[choice - 0xFC]
    return end.next_call_id - choice % 4


def _head(script: Script) -> HeadMap:
    choice = script.byte()
    if choice < 0xC0:
        return {}
    if choice < 0xF0:
        return {"n": choice, "data": script.sized()}
    if choice < 0xFC:
        return {"large": bytes(FRAME_MAX_BYTES - 40 + choice % 32)}
    return {"deep": [[[[[[[[[[[[[[[[[choice]]]]]]]]]]]]]]]]]}


def talk_seeds() -> tuple[bytes, ...]:
    """Calls that run to their end, one that is cancelled late, one that is refused early."""
    p, e = 1, 0
    request, accept, head = bytes((p, 0, 0, 1, 0)), bytes((e, 3, 1)), bytes((e, 4, 1, 0))
    end, answer_end, chunk = bytes((p, 6, 1, 0)), bytes((e, 6, 1, 0)), bytes((5, 1, 4))
    deliver_up, deliver_down = bytes((0b1001,)), bytes((0b1000,))
    up, down = b"\x01" + chunk, b"\x00" + chunk
    whole = request + deliver_up + accept + deliver_down + up + end + deliver_up
    whole += head + down + deliver_down + answer_end
    cancel, error = bytes((p, 8, 1)), bytes((e, 7, 1))
    late = whole + cancel + deliver_up + deliver_down
    refused = request + up + deliver_up + error + up + deliver_down + end + deliver_up
    pings = bytes((p, 15, 0, 5, 1)) + deliver_up + bytes((e, 15, 0, 5, 0)) + deliver_down
    return whole + deliver_down, late, refused, pings, bytes((p, 0, 0, 1, 0xF5)) * 2
