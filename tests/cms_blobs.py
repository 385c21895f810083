"""Writes ``CiphertextForRecipient`` blobs part by part, so that a test can bend one part."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

OAEP = bytes.fromhex(
    "303c06092a864886f70d010107302fa00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500"
)
OAEP_SHA1 = bytes.fromhex("300d06092a864886f70d0101073000")
PKCS1_V15 = bytes.fromhex("300d06092a864886f70d0101010500")


def definite(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        head = bytes([length])
    elif length < 0x100:
        head = bytes([0x81, length])
    else:
        head = b"\x82" + length.to_bytes(2, "big")
    return bytes([tag]) + head + content


def indefinite(tag: int, content: bytes) -> bytes:
    return bytes([tag, 0x80]) + content + b"\0\0"


@dataclass(frozen=True)
class Blob:
    """The parts of a blob, in their encoded form."""

    key_id: bytes
    encrypted_key: bytes
    iv: bytes
    ciphertext: bytes
    chunk_bytes: int | None = 4_096  # None: primitive
    is_definite: bool = False
    oaep: bytes = OAEP
    version: bytes = b"\x02\x01\x02"
    recipient_version: bytes = b"\x02\x01\x02"
    key_id_tag: int = 0x80
    content_type: bytes = bytes.fromhex("06092a864886f70d010703")
    inner_type: bytes = bytes.fromhex("06092a864886f70d010701")
    cipher: bytes = bytes.fromhex("301d060960864801650304012a0410")
    recipients: int = 1
    after_content: bytes = b""

    def encode(self) -> bytes:
        wrap = definite if self.is_definite else indefinite
        recipient = definite(
            0x30,
            self.recipient_version
            + definite(self.key_id_tag, self.key_id)
            + self.oaep
            + definite(0x04, self.encrypted_key),
        )
        if self.chunk_bytes is None:
            content = definite(0x80, self.ciphertext)
        else:
            starts = range(0, len(self.ciphertext), self.chunk_bytes)
            pieces = [self.ciphertext[at : at + self.chunk_bytes] for at in starts]
            content = wrap(0xA0, b"".join(definite(0x04, piece) for piece in pieces))
        content_info = wrap(0x30, self.inner_type + self.cipher + self.iv + content)
        enveloped = wrap(
            0x30,
            self.version
            + definite(0x31, recipient * self.recipients)
            + content_info
            + self.after_content,
        )
        return wrap(0x30, self.content_type + wrap(0xA0, enveloped))


@cache
def recipient_key() -> rsa.RSAPrivateKey:
    """One RSA-2048 key for a whole test run: making one takes a while."""
    return rsa.generate_private_key(65537, 2048)


def make_blob(plaintext: bytes, *, key: bytes | None = None, padded: bytes | None = None) -> Blob:
    """Encrypt as KMS does; ``key`` and ``padded`` replace what would be right."""
    public = recipient_key().public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    content_key, iv = os.urandom(32), os.urandom(16)
    padder = PKCS7(128).padder()
    data = padder.update(plaintext) + padder.finalize() if padded is None else padded
    encryptor = Cipher(AES(content_key), CBC(iv)).encryptor()
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    wrapped = public.encrypt(content_key if key is None else key, oaep)
    return Blob(sha256(spki).digest(), wrapped, iv, encryptor.update(data))


__all__ = ["OAEP_SHA1", "PKCS1_V15", "Blob", "make_blob", "recipient_key", "replace"]
