"""Sealed requests, version 1: docs/spec/wire.md, section 4."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from latensgate_shared.chunks import (
    FINAL_AAD,
    FINAL_MARK,
    ChunkReader,
    Opener,
    Sealer,
    cut,
    seal_chunk,
    seal_final_chunk,
)
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError, TooLargeError
from latensgate_shared.hpke import (
    AES_256_GCM,
    TAG_BYTES,
    X25519,
    XWING,
    Concealed,
    HPKEError,
    RecipientContext,
    SenderContext,
    Suite,
    setup_sender,
)
from latensgate_shared.limits import SEALED_REQUEST_CHUNKS_MAX_COUNT, SEALED_REQUEST_MAX_BYTES
from latensgate_shared.sealed_answer import ANSWER_LABEL, SECRET_BYTES, AnswerSecret, digest_text

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = b"\x01"
KEY_ID_BYTES: Final = 8
HEADER_BYTES: Final = 15
SUITE_XWING: Final = Suite(XWING, AES_256_GCM)
SUITE_X25519: Final = Suite(X25519, AES_256_GCM)
_SUITES: Final = {suite.id: suite for suite in (SUITE_XWING, SUITE_X25519)}
REQUEST_LABEL: Final = b"latensgate/1 request"
UPSTREAM_CREDENTIAL_LABEL: Final = b"latensgate/1 upstream credential"
HOLD_VIEW_LABEL: Final = b"latensgate/1 hold view"
"""What is sealed under one label opens under no other."""
_FINAL_MIN_BYTES: Final = len(FINAL_MARK) + TAG_BYTES


class ProtocolVersionError(LatensgateError):
    """A version or a suite that this release does not speak."""

    code = ErrorCode.ERR_VERSION


class KeyStaleError(LatensgateError):
    """The key id is not held here, or no longer."""

    code = ErrorCode.ERR_KEY_STALE


class OpenFailedError(LatensgateError):
    """The request was not sealed under this key and this outer, or was changed."""

    code = ErrorCode.ERR_OPEN_FAILED


def find_suite(suite_id: bytes) -> Suite:
    """Return the suite of ``suite_id`` (kem u16 ‖ kdf u16 ‖ aead u16).

    Raises:
        ProtocolVersionError: Not a suite of this protocol.
    """
    suite = _SUITES.get(suite_id)
    if suite is None:
        raise ProtocolVersionError(f"suite: {suite_id.hex()} is not of protocol version 1")
    return suite


def key_id(suite: Suite, public_key: bytes) -> bytes:
    """Return the 8-byte key id of a raw public key."""
    return sha256(VERSION + suite.id + public_key).digest()[:KEY_ID_BYTES]


def request_hash(wire: bytes) -> str:
    """Return ``request_hash``: over the decoded bytes, not the base64."""
    return digest_text(wire)


class SealingKey:
    """A public key that requests are sealed to.

    Attributes:
        suite: One of the protocol's two.
        key_id: 8 bytes.
        header: Of every request under this key, 15 bytes.
        public_key: The loaded key.
    """

    __slots__ = ("header", "key_id", "public_key", "suite")

    def __init__(self, suite: Suite, public_key: bytes) -> None:
        """Load the raw ``public_key``.

        Raises:
            HPKEKeyError: Not a public key of the suite.
        """
        self.suite = suite
        self.public_key = suite.kem.load_public_key(public_key)
        self.key_id = key_id(suite, public_key)
        self.header = VERSION + self.key_id + suite.id


class OpeningKey(Concealed):
    """A private key that opens requests.

    Attributes:
        suite: One of the protocol's two.
        private_key: The loaded key.
        sealing_key: The other half.
    """

    __slots__ = ("private_key", "sealing_key", "suite")

    def __init__(self, suite: Suite, private_key: bytes) -> None:
        """Load the raw ``private_key`` (32 bytes in both suites).

        Raises:
            HPKEKeyError: Not 32 bytes.
        """
        self.suite = suite
        self.private_key = suite.kem.load_private_key(private_key)
        self.sealing_key = SealingKey(suite, self.private_key.public_key.raw)

    @property
    def key_id(self) -> bytes:
        """8 bytes: index of the mapping that ``open_request`` takes."""
        return self.sealing_key.key_id


@dataclass(frozen=True, slots=True, repr=False)
class SealedRequest(Concealed):
    """A request ready to send, and what opens its answer.

    Attributes:
        wire: The sealed bytes; a retry sends the same ones.
        answer_secret: For ``AnswerOpener``.
    """

    wire: bytes
    answer_secret: AnswerSecret


@dataclass(frozen=True, slots=True, repr=False)
class OpenedRequest(Concealed):
    """A request that opened.

    Attributes:
        plaintext: As the client sealed it; its content is not judged yet.
        answer_secret: For ``AnswerSealer``.
        key_id: 8 bytes: the key it was sealed to.
        shared_secret: Of its KEM: opens it again when its key has ended (``reopen_request``).
    """

    plaintext: bytes
    answer_secret: AnswerSecret
    key_id: bytes
    shared_secret: bytes


def request_info(header: bytes, outer_canonical: bytes, label: bytes = REQUEST_LABEL) -> bytes:
    """Return HPKE's ``info`` of a request: binds header and outer, and what it is meant for."""
    return label + b"\x00" + header + sha256(outer_canonical).digest()


def seal_request(
    key: SealingKey, outer_canonical: bytes, plaintext: bytes, *, label: bytes = REQUEST_LABEL
) -> SealedRequest:
    """Seal ``plaintext`` to ``key`` under the visible part ``outer_canonical``.

    Raises:
        TooLargeError: The request would be longer than 15 MiB.
        HPKEKeyError: The public key gives an all-zero X25519 result.
    """
    enc, context = setup_sender(
        key.suite, key.public_key, request_info(key.header, outer_canonical, label)
    )
    return _seal_in(context, key.header, enc, plaintext)


def _seal_in(context: SenderContext, header: bytes, enc: bytes, plaintext: bytes) -> SealedRequest:
    """Take the context as an argument, so that vectors can be made."""
    wire = header + enc + seal_chunks(context, plaintext)
    if len(wire) > SEALED_REQUEST_MAX_BYTES:
        raise TooLargeError(
            f"sealed request: expected at most {SEALED_REQUEST_MAX_BYTES} bytes, not {len(wire)}"
        )
    return SealedRequest(wire, _answer_secret(context, enc))


def _answer_secret(context: SenderContext | RecipientContext, enc: bytes) -> AnswerSecret:
    return AnswerSecret(context.export(ANSWER_LABEL, SECRET_BYTES), enc)


def seal_chunks(sealer: Sealer, plaintext: bytes) -> bytes:
    """Return ``plaintext`` as framed chunks; the last piece, maybe empty, is the final chunk."""
    *full, last = tuple(cut(plaintext)) or (b"",)
    framed = [seal_chunk(sealer, piece) for piece in full]
    return b"".join((*framed, seal_final_chunk(sealer, last)))


def open_request(
    keys: Mapping[bytes, OpeningKey],
    outer_canonical: bytes,
    wire: bytes,
    *,
    label: bytes = REQUEST_LABEL,
) -> OpenedRequest:
    """Open ``wire`` with the key among ``keys`` (by key id) that its header names.

    Everything that needs no key is judged first, so that malformed input costs no key operation.

    Raises:
        MalformedError: Header, ``enc`` or chunks are cut short or wrongly framed.
        TooLargeError: The request or a chunk is longer than its limit, or chunks are too many.
        ProtocolVersionError: Another version, or a suite that is not the protocol's.
        KeyStaleError: No key with this id and suite.
        OpenFailedError: It does not open.
    """
    parts = _Parts.of(wire)
    key = keys.get(parts.key_id)
    if key is None or key.sealing_key.header != parts.header:
        raise KeyStaleError("sealed request: its key id is not held here")
    try:
        shared_secret = key.private_key.decapsulate(parts.enc)
    except HPKEError as error:
        raise OpenFailedError(f"sealed request: {error.detail}") from error
    return _open_in(parts, shared_secret, outer_canonical, label)


def reopen_request(shared_secret: bytes, outer_canonical: bytes, wire: bytes) -> OpenedRequest:
    """Open a request that has opened before, by its KEM's shared secret alone.

    Raises:
        LatensgateError: As ``open_request``, but for the key.
    """
    return _open_in(_Parts.of(wire), shared_secret, outer_canonical, REQUEST_LABEL)


class _Parts(NamedTuple):
    """A request cut up; nothing in it is opened."""

    suite: Suite
    header: bytes
    enc: bytes
    chunks: list[bytes]
    final: bytes

    @classmethod
    def of(cls, wire: bytes) -> _Parts:
        suite = _parse_suite(wire)
        enc_end = HEADER_BYTES + suite.kem.enc_bytes
        reader = ChunkReader(SEALED_REQUEST_CHUNKS_MAX_COUNT)
        chunks, final = reader.feed(wire[enc_end:]), reader.finish()
        return cls(suite, wire[:HEADER_BYTES], wire[HEADER_BYTES:enc_end], chunks, final)

    @property
    def key_id(self) -> bytes:
        return self.header[1 : 1 + KEY_ID_BYTES]


def _open_in(
    parts: _Parts, shared_secret: bytes, outer_canonical: bytes, label: bytes
) -> OpenedRequest:
    info = request_info(parts.header, outer_canonical, label)
    context = RecipientContext(parts.suite, shared_secret, info)
    try:
        plaintext = open_chunks(context, parts.chunks, parts.final)
    except HPKEError as error:
        raise OpenFailedError(f"sealed request: {error.detail}") from error
    secret = _answer_secret(context, parts.enc)
    return OpenedRequest(plaintext, secret, parts.key_id, shared_secret)


def _parse_suite(wire: bytes) -> Suite:
    """Judge length, version and suite."""
    if len(wire) > SEALED_REQUEST_MAX_BYTES:
        raise TooLargeError(
            f"sealed request: expected at most {SEALED_REQUEST_MAX_BYTES} bytes, not {len(wire)}"
        )
    if wire[:1] not in (b"", VERSION):
        raise ProtocolVersionError(f"sealed request: expected version 1, found {wire[0]}")
    if len(wire) < HEADER_BYTES:
        raise MalformedError(f"sealed request: {len(wire)} bytes hold no header")
    suite = find_suite(wire[1 + KEY_ID_BYTES : HEADER_BYTES])
    shortest = HEADER_BYTES + suite.kem.enc_bytes + _FINAL_MIN_BYTES
    if len(wire) < shortest:
        raise MalformedError(f"sealed request: expected {shortest} bytes, found {len(wire)}")
    return suite


def open_chunks(opener: Opener, chunks: list[bytes], final: bytes) -> bytes:
    """Open the ciphertexts of a request in order and join their plaintexts.

    Raises:
        HPKEOpenError: One does not open.
    """
    pieces = [opener.open(b"", ciphertext) for ciphertext in chunks]
    return b"".join((*pieces, opener.open(FINAL_AAD, final)))
