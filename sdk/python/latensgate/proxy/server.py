"""From settings to a listening proxy: sockets of this machine alone, uvicorn around the app."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import httpx
import uvicorn

from latensgate import carrier
from latensgate.config import is_loopback
from latensgate.gateway.connection import tls_context
from latensgate.proxy.app import ProxyApp
from latensgate.proxy.guard import Guard
from latensgate.proxy.keeper import Keeper
from latensgate.proxy.sealing import Sealing
from latensgate.proxy.state import ProxyState
from latensgate.transport_async import AsyncSealingTransport, AsyncTrust
from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from latensgate.client_trust import TrustOptions

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8788
CONNECTIONS_MAX_COUNT: Final = 600
"""To the gateway: as many as requests at once, and some."""
KEPT_CONNECTIONS_MAX_COUNT: Final = 64
KEEP_ALIVE_S: Final = 75
"""Longer than clients keep a connection: one that we close may be used at that very moment."""
DRAIN_S: Final = 5
_BACKLOG: Final = 512
_PRIVATE: Final = 0o177


class ListenError(LatensgateError):
    """The address cannot be listened on."""

    code = ErrorCode.ERR_CONFIGURATION


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the proxy listens.

    Attributes:
        host: A loopback address or ``localhost``.
        port: 0: any that is free.
        unix: Path of a UNIX socket, in place of both.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    unix: Path | None = None


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """One proxy.

    Attributes:
        trust: Where, who, and what is trusted.
        listen: Where it listens.
        token: What applications must send, or None.
        ca_file: PEM file of the authorities for TLS to the gateway, or None for the system's.
    """

    trust: TrustOptions
    listen: Listen = Listen()
    token: bytes | None = field(default=None, repr=False)
    ca_file: Path | None = None


class Proxy:
    """A proxy that can be started once.

    Attributes:
        options: As given.
        state: Counts and last events.
        keeper: Of its attestation.
        app: The ASGI application.
        announce: Called once it listens, after the enclave was proven.
    """

    def __init__(self, options: ProxyOptions) -> None:
        self.announce: Callable[[], object] = lambda: None
        settings = options.trust.settings
        self.options = options
        parts = options.trust.parts()
        trust = AsyncTrust(parts, _carrier(settings.base_url, options.ca_file))
        transport = AsyncSealingTransport(trust, options.trust.router(parts))
        timing = carrier.timing(carrier.default_timeout())
        self._trust = trust
        self.state = ProxyState(trust, lambda: datetime.now(UTC))
        self.keeper = Keeper(trust, self.state)
        self.app = ProxyApp(
            Sealing(transport, settings.base_url, settings.api_key, timing),
            Guard(options.token, names_host=options.listen.unix is None),
            self.state,
        )

    async def serve(self, listening: socket.socket, stop: asyncio.Event) -> None:
        """Prove the enclave, then serve until told to stop.

        Raises:
            LatensgateClientError: The enclave was not proven: nothing was listened to.
            openai.APIConnectionError: The gateway was not reached.
        """
        try:
            await self.keeper.prove()
            await self._run(listening, stop)
        finally:
            await self._trust.carrier.aclose()

    async def _run(self, listening: socket.socket, stop: asyncio.Event) -> None:
        listening.listen(_BACKLOG)
        self.announce()
        server = _Server(server_config(self.app))
        keeping = asyncio.create_task(self.keeper.run())
        stopping = asyncio.create_task(_stopped(stop, server))
        try:
            await server.serve(sockets=[listening])
        finally:
            keeping.cancel()
            stopping.cancel()


class _Server(uvicorn.Server):
    """Leaves signals to the command."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def _stopped(stop: asyncio.Event, server: uvicorn.Server) -> None:
    await stop.wait()
    server.should_exit = True


def server_config(app: ProxyApp) -> uvicorn.Config:
    """Return uvicorn's settings: nothing logged, nothing believed of proxies in front."""
    log = logging.getLogger("uvicorn")
    log.propagate = False
    log.addHandler(logging.NullHandler())
    return uvicorn.Config(
        app,
        http="h11",  # which bounds a request's head; with httptools, uvicorn does not
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )


def run(proxy: Proxy, listening: socket.socket, begin: Callable[[asyncio.Event], object]) -> None:
    """Serve on an event loop of its own.

    Args:
        proxy: Not started yet.
        listening: Bound.
        begin: Called on the loop with what stops it; what it returns is kept until the end.

    Raises:
        LatensgateClientError: As ``Proxy.serve``.
        openai.APIConnectionError: As ``Proxy.serve``.
    """

    async def main() -> None:
        stop = asyncio.Event()
        kept = begin(stop)
        await proxy.serve(listening, stop)
        del kept

    with asyncio.Runner(loop_factory=server_config(proxy.app).get_loop_factory()) as runner:
        runner.run(main())


def _carrier(root: str, ca_file: Path | None) -> carrier.AsyncCarrier:
    limits = httpx.Limits(
        max_connections=CONNECTIONS_MAX_COUNT, max_keepalive_connections=KEPT_CONNECTIONS_MAX_COUNT
    )
    verify = True if ca_file is None else tls_context(ca_file)
    return carrier.AsyncCarrier.own(root, limits=limits, verify=verify)


@contextlib.contextmanager
def bound(listen: Listen) -> Generator[socket.socket]:
    """Bind the socket, not listening yet; a UNIX socket's file goes at the end.

    Raises:
        ListenError: Not an address of this machine alone, or not free.
    """
    try:
        made = _bound_tcp(listen) if listen.unix is None else _bound_unix(listen.unix)
    except OSError as error:
        where = listen.unix or f"{listen.host}:{listen.port}"
        raise ListenError(f"listen: {where}: {error.strerror or 'cannot be used'}") from error
    with made:
        if listen.unix is None:
            yield made
        else:
            with _removed_at_end(listen.unix):
                yield made


def _bound_tcp(listen: Listen) -> socket.socket:
    host = DEFAULT_HOST if listen.host.lower() == "localhost" else listen.host
    if not is_loopback(host):
        raise ListenError(
            f"listen: a loopback address expected, found {listen.host}: this proxy sees plaintext,"
            " so it serves this machine alone"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, listen.port))
    except BaseException:
        made.close()
        raise
    return made


def _bound_unix(path: Path) -> socket.socket:
    _remove_stale(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(_PRIVATE)  # so that it is never open to others, not even for a moment
    try:
        made.bind(str(path))
    except BaseException:
        made.close()
        raise
    finally:
        os.umask(before)
    return made


@contextlib.contextmanager
def _removed_at_end(path: Path) -> Generator[None]:
    """Remove the file of a socket, unless another proxy has taken the place meanwhile."""
    own = _identity(path)
    try:
        yield
    finally:
        if own is not None and _identity(path) == own:
            path.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _remove_stale(path: Path) -> None:
    """Remove the socket of a proxy that is gone; whatever else is there stays."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) == errno.ECONNREFUSED:
            path.unlink()


def forbid_core_dumps() -> None:
    """Keep plaintext out of files that a crash would leave, where a system writes such files."""
    with contextlib.suppress(ImportError):
        import resource  # noqa: PLC0415 -- not on every system

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
