"""What ``GET /api/usage/days`` takes and gives, as pydantic models."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from latensgate_parent.http.schemas import Count, Model, Query, Time, digits
from latensgate_parent.limits import AUDIT_PAGE_MAX, DAYS_LIMIT_DEFAULT, DAYS_LIMIT_MAX


class DaysQuery(Query):
    """Query of ``GET /api/usage/days``."""

    page: Annotated[int, Field(ge=1, le=AUDIT_PAGE_MAX), BeforeValidator(digits)] = Field(
        1, description="From 1."
    )
    limit: Annotated[int, Field(ge=1, le=DAYS_LIMIT_MAX), BeforeValidator(digits)] = Field(
        DAYS_LIMIT_DEFAULT, description="Days of a page."
    )
    since: Time | None = Field(None, description="Receipts issued at this moment or later.")
    until: Time | None = Field(None, description="Receipts issued before this moment.")


class Day(Model):
    """One day (UTC) with receipts."""

    day: str = Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$", examples=["2026-11-14"])
    receipts: Count = Field(description="All of that day.")
    private_sealed: Count = Field(
        description="Those whose private part is stored, sealed to the tenant's audit key."
    )
    outcomes: dict[str, Count] = Field(description="Outcome and number; zeros are left out.")


class DaysPage(Model):
    """One page of days, newest first."""

    entries: list[Day]
    page: int = Field(ge=1)
    limit: int = Field(ge=1)
    total: Count = Field(description="All days that match.")
