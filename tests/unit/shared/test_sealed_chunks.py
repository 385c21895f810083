from __future__ import annotations

from typing import Final

import pytest

from latensgate_shared import hpke
from latensgate_shared.chunks import (
    CIPHERTEXT_MAX_BYTES,
    ChunkReader,
    MissingFinalChunkError,
    cut,
    decode_varint,
    encode_varint,
    padme,
    seal_chunk,
    seal_final_chunk,
)
from latensgate_shared.errors import ErrorCode, MalformedError, TooLargeError
from latensgate_shared.limits import CHUNK_MAX_BYTES

# RFC 9000, appendix A.1
RFC9000: Final = [
    ("c2197c5eff14e88c", 151_288_809_941_952_652),
    ("9d7f3e7d", 494_878_333),
    ("7bbd", 15_293),
    ("25", 37),
]


def sealer() -> hpke.CounterAEAD:
    return hpke.CounterAEAD(hpke.AES_256_GCM, bytes(32), bytes(12))


@pytest.mark.parametrize(("text", "value"), RFC9000)
def test_varint_examples_of_the_rfc(text: str, value: int) -> None:
    data = bytes.fromhex(text)
    assert encode_varint(value) == data
    assert decode_varint(data + b"rest") == (value, len(data))
    for end in range(len(data)):
        assert decode_varint(data[:end]) is None


@pytest.mark.parametrize("bits", [6, 14, 30])
def test_varint_borders(bits: int) -> None:
    size = (bits + 2) // 8
    assert len(encode_varint(2**bits - 1)) == size
    assert len(encode_varint(2**bits)) == 2 * size
    assert decode_varint(encode_varint(2**bits)) == (2**bits, 2 * size)


def test_varint_of_too_many_bits() -> None:
    assert len(encode_varint(2**62 - 1)) == 8
    with pytest.raises(TooLargeError):
        encode_varint(2**62)


@pytest.mark.parametrize("value", [0, 37, 63, 64, 15_293, 2**14 - 1, 2**14, 2**30 - 1])
def test_long_varints_are_refused(value: int) -> None:
    shortest = len(encode_varint(value))
    longer = [size for size in (2, 4, 8) if size > shortest]
    assert longer
    for size in longer:
        data = ((size.bit_length() - 1) << (8 * size - 2) | value).to_bytes(size, "big")
        with pytest.raises(MalformedError, match="shortest"):
            decode_varint(data)


def test_a_long_final_mark_is_refused() -> None:
    with pytest.raises(MalformedError, match="shortest"):
        ChunkReader().feed(b"\x40\x00" + bytes(16))


def test_reader_takes_bytes_one_by_one() -> None:
    keys = sealer()
    wire = seal_chunk(keys, b"one") + seal_chunk(keys, bytes(CHUNK_MAX_BYTES))
    wire += seal_final_chunk(keys, b"last")
    whole = ChunkReader()
    chunks = whole.feed(wire)
    slow = ChunkReader()
    assert [c for i in range(len(wire)) for c in slow.feed(wire[i : i + 1])] == chunks
    assert slow.finish() == whole.finish()
    opener = sealer()
    assert [len(opener.open(b"", chunk)) for chunk in chunks] == [3, CHUNK_MAX_BYTES]
    assert opener.open(b"final", whole.finish()) == b"last"


@pytest.mark.parametrize("length", [1, 15, 16])
def test_lengths_below_a_piece_of_one_byte(length: int) -> None:
    with pytest.raises(MalformedError, match="more than 16"):
        ChunkReader().feed(encode_varint(length) + bytes(length))


def test_length_limits_hold_before_the_bytes_arrive() -> None:
    reader = ChunkReader()
    assert reader.feed(encode_varint(CIPHERTEXT_MAX_BYTES)) == []
    for length in (CIPHERTEXT_MAX_BYTES + 1, 2**62 - 1):
        with pytest.raises(TooLargeError) as caught:
            ChunkReader().feed(encode_varint(length))
        assert caught.value.code is ErrorCode.ERR_TOO_LARGE


def test_the_final_chunk_has_the_limit_too() -> None:
    reader = ChunkReader()
    reader.feed(b"\x00" + bytes(CIPHERTEXT_MAX_BYTES))
    assert len(reader.finish()) == CIPHERTEXT_MAX_BYTES
    with pytest.raises(TooLargeError):
        reader.feed(b"x")


def test_the_end_must_be_a_final_chunk() -> None:
    keys = sealer()
    first, final = seal_chunk(keys, b"one"), seal_final_chunk(keys, b"")
    for end in range(len(first + final)):
        reader = ChunkReader()
        reader.feed((first + final)[:end])
        with pytest.raises(MissingFinalChunkError) as caught:
            reader.finish()
        assert caught.value.code is ErrorCode.ERR_MALFORMED


def test_a_reader_may_bound_the_number_of_chunks() -> None:
    keys = sealer()
    chunks = [seal_chunk(keys, b"x") for _ in range(3)]
    assert len(ChunkReader(3).feed(b"".join(chunks) + seal_final_chunk(keys, b""))) == 3
    with pytest.raises(TooLargeError, match="limit"):
        ChunkReader(2).feed(b"".join(chunks))


def test_pieces_have_limits() -> None:
    with pytest.raises(MalformedError, match="empty"):
        seal_chunk(sealer(), b"")
    for seal in (seal_chunk, seal_final_chunk):
        with pytest.raises(TooLargeError):
            seal(sealer(), bytes(CHUNK_MAX_BYTES + 1))


def test_cutting_fills_every_piece() -> None:
    for length, pieces in (
        (0, []),
        (1, [1]),
        (CHUNK_MAX_BYTES, [CHUNK_MAX_BYTES]),
        (CHUNK_MAX_BYTES + 1, [CHUNK_MAX_BYTES, 1]),
        (2 * CHUNK_MAX_BYTES, [CHUNK_MAX_BYTES] * 2),
    ):
        assert [len(piece) for piece in cut(bytes(length))] == pieces


@pytest.mark.parametrize(
    ("length", "padded"),
    [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 3),
        (8, 8),
        (9, 10),
        (15, 16),
        (100, 104),
        (1_000, 1_024),
        (1_025, 1_088),
        (65_537, 67_584),
        (1_000_000, 1_015_808),
    ],
)
def test_padme_examples(length: int, padded: int) -> None:
    assert padme(length) == padded


def test_padme_is_a_projection_that_costs_at_most_12_percent() -> None:
    previous = 0
    for length in range(20_000):
        padded = padme(length)
        assert length <= padded <= length * 1.12 or padded == length
        assert padme(padded) == padded
        assert padded >= previous
        previous = padded
    assert len({padme(length) for length in range(2**14 + 1, 2**15 + 1)}) == 16
