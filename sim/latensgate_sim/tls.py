"""The certificate authority of the simulated AWS endpoints.

A client that is to trust these servers has to be given this CA: it is in no trust store, and
the enclave takes it only from the measured ``trust.toml`` of the ``sim`` flavour.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from latensgate_sim.nitro_pki import Issued, key_usage, name

if TYPE_CHECKING:
    from collections.abc import Sequence

_FROM: Final = dt.datetime(2019, 1, 1, tzinfo=dt.UTC)
_TO: Final = dt.datetime(2049, 1, 1, tzinfo=dt.UTC)
"""Wide, so that a frozen or skewed clock meets no expired server by accident."""


class EndpointCA:
    """Issues server certificates for AWS host names.

    Attributes:
        issued: Its own certificate and key.
    """

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = name(("O", "Latensgate simulator"), ("CN", "Simulated AWS endpoints"))
        usage = key_usage(digital=True, cert_sign=True, crl_sign=True, repudiation=False)
        certificate = (
            _start(subject, subject, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        self.issued = Issued(certificate, key)

    @property
    def pem(self) -> str:
        """The CA certificate, PEM."""
        return self.issued.pem

    def issue(self, hosts: Sequence[str]) -> Issued:
        """Issue a server certificate for the host names, and for 127.0.0.1 beside them."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
        names.append(x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")))
        usage = key_usage(digital=True, cert_sign=False, crl_sign=False, repudiation=False)
        issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.issued.key.public_key())
        own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            _start(name(("CN", hosts[0])), self.issued.certificate.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(issuer_id, critical=False)
            .add_extension(own_id, critical=False)
            .sign(self.issued.key, hashes.SHA256())
        )
        return Issued(certificate, key)

    def context(self, issued: Issued) -> ssl.SSLContext:
        """Make a server context out of a certificate that ``issue`` made."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        key_pem = issued.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        # the ssl module reads certificates from files only
        with tempfile.TemporaryDirectory(prefix="latensgate-sim-") as folder:
            path = Path(folder, "server.pem")
            path.touch(mode=0o600)
            path.write_bytes(key_pem + issued.pem.encode("ascii"))
            context.load_cert_chain(path)
        return context


def _start(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_TO)
    )
