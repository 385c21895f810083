"""The six published blobs of KMS: fields of all, plaintext of the four whose key is published."""

from __future__ import annotations

import json
from typing import NotRequired, TypedDict

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from latensgate_enclave.aws.cms import CMSDecryptError, decrypt, parse_enveloped_data
from paths import published


class Vector(TypedDict):
    file: str
    rid_hex: str
    iv_hex: str
    ciphertext_hex: str
    encrypted_key_hex: str
    plaintext_hex: NotRequired[str]
    recipient_key: NotRequired[str]


VECTORS: list[Vector] = json.loads(published("nitro", "cms", "expected.json").read_bytes())


def private_key(name: str) -> RSAPrivateKey:
    key = load_pem_private_key(published("nitro", *name.split("/")).read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    return key


def blob(vector: Vector) -> bytes:
    return published("nitro", *vector["file"].split("/")).read_bytes()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["file"])
def test_fields(vector: Vector) -> None:
    found = parse_enveloped_data(blob(vector))
    assert found.recipient_key_id.hex() == vector["rid_hex"]
    assert found.encrypted_key.hex() == vector["encrypted_key_hex"]
    assert found.iv.hex() == vector["iv_hex"]
    assert found.ciphertext.hex() == vector["ciphertext_hex"]


WITH_KEY = [vector for vector in VECTORS if "recipient_key" in vector]


def test_there_are_four_with_a_key() -> None:
    assert len(WITH_KEY) == 4


@pytest.mark.parametrize("vector", WITH_KEY, ids=lambda vector: vector["file"])
def test_plaintext(vector: Vector) -> None:
    key = private_key(vector.get("recipient_key", ""))
    assert decrypt(blob(vector), key).hex() == vector.get("plaintext_hex")


def test_another_key_does_not_open() -> None:
    first, second = (private_key(vector.get("recipient_key", "")) for vector in WITH_KEY[:2])
    assert first.private_numbers() != second.private_numbers()
    with pytest.raises(CMSDecryptError):
        decrypt(blob(WITH_KEY[0]), second)
