"""Receipts counted by day: what public parts say, and nothing of what they commit to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from sqlalchemy import and_, func, select

from latensgate_parent.store.tables import RECEIPTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class DayCount:
    """Receipts of one outcome and one day (UTC).

    Attributes:
        day: Days since 1970.
        outcome: As the enclave signed it.
        receipts: How many.
        sealed: Those of them whose private part is stored, sealed to the tenant's audit key.
    """

    day: int
    outcome: str
    receipts: int
    sealed: int


class DailyCounts(Protocol):
    """Counts receipts."""

    async def daily_counts(
        self, tenant_id: str, since_s: int | None, until_s: int | None
    ) -> Sequence[DayCount]:
        """Count a tenant's receipts by day and outcome, the latest day first.

        Args:
            tenant_id: Whose.
            since_s: ``issued_at`` from here on; None: from the first.
            until_s: ``issued_at`` before this; None: to the last.
        """
        ...


def count_days(
    connection: Connection, tenant_id: str, since_s: int | None, until_s: int | None
) -> Sequence[DayCount]:
    """Ask the database; see ``DailyCounts``."""
    at = RECEIPTS.c.issued_at_s
    asked = [RECEIPTS.c.tenant_id == tenant_id]
    asked += [at >= since_s] if since_s is not None else []
    asked += [at < until_s] if until_s is not None else []
    day, outcome = (at - at % DAY_S).label("day"), RECEIPTS.c.outcome
    query = (
        select(day, outcome, func.count(), func.count(RECEIPTS.c.private_sealed))
        .where(and_(*asked))
        .group_by(day, outcome)
        .order_by(day.desc(), outcome)
    )
    return tuple(
        DayCount(start_s // DAY_S, name, receipts, sealed)
        for start_s, name, receipts, sealed in connection.execute(query)
    )
