"""The composition root: from settings to a parent that serves, and back to nothing.

Only here is it known which store, which sockets, which credentials and which listeners there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from latensgate_parent.appraisal import appraisal_policy
from latensgate_parent.deployment import Deployment, load_deployment
from latensgate_parent.http.asgi import Gateway
from latensgate_parent.http.attestation_cache import AttestationCache
from latensgate_parent.http.auth import Authenticator
from latensgate_parent.http.context import Services
from latensgate_parent.http.rate_limit import MemoryRateLimiter
from latensgate_parent.http.sealed_route import SealedRoute
from latensgate_parent.http.surface import Surface
from latensgate_parent.http.usage_book import UsageBook
from latensgate_parent.http.verdict import DocumentJudge
from latensgate_parent.limits import DRAIN_MAX_S, DRAIN_STORE_MAX_S, HURRY_STORE_MAX_S
from latensgate_parent.link.address import parse_enclave_address, parse_listen_address
from latensgate_parent.link.credentials import BotoCredentialsProvider, FileCredentials
from latensgate_parent.link.destinations import Destinations, parse_route
from latensgate_parent.link.egress import Egress
from latensgate_parent.link.fleet import EnclaveFleet, FleetSettings
from latensgate_parent.metered_store import MeteredReceipts
from latensgate_parent.metrics import Metrics, Observers
from latensgate_parent.operator_app import OperatorApp
from latensgate_parent.server import QuietServer, bind, make_server, port_of
from latensgate_parent.settings_forms import HostPort
from latensgate_parent.store.open import open_store
from latensgate_shared.errors import LatensgateError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from latensgate_parent.http.asgi_types import ASGIApp, ASGIScope, Receive, Send
    from latensgate_parent.link.credentials import CredentialsProvider
    from latensgate_parent.link.events import LinkEvent
    from latensgate_parent.logs import JSONLog
    from latensgate_parent.settings import Settings
    from latensgate_parent.store.interfaces import Store

_FILE: Final = "file:"
_POLL_S: Final = 0.02


class CountedApp:
    """An ASGI application that knows how many of its requests are under way.

    Args:
        app: Serves them.
        metrics: Is told.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self.under_way = 0

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        self.under_way += 1
        self._metrics.request_started()
        try:
            await self._app(scope, receive, send)
        finally:
            self.under_way -= 1
            self._metrics.request_ended()


@dataclass(slots=True)
class Parts:
    """What one parent is made of."""

    settings: Settings
    log: JSONLog
    metrics: Metrics
    store: Store
    sealed: SealedRoute
    fleet: EnclaveFleet
    egress: Egress
    draining: bool = False


def tell_link(log: JSONLog, event: LinkEvent) -> None:
    """Write an event of the link to the log."""
    code = None if event.code is None else event.code.name
    log.event(event.kind.value, enclave=event.enclave, code=code, detail=event.detail)


async def compose(settings: Settings, log: JSONLog) -> Parts:
    """Put a parent together; nothing listens yet, and no enclave has been called.

    Raises:
        LatensgateError: A file that the settings name is not what it should be, or the database
            cannot be opened.
    """
    deployment = load_deployment(settings.deployment)
    appraisal_policy(settings.verifier)  # its faults belong to the start, not to a request
    metrics = Metrics()
    egress = _egress(settings, deployment, log)
    store = await open_store(settings.database, alone=True)
    receipts = MeteredReceipts(store, metrics, time.monotonic)
    sealed = SealedRoute.over(store, Observers(log, metrics), receipts=receipts)
    fleet = EnclaveFleet(
        FleetSettings(
            [parse_enclave_address(place) for place in settings.enclaves],
            settings.kms_key_arn,
            deployment.digest,
        ),
        store=store,
        credentials=_credentials(settings),
        on_orphan=sealed.receipts.orphan,
        events=lambda event: tell_link(log, event),
    )
    metrics.watch(fleet, egress.counters)
    return Parts(settings, log, metrics, store, sealed, fleet, egress)


def _egress(settings: Settings, deployment: Deployment, log: JSONLog) -> Egress:
    routes = {name: parse_route(end) for name, end in settings.egress_routes.items()}
    return Egress(
        parse_listen_address(settings.egress_listen),
        Destinations(deployment.egress_destinations(), routes),
        lambda event: tell_link(log, event),
    )


def _credentials(settings: Settings) -> CredentialsProvider:
    if settings.credentials.startswith(_FILE):
        return FileCredentials(Path(settings.credentials.removeprefix(_FILE)))
    return BotoCredentialsProvider()


def _gateway(parts: Parts) -> Gateway:
    """Return the application of the public listener."""
    settings, sealed = parts.settings, parts.sealed
    deployment = load_deployment(settings.deployment)
    authenticator, limiter = Authenticator(parts.store), MemoryRateLimiter()
    services = Services(
        store=parts.store,
        fleet=parts.fleet,
        authenticator=authenticator,
        limiter=limiter,
        attestations=AttestationCache(parts.fleet, time.monotonic),
        judge=DocumentJudge(appraisal_policy(settings.verifier)),
        usage=UsageBook(parts.store, time.monotonic),
        settings=sealed.settings,
        holds=sealed.desk(parts.fleet),
        models=deployment.models,
        refuses_logging=deployment.refuses_logging,
        clock=time.time,
        monotonic=time.monotonic,
        observer=sealed.observer,
        is_draining=lambda: parts.draining,
        public_url=settings.public_url,
        trusted_proxies=settings.trusted_proxies,
        is_store_failing=lambda: sealed.backlog.refuses_new,
    )
    inference = sealed.inference(
        authenticator,
        limiter,
        parts.fleet,
        monotonic=time.monotonic,
        trusted_proxies=settings.trusted_proxies,
    )
    return Gateway(
        inference,
        Surface(services),
        tenant_domain=settings.tenant_domain,
        observer=sealed.observer,
    )


class Parent:
    """A parent that serves.

    Args:
        parts: From ``compose``.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._gateway = _gateway(parts)
        self._counted = CountedApp(self._gateway, parts.metrics)
        self._operators = OperatorApp(
            parts.metrics, self._is_ready, self.drain_enclaves, parts.fleet
        )

    async def serve(
        self,
        stop: asyncio.Event,
        announce: Callable[[str], None],
        hurry: asyncio.Event | None = None,
    ) -> None:
        """Serve until ``stop`` is set, then drain and close everything.

        Args:
            stop: Set to end.
            announce: Told the public address once it takes connections.
            hurry: Set to drain no longer; what was to be stored still is.

        Raises:
            LatensgateError: An address cannot be listened on, or the store failed at the start.
        """
        parts = self._parts
        async with contextlib.AsyncExitStack() as life:
            life.push_async_callback(parts.store.aclose)
            public = life.enter_context(contextlib.closing(bind(parts.settings.listen)))
            operator = life.enter_context(contextlib.closing(bind(parts.settings.operator_listen)))
            given_up = await parts.sealed.start()
            parts.egress.start()
            life.push_async_callback(parts.egress.aclose)
            parts.fleet.start()
            life.push_async_callback(parts.fleet.aclose)
            expiring = asyncio.create_task(parts.sealed.expire_for_ever())
            life.callback(expiring.cancel)
            servers = [make_server(self._counted), make_server(self._operators)]
            running = [
                asyncio.create_task(server.serve([listener]))
                for server, listener in zip(servers, (public, operator), strict=True)
            ]
            await _started(servers, running)
            address = str(HostPort(parts.settings.listen.host, port_of(public)))
            parts.log.event("started", listen=address, given_up=given_up)
            announce(f"http://{address}")
            await stop.wait()
            await self._end(hurry or asyncio.Event())
            for server in servers:
                server.should_exit = True
                server.force_exit = hurry is not None and hurry.is_set()
            await asyncio.gather(*running, return_exceptions=True)
        parts.log.event("stopped")

    async def _end(self, hurry: asyncio.Event) -> None:
        """Let what runs end, refuse what comes, then write what is left."""
        parts = self._parts
        parts.draining = True
        self._gateway.drain()
        parts.log.event("draining", under_way=self._counted.under_way)
        hurried = asyncio.ensure_future(hurry.wait())
        ending = asyncio.ensure_future(self._let_end())
        await asyncio.wait({hurried, ending}, return_when=asyncio.FIRST_COMPLETED)
        for task in (hurried, ending):
            task.cancel()
        await asyncio.gather(hurried, ending, return_exceptions=True)
        written = await parts.sealed.finish(HURRY_STORE_MAX_S if hurry.is_set() else 0)
        parts.log.event("drained", under_way=self._counted.under_way, written=int(written))

    async def _let_end(self) -> None:
        """Wait for requests, then for receipts of those whose callers left, then for the store."""
        parts = self._parts
        await _within(DRAIN_MAX_S, _until_none(lambda: self._counted.under_way))
        await _within(DRAIN_STORE_MAX_S, _until_none(lambda: parts.fleet.open_calls))
        await parts.sealed.finish(DRAIN_STORE_MAX_S)
        await _within(DRAIN_STORE_MAX_S, parts.fleet.collect_usage())

    def _is_ready(self) -> bool:
        return not (self._parts.draining or self._parts.sealed.backlog.refuses_new)

    async def drain_enclaves(self) -> Mapping[str, int | None]:
        """Drain every enclave; return the open calls of each, None where one was not reached."""
        names = [status.name for status in self._parts.fleet.statuses()]
        counts = await asyncio.gather(*(self._drain(name) for name in names))
        return dict(zip(names, counts, strict=True))

    async def _drain(self, name: str) -> int | None:
        try:
            return await self._parts.fleet.drain(name)
        except LatensgateError as error:
            self._parts.log.event("drain_failed", enclave=name, code=error.code.name)
            return None


async def _until_none(count: Callable[[], int]) -> None:
    while count():  # noqa: ASYNC110  # counted by many, waited for once
        await asyncio.sleep(_POLL_S)


async def _within(timeout_s: float, work: Awaitable[None]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await work


async def _started(servers: list[QuietServer], running: list[asyncio.Task[None]]) -> None:
    """Return when all servers take connections; a server that ended raises."""
    while not all(server.started for server in servers):
        for task in running:
            if task.done():
                task.result()
        await asyncio.sleep(_POLL_S)
