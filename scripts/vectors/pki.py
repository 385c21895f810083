"""A throw-away test PKI laid out as that of AWS Nitro (facts of attestation-binding.md section 1).

P-384 throughout, ecdsa-with-SHA384, root, three intermediates with path lengths 2, 1, 0 and a leaf
of three hours. Every key comes from a label and every signature is deterministic (RFC 6979).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from vectors.case import fixed

ISSUED = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
INSTANCE_ID = "i-0a1b2c3d4e5f60718"
ENCLAVE_ID = "enc0123456789abcdef"
MODULE_ID = f"{INSTANCE_ID}-{ENCLAVE_ID}"
TIMESTAMP_MS = 1_780_316_999_250
PROTECTED = bytes.fromhex("a1013822")


def private_key(label: str) -> ec.EllipticCurvePrivateKey:
    """P-384 key of a label."""
    return ec.derive_private_key(int.from_bytes(fixed("p384 " + label, 40)), ec.SECP384R1())


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate and the label of its key."""

    label: str
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=not signs_certificates,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Latensgate test vectors"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def issue(  # noqa: PLR0913 - a certificate has that many facts
    label: str,
    common: str,
    parent: Authority | None,
    lifetime: timedelta,
    path_length: int | None,
    *,
    authority: bool = True,
) -> Authority:
    """Make one certificate; without a parent it signs itself."""
    name = _name(common)
    serial = int.from_bytes(hashlib.sha256(label.encode()).digest()[:15]) | 1
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if parent is None else parent.certificate.subject)
        .public_key(private_key(label).public_key())
        .serial_number(serial)
        .not_valid_before(ISSUED)
        .not_valid_after(ISSUED + lifetime)
        .add_extension(x509.BasicConstraints(authority, path_length), critical=True)
        .add_extension(_usage(signs_certificates=authority), critical=authority)
    )
    signer = private_key(label if parent is None else parent.label)
    return Authority(label, builder.sign(signer, hashes.SHA384(), ecdsa_deterministic=True))


def make_chain(root_label: str) -> list[Authority]:
    """Root, regional, zonal, instance, leaf."""
    root = issue(root_label, "aws.nitro-enclaves", None, timedelta(days=10_950), None)
    prefix = "" if root_label == "root" else root_label + " "
    regional = issue(
        prefix + "regional", "4f3b.us-east-1.aws.nitro-enclaves", root, timedelta(days=20), 2
    )
    zonal = issue(
        prefix + "zonal", "9d7a.zonal.us-east-1.aws.nitro-enclaves", regional, timedelta(days=6), 1
    )
    instance = issue(
        prefix + "instance",
        f"{INSTANCE_ID}.us-east-1.aws.nitro-enclaves",
        zonal,
        timedelta(days=1),
        0,
    )
    leaf = issue(
        prefix + "leaf",
        f"{MODULE_ID}.us-east-1.aws",
        instance,
        timedelta(hours=3),
        None,
        authority=False,
    )
    return [root, regional, zonal, instance, leaf]  # fmt: skip


def pcrs(*, debug: bool = False) -> dict[int, bytes]:
    """Sixteen PCRs as an enclave locks them; zeros in 0, 1, 2 and 8 for a debug enclave."""
    values = dict.fromkeys(range(16), bytes(48))
    if not debug:
        values |= {index: fixed(f"pcr {index}", 48) for index in (0, 1, 2)}
    values[3] = fixed("pcr 3", 48)
    values[4] = hashlib.sha384(bytes(48) + INSTANCE_ID.encode()).digest()
    return values


Field: TypeAlias = "str | int | bytes | dict[int, bytes] | list[bytes] | None"


def payload_fields(chain: list[Authority], **changes: Field) -> dict[str, Field]:
    """The nine fields of a document in the order in which the device writes them."""
    fields: dict[str, Field] = {
        "module_id": MODULE_ID,
        "digest": "SHA384",
        "timestamp": TIMESTAMP_MS,
        "pcrs": pcrs(),
        "certificate": chain[-1].der,
        "cabundle": [authority.der for authority in chain[:-1]],
        "public_key": None,
        "user_data": None,
        "nonce": None,
    }
    return fields | changes


def encode_payload(fields: dict[str, Field], *, indefinite: bool = True) -> bytes:
    """CBOR map; of indefinite length as devices write it since mid-2025."""
    body = b"".join(cbor2.dumps(name) + cbor2.dumps(value) for name, value in fields.items())
    return b"\xbf" + body + b"\xff" if indefinite else bytes([0xA0 + len(fields)]) + body


def sig_structure(protected: bytes, payload: bytes) -> bytes:
    """RFC 9052, section 4.4."""
    return cbor2.dumps(["Signature1", protected, b"", payload])


def sign(label: str, signed: bytes) -> bytes:
    """ES384, raw r ‖ s, deterministic."""
    algorithm = ec.ECDSA(hashes.SHA384(), deterministic_signing=True)
    first, second = decode_dss_signature(private_key(label).sign(signed, algorithm))
    return first.to_bytes(48) + second.to_bytes(48)


def sign1(payload: bytes, signature: bytes, protected: bytes = PROTECTED) -> bytes:
    """Untagged COSE_Sign1."""
    empty: dict[int, int] = {}
    return cbor2.dumps([protected, empty, payload, signature])


def document(chain: list[Authority], **changes: Field) -> bytes:
    """A whole document, signed by the leaf of ``chain``."""
    payload = encode_payload(payload_fields(chain, **changes))
    return sign1(payload, sign(chain[-1].label, sig_structure(PROTECTED, payload)))
