"""The published inclusion and consistency proofs of transparency-dev/merkle.

A plain RFC 9162 verifier agrees with 192 of the 196. The other four are rules of that project; we
agree with each of them, for the reason written beside it. One more case we refuse and it admits.
"""

from __future__ import annotations

import base64
import json
from typing import Final, TypedDict

import pytest

from latensgate_shared import merkle
from paths import published

FOLDER: Final = published("standards", "merkle")


class Inclusion(TypedDict):
    leafIdx: int
    treeSize: int
    root: str
    leafHash: str
    proof: list[str] | None
    wantErr: bool
    file: str


class Consistency(TypedDict):
    size1: int
    size2: int
    root1: str
    root2: str
    proof: list[str] | None
    wantErr: bool
    file: str


INCLUSIONS: list[Inclusion] = json.loads((FOLDER / "inclusion.json").read_bytes())
CONSISTENCIES: list[Consistency] = json.loads((FOLDER / "consistency.json").read_bytes())

HOUSE_RULES: Final = {
    "inclusion/single-entry/empty-root-and-leaf.json": "a hash that is not 32 bytes",
    "consistency/additional/sizes-are-equal-zero-and-proof-is-empty.json": "not 32 bytes",
    "consistency/additional/size1-is-zero-and-does-not-equal-size2.json": "not 32 bytes",
    "consistency/additional/size1-is-zero-and-size2-is-not-zero.json": "not 32 bytes",
}
"""Refused there by rule (no empty root, no proof from size 0). Refused here because their roots
are no SHA-256 hashes; from size 0 the empty proof is right, as C2SP tlog-witness says."""

STRICTER: Final = {
    "consistency/additional/sizes-are-equal-one-and-proof-is-empty.json": "not 32 bytes",
}
"""Admitted there: two equal roots, but of 15 bytes, which is no SHA-256 hash."""


def hashes(texts: list[str] | None) -> list[bytes]:
    return [base64.b64decode(text) for text in texts or []]


def verify_inclusion(case: Inclusion) -> None:
    leaf, root = hashes([case["leafHash"], case["root"]])
    merkle.verify_inclusion(
        leaf, index=case["leafIdx"], size=case["treeSize"], path=hashes(case["proof"]), root=root
    )


def verify_consistency(case: Consistency) -> None:
    old_root, root = hashes([case["root1"], case["root2"]])
    merkle.verify_consistency(
        old_size=case["size1"],
        old_root=old_root,
        size=case["size2"],
        root=root,
        path=hashes(case["proof"]),
    )


def name(case: Inclusion | Consistency) -> str:
    return case["file"].removeprefix("testdata/")


def verdict(case: Inclusion | Consistency) -> str | None:
    """Return what the error must say, None if the proof is to be admitted."""
    reason = (HOUSE_RULES | STRICTER).get(name(case))
    return reason or ("inclusion|consistency" if case["wantErr"] else None)


@pytest.mark.parametrize("case", INCLUSIONS, ids=name)
def test_inclusion(case: Inclusion) -> None:
    refusal = verdict(case)
    if refusal is None:
        verify_inclusion(case)
    else:
        with pytest.raises(merkle.ProofInvalidError, match=refusal):
            verify_inclusion(case)


@pytest.mark.parametrize("case", CONSISTENCIES, ids=name)
def test_consistency(case: Consistency) -> None:
    refusal = verdict(case)
    if refusal is None:
        verify_consistency(case)
    else:
        with pytest.raises(merkle.ProofInvalidError, match=refusal):
            verify_consistency(case)


def test_the_set_is_whole_and_the_exceptions_are_in_it() -> None:
    assert (len(INCLUSIONS), len(CONSISTENCIES)) == (98, 98)
    wanted = {name(case): case["wantErr"] for case in INCLUSIONS}
    wanted |= {name(case): case["wantErr"] for case in CONSISTENCIES}
    assert all(wanted[file] for file in HOUSE_RULES)
    assert not any(wanted[file] for file in STRICTER)
