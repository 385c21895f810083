"""Damage of every kind ends in a verdict of the closed set, and never in acceptance."""

from __future__ import annotations

import warnings
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate.verify.attestation import inspect_document
from latensgate.verify.document import parse_untrusted_document
from latensgate.verify.errors import VERDICTS, VerificationError
from latensgate_shared.cbor import encode
from nitro_factory import NOW, Draft, root_sha256, sign, standard_chain
from paths import published

if TYPE_CHECKING:
    from latensgate_shared.cbor import CBOREncodable

NITRO = published("nitro", "attestation")
REAL = {
    name: ((NITRO / f"{name}.cbor").read_bytes(), datetime.fromisoformat(at))
    for name, at in (
        ("prod-20260421T223340Z-f1f05745", "2026-04-21T22:33:40Z"),
        ("prod-20210317T220155Z-234f1201", "2021-03-17T22:01:55Z"),
        ("prod-20240907T143739Z-72ffd835", "2024-09-07T14:37:39Z"),
    )
}
samples = st.sampled_from(sorted(REAL))


def refused(document: bytes, at: datetime, root: str | None = None) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        inspect_document(document, at=at, unsafe_accept_simulated_root_sha256=root)
    assert type(caught.value) in VERDICTS
    return caught.value


@settings(max_examples=150, deadline=None)
@given(samples, st.integers(0, 1 << 16), st.integers(1, 255))
def test_one_changed_byte(name: str, position: int, change: int) -> None:
    document, at = REAL[name]
    damaged = bytearray(document)
    damaged[position % len(document)] ^= change
    refused(bytes(damaged), at)


@settings(max_examples=100, deadline=None)
@given(samples, st.integers(0, 1 << 16))
def test_cut_short(name: str, length: int) -> None:
    document, at = REAL[name]
    refused(document[: length % len(document)], at)


@settings(max_examples=100, deadline=None)
@given(samples, st.integers(0, 1 << 16), st.integers(0, 1 << 16), st.binary(max_size=40))
def test_a_piece_replaced(name: str, start: int, length: int, piece: bytes) -> None:
    document, at = REAL[name]
    start %= len(document)
    damaged = document[:start] + piece + document[start + length % 64 :]
    if damaged != document:
        refused(damaged, at)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_garbage(document: bytes) -> None:
    refused(document, NOW)


@pytest.mark.parametrize("name", sorted(REAL))
def test_every_bit_of_a_sample_of_bytes(name: str) -> None:
    document, at = REAL[name]
    edges = {*range(12), *range(len(document) - 100, len(document), 9)}
    for position in sorted(edges | set(range(12, len(document), 211))):
        for bit in range(8):
            damaged = bytearray(document)
            damaged[position] ^= 1 << bit
            refused(bytes(damaged), at)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_damaged_certificates_in_a_signed_document(
    number: int, changes: list[tuple[int, int]]
) -> None:
    """The leaf signs over its own damaged chain: what a hostile enclave could send."""
    chain = list(standard_chain())
    damaged = bytearray(chain[number])
    for position, value in changes:
        damaged[position % len(damaged)] = value
    if bytes(damaged) == chain[number]:
        return
    chain[number] = bytes(damaged)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused(Draft(chain=tuple(chain)).sign(), NOW, root_sha256())


payload_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 64), (1 << 64) - 1),
    st.text(max_size=20),
    st.binary(max_size=80),
    st.lists(st.binary(max_size=80), max_size=3),
    st.dictionaries(st.integers(-2, 40), st.binary(min_size=47, max_size=49), max_size=3),
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(Draft().members())), payload_values)
def test_any_value_in_any_field_reads_or_ends_in_a_verdict(name: str, value: CBOREncodable) -> None:
    document = sign(encode({**Draft().members(), name: value}))
    try:
        parse_untrusted_document(document)
    except VerificationError as error:
        verdict: VerificationError | None = error
    else:
        verdict = None
    assert verdict is None or type(verdict) in VERDICTS
