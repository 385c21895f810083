"""Merkle trees of the receipt log: hashes, proofs and their verification (RFC 9162, section 2.1).

Pure functions over hashes of 32 bytes. Verification needs no tree and works in at most
``limits.MERKLE_PROOF_MAX_HASHES`` steps, whatever sizes the proof claims. Making a proof takes the
list of all leaf hashes and is for logs that fit in memory, and for tests.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from latensgate_shared import limits
from latensgate_shared.errors import ErrorCode, MalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256().digest()
"""Root of the tree without leaves (section 2.1.1)."""


class ProofInvalidError(MalformedError):
    """A proof that does not prove what it is offered for."""

    code = ErrorCode.ERR_RECEIPT_INVALID


def leaf_hash(entry: bytes) -> bytes:
    """Return SHA-256(0x00 || entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """Return the root over these leaf hashes.

    Adjacent pairs are joined level by level; a node without a partner moves up unchanged, which
    gives the tree that section 2.1.1 defines from the top down.
    """
    level = list(leaves)
    while len(level) > 1:
        joined = [node_hash(*level[i : i + 2]) for i in range(0, len(level) - 1, 2)]
        level = joined + level[len(level) & ~1 :]
    return level[0] if level else EMPTY_ROOT


def inclusion_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the path that proves leaf ``index`` in the tree over all ``leaves`` (2.1.3.1).

    Raises:
        ProofInvalidError: There is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise ProofInvalidError(f"inclusion: leaf {index} of a tree of {len(leaves)} leaves")
    path: list[bytes] = []
    low, high = 0, len(leaves)
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(tree_hash(leaves[middle:high]))
            high = middle
        else:
            path.append(tree_hash(leaves[low:middle]))
            low = middle
    return tuple(reversed(path))


def consistency_path(leaves: Sequence[bytes], old_size: int) -> tuple[bytes, ...]:
    """Return the path that proves that the first ``old_size`` leaves stand unchanged (2.1.4.1).

    Empty if there is nothing to prove: no old leaves, or no new ones.

    Raises:
        ProofInvalidError: ``old_size`` is negative or above the number of leaves.
    """
    if not 0 <= old_size <= len(leaves):
        raise ProofInvalidError(f"consistency: {old_size} leaves of {len(leaves)}")
    if old_size in (0, len(leaves)):
        return ()
    path: list[bytes] = []
    low, high = 0, len(leaves)
    while high != old_size:
        middle = low + _split(high - low)
        if old_size <= middle:
            path.append(tree_hash(leaves[middle:high]))
            high = middle
        else:
            path.append(tree_hash(leaves[low:middle]))
            low = middle
    if low:  # otherwise the old root itself is that node, and the verifier has it
        path.append(tree_hash(leaves[low:high]))
    return tuple(reversed(path))


def verify_inclusion(
    leaf: bytes, *, index: int, size: int, path: Sequence[bytes], root: bytes
) -> bytes:
    """Verify that ``leaf`` (a leaf hash) stands at ``index`` in the tree of ``size`` and ``root``.

    RFC 9162, section 2.1.3.2.

    Returns:
        The root, now shown to hold the leaf.

    Raises:
        ProofInvalidError: It does not, or the claim is malformed.
    """
    _check_sizes("inclusion", index, size - 1, limits.MERKLE_TREE_MAX_LEAVES - 1)
    _check_hashes("inclusion", path, (leaf, root))
    node, last, computed = index, size - 1, leaf
    for sibling in path:
        is_left, node, last = _climb("inclusion", node, last)
        computed = node_hash(sibling, computed) if is_left else node_hash(computed, sibling)
    _demand_top("inclusion", last)
    return _demand_root("inclusion", computed, root)


def verify_consistency(
    *, old_size: int, old_root: bytes, size: int, root: bytes, path: Sequence[bytes]
) -> bytes:
    """Verify that the tree of ``size`` and ``root`` only appends to the older one.

    RFC 9162, section 2.1.4.2. From size 0 and from equal sizes only the empty path is right (C2SP
    tlog-witness demands it); an old size of 0 has ``EMPTY_ROOT``.

    Returns:
        The root of the larger tree, now shown to extend the smaller one.

    Raises:
        ProofInvalidError: It does not, or the claim is malformed.
    """
    _check_sizes("consistency", old_size, size, limits.MERKLE_TREE_MAX_LEAVES)
    _check_hashes("consistency", path, (old_root, root))
    if old_size in (0, size):
        if path:
            raise ProofInvalidError("consistency: a path where nothing is to be proved")
        _demand_root("consistency", EMPTY_ROOT if old_size == 0 else root, old_root)
        return root if size else _demand_root("consistency", EMPTY_ROOT, root)
    return _extend(old_size, old_root, size, root, path)


def _extend(old_size: int, old_root: bytes, size: int, root: bytes, path: Sequence[bytes]) -> bytes:
    node, last = old_size - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    hashes = list(path)
    if node == 0:  # the old tree is a whole subtree of the new one
        hashes.insert(0, old_root)
    if not hashes:
        raise ProofInvalidError("consistency: the path is empty")
    old_computed = computed = hashes[0]
    for sibling in hashes[1:]:
        is_left, node, last = _climb("consistency", node, last)
        computed = node_hash(sibling, computed) if is_left else node_hash(computed, sibling)
        if is_left:
            old_computed = node_hash(sibling, old_computed)
    _demand_top("consistency", last)
    _demand_root("consistency", old_computed, old_root)
    return _demand_root("consistency", computed, root)


def _split(size: int) -> int:
    """Return the largest power of two below ``size`` (2.1.1), which is at least 2."""
    return 1 << (size - 1).bit_length() - 1


def _climb(what: str, node: int, last: int) -> tuple[bool, int, int]:
    """Take one step up: say whether the sibling stands to the left, and where the parent is.

    Levels on which the last node has no partner are skipped.
    """
    if last == 0:
        raise ProofInvalidError(f"{what}: the path is longer than the tree is deep")
    is_left = bool(node & 1) or node == last
    if is_left:
        while node and not node & 1:
            node, last = node >> 1, last >> 1
    return is_left, node >> 1, last >> 1


def _demand_top(what: str, last: int) -> None:
    if last:
        raise ProofInvalidError(f"{what}: the path is shorter than the tree is deep")


def _check_sizes(what: str, smaller: int, larger: int, largest: int) -> None:
    if not 0 <= smaller <= larger <= largest:
        raise ProofInvalidError(f"{what}: {smaller} and {larger} are not in order or too large")


def _check_hashes(what: str, path: Sequence[bytes], others: tuple[bytes, ...]) -> None:
    if len(path) > limits.MERKLE_PROOF_MAX_HASHES:
        raise ProofInvalidError(f"{what}: a path of {len(path)} hashes")
    if any(len(item) != HASH_BYTES for item in (*path, *others)):
        raise ProofInvalidError(f"{what}: a hash that is not {HASH_BYTES} bytes long")


def _demand_root(what: str, computed: bytes, root: bytes) -> bytes:
    if not hmac.compare_digest(computed, root):
        raise ProofInvalidError(f"{what}: the path leads to another root")
    return root
