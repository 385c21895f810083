"""CiphertextForRecipient: both content forms, one layout, one error after the RSA step."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cms_blobs import OAEP_SHA1, PKCS1_V15, Blob, make_blob, recipient_key, replace
from latensgate_enclave.aws.cms import (
    CMSDecryptError,
    CMSError,
    EnvelopedData,
    decrypt,
    parse_enveloped_data,
)
from latensgate_shared.errors import TooLargeError

SECRET = b"a data key of thirty-two bytes.."


@pytest.mark.parametrize("is_definite", [False, True])
@pytest.mark.parametrize("chunk_bytes", [None, 1, 16, 17, 4_096])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 32, 200, 4_000])
def test_opens_every_admitted_form(
    tmp_path: Path, size: int, chunk_bytes: int | None, *, is_definite: bool
) -> None:
    blob = replace(make_blob(b"s" * size), chunk_bytes=chunk_bytes, is_definite=is_definite)
    encoded = blob.encode()
    if len(encoded) > 6_144:
        with pytest.raises(TooLargeError):
            decrypt(encoded, recipient_key())
        return
    assert decrypt(encoded, recipient_key()) == b"s" * size
    if chunk_bytes in {None, 17}:
        assert openssl_decrypt(encoded, tmp_path) == b"s" * size


def openssl_decrypt(encoded: bytes, folder: Path) -> bytes:
    tool = shutil.which("openssl")
    if tool is None:
        pytest.skip("openssl is not installed")
    key = folder / "key.pem"
    key.write_bytes(
        recipient_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    command = [tool, "cms", "-decrypt", "-inform", "DER", "-binary", "-inkey", str(key)]
    return subprocess.run(command, input=encoded, capture_output=True, check=True).stdout


def test_parsed_fields() -> None:
    blob = make_blob(SECRET)
    found = parse_enveloped_data(blob.encode())
    assert found == EnvelopedData(blob.key_id, blob.encrypted_key, blob.iv, blob.ciphertext)
    assert blob.ciphertext.hex() not in repr(found)


def bent() -> dict[str, Blob | bytes]:
    good = make_blob(SECRET)
    encoded = good.encode()
    return {
        "empty": b"",
        "one byte": b"\x30",
        "trailing byte": encoded + b"\0",
        "trailing end of contents": encoded + b"\0\0",
        "end of contents missing": encoded[:-2],
        "definite with trailing byte": replace(good, is_definite=True).encode() + b"\0",
        "definite one too long": bytes([0x30, 0x82, 0xFF, 0xFF]) + encoded[2:],
        "definite one too short": replace(good, is_definite=True).encode()[:-1],
        "length of three bytes": b"\x30\x83\x00\x01\x00" + encoded[2:],
        "length of eight bytes": b"\x30\x88" + b"\xff" * 8,
        "length without its bytes": b"\x30\x82\x01",
        "length not shortest": encoded.replace(b"\x04\x30", b"\x04\x81\x30"),
        "length not shortest, two bytes": encoded.replace(b"\x04\x30", b"\x04\x82\x00\x30"),
        "signedData": replace(good, content_type=bytes.fromhex("06092a864886f70d010702")),
        "inner type": replace(good, inner_type=bytes.fromhex("06092a864886f70d010702")),
        "version 0": replace(good, version=b"\x02\x01\x00"),
        "recipient version 0": replace(good, recipient_version=b"\x02\x01\x00"),
        "issuer and serial": replace(good, key_id_tag=0x30),
        "key id empty": replace(good, key_id=b""),
        "SHA-1 defaults": replace(good, oaep=OAEP_SHA1),
        "PKCS 1 v1.5": replace(good, oaep=PKCS1_V15),
        "AES-128-CBC": replace(good, cipher=bytes.fromhex("301d06096086480165030401020410")),
        "AES-256-GCM": replace(good, cipher=bytes.fromhex("301d060960864801650304012e0410")),
        "IV of 15 bytes": replace(good, iv=good.iv[:15]),
        "no recipient": replace(good, recipients=0),
        "two recipients": replace(good, recipients=2),
        "no ciphertext": replace(good, ciphertext=b""),
        "ciphertext empty primitive": replace(good, ciphertext=b"", chunk_bytes=None),
        "half a block": replace(good, ciphertext=good.ciphertext[:-1]),
        "unprotected attributes": replace(good, after_content=b"\xa1\x02\x31\x00"),
        "nested octet strings": encoded.replace(b"\xa0\x80\x04", b"\xa0\x80\x24"),
        "deep nesting": b"\x30\x80" * 3_000,
        "deep octet strings": encoded[:-60] + b"\x24\x80" * 2_000,
    }


@pytest.mark.parametrize("name", bent())
def test_refused(name: str) -> None:
    blob = bent()[name]
    with pytest.raises(CMSError):
        decrypt(blob if isinstance(blob, bytes) else blob.encode(), recipient_key())


def test_every_truncation_is_refused() -> None:
    encoded = make_blob(SECRET).encode()
    for end in range(len(encoded)):
        with pytest.raises(CMSError):
            parse_enveloped_data(encoded[:end])


def test_too_large() -> None:
    with pytest.raises(TooLargeError):
        parse_enveloped_data(bytes(6_145))


def test_one_error_for_every_cause_after_rsa() -> None:
    good = make_blob(SECRET)
    flipped = bytes([good.encrypted_key[0] ^ 1]) + good.encrypted_key[1:]
    causes = [
        replace(good, encrypted_key=flipped),
        replace(good, encrypted_key=good.encrypted_key[:-1]),
        replace(good, encrypted_key=good.encrypted_key * 2),
        replace(good, encrypted_key=b"\xff" * 256),
        make_blob(SECRET, key=b"k" * 16),
        make_blob(SECRET, key=b""),
        make_blob(b"", padded=bytes(16)),
        make_blob(b"", padded=b"\x11" * 32),
        make_blob(b"", padded=b"\x01" * 15 + b"\x02"),
    ]
    texts: set[str] = set()
    for blob in causes:
        with pytest.raises(CMSDecryptError) as caught:
            decrypt(blob.encode(), recipient_key())
        assert caught.value.__context__ is None or caught.value.__suppress_context__
        texts.add(f"{type(caught.value)} {caught.value} {caught.value.code}")
    assert len(texts) == 1
