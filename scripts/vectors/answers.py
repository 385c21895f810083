"""tests/vectors/answer: opening answers, with and without a data key, whole, cut and tampered."""

# ruff: noqa: E501 -- a table of cases reads best one row a line

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from vectors.case import Case, Json, base64_text, fixed, sha384_text
from vectors.primitives import long_varint, varint
from vectors.sealed import X25519_KEY, XWING_KEY, AnswerSeal, Opening, begin, frame, with_data_key

if TYPE_CHECKING:
    from collections.abc import Sequence

SPEC = "wire.md section 6"
CUT = "ERR_ANSWER_TRUNCATED"
INVALID = "ERR_ANSWER_INVALID"
DATA_KEY = fixed("data key", 32)
CONTENT = b'{"body":{"choices":[]},"code":null,"pad":""}'
FINAL = b'{"pad":"","receipt":{},"values":{}}'


def _seal(opening: Opening, label: str, data_key: bytes | None = None) -> AnswerSeal:
    secret = opening.response_secret
    joined = secret if data_key is None else with_data_key(secret, data_key)
    return AnswerSeal(joined, opening.enc, fixed("response nonce " + label, 32))


def _input(opening: Opening, answer: bytes, **changes: Json) -> dict[str, Json]:
    given: dict[str, Json] = {
        "secret_hex": opening.response_secret.hex(),
        "enc_base64": base64_text(opening.enc),
        "answer_base64": base64_text(answer),
    }
    return given | changes


def _good(  # noqa: PLR0913 - a case has that many facts
    name: str,
    why: str,
    opening: Opening,
    contents: Sequence[bytes],
    *,
    final: bytes = FINAL,
    data_key: bytes | None = None,
) -> Case:
    seal = _seal(opening, name, data_key)
    signed = seal.nonce + b"".join(seal.content(piece) for piece in contents)
    answer = signed + seal.final(final)
    extra: dict[str, Json] = {} if data_key is None else {"data_key_hex": data_key.hex()}
    output: dict[str, Json] = {
        "content_lengths": [len(piece) for piece in contents],
        "content_sha256": hashlib.sha256(b"".join(contents)).hexdigest(),
        "final_sha256": hashlib.sha256(final).hexdigest(),
        "response_hash": sha384_text(signed),
    }
    return Case(name, "open_answer", why, SPEC, _input(opening, answer, **extra), output)


def _bad(name: str, why: str, error: str, opening: Opening, answer: bytes, **extra: Json) -> Case:
    return Case(name, "open_answer", why, SPEC, _input(opening, answer, **extra), error=error)


def _accepted() -> list[Case]:
    xwing, x25519 = begin("answer 1", XWING_KEY), begin("answer 2", X25519_KEY)
    full = fixed("a full answer chunk", 65_536)
    stream = [b'{"body":{"n":%d},"code":null,"pad":""}' % number for number in range(20)]
    return [
        _good("xwing", "One content chunk and the final one, after an X-Wing request.", xwing, [CONTENT]),
        _good("x25519", "The same after an X25519 request.", x25519, [CONTENT]),
        _good("data-key", "With the tenant's data key in the secret.", x25519, [CONTENT], data_key=DATA_KEY),
        _good("data-key-xwing", "With the tenant's data key, after an X-Wing request.", xwing, [CONTENT], data_key=DATA_KEY),
        _good("stream", "Twenty content chunks: each has its own number.", x25519, stream),
        _good("long-stream", "Three hundred chunks: the counter passes one byte.", x25519, [b"x"] * 300),
        _good("full-chunk", "A content chunk of 65,536 bytes is the largest.", x25519, [full]),
        _good("empty-final", "A final chunk may seal nothing at this layer.", x25519, [CONTENT], final=b""),
    ]  # fmt: skip


def _truncated() -> list[Case]:
    opening = begin("answer 3", X25519_KEY)
    seal = _seal(opening, "cut")
    first, second = seal.content(b"first"), seal.content(b"second")
    whole = seal.nonce + first + second + seal.final(FINAL)
    rows = (
        ("empty", "No bytes at all.", 0),
        ("inside-nonce", "Cut inside the response nonce.", 31),
        ("nonce-only", "Cut after the response nonce.", 32),
        ("inside-chunk", "Cut inside the first content chunk.", 32 + 5),
        ("after-first", "Cut after the first content chunk: not a short answer.", 32 + len(first)),
        ("after-all-content", "Only the final chunk is missing.", 32 + len(first) + len(second)),
    )
    return [
        _bad("cut-" + name, why, CUT, opening, whole[:length]) for name, why, length in rows
    ] + [
        _bad("cut-inside-final", "Cut inside the final chunk: what is left of it does not open.", INVALID, opening, whole[:-1]),
        _bad("cut-final-tag", "The final chunk has fewer than the 16 bytes of a tag when the bytes end.", CUT, opening, whole[: 32 + len(first) + len(second) + 6]),
    ]  # fmt: skip


def _tampered() -> list[Case]:
    opening = begin("answer 4", X25519_KEY)
    seal = _seal(opening, "tampered")
    one, two = seal.chunk(b"first"), seal.chunk(b"second")
    last = seal.chunk(FINAL, aad=b"final")
    nonce = seal.nonce

    def bad(name: str, why: str, ciphertexts: Sequence[bytes]) -> Case:
        return _bad(name, why, INVALID, opening, nonce + frame(ciphertexts))

    unmarked = _seal(opening, "tampered")
    unmarked_final = [unmarked.chunk(b"first"), unmarked.chunk(b"second"), unmarked.chunk(FINAL)]
    early = _seal(opening, "tampered")
    early_final = [early.chunk(b"first", aad=b"final"), two, last]
    flipped = bytes([two[0] ^ 1]) + two[1:]
    return [
        bad("chunk-flipped", "One bit of the second content chunk.", [one, flipped, last]),
        bad("final-flipped", "One bit of the tag of the final chunk.", [one, two, last[:-1] + bytes([last[-1] ^ 1])]),
        bad("reordered", "Two content chunks change places.", [two, one, last]),
        bad("duplicated", "A content chunk stands twice.", [one, one, two, last]),
        bad("dropped", "A content chunk is left out.", [one, last]),
        bad("content-as-final", "Cut after the first chunk, and the second is passed off as the final one.", [one, two]),
        bad("final-without-aad", 'The final chunk was sealed without the AAD "final".', unmarked_final),
        bad("content-with-final-aad", 'A content chunk was sealed with the AAD "final".', early_final),
        _bad("trailing", "A byte after the final chunk becomes part of it.", INVALID, opening, nonce + frame([one, two, last]) + b"\x00"),
        _bad("nonce-flipped", "One bit of the response nonce.", INVALID, opening, bytes([nonce[0] ^ 1]) + nonce[1:] + frame([one, two, last])),
    ]  # fmt: skip


def _framing() -> list[Case]:
    opening = begin("answer 5", X25519_KEY)
    seal = _seal(opening, "framing")
    one = seal.chunk(b"first")
    last = seal.final(FINAL)
    lone = _seal(opening, "lone")
    empty = _seal(opening, "empty content")
    return [
        _bad("long-varint", "A length below 64 written in two bytes.", INVALID, opening, seal.nonce + long_varint(len(one), 1, 2) + one + last),
        _bad("long-varint-eight", "A length below 64 written in eight bytes.", INVALID, opening, seal.nonce + long_varint(len(one), 3, 8) + one + last),
        _bad("length-above-limit", "A content length of 65,553 is one above the limit.", INVALID, opening, seal.nonce + varint(65_553) + bytes(64)),
        _bad("length-2-62", "The largest length that a varint can say: nothing may be allocated for it.", INVALID, opening, seal.nonce + varint((1 << 62) - 1) + bytes(64)),
        _bad("no-content", "A final chunk alone: an answer has at least one content chunk.", INVALID, opening, lone.nonce + lone.final(FINAL)),
        _bad("empty-content", "A content chunk of 16 bytes holds no plaintext.", INVALID, opening, empty.nonce + empty.content(b"") + empty.final(FINAL)),
    ]  # fmt: skip


def _of_another() -> list[Case]:
    opening, other = begin("answer 6", X25519_KEY), begin("answer 7", X25519_KEY)
    seal = _seal(opening, "whose")
    answer = seal.nonce + seal.content(CONTENT) + seal.final(FINAL)
    keyed = _seal(opening, "keyed", DATA_KEY)
    with_key = keyed.nonce + keyed.content(CONTENT) + keyed.final(FINAL)
    other_enc = base64_text(other.enc)
    other_key = fixed("another data key", 32).hex()
    return [
        _bad("other-request", "The answer to another request.", INVALID, other, answer),
        _bad("other-enc", "The right secret with the enc of another request.", INVALID, opening, answer, enc_base64=other_enc),
        _bad("data-key-missing", "Sealed with a data key, opened without.", INVALID, opening, with_key),
        _bad("data-key-unasked", "Sealed without a data key, opened with one.", INVALID, opening, answer, data_key_hex=DATA_KEY.hex()),
        _bad("data-key-other", "Opened with another data key.", INVALID, opening, with_key, data_key_hex=other_key),
    ]  # fmt: skip


def cases() -> list[Case]:
    """Every case of the folder."""
    groups = (_accepted, _truncated, _tampered, _framing, _of_another)
    return [case for group in groups for case in group()]
