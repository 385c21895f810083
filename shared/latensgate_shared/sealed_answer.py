"""Sealed answers, version 1: docs/spec/wire.md, section 6.

Both sides derive the key from the exporter secret of the request's HPKE context, ``enc`` and a
fresh nonce. So an answer belongs to one request, and the same request answered twice (never by an
honest enclave) would still not use a key twice.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import sha384
from typing import Final

from latensgate_shared.chunks import (
    FINAL_AAD,
    ChunkReader,
    MissingFinalChunkError,
    cut,
    encode_varint,
    seal_chunk,
    seal_final_chunk,
)
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError
from latensgate_shared.hpke import (
    AEAD,
    AES_256_GCM,
    NONCE_BYTES,
    Concealed,
    CounterAEAD,
    HPKEError,
    hkdf_expand,
    hkdf_extract,
    hmac_pads,
    hmac_with,
)
from latensgate_shared.limits import SEALED_ANSWER_CHUNKS_MAX_COUNT

ANSWER_LABEL: Final = b"latensgate/1 response"
SECRET_BYTES: Final = 32
RESPONSE_NONCE_BYTES: Final = 32
DATA_KEY_BYTES: Final = 32
_WITH_DATA_KEY: Final = ANSWER_LABEL + b" with data key"


class AnswerInvalidError(LatensgateError):
    """The answer is not the enclave's answer to this request, or is wrongly formed."""

    code = ErrorCode.ERR_ANSWER_INVALID


class AnswerTruncatedError(LatensgateError):
    """The answer ended before its final chunk."""

    code = ErrorCode.ERR_ANSWER_TRUNCATED


class AnswerStateError(LatensgateError):
    """A call out of order: a fault of the caller."""

    code = ErrorCode.ERR_INTERNAL


class AnswerSecret(Concealed):
    """What both sides keep of a request to seal or open its answer. Never printed nor written."""

    __slots__ = ("_enc", "_secret")

    def __init__(self, exported: bytes, enc: bytes) -> None:
        self._secret = exported
        self._enc = enc

    def with_data_key(self, data_key: bytes | bytearray) -> AnswerSecret:
        """Return the secret for a request with ``kms_envelope``: the KMS data key joins in.

        Raises:
            MalformedError: The data key has not 32 bytes.
        """
        if len(data_key) != DATA_KEY_BYTES:
            raise MalformedError(
                f"data key: expected {DATA_KEY_BYTES} bytes, found {len(data_key)}"
            )
        prk = hkdf_extract(b"", self._secret + data_key)
        return AnswerSecret(hkdf_expand(prk, _WITH_DATA_KEY, SECRET_BYTES), self._enc)

    def messages(self, response_nonce: bytes) -> CounterAEAD:
        """Return the AEAD of the answer that begins with ``response_nonce`` (32 bytes)."""
        return answer_messages(AES_256_GCM, self._secret, self._enc + response_nonce)


def answer_messages(aead: AEAD, secret: bytes, salt: bytes) -> CounterAEAD:
    """Derive key and base nonce as Oblivious HTTP does (RFC 9458, section 4.4)."""
    prk = hmac_pads(hkdf_extract(salt, secret))
    # Neither is longer than one HMAC block, so each expansion is one call.
    key = hmac_with(prk, b"key\x01")[: aead.key_bytes]
    return CounterAEAD(aead, key, hmac_with(prk, b"nonce\x01")[:NONCE_BYTES])


def digest_text(data: bytes) -> str:
    """Return ``"sha384:"`` and 96 hex digits, as hashes stand in the protocol."""
    return "sha384:" + sha384(data).hexdigest()


class AnswerSealer(Concealed):
    """Seals one answer. Joined, what its methods return is the answer."""

    __slots__ = ("_done", "_hash", "_head", "_messages")

    def __init__(self, secret: AnswerSecret) -> None:
        self._begin(secret, secrets.token_bytes(RESPONSE_NONCE_BYTES))

    def _begin(self, secret: AnswerSecret, response_nonce: bytes) -> None:
        """Take the nonce as an argument, so that vectors can be made; twice is fatal."""
        self._messages = secret.messages(response_nonce)
        self._head = response_nonce
        self._hash = sha384()
        self._done = False

    def content(self, plaintext: bytes) -> bytes:
        """Seal one content chunk; the first result begins with the response nonce.

        Raises:
            AnswerStateError: After ``final``.
            MalformedError: ``plaintext`` is empty.
            TooLargeError: ``plaintext`` is longer than 65,536 bytes.
        """
        if self._done:
            raise AnswerStateError("answer: content after the final chunk")
        framed = self._head + seal_chunk(self._messages, plaintext)
        self._head = b""
        self._hash.update(framed)
        return framed

    def whole_content(self, plaintext: bytes) -> bytes:
        """Seal the content of a unary answer, of any length, in as many chunks as it takes.

        Raises:
            AnswerStateError: After ``final``.
            MalformedError: ``plaintext`` is empty.
        """
        if not plaintext:
            raise MalformedError("answer: content is empty")
        return b"".join(map(self.content, cut(plaintext)))

    @property
    def response_hash(self) -> str:
        """``response_hash`` of what has been sealed: read it after the last content chunk."""
        return "sha384:" + self._hash.hexdigest()

    def final(self, plaintext: bytes) -> bytes:
        """Seal the final chunk, which ends the answer.

        Raises:
            AnswerStateError: Without content, or twice.
            TooLargeError: ``plaintext`` is longer than 65,536 bytes.
        """
        if self._head or self._done:
            raise AnswerStateError("answer: a final chunk comes once, after content")
        framed = seal_final_chunk(self._messages, plaintext)
        self._done = True
        return framed


class AnswerOpener(Concealed):
    """Opens one answer from pieces of any size. After an error it gives nothing more.

    What ``feed`` returns is authentic and in order, but only ``finish`` tells that it is complete.
    """

    __slots__ = ("_chunks", "_closed", "_contents", "_hash", "_head", "_messages", "_secret")

    def __init__(self, secret: AnswerSecret) -> None:
        self._secret = secret
        self._head = b""
        self._messages: CounterAEAD | None = None
        self._chunks = ChunkReader(SEALED_ANSWER_CHUNKS_MAX_COUNT)
        self._hash = sha384()
        self._contents = 0
        self._closed = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the answer; return the content plaintexts now complete.

        Raises:
            AnswerInvalidError: A chunk is malformed, too large or does not open, or they are too
                many.
            AnswerStateError: After ``finish`` or an error.
        """
        self._enter()
        if self._messages is None:
            self._head += data
            if len(self._head) < RESPONSE_NONCE_BYTES:
                self._closed = False
                return []
            nonce, data = self._head[:RESPONSE_NONCE_BYTES], self._head[RESPONSE_NONCE_BYTES:]
            self._messages = self._secret.messages(nonce)
            self._hash.update(nonce)
        contents = self._open_contents(self._messages, data)
        self._closed = False
        return contents

    def _enter(self) -> None:
        """Close until the call has succeeded: an exception leaves the opener closed."""
        if self._closed:
            raise AnswerStateError("answer: it has ended or failed before")
        self._closed = True

    def _open_contents(self, messages: CounterAEAD, data: bytes) -> list[bytes]:
        contents: list[bytes] = []
        try:
            for ciphertext in self._chunks.cut_off(data):
                contents.append(messages.open(b"", ciphertext))
                self._hash.update(encode_varint(len(ciphertext)) + ciphertext)
        except (MalformedError, HPKEError) as error:
            raise AnswerInvalidError(f"answer: {error.detail}") from error
        self._contents += len(contents)
        return contents

    @property
    def response_hash(self) -> str:
        """``response_hash`` of what has been opened: of the whole answer after ``finish``."""
        return "sha384:" + self._hash.hexdigest()

    def finish(self) -> bytes:
        """Say that the answer ended; return the final chunk's plaintext.

        Raises:
            AnswerTruncatedError: It ended before the 16th byte of its final chunk.
            AnswerInvalidError: The final chunk does not open, or there was no content.
            AnswerStateError: After ``finish`` or an error.
        """
        self._enter()
        if self._messages is None:
            raise AnswerTruncatedError("answer: it ends within the response nonce")
        try:
            plaintext = self._messages.open(FINAL_AAD, self._chunks.finish())
        except MissingFinalChunkError as error:
            raise AnswerTruncatedError(f"answer: {error.detail}") from error
        except HPKEError as error:
            raise AnswerInvalidError(f"answer: {error.detail}") from error
        if not self._contents:
            raise AnswerInvalidError("answer: it has no content chunk")
        return plaintext


@dataclass(frozen=True, slots=True, repr=False)
class OpenedAnswer(Concealed):
    """A complete answer.

    Attributes:
        content: The content chunks' plaintexts, joined.
        final: The final chunk's plaintext.
        response_hash: To be compared with the receipt's.
    """

    content: bytes
    final: bytes
    response_hash: str


def open_answer(secret: AnswerSecret, wire: bytes) -> OpenedAnswer:
    """Open a whole answer.

    Raises:
        AnswerTruncatedError: It ends before its final chunk.
        AnswerInvalidError: Anything else is wrong with it.
    """
    opener = AnswerOpener(secret)
    content = b"".join(opener.feed(wire))
    final = opener.finish()
    return OpenedAnswer(content, final, opener.response_hash)
