"""The decoder against botocore's, on any messages cut anywhere, and on noise."""

from __future__ import annotations

import struct
from binascii import crc32
from typing import cast

from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_enclave.aws.eventstream import (
    EventMessage,
    EventStreamDecoder,
    EventStreamError,
    HeaderValue,
)

TEXTS = st.text(max_size=10).map(lambda text: text.encode("utf-8", "replace"))
VALUES = st.one_of(
    st.sampled_from([b"\x00", b"\x01"]),
    st.binary(min_size=1, max_size=1).map(lambda raw: b"\x02" + raw),
    st.binary(min_size=2, max_size=2).map(lambda raw: b"\x03" + raw),
    st.binary(min_size=4, max_size=4).map(lambda raw: b"\x04" + raw),
    st.binary(min_size=8, max_size=8).map(lambda raw: b"\x05" + raw),
    st.binary(max_size=20).map(lambda raw: b"\x06" + struct.pack(">H", len(raw)) + raw),
    TEXTS.map(lambda raw: b"\x07" + struct.pack(">H", len(raw)) + raw),
    st.binary(min_size=8, max_size=8).map(lambda raw: b"\x08" + raw),
    st.binary(min_size=16, max_size=16).map(lambda raw: b"\x09" + raw),
)
HEADERS = st.dictionaries(TEXTS, VALUES, max_size=4).map(
    lambda pairs: b"".join(bytes([len(name)]) + name + value for name, value in pairs.items())
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    headers, payload = draw(HEADERS), draw(st.binary(max_size=60))
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    body = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return body + struct.pack(">I", crc32(body))


def by_botocore(data: bytes) -> list[EventMessage]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    found: list[EventMessage] = []
    for message in buffer:
        headers = cast("dict[str, HeaderValue]", message.headers)  # the stub says int
        found.append(EventMessage(headers, message.payload))
    return found


@settings(max_examples=150)
@given(st.lists(messages(), max_size=4).map(b"".join), st.integers(1, 200))
def test_agrees_with_botocore(data: bytes, step: int) -> None:
    decoder = EventStreamDecoder()
    found: list[EventMessage] = []
    for start in range(0, len(data), step):
        found += decoder.receive(data[start : start + step])
    decoder.close()
    assert found == by_botocore(data)


def sealed_noise(noise: bytes) -> bytes:
    """Noise behind right checksums, so that it reaches the header parser."""
    headers_bytes = min(len(noise), 40)
    prelude = struct.pack(">II", 16 + len(noise), headers_bytes)
    body = prelude + struct.pack(">I", crc32(prelude)) + noise
    return body + struct.pack(">I", crc32(body))


@settings(max_examples=200)
@given(st.binary(max_size=80) | st.binary(max_size=80).map(sealed_noise))
def test_only_typed_errors(data: bytes) -> None:
    decoder = EventStreamDecoder()
    try:
        decoder.receive(data)
        decoder.close()
    except EventStreamError:
        pass
