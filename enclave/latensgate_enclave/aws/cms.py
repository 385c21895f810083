"""Reader of ``CiphertextForRecipient``: CMS EnvelopedData (RFC 5652, section 6) as KMS writes it.

KMS answers to ``Recipient`` with one fixed layout in BER, and only that layout is read::

    ContentInfo { envelopedData, [0] EnvelopedData { 2, one KeyTransRecipientInfo {
        2, [0] subjectKeyIdentifier, RSAES-OAEP with SHA-256 and MGF1-SHA-256, encrypted key },
      EncryptedContentInfo { data, aes256-CBC, [0] ciphertext } } }

The enclosing elements may have indefinite or definite length (KMS writes indefinite), the
ciphertext may be primitive or chunked, lengths must be the shortest, and nothing may follow. The
algorithms are compared as bytes: an empty OAEP parameter, which means SHA-1, is another algorithm.

There is no MAC in this format, so what decrypts is not thereby authentic: KMS is authenticated by
the TLS session that ends inside the enclave. And a difference between "wrong key", "wrong padding"
and "wrong length" would be a decryption oracle; everything after the RSA step has one error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from latensgate_enclave.hardening import wipe
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError, TooLargeError
from latensgate_shared.limits import KMS_CIPHERTEXT_MAX_BYTES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_SEQUENCE, _SET, _INTEGER, _OCTETS = 0x30, 0x31, 0x02, 0x04
_CONSTRUCTED_0, _PRIMITIVE_0 = 0xA0, 0x80
_INDEFINITE: Final = 0x80
_LONG_FORMS: Final = {0x81: 1, 0x82: 2}
"""Lengths of more than two bytes are above the limit on the whole anyway."""

_VERSION_2: Final = bytes.fromhex("020102")
_ENVELOPED_DATA: Final = bytes.fromhex("06092a864886f70d010703")
_DATA: Final = bytes.fromhex("06092a864886f70d010701")
_OAEP_SHA256: Final = bytes.fromhex(
    "303c06092a864886f70d010107302f"  # id-RSAES-OAEP, RSAES-OAEP-params (RFC 4055)
    "a00f300d06096086480165030402010500"  # hashFunc: SHA-256
    "a11c301a06092a864886f70d010108300d06096086480165030402010500"  # maskGenFunc: MGF1-SHA-256
)
_AES_256_CBC: Final = bytes.fromhex("301d060960864801650304012a0410")
"""AlgorithmIdentifier up to the 16 bytes of its IV."""
_KEY_BYTES: Final = 32
_BLOCK_BYTES: Final = 16


class CMSError(MalformedError):
    """Bytes that are not the layout of ``CiphertextForRecipient``."""


class CMSDecryptError(LatensgateError):
    """A well-formed blob that this key does not open. Deliberately without a reason."""

    code = ErrorCode.ERR_KMS_KEY_UNFIT

    def __init__(self) -> None:
        super().__init__("CMS: the blob does not open under this key")


@dataclass(frozen=True, slots=True)
class EnvelopedData:
    """The variable parts of one ``CiphertextForRecipient``.

    Attributes:
        recipient_key_id: SHA-256 of the recipient's SubjectPublicKeyInfo in all blobs seen; AWS
            does not document it, so nothing is decided by it.
        encrypted_key: As long as the RSA modulus.
        iv: 16 bytes.
        ciphertext: A positive multiple of 16 bytes.
    """

    recipient_key_id: bytes
    encrypted_key: bytes = field(repr=False)
    iv: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)


def decrypt(blob: bytes, private_key: RSAPrivateKey) -> bytearray:
    """Open one ``CiphertextForRecipient``.

    Returns:
        The secret, in memory that can be wiped; nothing here made another copy of it.

    Raises:
        TooLargeError: More than 6,144 bytes.
        CMSError: Not the layout of KMS.
        CMSDecryptError: Not for this key, or damaged: one error for every cause.
    """
    enveloped = parse_enveloped_data(blob)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    try:
        key = private_key.decrypt(enveloped.encrypted_key, oaep)
    except ValueError:
        key = b""
    # The symmetric step runs in either case, so that its time does not tell which one failed.
    is_key = len(key) == _KEY_BYTES
    decryptor = Cipher(AES(key if is_key else bytes(_KEY_BYTES)), CBC(enveloped.iv)).decryptor()
    plaintext = bytearray(len(enveloped.ciphertext) + _BLOCK_BYTES - 1)  # as `update_into` demands
    del plaintext[decryptor.update_into(enveloped.ciphertext, plaintext) :]
    filler = plaintext[-1]
    is_padded = 1 <= filler <= _BLOCK_BYTES and plaintext.endswith(bytes([filler]) * filler)
    if not (is_key and is_padded):
        wipe(plaintext)
        raise CMSDecryptError
    del plaintext[-filler:]  # PKCS #7 (RFC 5652, 6.3)
    return plaintext


def parse_enveloped_data(blob: bytes) -> EnvelopedData:
    """Take one ``CiphertextForRecipient`` apart.

    Raises:
        TooLargeError: More than 6,144 bytes.
        CMSError: Not the layout of KMS, or bytes after its end.
    """
    if len(blob) > KMS_CIPHERTEXT_MAX_BYTES:
        raise TooLargeError(
            f"CMS: at most {KMS_CIPHERTEXT_MAX_BYTES} bytes expected, found {len(blob)}"
        )
    reader = _Reader(blob)
    ends = [reader.enter(_SEQUENCE, "ContentInfo")]
    reader.expect(_ENVELOPED_DATA, "content type envelopedData")
    ends.append(reader.enter(_CONSTRUCTED_0, "content"))
    ends.append(reader.enter(_SEQUENCE, "EnvelopedData"))
    reader.expect(_VERSION_2, "EnvelopedData version 2")
    key_id, encrypted_key = _recipient(reader)
    ends.append(reader.enter(_SEQUENCE, "EncryptedContentInfo"))
    reader.expect(_DATA, "content type data")
    reader.expect(_AES_256_CBC, "aes256-CBC with an IV of 16 bytes")
    iv = reader.take(_BLOCK_BYTES, "IV")
    ciphertext = _content(reader)
    while ends:
        reader.leave(ends.pop())
    if reader.at != len(blob):
        raise CMSError(f"CMS: the end expected at byte {reader.at} of {len(blob)}")
    if not ciphertext or len(ciphertext) % _BLOCK_BYTES:
        raise CMSError("CMS: the ciphertext is not a positive number of blocks")
    return EnvelopedData(key_id, encrypted_key, iv, ciphertext)


def _recipient(reader: _Reader) -> tuple[bytes, bytes]:
    """Read the one KeyTransRecipientInfo; return its key identifier and encrypted key."""
    set_end = reader.enter(_SET, "RecipientInfos")
    info_end = reader.enter(_SEQUENCE, "KeyTransRecipientInfo")
    reader.expect(_VERSION_2, "KeyTransRecipientInfo version 2")
    key_id = reader.primitive(_PRIMITIVE_0, "subjectKeyIdentifier")
    reader.expect(_OAEP_SHA256, "RSAES-OAEP with SHA-256 and MGF1-SHA-256")
    encrypted_key = reader.primitive(_OCTETS, "encrypted key")
    reader.leave(info_end)
    reader.leave(set_end)
    return key_id, encrypted_key


def _content(reader: _Reader) -> bytes:
    if reader.peek() == _PRIMITIVE_0:
        return reader.primitive(_PRIMITIVE_0, "encrypted content")
    end = reader.enter(_CONSTRUCTED_0, "encrypted content")
    chunks = bytearray()
    while reader.peek() == _OCTETS:
        chunks += reader.primitive(_OCTETS, "chunk of encrypted content")
    reader.leave(end)
    return bytes(chunks)


class _Reader:
    """A position in the blob. Depth is that of the calls above, so it cannot be attacked."""

    __slots__ = ("_blob", "at")

    def __init__(self, blob: bytes) -> None:
        self._blob = blob
        self.at = 0

    def peek(self) -> int | None:
        return self._blob[self.at] if self.at < len(self._blob) else None

    def take(self, count: int, what: str) -> bytes:
        end = self.at + count
        if end > len(self._blob):
            raise CMSError(f"CMS: {what} ends beyond the blob")
        start, self.at = self.at, end
        return self._blob[start:end]

    def expect(self, encoding: bytes, what: str) -> None:
        start = self.at
        if self.take(len(encoding), what) != encoding:
            raise CMSError(f"CMS: {what} expected at byte {start}")

    def primitive(self, tag: int, what: str) -> bytes:
        length = self._head(tag, what)
        if not length:
            raise CMSError(f"CMS: {what} is empty or of indefinite length")
        return self.take(length, what)

    def enter(self, tag: int, what: str) -> int | None:
        """Read the head of a constructed element; return its end, None if indefinite."""
        length = self._head(tag, what)
        return None if length is None else self.at + length

    def leave(self, end: int | None) -> None:
        if end is None:
            self.expect(b"\0\0", "end of contents")
        elif self.at != end:
            raise CMSError(f"CMS: an element ends at byte {end}, its content at byte {self.at}")

    def _head(self, tag: int, what: str) -> int | None:
        start = self.at
        found, length = self.take(2, what)
        if found != tag:
            raise CMSError(f"CMS: {what} expected at byte {start}, found tag {found:#04x}")
        if length < _INDEFINITE:
            return length
        if length == _INDEFINITE:
            return None
        octets = _LONG_FORMS.get(length)
        if octets is None:
            raise CMSError(f"CMS: the length of {what} has more than two bytes")
        value = int.from_bytes(self.take(octets, what), "big")
        if value < 1 << 8 * (octets - 1) or value < _INDEFINITE:
            raise CMSError(f"CMS: the length of {what} is not in its shortest form")
        return value
