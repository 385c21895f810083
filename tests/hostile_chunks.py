"""What a malicious parent can do to the sealed chunks of an answer."""

from __future__ import annotations

from collections.abc import Callable

Chunks = list[bytes]

CHUNKS: dict[str, Callable[[Chunks], Chunks]] = {
    "no final chunk": lambda chunks: chunks[:-1],
    "half a final chunk": lambda chunks: [*chunks[:-1], chunks[-1][: len(chunks[-1]) // 2]],
    "the content dropped": lambda chunks: chunks[-1:],
    "the first twice": lambda chunks: [chunks[0], *chunks],
    "the last content chunk twice": lambda chunks: [*chunks[:-1], *chunks[-2:]],
    "the final chunk twice": lambda chunks: [*chunks, chunks[-1]],
    "the final chunk first": lambda chunks: [chunks[-1], *chunks[:-1]],
    "a byte of the content": lambda chunks: [flipped(chunks[0], 9), *chunks[1:]],
    "a byte of the receipt": lambda chunks: [*chunks[:-1], flipped(chunks[-1], 40)],
    "content as the final chunk": lambda chunks: [*chunks[:-2], b"\x00" + chunks[-2][2:]],
    "nothing at all": lambda _: [],
}
MORE_CHUNKS: dict[str, Callable[[Chunks], Chunks]] = {
    "two in another order": lambda chunks: [chunks[1], chunks[0], *chunks[2:]],
    "the first dropped": lambda chunks: chunks[1:],
    "the last content chunk dropped": lambda chunks: [*chunks[:-2], chunks[-1]],
    "all reversed": lambda chunks: [*chunks[-2::-1], chunks[-1]],
}
SPLICES: dict[str, Callable[[Chunks, Chunks], Chunks]] = {
    "its content": lambda mine, theirs: [*theirs[:-1], mine[-1]],
    "its receipt": lambda mine, theirs: [*mine[:-1], theirs[-1]],
    "one chunk of it": lambda mine, theirs: [*mine[:-2], theirs[-2], mine[-1]],
}


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
