"""Receipts by day, as the gateway counts what public parts say. Nothing of it is signed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from latensgate.gateway import read
from latensgate_shared import formats
from latensgate_shared.receipts import OUTCOMES
from latensgate_shared.strict_json import JSONError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latensgate_shared.strict_json import JSONObject, JSONValue

DAYS_LIMIT: Final = 31
"""Days of a page where nothing is said."""
MAX_DAYS_LIMIT: Final = 400
"""Days of a page that the gateway admits."""
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class DayReport:
    """One day (UTC) with receipts.

    Attributes:
        day: As in ``2026-11-14``.
        receipts: All of that day.
        private_sealed: Those that the tenant's auditor can open.
        outcomes: Outcome → number.
    """

    day: str
    receipts: int
    private_sealed: int
    outcomes: Mapping[str, int]

    def to_json(self) -> JSONObject:
        """Return it as the gateway tells it."""
        return {
            "day": self.day,
            "receipts": self.receipts,
            "private_sealed": self.private_sealed,
            "outcomes": dict(self.outcomes),
        }


@dataclass(frozen=True, slots=True)
class DaysPage:
    """One page, newest first; ``total`` counts all days that match."""

    entries: tuple[DayReport, ...]
    page: int
    limit: int
    total: int


def parse_days(value: JSONObject) -> DaysPage:
    """Read the answer of ``GET /api/usage/days``.

    Raises:
        JSONError: Another form, or a day whose outcomes are not all of its receipts.
    """
    members = formats.members(value, "days", frozenset({"entries", "page", "limit", "total"}))
    return DaysPage(
        tuple(_day(item) for item in read.array(members["entries"], "days.entries")),
        formats.integer(members["page"], "days.page", 1),
        formats.integer(members["limit"], "days.limit", 1),
        formats.integer(members["total"], "days.total"),
    )


def _day(value: JSONValue) -> DayReport:
    what = "days.entries"
    names = frozenset({"day", "receipts", "private_sealed", "outcomes"})
    members = formats.members(value, what, names)
    day, told = members["day"], members["outcomes"]
    if not isinstance(day, str) or not _DAY.fullmatch(day):
        raise JSONError(f"{what}.day: a day expected")
    if not isinstance(told, dict) or not told.keys() <= OUTCOMES:
        raise JSONError(f"{what}.outcomes: numbers by outcome expected")
    outcomes = {
        name: formats.integer(number, f"{what}.outcomes.{name}") for name, number in told.items()
    }
    receipts = formats.integer(members["receipts"], f"{what}.receipts")
    if sum(outcomes.values()) != receipts:
        raise JSONError(f"{what}.receipts: the sum of its outcomes expected")
    sealed = formats.integer(members["private_sealed"], f"{what}.private_sealed", 0, receipts)
    return DayReport(day, receipts, sealed, outcomes)
