"""Small parts of the command line: text, ranges, certificates, meanings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from latensgate.cli import certificates
from latensgate.cli.evidence import recognise
from latensgate.cli.render import ranges
from latensgate.cli.text import duration, printable, relative, utc
from latensgate.cli.words import pcr_meaning, user_data_meaning

AT = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def test_what_steers_a_terminal_is_replaced() -> None:
    assert printable("a\x1b[31mb\nc\u202ed") == "a\ufffd[31mb\ufffdc\ufffdd"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "less than a second"),
        (1, "1 second"),
        (61, "1 minute 1 second"),
        (3_600, "1 hour"),
        (3_605, "1 hour"),
        (7_260, "2 hours 1 minute"),
        (86_400 * 1_000 + 3_600, "1,000 days 1 hour"),
        (-90, "1 minute 30 seconds"),
    ],
)
def test_durations(seconds: int, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text


def test_relative_times() -> None:
    assert relative(AT, AT) == "the evaluation time itself"
    assert relative(AT - timedelta(hours=1), AT) == "1 hour before the evaluation time"
    assert relative(AT + timedelta(days=2), AT) == "2 days after the evaluation time"
    assert utc(AT) == "2026-06-01T12:00:00Z"


def test_ranges() -> None:
    assert ranges([5, 6, 7, 9, 11, 12]) == "5-7, 9, 11-12"
    assert ranges([3]) == "3"


def test_meanings() -> None:
    assert pcr_meaning(0) == "whole image"
    assert pcr_meaning(5) == "not assigned by AWS"
    assert pcr_meaning(16) == "free for the application"
    assert user_data_meaning(b"x", None) == ""


@pytest.mark.parametrize(
    ("data", "expected", "form"),
    [
        (b"84", b"\x84", "hexadecimal text"),
        (b"0x8 4\n", b"\x84", "hexadecimal text"),
        (b"hEE=", b"\x84\x41", "base64 text"),
        (b"hEE", b"\x84\x41", "base64 text"),
        (b"_-E", b"\xff\xe1", "base64 text"),
        (b"hEEhE", b"hEEhE", "raw CBOR"),
        (b"\x84\x41", b"\x84\x41", "raw CBOR"),
        (b"", b"", "raw CBOR"),
    ],
)
def test_forms_are_recognised(data: bytes, expected: bytes, form: str) -> None:
    assert recognise(data) == (expected, form)


def certificate(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, name: x509.Name
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(AT)
        .not_valid_after(AT + timedelta(days=1))
    )
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA384()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def test_certificates_are_shown_without_being_judged() -> None:
    hostile = certificate(ec.generate_private_key(ec.SECP256R1()), common_name("a\x1b]0;b"))
    shown = certificates.show(hostile, "leaf")
    assert (shown.subject, shown.key, shown.not_before) == ("a\ufffd]0;b", "secp256r1", AT)
    nameless = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "O")])
    other = certificates.show(certificate(ed25519.Ed25519PrivateKey.generate(), nameless), "leaf")
    assert (other.subject, other.key) == ("O=O", "Ed25519")
    assert certificates.show(b"\x30\x00", "leaf").key is None
