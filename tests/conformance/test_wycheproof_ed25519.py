"""Ed25519: Wycheproof, and what OpenSSL takes but this project does not."""

from __future__ import annotations

import json
from hashlib import sha512
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from latensgate_shared.ed25519 import SignatureError, check_public_key, verify_ed25519
from paths import published

GROUPS: list[dict[str, Any]] = json.loads(
    published("standards", "wycheproof", "ed25519_test.json").read_bytes()
)["testGroups"]
CASES = [(group["publicKey"]["pk"], case) for group in GROUPS for case in group["tests"]]

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.mark.parametrize(("public_key", "case"), CASES, ids=[str(c["tcId"]) for _, c in CASES])
def test_wycheproof(public_key: str, case: dict[str, Any]) -> None:
    def verify() -> None:
        verify_ed25519(
            bytes.fromhex(public_key), bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
        )

    if case["result"] == "valid":
        verify()
    else:
        with pytest.raises(SignatureError):
            verify()


# --- points of small order, computed from the curve and not copied ---

Point = tuple[int, int]
IDENTITY: Point = (0, 1)


def add(a: Point, b: Point) -> Point:
    """The addition law of RFC 8032, section 5.1.4, in affine coordinates."""
    k = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + k, -1, P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - k, -1, P)
    return x % P, y % P


def times(n: int, point: Point) -> Point:
    result = IDENTITY
    while n:
        if n & 1:
            result = add(result, point)
        point, n = add(point, point), n >> 1
    return result


def point_at(y: int) -> Point | None:
    """x of RFC 8032, section 5.1.3."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    for root in (x, x * pow(2, (P - 1) // 4, P) % P):
        if root * root % P == square:
            return root, y
    return None


def encode(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def small_order_points() -> set[Point]:
    """ORDER times any point lies in the subgroup of 8; one of full order yields all of it."""
    for y in range(2, 100):
        found = point_at(y)
        if found is not None and times(4, seed := times(ORDER, found)) != IDENTITY:
            return {times(n, seed) for n in range(8)}
    raise AssertionError("no point of full order found")


SMALL = small_order_points()


def forged(public_key: bytes) -> tuple[bytes, bytes]:
    """A message and a signature (R = identity, S = 0) that satisfy a key of small order."""
    for counter in range(1_000):
        message = counter.to_bytes(2, "big")
        r = encode(IDENTITY)
        h = int.from_bytes(sha512(r + public_key + message).digest(), "little")
        if h % ORDER % 8 == 0:
            return message, r + bytes(32)
    raise AssertionError("no message found")


def test_there_are_eight() -> None:
    assert len(SMALL) == 8
    assert all(times(8, point) == IDENTITY for point in SMALL)


@pytest.mark.parametrize("point", sorted(SMALL))
def test_keys_of_small_order_are_refused_although_openssl_takes_them(point: Point) -> None:
    public_key = encode(point)
    message, signature = forged(public_key)
    Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    with pytest.raises(SignatureError, match="small order"):
        verify_ed25519(public_key, message, signature)


def second_encodings() -> list[bytes]:
    """Every y below 2^255 that is not reduced, with both signs."""
    return [(y | sign << 255).to_bytes(32, "little") for y in range(P, 2**255) for sign in (0, 1)]


@pytest.mark.parametrize("public_key", second_encodings())
def test_keys_in_a_second_encoding_are_refused(public_key: bytes) -> None:
    with pytest.raises(SignatureError, match="canonical"):
        check_public_key(public_key)


def test_openssl_takes_second_encodings() -> None:
    """The reason for the check: the identity, written as y = p + 1."""
    public_key = (P + 1).to_bytes(32, "little")
    message, signature = forged(public_key)
    Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)


def test_the_identity_with_a_sign_is_refused() -> None:
    with pytest.raises(SignatureError, match="small order"):
        check_public_key((1 | 1 << 255).to_bytes(32, "little"))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_keys_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(SignatureError, match="32 bytes"):
        verify_ed25519(b"\x07" * length, b"", bytes(64))


def test_good_keys_pass_and_signatures_of_another_length_do_not() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public_key, signature = key.public_key().public_bytes_raw(), key.sign(b"m")
    verify_ed25519(public_key, b"m", signature)
    for wrong in (b"", signature[:-1], signature + b"\0"):
        with pytest.raises(SignatureError):
            verify_ed25519(public_key, b"m", wrong)
