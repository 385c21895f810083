from __future__ import annotations

import re

from latensgate.verify import attestation, errors
from latensgate.verify.errors import KINDS, STEPS, VERDICTS, VerificationError
from latensgate_shared.errors import ErrorCode


def test_the_set_is_closed_and_its_kinds_differ() -> None:
    assert set(VerificationError.__subclasses__()) == set(VERDICTS)
    assert all(not verdict.__subclasses__() for verdict in VERDICTS)
    assert len(set(KINDS)) == len(VERDICTS)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)+", kind) for kind in KINDS)


def test_steps_are_numbered_and_every_verdict_has_one() -> None:
    assert [number for number, _ in STEPS] == list(range(1, len(STEPS) + 1))
    assert {verdict.step for verdict in VERDICTS} <= {number for number, _ in STEPS}


def test_codes_are_those_of_attestation_and_receipts() -> None:
    others = {
        "manifest-expired": ErrorCode.ERR_KEY_STALE,
        "receipt-invalid": ErrorCode.ERR_RECEIPT_INVALID,
    }
    for verdict in VERDICTS:
        assert verdict.code is others.get(verdict.kind, ErrorCode.ERR_ATTESTATION_INVALID)


def test_a_step_can_be_named_where_it_is_raised() -> None:
    assert errors.MalformedDocument("x").step == 1
    assert errors.MalformedDocument("x", step=3).step == 3
    assert errors.MalformedDocument.step == 1


def test_the_docstring_tells_the_same_steps() -> None:
    text = " ".join((attestation.__doc__ or "").replace("``", "").split())
    for number, title in STEPS:
        assert f"{number}. {title}" in text
