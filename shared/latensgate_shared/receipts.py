"""Receipts: what an enclave states about one request, signed (docs/spec/receipts.md).

The public part may be stored by the untrusted parent, so it holds nothing but ids, digests, a
coarse time and an outcome. The private part travels inside the seal.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field, fields
from hashlib import sha384
from typing import TYPE_CHECKING, Final

from latensgate_shared import formats
from latensgate_shared.ed25519 import SIGNATURE_BYTES
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import NAME_MAX_CHARS, RECEIPT_FIELDS_DROPPED_MAX_COUNT
from latensgate_shared.receipt_key import RECEIPT_LABEL
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate_shared.strict_json import JSONObject, JSONValue

RECEIPT_VERSION: Final = 1
OUTCOMES: Final = frozenset({"answered", "refused", "failed", "cancelled", "held", "dry_run"})
SALT_BYTES: Final = 32
COARSE_TIME_S: Final = 60

_KEY_ID_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class PublicPart:
    """The signed part of a receipt; an instance is always within its specification.

    Attributes:
        receipt_id: ``aud_`` and 16 hex digits.
        tenant_id: ``tnt_`` and 8 hex digits.
        key_id: 16 hex digits: the HPKE key that the request was sealed to.
        sequence: Counts up by one for each enclave and tenant.
        previous_receipt_hash: ``receipt_hash`` of the one before; None exactly at sequence 0.
        issued_at: Enclave time, seconds since 1970, a full minute.
        outcome: One of ``OUTCOMES``.
        request_hash: ``sha384:…`` of the sealed request.
        response_hash: ``sha384:…`` of the sealed answer without its final chunk.
        attestation_hash: ``sha384:…``: the document whose manifest holds the receipt key.
        private_digest: ``sha384:…`` of the JCS of the private part.

    Raises:
        JSONError: A member that is not of the form above.
    """

    receipt_id: str
    tenant_id: str
    key_id: str
    sequence: int
    previous_receipt_hash: str | None
    issued_at: int
    outcome: str
    request_hash: str
    response_hash: str
    attestation_hash: str
    private_digest: str
    _canonical: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        formats.receipt_id(self.receipt_id, "receipt.receipt_id")
        formats.tenant_id(self.tenant_id, "receipt.tenant_id")
        formats.hex_text(self.key_id, "receipt.key_id", _KEY_ID_BYTES)
        if type(self.outcome) is not str or self.outcome not in OUTCOMES:
            raise JSONError(f"receipt.outcome: one of {', '.join(sorted(OUTCOMES))} expected")
        formats.sha384_digest(self.request_hash, "receipt.request_hash")
        formats.sha384_digest(self.response_hash, "receipt.response_hash")
        formats.sha384_digest(self.attestation_hash, "receipt.attestation_hash")
        formats.sha384_digest(self.private_digest, "receipt.private_digest")
        if formats.integer(self.issued_at, "receipt.issued_at") % COARSE_TIME_S:
            raise JSONError("receipt.issued_at: a full minute expected")
        self._check_place()
        # Made once: it is signed, hashed for the next receipt, sealed and stored by the parent.
        object.__setattr__(self, "_canonical", self._written())

    def _check_place(self) -> None:
        """Only the first receipt of a chain has nothing before it."""
        if formats.integer(self.sequence, "receipt.sequence"):
            formats.sha384_digest(self.previous_receipt_hash, "receipt.previous_receipt_hash")
        elif self.previous_receipt_hash is not None:
            raise JSONError("receipt.previous_receipt_hash: null expected at sequence 0")

    def _written(self) -> bytes:
        """JCS without its writer: after the checks no text here holds a character to escape."""
        before = self.previous_receipt_hash
        previous = "null" if before is None else f'"{before}"'
        return (
            f'{{"attestation_hash":"{self.attestation_hash}","issued_at":{self.issued_at},'
            f'"key_id":"{self.key_id}","outcome":"{self.outcome}",'
            f'"previous_receipt_hash":{previous},'
            f'"private_digest":"{self.private_digest}","receipt_id":"{self.receipt_id}",'
            f'"request_hash":"{self.request_hash}","response_hash":"{self.response_hash}",'
            f'"sequence":{self.sequence},"tenant_id":"{self.tenant_id}",'
            f'"version":{RECEIPT_VERSION}}}'
        ).encode("ascii")

    def to_json(self) -> JSONObject:
        """Return the object that is canonicalised, signed and stored."""
        value: JSONObject = {name: getattr(self, name) for name in _FIELDS}
        value["version"] = RECEIPT_VERSION
        return value

    def canonical(self) -> bytes:
        """JCS of the public part."""
        return self._canonical


_FIELDS: Final = tuple(item.name for item in fields(PublicPart) if item.init)
_PUBLIC_MEMBERS: Final = frozenset({*_FIELDS, "version"})


def parse_public_part(value: JSONValue) -> PublicPart:
    """Read a public part: exactly the members of version 1.

    Raises:
        JSONError: Anything else.
    """
    members = formats.members(value, "receipt", _PUBLIC_MEMBERS)
    formats.integer(members["version"], "receipt.version", RECEIPT_VERSION, RECEIPT_VERSION)
    return PublicPart(**{name: members[name] for name in _FIELDS})  # type: ignore[arg-type]  # checked there


def signing_input(public: bytes) -> bytes:
    """Return what Ed25519 signs: the label of receipts, a zero byte, the JCS of the public part."""
    return RECEIPT_LABEL + public


def receipt_hash(public: PublicPart) -> str:
    """``sha384:`` and the hex SHA-384 of the signed bytes: what the next receipt names."""
    return _digest(signing_input(public.canonical()))


def salted_hash(salt: bytes, content: bytes) -> JSONObject:
    """Return ``{"salt", "hash"}`` of one content: SHA-384 over the salt and the content.

    The salt keeps whoever sees the hash from trying contents; it is new for each one.

    Args:
        salt: ``SALT_BYTES`` random bytes.
        content: What was opened, forwarded or returned.

    Raises:
        JSONError: A salt of another length.
    """
    if len(salt) != SALT_BYTES:
        raise JSONError(f"receipt: a salt of {SALT_BYTES} bytes expected, found {len(salt)}")
    return {"salt": salt.hex(), "hash": _digest(salt + content)}


def coarse_time(at_s: int) -> int:
    """Round seconds since 1970 down to a full minute: a log of receipts shows no finer order."""
    return at_s - at_s % COARSE_TIME_S


def _digest(data: bytes) -> str:
    return "sha384:" + sha384(data).hexdigest()


@dataclass(frozen=True, slots=True)
class PrivatePart:
    """The private part as its canonical bytes: what is digested, sealed and read is one thing.

    It is canonicalised once, when it is made from ``given``: the object, or its JCS, where whoever
    made the object has written that, too. Its members are checked by ``check_private_part`` only.

    Attributes:
        canonical: JCS of the private part.
        digest: ``sha384:`` and the hex SHA-384 of it.

    Raises:
        JSONError: A value that JCS refuses.
    """

    given: InitVar[JSONObject | bytes]
    canonical: bytes = field(init=False, repr=False)
    digest: str = field(init=False)

    def __post_init__(self, given: JSONObject | bytes) -> None:
        canonical = given if isinstance(given, bytes) else canonicalize(given)
        object.__setattr__(self, "canonical", canonical)
        object.__setattr__(self, "digest", _digest(self.canonical))

    @property
    def value(self) -> JSONObject:
        """The object, read from the canonical bytes anew each time."""
        return parse_json_object(self.canonical, max_bytes=len(self.canonical))


@dataclass(frozen=True, slots=True)
class Receipt:
    """Both parts and the signature. Nothing is verified yet.

    Attributes:
        public: Signed.
        private: To be compared with ``public.private_digest``.
        signature: 64 bytes.
    """

    public: PublicPart
    private: PrivatePart
    signature: bytes

    def canonical(self) -> bytes:
        """JCS of ``to_json``, out of the parts' own."""
        return b"".join(
            (
                b'{"private":',
                self.private.canonical,
                b',"public":',
                self.public.canonical(),
                b',"signature":"',
                self.signature.hex().encode("ascii"),
                b'"}',
            )
        )

    def to_json(self) -> JSONObject:
        """Return the object that goes into the final chunk."""
        return {
            "public": self.public.to_json(),
            "private": self.private.value,
            "signature": self.signature.hex(),
        }


def sign_receipt(
    public: PublicPart, private: PrivatePart, sign: Callable[[bytes], bytes]
) -> Receipt:
    """Make a receipt.

    Args:
        public: With the digest of ``private``.
        private: See ``check_private_part``.
        sign: Ed25519 with the receipt key of the manifest behind ``public.attestation_hash``.

    Raises:
        JSONError: ``public`` commits to another private part; nothing is signed.
    """
    if public.private_digest != private.digest:
        raise JSONError("receipt: private_digest is not that of the private part")
    return Receipt(public, private, sign(signing_input(public.canonical())))


def parse_receipt(value: JSONValue) -> Receipt:
    """Read a receipt as it stands in a final chunk or in a file of the client.

    Raises:
        JSONError: Members or forms other than docs/spec/receipts.md says.
    """
    members = formats.members(value, "receipt", frozenset({"public", "private", "signature"}))
    public = parse_public_part(members["public"])
    private = check_private_part(members["private"])
    return Receipt(public, PrivatePart(private), parse_signature(members["signature"]))


def parse_signature(value: JSONValue) -> bytes:
    """Read the 128 hex digits of a signature.

    Raises:
        JSONError: Anything else.
    """
    return formats.hex_bytes(value, "receipt.signature", SIGNATURE_BYTES)


_PRIVATE_MEMBERS: Final = frozenset(
    {
        "request_id",
        "opened",
        "forwarded",
        "returned",
        "model_asked",
        "model_served",
        "upstream",
        "fields_dropped",
        "pii",
        "usage",
        "timings_ms",
    }
)


def check_private_part(value: JSONValue) -> JSONObject:
    """Demand the members of version 1; others may stand beside them, as the digest covers all.

    Raises:
        JSONError: A member is missing or of another type.
    """
    if type(value) is not dict:
        raise JSONError("receipt.private: an object expected")
    formats.members(value, "receipt.private", _PRIVATE_MEMBERS, value.keys())
    formats.uuid7(value["request_id"], "receipt.private.request_id")
    for step in ("opened", "forwarded", "returned"):
        _check_salted_hash(value[step], f"receipt.private.{step}")
    formats.text(value["model_asked"], "receipt.private.model_asked", NAME_MAX_CHARS)
    if value["model_served"] is not None:
        formats.text(value["model_served"], "receipt.private.model_served", NAME_MAX_CHARS)
    for name in ("pii", "usage", "timings_ms"):
        _object(value[name], f"receipt.private.{name}")
    if value["upstream"] is not None:
        _object(value["upstream"], "receipt.private.upstream")
    _check_fields_dropped(value["fields_dropped"])
    return value


def _check_salted_hash(value: JSONValue, what: str) -> None:
    if value is None:
        return
    members = formats.members(value, what, frozenset({"salt", "hash"}))
    formats.hex_text(members["salt"], f"{what}.salt", SALT_BYTES)
    formats.sha384_digest(members["hash"], f"{what}.hash")


def _object(value: JSONValue, what: str) -> None:
    if type(value) is not dict:
        raise JSONError(f"{what}: an object expected")


def _check_fields_dropped(value: JSONValue) -> None:
    if type(value) is not list or len(value) > RECEIPT_FIELDS_DROPPED_MAX_COUNT:
        raise JSONError(
            "receipt.private.fields_dropped: an array of at most "
            f"{RECEIPT_FIELDS_DROPPED_MAX_COUNT} expected"
        )
    for name in value:
        formats.text(name, "receipt.private.fields_dropped", NAME_MAX_CHARS)
