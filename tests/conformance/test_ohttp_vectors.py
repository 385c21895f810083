"""Oblivious HTTP vectors through our context, framing and answer keys.

Our protocol is chunked OHTTP with other labels, another header and another suite. These tests put
the drafts' own in, so what is left between the two is data, not code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from latensgate_shared import hpke
from latensgate_shared.chunks import FINAL_AAD, ChunkReader, seal_chunk, seal_final_chunk
from latensgate_shared.hpke_kem import X25519KEMPublicKey
from latensgate_shared.sealed_answer import answer_messages
from latensgate_shared.sealed_request import open_chunks
from paths import published

SUITE: Final = hpke.Suite(hpke.X25519, hpke.AES_128_GCM)
HEADER_BYTES: Final = 7
ENC_END: Final = HEADER_BYTES + 32
NONCE_BYTES: Final = 16  # max(Nn, Nk) of the drafts' suite


@dataclass(frozen=True)
class Vector:
    fields: dict[str, str]
    lists: dict[str, list[str]]

    def __getitem__(self, name: str) -> bytes:
        return bytes.fromhex(self.fields[name])

    def pieces(self, name: str) -> list[bytes]:
        return [bytes.fromhex(piece) for piece in self.lists[name]]


def load(file: str) -> Vector:
    raw = cast("dict[str, object]", json.loads(published("standards", "ohttp", file).read_text()))
    fields = {k: v for k, v in raw.items() if isinstance(v, str)}
    lists = {k: cast("list[str]", v) for k, v in raw.items() if isinstance(v, list)}
    return Vector(fields, lists)


CHUNKED: Final = load("chunked-ohttp-draft-08.json")
PLAIN: Final = load("rfc9458-appendix-a.json")


def sender(vector: Vector) -> tuple[bytes, hpke.SenderContext]:
    private = SUITE.kem.load_private_key(vector["skR"])
    public = X25519KEMPublicKey(private.public_key.raw)
    ephemeral = X25519PrivateKey.from_private_bytes(vector["skE"])
    secret, enc = public._encapsulate_from(ephemeral)  # pyright: ignore[reportPrivateUsage] # the seam is for vectors
    return enc, hpke.SenderContext(SUITE, secret, vector["info"])


def recipient(vector: Vector) -> hpke.RecipientContext:
    enc = vector["enc_request"][HEADER_BYTES:ENC_END]
    private = SUITE.kem.load_private_key(vector["skR"])
    return hpke.setup_recipient(SUITE, private, enc, vector["info"])


def answer_keys(vector: Vector, context: hpke.RecipientContext, label: bytes) -> hpke.CounterAEAD:
    secret = context.export(label, NONCE_BYTES)
    assert secret == vector["secret"]
    salt = vector["pkE"] + vector["enc_response"][:NONCE_BYTES]
    assert salt == vector["salt"]
    return answer_messages(hpke.AES_128_GCM, secret, salt)


def test_chunked_request_is_sealed_as_in_the_draft() -> None:
    enc, context = sender(CHUNKED)
    *pieces, last = CHUNKED.pieces("request_chunks")
    framed = [seal_chunk(context, piece) for piece in pieces]
    wire = CHUNKED["enc_request"][:HEADER_BYTES] + enc + b"".join(framed)
    assert wire + seal_final_chunk(context, last) == CHUNKED["enc_request"]


def test_chunked_request_opens() -> None:
    reader = ChunkReader()
    chunks = reader.feed(CHUNKED["enc_request"][ENC_END:])
    assert len(chunks) == 2
    assert open_chunks(recipient(CHUNKED), chunks, reader.finish()) == CHUNKED["request"]


def test_chunked_response_is_sealed_as_in_the_draft() -> None:
    keys = answer_keys(CHUNKED, recipient(CHUNKED), b"message/bhttp chunked response")
    *pieces, last = CHUNKED.pieces("response_chunks")
    wire = CHUNKED["enc_response"][:NONCE_BYTES]
    wire += b"".join(seal_chunk(keys, piece) for piece in pieces)
    assert wire + seal_final_chunk(keys, last) == CHUNKED["enc_response"]


def test_chunked_response_opens() -> None:
    keys = answer_keys(CHUNKED, recipient(CHUNKED), b"message/bhttp chunked response")
    reader = ChunkReader()
    chunks = reader.feed(CHUNKED["enc_response"][NONCE_BYTES:])
    opened = [keys.open(b"", chunk) for chunk in chunks]
    opened.append(keys.open(FINAL_AAD, reader.finish()))
    assert opened == CHUNKED.pieces("response_chunks")


def test_plain_ohttp_both_ways() -> None:
    enc, context = sender(PLAIN)
    ciphertext = PLAIN["enc_request"][ENC_END:]
    assert enc == PLAIN["pkE"]
    assert context.seal(b"", PLAIN["request"]) == ciphertext
    opener = recipient(PLAIN)
    assert opener.open(b"", ciphertext) == PLAIN["request"]
    keys = answer_keys(PLAIN, opener, b"message/bhttp response")
    assert keys.open(b"", PLAIN["enc_response"][NONCE_BYTES:]) == PLAIN["response"]


def test_the_vectors_can_fail() -> None:
    with pytest.raises(hpke.HPKEOpenError):
        recipient(CHUNKED).open(b"", PLAIN["enc_request"][ENC_END:])
