"""Attestation documents under a root of our own, with one thing wrong at a time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

from latensgate_shared.cbor import encode
from latensgate_shared.cose import sig_structure

if TYPE_CHECKING:
    from latensgate_shared.cbor import CBOREncodable

NOW = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
INSTANCE = "i-0123456789abcdef0"
MODULE_ID = f"{INSTANCE}-enc0198a1b2c3d4e5f6"
LEAF_NAME = f"{MODULE_ID}.eu-central-1.aws"
PROTECTED = bytes.fromhex("a1013822")
PCR0, PCR1, PCR2 = (bytes([number]) * 48 for number in (0xA0, 0xA1, 0xA2))

USAGE_NAMES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in names for name in USAGE_NAMES})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One certificate; None leaves an extension out."""

    name: str
    ca: bool = True
    constrained: bool = True
    path_length: int | None = None
    usages: tuple[str, ...] | None = ("key_cert_sign",)
    extra: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    not_before: datetime = NOW - timedelta(minutes=30)
    not_after: datetime = NOW + timedelta(hours=2, minutes=30)


LEAF = Shape(name=LEAF_NAME, ca=False, usages=("digital_signature",))
CHAIN = (
    Shape(name="root.invalid"),
    Shape(name="region.root.invalid", path_length=1),
    Shape(name="instance.root.invalid", path_length=0),
    LEAF,
)


@cache
def key(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(0xC0FFEE + number, ec.SECP384R1())


def subject(shape: Shape) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, shape.name)])


def issue(shape: Shape, number: int, issuer: Shape, issuer_number: int) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject(shape))
        .issuer_name(subject(issuer))
        .public_key(key(number).public_key())
        .serial_number(1000 + number)
        .not_valid_before(shape.not_before)
        .not_valid_after(shape.not_after)
    )
    if shape.constrained:
        constraints = x509.BasicConstraints(ca=shape.ca, path_length=shape.path_length)
        builder = builder.add_extension(constraints, critical=True)
    if shape.usages is not None:
        builder = builder.add_extension(usage(*shape.usages), critical=True)
    for extension, critical in shape.extra:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key(issuer_number), hashes.SHA384())


def issue_chain(shapes: tuple[Shape, ...] = CHAIN) -> list[x509.Certificate]:
    issuers = (shapes[0], *shapes)
    return [
        issue(shape, number, issuers[number], max(number - 1, 0))
        for number, shape in enumerate(shapes)
    ]


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


@cache
def standard_chain() -> tuple[bytes, ...]:
    return tuple(der(certificate) for certificate in issue_chain())


def root_sha256(chain: tuple[bytes, ...] | None = None) -> str:
    return hashlib.sha256((chain or standard_chain())[0]).hexdigest()


def standard_pcrs() -> dict[int, bytes]:
    pcr4 = hashlib.sha384(bytes(48) + INSTANCE.encode()).digest()
    return {0: PCR0, 1: PCR1, 2: PCR2, 3: bytes(48), 4: pcr4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A document before it is signed."""

    chain: tuple[bytes, ...] = field(default_factory=standard_chain)
    module_id: str = MODULE_ID
    timestamp_ms: int = int(NOW.timestamp() * 1000)
    pcrs: dict[int, bytes] = field(default_factory=standard_pcrs)
    user_data: bytes | None = None
    nonce: bytes | None = None
    public_key: bytes | None = None

    def but(self, **changes: object) -> Draft:
        return replace(self, **changes)  # type: ignore[arg-type]  # one member each, in tests only

    def members(self) -> dict[str, CBOREncodable]:
        return {
            "module_id": self.module_id,
            "digest": "SHA384",
            "timestamp": self.timestamp_ms,
            "pcrs": self.pcrs,
            "certificate": self.chain[-1],
            "cabundle": self.chain[:-1],
            "public_key": self.public_key,
            "user_data": self.user_data,
            "nonce": self.nonce,
        }

    def sign(self) -> bytes:
        return sign(encode(self.members()), len(self.chain) - 1)


def sign(payload: bytes, key_number: int = 3) -> bytes:
    signature = key(key_number).sign(sig_structure(PROTECTED, payload), ec.ECDSA(hashes.SHA384()))
    r, s = utils.decode_dss_signature(signature)
    raw = r.to_bytes(48, "big") + s.to_bytes(48, "big")
    return encode([PROTECTED, {}, payload, raw])
