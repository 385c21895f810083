"""What a route of the surface works with: the services, and its exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from fastapi import Request  # noqa: TC002 -- a dependency: FastAPI reads its annotations at run time

from latensgate_parent.http.admission import Admission

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from latensgate_parent.clock import Clock
    from latensgate_parent.deployment import DeployedModel
    from latensgate_parent.http.attestation_cache import AttestationCache
    from latensgate_parent.http.auth import Authenticator
    from latensgate_parent.http.exchange import Exchange
    from latensgate_parent.http.hold_desk import HoldDesk
    from latensgate_parent.http.observer import Observer
    from latensgate_parent.http.rate_limit import RateLimiter
    from latensgate_parent.http.settings_shelf import SettingsShelf
    from latensgate_parent.http.usage_book import UsageBook
    from latensgate_parent.http.verdict import DocumentJudge
    from latensgate_parent.link.interfaces import Fleet
    from latensgate_parent.settings_forms import Network
    from latensgate_parent.store.interfaces import Store

EXCHANGE_KEY: Final = "latensgate.exchange"
"""Where the exchange of a request stands in its ASGI scope."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the routes are built on; one for the life of the process.

    Attributes:
        attestations: Public attestations, remembered for moments.
        judge: The gateway's own opinion of documents.
        usage: Usage totals.
        settings: Signed settings of tenants.
        holds: Requests that wait for an approver.
        models: Names that callers may ask for.
        refuses_logging: Whether Bedrock invocation logging stops service.
        clock: Seconds since 1970.
        monotonic: Seconds from any start.
        observer: Is told of each request.
        is_draining: Whether the process is about to end.
        public_url: Where clients find this gateway; for the reference.
        trusted_proxies: Peers whose ``X-Forwarded-For`` is believed.
        is_store_failing: Whether nothing new begins because receipts cannot be stored.
    """

    store: Store
    fleet: Fleet
    authenticator: Authenticator
    limiter: RateLimiter
    attestations: AttestationCache
    judge: DocumentJudge
    usage: UsageBook
    settings: SettingsShelf
    holds: HoldDesk
    models: tuple[DeployedModel, ...]
    refuses_logging: bool
    clock: Clock
    monotonic: Clock
    observer: Observer
    is_draining: Callable[[], bool]
    public_url: str
    trusted_proxies: Sequence[Network] = ()
    is_store_failing: Callable[[], bool] = _never

    @property
    def admission(self) -> Admission:
        """What requests pass before their routes see them."""
        return Admission(self.authenticator, self.limiter, self.monotonic, self.trusted_proxies)


def exchange_of(request: Request) -> Exchange:
    """Return what is known of a request."""
    return cast("Exchange", request.scope[EXCHANGE_KEY])


def services_of(request: Request) -> Services:
    """Return the services of the application that serves a request."""
    return cast("Services", request.app.state.services)
