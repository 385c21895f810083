"""What is fuzzed: one function a parser that faces the outside.

Each takes arbitrary bytes. Refusing is right only with a typed error; any other exception is a
finding. Where a parser has an inverse, the round trip is demanded too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

from latensgate_shared import cbor, cose
from latensgate_shared.chunks import ChunkReader
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.frames import (
    Accepted,
    Cancel,
    Chunk,
    End,
    Error,
    Event,
    FrameConnection,
    Head,
    Ping,
    Pong,
    Request,
    Role,
)
from latensgate_shared.sealed import (
    SUITE_X25519,
    AnswerOpener,
    AnswerSealer,
    AnswerSecret,
    OpeningKey,
    open_answer,
    open_request,
    seal_request,
)

MAX_BYTES = 4096
OPENING_KEY = OpeningKey(SUITE_X25519, bytes(range(32)))
OUTER = b"{}"


def fuzz_cbor(data: bytes) -> None:
    """Strict CBOR: what decodes has exactly one encoding of its values."""
    try:
        value = cbor.decode(data, max_bytes=MAX_BYTES)
    except LatensgateError:
        return
    again = cbor.encode(value)
    if cbor.decode(again, max_bytes=MAX_BYTES) != value:
        raise AssertionError("a decoded value does not survive encoding")


def fuzz_cose(data: bytes) -> None:
    """COSE_Sign1: whatever parses has a Sig_structure."""
    try:
        message = cose.parse_sign1(data, max_bytes=MAX_BYTES)
    except LatensgateError:
        return
    hashlib.sha384(cose.sig_structure(message.protected, message.payload)).digest()


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


def fuzz_envelope(data: bytes) -> None:
    """Sealed requests and answers, and the framing below them, under a fixed key."""
    parsers = (_open_request, _open_headed_request, _open_answer, _open_built_answer, _read_chunks)
    for parse in parsers:
        try:
            parse(data)
        except LatensgateError:
            continue


def _open_request(data: bytes) -> None:
    open_request({OPENING_KEY.key_id: OPENING_KEY}, OUTER, data)


def _open_headed_request(data: bytes) -> None:
    header = OPENING_KEY.sealing_key.header
    open_request({OPENING_KEY.key_id: OPENING_KEY}, OUTER, header + data)


def _open_answer(data: bytes) -> None:
    open_answer(AnswerSecret(bytes(32), bytes(32)), data)


def _open_built_answer(data: bytes) -> None:
    """Seal what the bytes say in chunks of their making, cut the answer off, open it by pieces."""
    if len(data) < 3:
        return
    secret = AnswerSecret(bytes(32), bytes(32))
    sealer, opener = AnswerSealer(secret), AnswerOpener(secret)
    size, keep, step = data[0] % 32, data[1], 1 + data[2]
    contents = [data[start : start + size] for start in range(3, len(data), size or len(data))]
    wire = b"".join(sealer.content(piece) for piece in contents) + sealer.final(data[:2])
    wire = wire[: len(wire) - keep % 64]
    for start in range(0, len(wire), step):
        opener.feed(wire[start : start + step])
    if opener.finish() != data[:2] or opener.response_hash != sealer.response_hash:
        raise AssertionError("an answer opened to something else")


def _read_chunks(data: bytes) -> None:
    reader = ChunkReader()
    for start in range(0, len(data), 7):
        reader.feed(data[start : start + 7])
    reader.finish()


class Target(NamedTuple):
    """A function to feed, the modules whose branches it is to reach, and inputs to begin with."""

    run: Callable[[bytes], None]
    modules: tuple[str, ...]
    seeds: tuple[bytes, ...]


def _cose_seeds() -> tuple[bytes, ...]:
    payload = cbor.encode({"module_id": "i-0", "pcrs": {0: bytes(48)}, "nonce": None})
    message = cbor.encode([b"\xa1\x01\x38\x22", {}, payload, bytes(96)])
    return message, b"\xd2" + message, cbor.encode([b"", {4: b"11"}, payload, bytes(96)])


def _frame_seeds() -> tuple[bytes, ...]:
    """What the peer may send next on the busy connection, in one piece, for either role."""
    from_enclave: list[Event] = [
        Chunk(3, b"answer"),
        End(3, {"n": 1}),
        Error(3, ErrorCode.ERR_INTERNAL),
        Error(1, ErrorCode.ERR_TOO_LARGE),
        Accepted(1),
        Head(2, {}),
        Pong(7),
    ]
    from_parent: list[Event] = [
        Request(4, "health", {}),
        Chunk(1, b"x"),
        End(1),
        Cancel(3),
        Cancel(1),
        Pong(8),
    ]
    to_parent = [b"\xff" + deepcopy(BUSY[Role.ENCLAVE]).send(event) for event in from_enclave]
    to_enclave = [b"\xfe" + deepcopy(BUSY[Role.PARENT]).send(event) for event in from_parent]
    return (*to_parent, *to_enclave)


def _envelope_seeds() -> tuple[bytes, ...]:
    wire = seal_request(OPENING_KEY.sealing_key, OUTER, b"prompt").wire
    return wire, wire[:1] + bytes(14) + wire[15:], bytes((3, 64, 5)) + bytes(32)


TARGETS = {
    "cbor": Target(fuzz_cbor, ("cbor",), (b"\xa2\x01\x20aa\x83\xf4\xf6\x41\x00",)),
    "cose": Target(fuzz_cose, ("cose", "cbor"), _cose_seeds()),
    "frames": Target(fuzz_frames, ("frames", "frame_rules", "cbor"), _frame_seeds()),
    "envelope": Target(
        fuzz_envelope, ("chunks", "sealed_request", "sealed_answer"), _envelope_seeds()
    ),
}
