"""tests/vectors/merkle: RFC 9162 (section 2.1) trees of zero to nine leaves."""

# ruff: noqa: E501 -- a table of cases reads best one row a line

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from vectors.case import Case, Json

if TYPE_CHECKING:
    from collections.abc import Sequence

SPEC = "RFC 9162 section 2.1"
LEAVES = [f"leaf {number}".encode() for number in range(9)]
KIND = "ERR_RECEIPT_INVALID"


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1


def root(leaves: Sequence[bytes]) -> bytes:
    """MTH."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    middle = _split(len(leaves))
    return _node(root(leaves[:middle]), root(leaves[middle:]))


def path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH."""
    if len(leaves) == 1:
        return []
    middle = _split(len(leaves))
    if index < middle:
        return [*path(index, leaves[:middle]), root(leaves[middle:])]
    return [*path(index - middle, leaves[middle:]), root(leaves[:middle])]


def consistency(old: int, leaves: Sequence[bytes], *, whole: bool = True) -> list[bytes]:
    """PROOF and SUBPROOF."""
    if old == len(leaves):
        return [] if whole else [root(leaves)]
    middle = _split(len(leaves))
    if old <= middle:
        return [*consistency(old, leaves[:middle], whole=whole), root(leaves[middle:])]
    return [*consistency(old - middle, leaves[middle:], whole=False), root(leaves[:middle])]


def _hex(hashes: Sequence[bytes]) -> list[Json]:
    return [value.hex() for value in hashes]


def _inclusion(index: int, size: int) -> dict[str, Json]:
    leaves = LEAVES[:size]
    return {
        "leaf_hash_hex": leaf_hash(LEAVES[index]).hex(),
        "index": index,
        "tree_size": size,
        "proof_hex": _hex(path(index, leaves)),
        "root_hex": root(leaves).hex(),
    }


def _consistency(old: int, new: int) -> dict[str, Json]:
    return {
        "old_size": old,
        "new_size": new,
        "old_root_hex": root(LEAVES[:old]).hex(),
        "new_root_hex": root(LEAVES[:new]).hex(),
        "proof_hex": _hex(consistency(old, LEAVES[:new])),
    }


def cases() -> list[Case]:
    """Roots, inclusion and consistency."""
    roots = [
        Case(f"root-{size}", "merkle_root", f"Root of {size} leaves.", SPEC, {"leaves_hex": _hex(LEAVES[:size])}, {"root_hex": root(LEAVES[:size]).hex()})
        for size in (0, 1, 2, 3, 5, 8, 9)
    ]  # fmt: skip
    inclusions = [
        Case(f"inclusion-{index}-of-{size}", "merkle_inclusion", "The leaf is in the tree.", SPEC, _inclusion(index, size), {})
        for index, size in ((0, 1), (0, 2), (1, 3), (2, 3), (4, 5), (3, 8), (8, 9))
    ]  # fmt: skip
    consistencies = [
        Case(f"consistency-{old}-{new}", "merkle_consistency", "The larger tree extends the smaller.", SPEC, _consistency(old, new), {})
        for old, new in ((1, 1), (1, 2), (2, 3), (3, 7), (4, 8), (6, 9), (9, 9))
    ]  # fmt: skip
    return [*roots, *inclusions, *consistencies, *_refused()]


def _refused() -> list[Case]:
    proof = _hex(path(3, LEAVES[:8]))
    between = _hex(consistency(3, LEAVES[:7]))
    inclusion: tuple[tuple[str, str, dict[str, Json]], ...] = (
        ("index-wrong", "The proof of leaf 3 for leaf 2.", {"index": 2}),
        ("index-is-size", "An index outside the tree.", {"index": 8}),
        ("size-wrong", "The proof of a tree of eight for a tree of nine.", {"tree_size": 9}),
        ("leaf-wrong", "Another leaf.", {"leaf_hash_hex": leaf_hash(b"other").hex()}),
        ("root-wrong", "Another root.", {"root_hex": root(LEAVES[:7]).hex()}),
        ("proof-short", "The last hash is missing.", {"proof_hex": proof[:-1]}),
        ("proof-long", "A hash too many.", {"proof_hex": [*proof, "00" * 32]}),
        ("proof-swapped", "Two hashes change places.", {"proof_hex": [proof[1], proof[0], *proof[2:]]}),
        ("size-zero", "Nothing is in an empty tree.", {"tree_size": 0}),
    )  # fmt: skip
    consistent: tuple[tuple[str, str, dict[str, Json]], ...] = (
        ("sizes-swapped", "The old tree is larger than the new.", {"old_size": 7, "new_size": 3}),
        ("old-root-wrong", "Another old root: history was rewritten.", {"old_root_hex": root(LEAVES[1:4]).hex()}),
        ("new-root-wrong", "Another new root.", {"new_root_hex": root(LEAVES[:8]).hex()}),
        ("short", "The last hash is missing.", {"proof_hex": between[:-1]}),
        ("long", "A hash too many.", {"proof_hex": [*between, "00" * 32]}),
        ("same-size-other-root", "Two roots of one size.", {"old_size": 7, "proof_hex": []}),
    )  # fmt: skip
    return [
        Case("inclusion-" + name, "merkle_inclusion", why, SPEC, _inclusion(3, 8) | change, error=KIND)
        for name, why, change in inclusion
    ] + [
        Case("consistency-" + name, "merkle_consistency", why, SPEC, _consistency(3, 7) | change, error=KIND)
        for name, why, change in consistent
    ]  # fmt: skip
