"""The certificates behind attestation documents, shaped as AWS's are (facts: measured on 128).

root (30 years) → regional (20 days) → zonal (5 days 16 hours) → instance (1 day) → leaf (3 hours),
all P-384 signed with SHA-384, path lengths none, 2, 1, 0. The root is this simulator's own and says
so in its name, so a document can be trusted only by someone who was told to trust this root.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

    from latensgate_sim.clock import Clock

LEAF_LIFETIME: Final = dt.timedelta(hours=3, seconds=3)
INSTANCE_LIFETIME: Final = dt.timedelta(days=1)
ZONAL_LIFETIME: Final = dt.timedelta(days=5, hours=16)
REGIONAL_LIFETIME: Final = dt.timedelta(days=20, hours=1)
REGIONAL_BACKDATE: Final = dt.timedelta(hours=1)
LEAF_RENEW_BEFORE: Final = dt.timedelta(minutes=15)
"""A leaf is renewed this long before its end, as AWS does; CAs a whole child lifetime before."""
_ROOT_FROM: Final = dt.datetime(2019, 1, 1, tzinfo=dt.UTC)
_ROOT_LIFETIME: Final = dt.timedelta(days=30 * 365)

_NAMES: Final = {
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "CN": NameOID.COMMON_NAME,
}


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        """The certificate, DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> str:
        """The certificate, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def serves(self, now: dt.datetime, margin: dt.timedelta) -> bool:
        """Whether it is valid now and stays so for ``margin``."""
        start = self.certificate.not_valid_before_utc
        return start <= now < self.certificate.not_valid_after_utc - margin


def name(*parts: tuple[str, str]) -> x509.Name:
    """Build a distinguished name from pairs such as ``("CN", "x")``, in this order."""
    return x509.Name([x509.NameAttribute(_NAMES[short], value) for short, value in parts])


def key_usage(
    *, digital: bool, cert_sign: bool, crl_sign: bool, repudiation: bool
) -> x509.KeyUsage:
    """Build a key usage out of the four bits that Nitro certificates set."""
    return x509.KeyUsage(
        digital_signature=digital,
        content_commitment=repudiation,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


_CA_USAGE: Final = key_usage(digital=True, cert_sign=True, crl_sign=True, repudiation=False)
_INSTANCE_USAGE: Final = key_usage(digital=False, cert_sign=True, crl_sign=False, repudiation=False)
_LEAF_USAGE: Final = key_usage(digital=True, cert_sign=False, crl_sign=False, repudiation=True)


def make_root() -> Issued:
    """Make a self-signed root that cannot be taken for Amazon's."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = name(
        ("C", "US"),
        ("O", "Latensgate simulator"),
        ("OU", "Not Amazon"),
        ("CN", "simulated.nitro-enclaves"),
    )
    window = _Window(_ROOT_FROM, _ROOT_LIFETIME)
    builder = _builder(subject, subject, key, window)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
    )
    builder = builder.add_extension(_CA_USAGE, critical=True)
    return Issued(builder.sign(key, hashes.SHA384()), key)


def load_or_make_root(path: Path) -> Issued:
    """Read the root from ``path`` (key and certificate, PEM), or make it and write it, mode 0600.

    A root that stays over restarts lets a client pin it once.
    """
    if path.exists():
        data = path.read_bytes()
        key = serialization.load_pem_private_key(data, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{path}: an EC private key was expected, not {type(key).__name__}")
        return Issued(x509.load_pem_x509_certificate(data), key)
    root = make_root()
    key_pem = root.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key_pem + root.pem.encode("ascii"))
    return root


@dataclass(frozen=True, slots=True)
class _Window:
    start: dt.datetime
    lifetime: dt.timedelta


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, window: _Window
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .not_valid_before(window.start)
        .not_valid_after(window.start + window.lifetime)
    )


def _issue_ca(
    issuer: Issued, subject: x509.Name, window: _Window, path_length: int, usage: x509.KeyUsage
) -> Issued:
    key = ec.generate_private_key(ec.SECP384R1())
    builder = _builder(subject, issuer.certificate.subject, key, window)
    builder = builder.serial_number(x509.random_serial_number())
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(
        x509.BasicConstraints(ca=True, path_length=path_length), critical=True
    )
    builder = builder.add_extension(issuer_id, critical=False)
    builder = builder.add_extension(own_id, critical=False)
    builder = builder.add_extension(usage, critical=True)
    return Issued(builder.sign(issuer.key, hashes.SHA384()), key)


class NitroChain:
    """The CAs of one simulated instance, each renewed before a certificate below could outlive it.

    Attributes:
        root: The trust anchor.
        region: As in ``us-east-1``.
        instance_id: As in ``i-0123456789abcdef0``.
    """

    def __init__(self, root: Issued, region: str, instance_id: str, clock: Clock) -> None:
        self.root = root
        self.region = region
        self.instance_id = instance_id
        self._clock = clock
        self._cas: list[Issued] = []

    def bundle(self) -> list[Issued]:
        """Return root, regional, zonal and instance CA, all good for a whole leaf lifetime."""
        now = self._clock.now().replace(microsecond=0)
        margins = (ZONAL_LIFETIME, INSTANCE_LIFETIME, LEAF_LIFETIME)
        good = 0
        for authority, margin in zip(self._cas, margins, strict=False):
            if not authority.serves(now, margin):
                break
            good += 1
        self._cas = self._cas[:good]
        for level in range(good, len(margins)):
            self._cas.append(self._make(level, [self.root, *self._cas][-1], now))
        return [self.root, *self._cas]

    def issue_leaf(self, enclave_id: int) -> tuple[Issued, list[Issued]]:
        """Make a leaf for one enclave (64-bit id), not backdated; returns it with its CA bundle.

        The serial is the enclave's id and the Unix time, 8 bytes each, as AWS's is.
        """
        bundle = self.bundle()
        key = ec.generate_private_key(ec.SECP384R1())
        start = self._clock.now().replace(microsecond=0)
        issuer = bundle[-1]
        subject = name(
            ("C", "US"),
            ("ST", "Washington"),
            ("L", "Seattle"),
            ("O", "Amazon"),
            ("OU", "AWS"),
            ("CN", f"{self.module_id(enclave_id)}.{self.region}.aws"),
        )
        serial = (enclave_id << 64) | int(start.timestamp())
        window = _Window(start, LEAF_LIFETIME)
        builder = _builder(subject, issuer.certificate.subject, key, window)
        builder = builder.serial_number(serial)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        builder = builder.add_extension(_LEAF_USAGE, critical=False)
        return Issued(builder.sign(issuer.key, hashes.SHA384()), key), bundle

    def module_id(self, enclave_id: int) -> str:
        """Name one enclave of this instance as the NSM does."""
        return f"{self.instance_id}-enc{enclave_id:016x}"

    def _make(self, level: int, issuer: Issued, now: dt.datetime) -> Issued:
        domain = f"{self.region}.aws.nitro-enclaves"
        company = (("C", "US"), ("O", "Amazon"), ("OU", "AWS"))
        tag = secrets.token_hex(8)
        if level == 0:
            subject = name(*company, ("CN", f"{tag}.{domain}"))
            window = _Window(now - REGIONAL_BACKDATE, REGIONAL_LIFETIME)
            return _issue_ca(issuer, subject, window, 2, _CA_USAGE)
        if level == 1:
            subject = name(
                ("CN", f"{tag}.zonal.{domain}"),
                *reversed(company),
                ("ST", "WA"),
                ("L", "Seattle"),
            )
            return _issue_ca(issuer, subject, _Window(now, ZONAL_LIFETIME), 1, _CA_USAGE)
        place = (("C", "US"), ("ST", "Washington"), ("L", "Seattle"), *company[1:])
        subject = name(*place, ("CN", f"{self.instance_id}.{domain}"))
        return _issue_ca(issuer, subject, _Window(now, INSTANCE_LIFETIME), 0, _INSTANCE_USAGE)
