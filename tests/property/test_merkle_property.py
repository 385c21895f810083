"""Every proof of random trees verifies, agrees with the definition, and bears no change."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_shared import merkle

SIZES = st.integers(min_value=1, max_value=70)


def leaves_of(size: int) -> list[bytes]:
    return [merkle.leaf_hash(number.to_bytes(2, "big")) for number in range(size)]


def split(size: int) -> int:
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def mth(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return hashlib.sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 9162, section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    """RFC 9162, section 2.1.4.1."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole=whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], whole=False), mth(leaves[:k])]


@settings(max_examples=60, deadline=None)
@given(SIZES)
def test_every_leaf_of_a_tree_proves(size: int) -> None:
    leaves = leaves_of(size)
    root = merkle.tree_hash(leaves)
    assert root == mth(leaves)
    for index, leaf in enumerate(leaves):
        proof = merkle.inclusion_path(leaves, index)
        assert list(proof) == path(index, leaves)
        merkle.verify_inclusion(leaf, index=index, size=size, path=proof, root=root)


@settings(max_examples=60, deadline=None)
@given(SIZES)
def test_every_older_tree_is_extended(size: int) -> None:
    leaves = leaves_of(size)
    root = merkle.tree_hash(leaves)
    for old_size in range(1, size + 1):
        proof = merkle.consistency_path(leaves, old_size)
        assert list(proof) == subproof(old_size, leaves)
        old_root = merkle.tree_hash(leaves[:old_size])
        merkle.verify_consistency(
            old_size=old_size, old_root=old_root, size=size, root=root, path=proof
        )


def flipped(data: bytes, bit: int) -> bytes:
    at = bit % (8 * len(data))
    return data[: at // 8] + bytes((data[at // 8] ^ 1 << at % 8,)) + data[at // 8 + 1 :]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_change_of_an_inclusion_proof_verifies(data: st.DataObject) -> None:
    size = data.draw(SIZES)
    index = data.draw(st.integers(0, size - 1))
    leaves = leaves_of(size)
    proof = list(merkle.inclusion_path(leaves, index))
    parts = [leaves[index], merkle.tree_hash(leaves), *proof]
    at = data.draw(st.integers(0, len(parts) - 1))
    parts[at] = flipped(parts[at], data.draw(st.integers(0, 255)))
    other_index = data.draw(st.integers(0, size - 1).filter(lambda i: i != index) | st.none())
    with pytest.raises(merkle.ProofInvalidError):
        merkle.verify_inclusion(parts[0], index=index, size=size, path=parts[2:], root=parts[1])
    if other_index is not None:
        with pytest.raises(merkle.ProofInvalidError):
            merkle.verify_inclusion(
                leaves[index],
                index=other_index,
                size=size,
                path=proof,
                root=merkle.tree_hash(leaves),
            )


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_change_of_a_consistency_proof_verifies(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 70))
    old_size = data.draw(st.integers(1, size - 1))
    leaves = leaves_of(size)
    parts = [
        merkle.tree_hash(leaves[:old_size]),
        merkle.tree_hash(leaves),
        *merkle.consistency_path(leaves, old_size),
    ]
    at = data.draw(st.integers(0, len(parts) - 1))
    parts[at] = flipped(parts[at], data.draw(st.integers(0, 255)))
    with pytest.raises(merkle.ProofInvalidError):
        merkle.verify_consistency(
            old_size=old_size, old_root=parts[0], size=size, root=parts[1], path=parts[2:]
        )


@settings(max_examples=200, deadline=None)
@given(
    index=st.integers(-2, 2**65),
    size=st.integers(-2, 2**65),
    path=st.lists(st.binary(min_size=30, max_size=33), max_size=70),
    root=st.binary(max_size=33),
)
def test_nothing_but_the_typed_error_leaves(
    index: int, size: int, path: list[bytes], root: bytes
) -> None:
    with pytest.raises(merkle.ProofInvalidError):
        merkle.verify_inclusion(b"x" * 32, index=index, size=size, path=path, root=root)
    with pytest.raises(merkle.ProofInvalidError):
        merkle.verify_consistency(
            old_size=index, old_root=b"x" * 32, size=size, root=root, path=path
        )
