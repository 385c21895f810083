"""The COSE working group's examples: reading, Sig_structure and the real signatures."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, TypedDict, cast

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from latensgate_shared.cose import UntrustedSign1, parse_sign1, sig_structure
from latensgate_shared.errors import MalformedError
from paths import published

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = published("standards", "cose")


class Key(TypedDict):
    crv: str
    x: str
    y: str
    x_hex: str


class Case(TypedDict):
    input: dict[str, dict[str, Key]]
    intermediates: dict[str, str]
    output: dict[str, str]


READABLE = {
    "sign1-tests/sign-pass-01": True,
    "sign1-tests/sign-pass-03": True,
    "sign1-tests/sign-fail-02": False,
    "sign1-tests/sign-fail-03": False,
    "sign1-tests/sign-fail-04": False,
    "sign1-tests/sign-fail-06": False,
    "sign1-tests/sign-fail-07": False,
    "ecdsa-examples/ecdsa-sig-01": True,
    "ecdsa-examples/ecdsa-sig-02": True,
    "ecdsa-examples/ecdsa-sig-03": True,
    "ecdsa-examples/ecdsa-sig-04": True,
    "eddsa-examples/eddsa-sig-01": True,
}
"""Whether the signature must hold. The failing ones differ from what was signed."""


def load(name: str) -> tuple[Case, bytes]:
    path: Path = FOLDER / f"{name}.json"
    case = cast("Case", json.loads(path.read_bytes()))
    return case, bytes.fromhex(case["output"]["cbor"])


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def check(signed: UntrustedSign1, key: Key) -> None:
    signed_bytes = sig_structure(signed.protected, signed.payload)
    if key["crv"] == "Ed25519":
        public = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(key["x_hex"]))
        public.verify(signed.signature, signed_bytes)
        return
    curve = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}[key["crv"]]
    x, y = (int.from_bytes(decoded(text), "big") for text in (key["x"], key["y"]))
    ecdsa = ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    half = len(signed.signature) // 2
    r, s = (int.from_bytes(p, "big") for p in (signed.signature[:half], signed.signature[half:]))
    ecdsa.verify(encode_dss_signature(r, s), signed_bytes, ec.ECDSA(algorithm(signed)))


def algorithm(signed: UntrustedSign1) -> hashes.HashAlgorithm:
    by_header = {"a1013822": hashes.SHA384(), "a1013823": hashes.SHA512()}
    return by_header.get(signed.protected.hex(), hashes.SHA256())


@pytest.mark.parametrize("name", READABLE)
def test_signatures_hold_exactly_where_they_should(name: str) -> None:
    case, data = load(name)
    signed = parse_sign1(data, max_bytes=len(data))
    key = case["input"]["sign0"]["key"]
    if READABLE[name]:
        assert sig_structure(signed.protected, signed.payload) == bytes.fromhex(
            case["intermediates"]["ToBeSign_hex"]
        )
        check(signed, key)
    else:
        with pytest.raises(InvalidSignature):
            check(signed, key)


def test_the_wrong_tag_is_refused() -> None:
    _, data = load("sign1-tests/sign-fail-01")
    with pytest.raises(MalformedError, match="0xd9"):
        parse_sign1(data, max_bytes=len(data))


def test_external_data_is_never_part_of_what_we_check() -> None:
    case, data = load("sign1-tests/sign-pass-02")
    signed = parse_sign1(data, max_bytes=len(data))
    with pytest.raises(InvalidSignature):
        check(signed, case["input"]["sign0"]["key"])


@pytest.mark.parametrize(
    "name",
    [f"ecdsa-examples/ecdsa-0{n}" for n in (1, 2, 3, 4)]
    + [f"eddsa-examples/eddsa-0{n}" for n in (1, 2)],
)
def test_cose_sign_with_many_signers_is_refused(name: str) -> None:
    _, data = load(name)
    with pytest.raises(MalformedError):
        parse_sign1(data, max_bytes=len(data))
