"""What is told about each finished request; logs and metrics implement it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from latensgate_shared.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class RequestDone:
    """One finished request; nothing in it comes from a body, a key or a query.

    Attributes:
        route: Name of the route as the reference has it, such as ``POST /api/inference``; or
            ``other``. The set is bounded, so it may be a label.
        status: Of the answer; 499 if the caller went away before one.
        code: Of the error envelope or of what was sealed; None: no error.
        tenant_id: Of the caller, once authenticated.
        correlation_id: As the caller was told.
        ms: From the request's head to the last byte of the answer, milliseconds.
    """

    route: str
    status: int
    code: ErrorCode | None
    tenant_id: str | None
    correlation_id: str
    ms: float


class Observer(Protocol):
    """Somebody who is told. Must not block and must not raise."""

    def request_done(self, done: RequestDone) -> None:
        """One request has ended."""
        ...

    def failed_unexpectedly(self, correlation_id: str, error: BaseException) -> None:
        """Something happened that should not; the caller got ``ERR_INTERNAL``.

        The error's text may quote what a caller sent: log its type and place, never its text.
        """
        ...


class NoObserver:
    """Nobody is told."""

    def request_done(self, done: RequestDone) -> None:
        """Ignore it."""

    def failed_unexpectedly(self, correlation_id: str, error: BaseException) -> None:
        """Ignore it."""
