"""Chunks of the sealed protocol: framing as in chunked Oblivious HTTP, and Padmé lengths.

A sealed body is a row of chunks. Every chunk but the last has its ciphertext's length in front, as
a QUIC varint (RFC 9000, section 16) in the shortest form; the last one has 0x00 in front, the AAD
``"final"`` and runs to the end. So a body has one form only, and one that was cut short shows it
(docs/spec/wire.md, section 4; draft-ietf-ohai-chunked-ohttp-08, section 3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from latensgate_shared.errors import MalformedError, TooLargeError
from latensgate_shared.hpke import TAG_BYTES
from latensgate_shared.limits import CHUNK_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

FINAL_MARK: Final = b"\x00"
FINAL_AAD: Final = b"final"
CIPHERTEXT_MAX_BYTES: Final = CHUNK_MAX_BYTES + TAG_BYTES


class MissingFinalChunkError(MalformedError):
    """The bytes end before the final chunk, or before its 16th byte."""


class Sealer(Protocol):
    """Seals messages by counter: an HPKE sender context or a ``CounterAEAD``."""

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        """Seal the next message."""
        ...


class Opener(Protocol):
    """Opens messages by counter: an HPKE recipient context or a ``CounterAEAD``."""

    def open(self, aad: bytes, ciphertext: bytes) -> bytes:
        """Open the next message."""
        ...


def encode_varint(value: int) -> bytes:
    """Return the shortest QUIC varint of ``value``, which is at least 0.

    Raises:
        TooLargeError: 2^62 or more.
    """
    for exponent in range(4):
        bits = (8 << exponent) - 2
        if value < 1 << bits:
            return (exponent << bits | value).to_bytes(1 << exponent, "big")
    raise TooLargeError("varint: expected a number below 2^62")


def decode_varint(data: bytes | bytearray) -> tuple[int, int] | None:
    """Return the varint at the start of ``data`` and its size in bytes; None if it is incomplete.

    Raises:
        MalformedError: Not the shortest form.
    """
    if not data:
        return None
    exponent = data[0] >> 6
    size = 1 << exponent
    if len(data) < size:
        return None
    value = int.from_bytes(data[:size], "big") & ((1 << (8 * size - 2)) - 1)
    if exponent and value < 1 << (4 * size - 2):
        raise MalformedError(f"varint: {value} stands in {size} bytes, expected the shortest form")
    return value, size


def seal_chunk(sealer: Sealer, piece: bytes) -> bytes:
    """Return one non-final chunk as framed.

    Raises:
        MalformedError: ``piece`` is empty.
        TooLargeError: ``piece`` is longer than 65,536 bytes.
    """
    if not piece:
        raise MalformedError("chunk: only the final one may be empty")
    _check_piece(piece)
    ciphertext = sealer.seal(b"", piece)
    return encode_varint(len(ciphertext)) + ciphertext


def seal_final_chunk(sealer: Sealer, piece: bytes) -> bytes:
    """Return the final chunk as framed.

    Raises:
        TooLargeError: ``piece`` is longer than 65,536 bytes.
    """
    _check_piece(piece)
    return FINAL_MARK + sealer.seal(FINAL_AAD, piece)


def _check_piece(piece: bytes) -> None:
    if len(piece) > CHUNK_MAX_BYTES:
        raise TooLargeError(f"chunk: expected at most {CHUNK_MAX_BYTES} bytes, not {len(piece)}")


def cut(plaintext: bytes) -> Iterator[bytes]:
    """Yield ``plaintext`` in pieces of 65,536 bytes; the last is shorter, and none is empty."""
    for start in range(0, len(plaintext), CHUNK_MAX_BYTES):
        yield plaintext[start : start + CHUNK_MAX_BYTES]


class ChunkReader:
    """Cuts a row of framed chunks apart, from pieces of any size; opens nothing.

    Holds at most one incomplete chunk, however the sender cuts. After an error use it no more.
    """

    __slots__ = ("_buffer", "_chunks_left", "_in_final")

    def __init__(self, max_chunks: int | None = None) -> None:
        """Begin; more than ``max_chunks`` non-final chunks are refused."""
        self._buffer = bytearray()
        self._chunks_left = max_chunks
        self._in_final = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the ciphertexts of the non-final chunks now complete.

        Raises:
            MalformedError: A long varint, or a length of 1 to 16 bytes.
            TooLargeError: A ciphertext of more than 65,552 bytes, or too many.
        """
        return list(self.cut_off(data))

    def cut_off(self, data: bytes) -> Iterator[bytes]:
        """Do as ``feed``, one ciphertext at a time: the next is cut when it is asked for.

        So whoever opens each at once does no work for what follows a forged one.
        """
        self._buffer += data
        while not self._in_final:
            ciphertext = self._next()
            if ciphertext is None:
                break
            yield ciphertext
        if self._in_final:
            _check_ciphertext(len(self._buffer))

    def _next(self) -> bytes | None:
        """Return the next complete non-final ciphertext, or notice the final chunk's mark."""
        head = decode_varint(self._buffer)
        if head is None:
            return None
        length, size = head
        if length == 0:
            self._in_final = True
            del self._buffer[:size]
            return None
        if length <= TAG_BYTES:
            raise MalformedError(f"chunk: expected more than {TAG_BYTES} bytes, found {length}")
        _check_ciphertext(length)
        if len(self._buffer) < size + length:
            return None
        self._count()
        ciphertext = bytes(self._buffer[size : size + length])
        del self._buffer[: size + length]
        return ciphertext

    def _count(self) -> None:
        if self._chunks_left is not None:
            if self._chunks_left == 0:
                raise TooLargeError("chunks: more than the limit")
            self._chunks_left -= 1

    def finish(self) -> bytes:
        """Say that the input ended; return the final chunk's ciphertext.

        Raises:
            MissingFinalChunkError: It ended too early.
        """
        if not self._in_final or len(self._buffer) < TAG_BYTES:
            raise MissingFinalChunkError("chunks: the bytes end before the final chunk does")
        return bytes(self._buffer)


def _check_ciphertext(length: int) -> None:
    if length > CIPHERTEXT_MAX_BYTES:
        raise TooLargeError(f"chunk: expected at most {CIPHERTEXT_MAX_BYTES} bytes, not {length}")


def padme(length: int) -> int:
    """Return the Padmé length for ``length``: at most 12 % more, and few distinct values.

    ``length`` and the result are in bytes (docs/spec/wire.md, section 8; Padmé is from Nikitin and
    others, "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", 2019).
    """
    if length <= 1:
        return length
    exponent = length.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-length // step) * step
