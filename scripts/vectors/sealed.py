"""Sealing of requests and answers as docs/spec/wire.md says it, with everything adjustable."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vectors.case import Json, fixed
from vectors.primitives import (
    X25519_ID,
    XWING_ID,
    KeyPair,
    Sender,
    hkdf_expand,
    hkdf_extract,
    jcs,
    setup_base,
    varint,
    xor_nonce,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

TENANT = "tnt_a3f9c42b"
MODEL = "claude-3.5-sonnet"
XWING_KEY = KeyPair(XWING_ID, fixed("xwing recipient", 32))
X25519_KEY = KeyPair(X25519_ID, fixed("x25519 recipient", 32))
ATTESTATION_HASH = "sha384:" + fixed("attestation hash", 48).hex()


def outer_members(**changes: Json) -> dict[str, Json]:
    """The five members of wire.md section 3."""
    members: dict[str, Json] = {
        "attestation_hash": ATTESTATION_HASH,
        "model": MODEL,
        "operation": "chat.completions",
        "stream": False,
        "tenant_id": TENANT,
    }
    return members | changes


OUTER = outer_members()


def frame(ciphertexts: Sequence[bytes]) -> bytes:
    """Put lengths before all ciphertexts but the last, and 0x00 before the last."""
    body = b"".join(varint(len(chunk)) + chunk for chunk in ciphertexts[:-1])
    return body + b"\x00" + ciphertexts[-1]


@dataclass(frozen=True, slots=True)
class Opening:
    """One HPKE context for a request, before any chunk."""

    key: KeyPair
    header: bytes
    enc: bytes
    sender: Sender

    def chunks(self, pieces: Sequence[bytes], *, final_aad: bytes = b"final") -> list[bytes]:
        """Seal the pieces in order, the last one as final."""
        last = len(pieces) - 1
        return [
            self.sender.seal(index, final_aad if index == last else b"", piece)
            for index, piece in enumerate(pieces)
        ]

    def request(self, pieces: Sequence[bytes]) -> bytes:
        """A whole good request."""
        return self.header + self.enc + frame(self.chunks(pieces))

    @property
    def response_secret(self) -> bytes:
        """wire.md section 6, without a data key."""
        return self.sender.export(b"latensgate/1 response", 32)

    @property
    def response_probe(self) -> bytes:
        """Chunk 0 over nothing under a response nonce of zeros: shows the secret, gives none."""
        return AnswerSeal(self.response_secret, self.enc, bytes(32)).chunk(b"")


def begin(
    label: str,
    key: KeyPair,
    *,
    outer: dict[str, Json] | None = None,
    header: bytes | None = None,
) -> Opening:
    """Set up the context of wire.md section 4 with randomness drawn from ``label``."""
    shown = key.header if header is None else header
    digest = hashlib.sha256(jcs(OUTER if outer is None else outer)).digest()
    info = b"latensgate/1 request" + b"\x00" + shown + digest
    randomness = fixed("encapsulation " + label, 32 if key.kem_id == X25519_ID else 64)
    enc, sender = setup_base(key, info, randomness)
    return Opening(key, shown, enc, sender)


def with_data_key(secret: bytes, data_key: bytes) -> bytes:
    """wire.md section 6: the tenant's data key joins the response secret."""
    prk = hkdf_extract(b"", secret + data_key)
    return hkdf_expand(prk, b"latensgate/1 response with data key", 32)


@dataclass(slots=True)
class AnswerSeal:
    """Seals chunks of one answer; the counter can be set to make faults."""

    secret: bytes
    enc: bytes
    nonce: bytes
    counter: int = 0
    key: bytes = field(init=False)
    base_nonce: bytes = field(init=False)

    def __post_init__(self) -> None:
        prk = hkdf_extract(self.enc + self.nonce, self.secret)
        self.key = hkdf_expand(prk, b"key", 32)
        self.base_nonce = hkdf_expand(prk, b"nonce", 12)

    def chunk(self, plaintext: bytes, *, aad: bytes = b"") -> bytes:
        """Ciphertext of the next chunk."""
        nonce = xor_nonce(self.base_nonce, self.counter)
        self.counter += 1
        return AESGCM(self.key).encrypt(nonce, plaintext, aad)

    def content(self, plaintext: bytes) -> bytes:
        """The next content chunk, framed."""
        sealed = self.chunk(plaintext)
        return varint(len(sealed)) + sealed

    def final(self, plaintext: bytes, *, aad: bytes = b"final") -> bytes:
        """The final chunk, framed."""
        return b"\x00" + self.chunk(plaintext, aad=aad)
