"""CiphertextForRecipient, laid out byte for byte as AWS KMS lays it out (facts B2).

BER with indefinite lengths around, definite ones inside; EnvelopedData version 2; the recipient is
named by the SHA-256 of its SubjectPublicKeyInfo; RSAES-OAEP with SHA-256; AES-256-CBC. Judge:
``openssl cms -decrypt``.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

_END: Final = b"\x00\x00"
_ENVELOPED_DATA: Final = bytes.fromhex("06092a864886f70d010703")
_DATA: Final = bytes.fromhex("06092a864886f70d010701")
_VERSION_2: Final = bytes.fromhex("020102")
_OAEP_SHA256: Final = bytes.fromhex(
    "303c06092a864886f70d010107302f"
    "a00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500"
)
_AES_256_CBC: Final = bytes.fromhex("060960864801650304012a")
_AES_BLOCK_BITS: Final = 128
_SHORT_FORM: Final = 0x80


def envelope(plaintext: bytes, recipient: RSAPublicKey, *, constructed: bool = True) -> bytes:
    """Encrypt to a recipient.

    Args:
        plaintext: What is wrapped; a data key in practice.
        recipient: The attested RSA key.
        constructed: Write the content as a constructed string (both forms occur in real answers).
    """
    content_key, iv = secrets.token_bytes(32), secrets.token_bytes(16)
    padder = PKCS7(_AES_BLOCK_BITS).padder()
    encryptor = Cipher(algorithms.AES256(content_key), modes.CBC(iv)).encryptor()
    padded = padder.update(plaintext) + padder.finalize()
    ciphertext = encryptor.update(padded) + encryptor.finalize()
    algorithm = _tlv(0x30, _AES_256_CBC + _tlv(0x04, iv))
    content = b"\x30\x80" + _DATA + algorithm + _content(ciphertext, constructed=constructed) + _END
    recipients = _tlv(0x31, _key_transport(content_key, recipient), long_length=True)
    enveloped = b"\x30\x80" + _VERSION_2 + recipients + content + _END
    return b"\x30\x80" + _ENVELOPED_DATA + b"\xa0\x80" + enveloped + _END + _END


def _key_transport(content_key: bytes, recipient: RSAPublicKey) -> bytes:
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    spki = recipient.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    identifier = _tlv(0x80, hashlib.sha256(spki).digest())
    encrypted = _tlv(0x04, recipient.encrypt(content_key, oaep), long_length=True)
    body = _VERSION_2 + identifier + _OAEP_SHA256 + encrypted
    return _tlv(0x30, body, long_length=True)


def _content(ciphertext: bytes, *, constructed: bool) -> bytes:
    if constructed:
        return b"\xa0\x80" + _tlv(0x04, ciphertext) + _END
    return _tlv(0x80, ciphertext)


def _tlv(tag: int, value: bytes, *, long_length: bool = False) -> bytes:
    length = len(value)
    if long_length:
        return bytes((tag, 0x82)) + length.to_bytes(2, "big") + value
    if length < _SHORT_FORM:
        return bytes((tag, length)) + value
    size = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + length.to_bytes(size, "big") + value
