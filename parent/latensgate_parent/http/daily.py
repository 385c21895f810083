"""``GET /api/usage/days``: the tenant's receipts by day and outcome."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Depends, Query

from latensgate_parent.http.access import TheServices, permitted
from latensgate_parent.http.audit import moment
from latensgate_parent.http.auth import Caller, Scope
from latensgate_parent.http.schemas_daily import Day, DaysPage, DaysQuery
from latensgate_parent.store.daily import DAY_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_parent.store.daily import DayCount

_LAST_DAY: Final = 2_932_896
"""31 December 9999, the last day that has a name here."""
router = APIRouter(tags=["audit"])


@router.get("/api/usage/days", summary="Receipts by day")
async def get_days(
    query: Annotated[DaysQuery, Query()],
    caller: Annotated[Caller, Depends(permitted(Scope.AUDIT_READ))],
    services: TheServices,
) -> DaysPage:
    """Return a page of days with receipts, newest first: how many of which outcome.

    This is all that public parts say. What was found in requests stands in private parts: the
    tenant's auditor counts it (`latensgate audit stats`). Scope `audit:read`.
    """
    counts = await services.store.daily_counts(
        caller.tenant.tenant_id, moment("since", query.since), moment("until", query.until)
    )
    days = [_day(day, [*found]) for day, found in groupby(counts, key=lambda each: each.day)]
    first = (query.page - 1) * query.limit
    return DaysPage(
        entries=days[first : first + query.limit],
        page=query.page,
        limit=query.limit,
        total=len(days),
    )


def _day(day: int, counts: Sequence[DayCount]) -> Day:
    start = datetime.fromtimestamp(min(day, _LAST_DAY) * DAY_S, UTC)
    return Day(
        day=start.strftime("%Y-%m-%d"),
        receipts=sum(each.receipts for each in counts),
        private_sealed=sum(each.sealed for each in counts),
        outcomes={each.outcome: each.receipts for each in counts},
    )
