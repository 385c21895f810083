"""Event stream refusals, one cause each."""

from __future__ import annotations

import struct
from binascii import crc32

import pytest

from latensgate_enclave.aws.eventstream import EventMessage, EventStreamDecoder, EventStreamError
from latensgate_shared.limits import EVENT_HEADERS_MAX_BYTES, EVENT_MESSAGE_MAX_BYTES


def message(headers: bytes, payload: bytes = b"", *, total: int | None = None) -> bytes:
    length = 16 + len(headers) + len(payload) if total is None else total
    prelude = struct.pack(">II", length, len(headers))
    body = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return body + struct.pack(">I", crc32(body))


def header(name: bytes, kind: int, value: bytes) -> bytes:
    return bytes([len(name)]) + name + bytes([kind]) + value


ALL_KINDS = b"".join(
    [
        header(b"true", 0, b""),
        header(b"false", 1, b""),
        header(b"byte", 2, b"\xff"),
        header(b"short", 3, b"\x80\x00"),
        header(b"integer", 4, b"\0\0\0\x05"),
        header(b"long", 5, b"\xff" * 8),
        header(b"bytes", 6, b"\0\x02ab"),
        header(b"text", 7, b"\0\x02\xc3\xa9"),
        header(b"time", 8, b"\0\0\x01\x90\0\0\0\0"),
        header(b"uuid", 9, bytes(range(16))),
    ]
)


def test_every_header_type() -> None:
    decoder = EventStreamDecoder()
    (found,) = decoder.receive(message(ALL_KINDS, b"payload"))
    decoder.close()
    assert found == EventMessage(
        {
            "true": True,
            "false": False,
            "byte": -1,
            "short": -32768,
            "integer": 5,
            "long": -1,
            "bytes": b"ab",
            "text": "é",
            "time": 0x190_0000_0000,
            "uuid": bytes(range(16)),
        },
        b"payload",
    )
    assert "payload" not in repr(found)


def test_cut_stream_is_an_error() -> None:
    whole = message(b"", b"x")
    for end in range(1, len(whole)):
        decoder = EventStreamDecoder()
        assert decoder.receive(whole[:end]) == []
        with pytest.raises(EventStreamError, match="inside"):
            decoder.close()


@pytest.mark.parametrize("at", range(len(message(header(b"a", 7, b"\0\x01b"), b"xyz"))))
def test_every_changed_byte_is_found(at: int) -> None:
    changed = bytearray(message(header(b"a", 7, b"\0\x01b"), b"xyz"))
    changed[at] ^= 0x20
    with pytest.raises(EventStreamError):
        EventStreamDecoder().receive(bytes(changed))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (message(b"", total=15), "shorter"),
        (message(b"", total=0), "shorter"),
        (message(b"", total=EVENT_MESSAGE_MAX_BYTES + 1), "longer"),
        (message(bytes(EVENT_HEADERS_MAX_BYTES + 1)), "longer"),
        (message(header(b"a", 10, b"")), "type 10"),
        (message(header(b"a", 7, b"\0\x02b")), "outside"),
        (message(header(b"a", 7, b"\0")), "outside"),
        (message(header(b"a", 4, b"\0\0\0")), "outside"),
        (message(header(b"a", 9, b"\0" * 15)), "outside"),
        (message(b"\x05a"), "outside"),
        (message(b"\x01a"), "outside"),
        (message(header(b"a", 0, b"") * 2), "twice"),
        (message(header(b"\xff", 0, b"")), "UTF-8"),
        (message(header(b"a", 7, b"\0\x01\xff")), "UTF-8"),
    ],
)
def test_refused(data: bytes, reason: str) -> None:
    with pytest.raises(EventStreamError, match=reason):
        EventStreamDecoder().receive(data)


def test_lengths_are_believed_only_after_their_checksum() -> None:
    with pytest.raises(EventStreamError, match="prelude"):
        EventStreamDecoder().receive(struct.pack(">III", 0xFFFFFFFF, 0xFFFFFFFF, 0))
