"""Merkle hashes and proofs at their borders; the published vectors stand in tests/conformance."""

from __future__ import annotations

import hashlib

import pytest

from latensgate_shared import limits, merkle
from latensgate_shared.errors import ErrorCode, MalformedError

LEAVES = [merkle.leaf_hash(bytes((number,))) for number in range(9)]


def test_leaves_and_nodes_are_told_apart() -> None:
    assert merkle.leaf_hash(b"x") == hashlib.sha256(b"\0x").digest()
    assert merkle.node_hash(b"l", b"r") == hashlib.sha256(b"\1lr").digest()


def test_the_smallest_trees() -> None:
    assert merkle.tree_hash([]) == hashlib.sha256(b"").digest() == merkle.EMPTY_ROOT
    assert merkle.tree_hash(LEAVES[:1]) == LEAVES[0]
    both = merkle.node_hash(LEAVES[0], LEAVES[1])
    assert merkle.tree_hash(LEAVES[:2]) == both
    assert merkle.tree_hash(LEAVES[:3]) == merkle.node_hash(both, LEAVES[2])


def test_from_nothing_and_to_itself_only_the_empty_proof_is_right() -> None:
    root = merkle.tree_hash(LEAVES)
    for old_size, old_root in ((0, merkle.EMPTY_ROOT), (9, root)):
        assert merkle.consistency_path(LEAVES, old_size) == ()
        verified = merkle.verify_consistency(
            old_size=old_size, old_root=old_root, size=9, root=root, path=()
        )
        assert verified == root
        with pytest.raises(merkle.ProofInvalidError, match="nothing is to be proved"):
            merkle.verify_consistency(
                old_size=old_size, old_root=old_root, size=9, root=root, path=LEAVES[:1]
            )
        with pytest.raises(merkle.ProofInvalidError, match="another root"):
            merkle.verify_consistency(
                old_size=old_size, old_root=LEAVES[1], size=9, root=root, path=()
            )


def test_the_empty_tree_has_one_root() -> None:
    empty = merkle.EMPTY_ROOT
    assert merkle.verify_consistency(old_size=0, old_root=empty, size=0, root=empty, path=()) == (
        empty
    )
    with pytest.raises(merkle.ProofInvalidError, match="another root"):
        merkle.verify_consistency(old_size=0, old_root=empty, size=0, root=LEAVES[0], path=())


@pytest.mark.parametrize(("index", "size"), [(-1, 1), (1, 1), (0, 0), (0, 2**63), (5, 4)])
def test_inclusion_refuses_impossible_sizes(index: int, size: int) -> None:
    with pytest.raises(merkle.ProofInvalidError, match="not in order or too large"):
        merkle.verify_inclusion(LEAVES[0], index=index, size=size, path=(), root=LEAVES[0])


@pytest.mark.parametrize(("old_size", "size"), [(-1, 1), (2, 1), (1, 2**63)])
def test_consistency_refuses_impossible_sizes(old_size: int, size: int) -> None:
    with pytest.raises(merkle.ProofInvalidError, match="not in order or too large"):
        merkle.verify_consistency(
            old_size=old_size, old_root=LEAVES[0], size=size, root=LEAVES[0], path=()
        )


def test_proofs_are_bounded_and_made_of_hashes() -> None:
    too_long = [LEAVES[0]] * (limits.MERKLE_PROOF_MAX_HASHES + 1)
    for path in (too_long, [b"short"]):
        with pytest.raises(merkle.ProofInvalidError, match=r"a path of|not 32"):
            merkle.verify_inclusion(LEAVES[0], index=0, size=2, path=path, root=LEAVES[0])
        with pytest.raises(merkle.ProofInvalidError, match=r"a path of|not 32"):
            merkle.verify_consistency(
                old_size=1, old_root=LEAVES[0], size=2, root=LEAVES[0], path=path
            )


@pytest.mark.parametrize("change", [-1, 1])
def test_a_path_of_another_length_says_so(change: int) -> None:
    for old_size in (1, 2, 3, 5, 8):
        path = merkle.consistency_path(LEAVES, old_size)
        other = path[:change] if change < 0 else (*path, LEAVES[0])
        with pytest.raises(merkle.ProofInvalidError, match=r"longer|shorter|path is empty"):
            merkle.verify_consistency(
                old_size=old_size,
                old_root=merkle.tree_hash(LEAVES[:old_size]),
                size=9,
                root=merkle.tree_hash(LEAVES),
                path=other,
            )


def test_the_empty_path_where_one_is_needed() -> None:
    with pytest.raises(merkle.ProofInvalidError, match="path is empty"):
        merkle.verify_consistency(
            old_size=3, old_root=LEAVES[0], size=9, root=merkle.tree_hash(LEAVES), path=()
        )


def test_the_largest_tree_is_verified_in_63_steps() -> None:
    root = LEAVES[0]
    for _ in range(62):
        root = merkle.node_hash(root, LEAVES[1])
    root = merkle.node_hash(root, LEAVES[2])
    path = [LEAVES[1]] * 62 + [LEAVES[2]]
    size = limits.MERKLE_TREE_MAX_LEAVES
    assert merkle.verify_inclusion(LEAVES[0], index=0, size=size, path=path, root=root) == root


def test_proofs_of_leaves_that_are_not_there_cannot_be_made() -> None:
    for index in (-1, 9):
        with pytest.raises(merkle.ProofInvalidError, match="leaf"):
            merkle.inclusion_path(LEAVES, index)
    for old_size in (-1, 10):
        with pytest.raises(merkle.ProofInvalidError, match="leaves"):
            merkle.consistency_path(LEAVES, old_size)


def test_the_error_is_typed() -> None:
    with pytest.raises(MalformedError) as caught:
        merkle.inclusion_path([], 0)
    assert caught.value.code is ErrorCode.ERR_RECEIPT_INVALID
