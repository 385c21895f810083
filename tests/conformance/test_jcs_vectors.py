"""RFC 8785: its reference test data, its number file, and a second implementation."""

from __future__ import annotations

import json
import struct
from hashlib import sha256
from typing import Any

import pytest
import rfc8785

from latensgate_shared.jcs import canonicalize
from latensgate_shared.strict_json import parse_json
from paths import published

LIMIT = 1 << 20
REFERENCE: list[dict[str, Any]] = json.loads(
    published("standards", "jcs", "rfc8785-testdata.json").read_bytes()
)
GOLDEN: list[dict[str, Any]] = json.loads(
    published("standards", "jcs", "latchgate-golden.json").read_bytes()
)
NUMBERS = published("standards", "jcs", "es6-numbers-10000.txt").read_text().splitlines()


@pytest.mark.parametrize("case", REFERENCE, ids=[case["name"] for case in REFERENCE])
def test_reference_documents(case: dict[str, Any]) -> None:
    value = parse_json(case["input_text"].encode(), max_bytes=LIMIT)
    assert canonicalize(value).hex() == case["canonical_hex"]
    assert rfc8785.dumps(value).hex() == case["canonical_hex"]


@pytest.mark.parametrize("case", GOLDEN, ids=[case["description"] for case in GOLDEN])
def test_golden_documents(case: dict[str, Any]) -> None:
    canonical = canonicalize(case["input"])
    assert canonical == case["canonical"].encode()
    assert "sha256:" + sha256(canonical).hexdigest() == case["sha256"]


def test_number_file() -> None:
    assert len(NUMBERS) == 10_000
    wrong = [
        line
        for line in NUMBERS
        if canonicalize(double(line.split(",")[0])).decode() != line.split(",")[1]
    ]
    assert wrong == []


def double(bits: str) -> float:
    (value,) = struct.unpack(">d", bytes.fromhex(bits.zfill(16)))
    assert isinstance(value, float)
    return value


def test_canonical_bytes_are_a_fixed_point() -> None:
    for case in REFERENCE:
        canonical = bytes.fromhex(case["canonical_hex"])
        assert canonicalize(parse_json(canonical, max_bytes=LIMIT)) == canonical
