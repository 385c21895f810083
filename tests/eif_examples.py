"""Small images for tests: they have the layout and cannot boot."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from latensgate_eif.image import Architecture, Image, Section, SectionType
from latensgate_eif.ramdisk import (
    device_entry,
    encode_ramdisk,
    file_entry,
    folder_entry,
    link_entry,
)

KERNEL, COMMAND_LINE, METADATA = b"a kernel", b"console=ttyS0", b'{"ImageName":"example"}'
FIRST = {
    "init": file_entry(b"\x7fELF init", executable=True),
    "dev/console": device_entry(5, 1),
    "proc": folder_entry(),
    "lib64": link_entry("usr/lib64"),
}
SECOND = {"etc/latensgate/policy.toml": file_entry(b"[calls]\n")}


def example_image(*extra: Section, second: dict[str, bytes] | None = None) -> Image:
    files = {path: file_entry(data) for path, data in (second or {}).items()} or SECOND
    return Image(
        Architecture.X86_64,
        512 * 1024**2,
        2,
        (
            Section(SectionType.KERNEL, KERNEL),
            Section(SectionType.COMMAND_LINE, COMMAND_LINE),
            Section(SectionType.METADATA, METADATA),
            Section(SectionType.RAMDISK, encode_ramdisk(FIRST)),
            Section(SectionType.RAMDISK, encode_ramdisk(files)),
            *extra,
        ),
    )


def signer(curve: ec.EllipticCurve | None = None) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
    """Return a certificate (PEM) and its key."""
    key = ec.generate_private_key(curve or ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "image\x1b[31m signer")])
    begin = datetime(2026, 1, 1)  # noqa: DTZ001  # X.509 takes it as UTC
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=3650))
        .sign(key, hashes.SHA384())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
