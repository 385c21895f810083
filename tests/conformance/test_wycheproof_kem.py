"""Wycheproof cases through our own functions: X25519 as the KEMs use it, and HKDF-SHA256."""

from __future__ import annotations

import json
from typing import Final, TypedDict, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from latensgate_shared import hpke, hpke_kem
from paths import published


class XdhCase(TypedDict):
    tcId: int
    public: str
    private: str
    shared: str


class HkdfCase(TypedDict):
    tcId: int
    ikm: str
    salt: str
    info: str
    size: int
    okm: str
    result: str


def groups(file: str) -> list[dict[str, object]]:
    document = json.loads(published("standards", "wycheproof", file).read_text())
    return cast("list[dict[str, object]]", document["testGroups"])


def test_x25519() -> None:
    cases = [c for g in groups("x25519_test.json") for c in cast("list[XdhCase]", g["tests"])]
    assert len(cases) == 518
    refused = 0
    for case in cases:
        private = X25519PrivateKey.from_private_bytes(bytes.fromhex(case["private"]))
        public = X25519PublicKey.from_public_bytes(bytes.fromhex(case["public"]))
        if case["shared"] == "00" * 32:
            refused += 1
            with pytest.raises(hpke.HPKEKeyError):
                hpke_kem._exchange(private, public)  # pyright: ignore[reportPrivateUsage] # the one place that calls the primitive
        else:
            shared = hpke_kem._exchange(private, public)  # pyright: ignore[reportPrivateUsage] # the same
            assert shared.hex() == case["shared"], case["tcId"]
    assert refused == 31


HKDF_CASES: Final = 86


def test_hkdf_sha256() -> None:
    cases = [c for g in groups("hkdf_sha256_test.json") for c in cast("list[HkdfCase]", g["tests"])]
    assert len(cases) == HKDF_CASES
    for case in cases:
        prk = hpke.hkdf_extract(bytes.fromhex(case["salt"]), bytes.fromhex(case["ikm"]))
        info = bytes.fromhex(case["info"])
        if case["result"] == "valid":
            okm = hpke.hkdf_expand(prk, info, case["size"])
            assert okm.hex() == case["okm"], case["tcId"]
        else:
            with pytest.raises(hpke.HPKELimitError):
                hpke.hkdf_expand(prk, info, case["size"])
