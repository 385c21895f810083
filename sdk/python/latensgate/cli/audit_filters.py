"""Which receipts: the options that list, export and check share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from re import compile as pattern
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import click

from latensgate.gateway.audit import AuditQuery
from latensgate_shared.receipts import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

_SPAN: Final = pattern(r"([0-9]{1,6})([mhd])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Filters:
    """What was asked for."""

    outcome: str | None
    key_id: str | None
    attestation_hash: str | None
    since: datetime | None
    until: datetime | None

    def query(self, limit: int) -> AuditQuery:
        """Return the query, with pages of this size."""
        return AuditQuery(
            outcome=self.outcome,
            key_id=self.key_id,
            attestation_hash=self.attestation_hash,
            since=self.since,
            until=self.until,
            limit=limit,
        )


class Moment(click.ParamType[datetime]):
    """A time with a zone, a day (UTC), or a span before now such as 24h or 7d."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Read it; click tells the person what was expected."""
        text = str(value)
        span = _SPAN.fullmatch(text)
        if span:
            return datetime.now(UTC) - timedelta(**{_UNITS[span[2]]: int(span[1])})
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r}: 2026-06-01T12:30:00Z, 2026-06-01, 24h or 7d expected", param, ctx)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


_OPTIONS: Final = (
    click.option("--outcome", type=click.Choice(sorted(OUTCOMES)), help="Only these."),
    click.option("--key-id", metavar="HEX", help="Only those sealed to this HPKE key."),
    click.option(
        "--attestation", "attestation_hash", metavar="HASH", help="Only of this document."
    ),
    click.option("--since", type=Moment(), metavar="TIME|24h|7d", help="Only from then on."),
    click.option("--until", type=Moment(), metavar="TIME|24h|7d", help="Only before that."),
)


def audit_filters(function: Callable[P, R]) -> Callable[..., R]:
    """Give a command the options; it gets them as ``filters``."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        names = ("outcome", "key_id", "attestation_hash", "since", "until")
        taken = {name: kwargs.pop(name) for name in names}
        kwargs["filters"] = Filters(**taken)  # type: ignore[arg-type]  # click made them of these types
        return function(*args, **kwargs)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run
