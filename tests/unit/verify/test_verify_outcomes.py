"""Step 10: how a request ended, by its receipt and by what came."""

from __future__ import annotations

import pytest

from latensgate.verify.receipt_rules import _outcome_agrees  # pyright: ignore[reportPrivateUsage]
from latensgate_shared.errors import ErrorCode

CHAT, DRY = "chat.completions", "policy.dry_run"
ERROR = ErrorCode.ERR_PII_HARD_FAIL


@pytest.mark.parametrize(
    ("outcome", "operation", "code", "agrees"),
    [
        ("answered", CHAT, None, True),
        ("dry_run", DRY, None, True),
        ("dry_run", CHAT, None, False),  # no model ran: it is no answer
        ("answered", DRY, None, False),
        ("refused", CHAT, None, False),
        ("held", CHAT, None, False),
        ("refused", CHAT, ERROR, True),
        ("failed", DRY, ERROR, True),
        ("answered", CHAT, ERROR, False),
        ("dry_run", DRY, ERROR, False),
    ],
)
def test_outcomes(outcome: str, operation: str, code: ErrorCode | None, agrees: bool) -> None:  # noqa: FBT001  # a parameter
    assert _outcome_agrees(outcome, operation, code) is agrees
