"""The HTTP client that carries sealed bytes, and what it is asked.

It is httpx's or, with openai 3.x, httpx2's: both have the same methods. It never sees plaintext, so
an application's own client, with its proxies, certificates and event hooks, may do the carrying.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from importlib import import_module
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar, cast
from urllib.parse import urlsplit

import httpx
import openai

from latensgate import answer_bounds
from latensgate.config import is_loopback
from latensgate.exchange import is_event_stream
from latensgate.exchange_steps import Received, Send
from latensgate_shared.errors import LatensgateError
from latensgate_shared.sealed import AnswerInvalidError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Generator, Mapping

_OK: Final = 200
_OWN: Final = (("Accept-Encoding", "identity"),)
"""A compressed answer would be larger than its limit before anyone could look."""
_FIRST_WITH_HTTPX2: Final = 3
_THIS_MACHINE: Final = ("localhost", "127.0.0.1", "::1")

ClientT = TypeVar("ClientT", bound="httpx.Client | httpx.AsyncClient")


def speaks_httpx2() -> bool:
    """Whether the installed OpenAI client takes clients of httpx2."""
    return int(openai.__version__.partition(".")[0]) >= _FIRST_WITH_HTTPX2


def checked_client(client: object) -> httpx.Client:
    """Return an application's own synchronous client.

    Raises:
        TypeError: Not a client of httpx or, with openai 3.x, httpx2.
    """
    if isinstance(client, httpx.Client) or _is_httpx2(client, "Client"):
        return cast("httpx.Client", client)
    raise TypeError("http_client: an httpx.Client expected (or httpx2.Client with openai 3.x)")


def checked_async_client(client: object) -> httpx.AsyncClient:
    """Return an application's own asynchronous client.

    Raises:
        TypeError: Not a client of httpx or, with openai 3.x, httpx2.
    """
    if isinstance(client, httpx.AsyncClient) or _is_httpx2(client, "AsyncClient"):
        return cast("httpx.AsyncClient", client)
    raise TypeError("http_client: an httpx.AsyncClient expected (or httpx2's with openai 3.x)")


def _is_httpx2(client: object, name: str) -> bool:
    if not speaks_httpx2():
        return False
    return isinstance(client, cast("type", getattr(import_module("httpx2"), name)))


def broken_connections() -> tuple[type[Exception], ...]:
    """Return the errors that end a connection early; timeouts are among them."""
    found: tuple[type[Exception], ...] = (httpx.TransportError, httpx.StreamError)
    if speaks_httpx2():
        module = import_module("httpx2")
        found += cast("tuple[type[Exception], ...]", (module.TransportError, module.StreamError))
    return found


def renewal_faults() -> tuple[type[Exception], ...]:
    """Return what may go wrong in the background without harm: requests go on meanwhile.

    RuntimeError is what httpx says of a client that has been closed.
    """
    return (LatensgateError, RuntimeError, *broken_connections())


def timeouts() -> tuple[type[Exception], ...]:
    """Return the errors that say that something took too long; the OpenAI client tells them."""
    found: tuple[type[Exception], ...] = (httpx.TimeoutException,)
    if speaks_httpx2():
        found += (cast("type[Exception]", import_module("httpx2").TimeoutException),)
    return found


def nothing_sent() -> tuple[type[Exception], ...]:
    """Return the errors of a connection that never was: the gateway saw nothing of the request."""
    found: tuple[type[Exception], ...] = ()
    for module in (httpx, import_module("httpx2")) if speaks_httpx2() else (httpx,):
        found += (module.ConnectError, module.ConnectTimeout, module.PoolTimeout)
    return found


def outgoing(
    client: httpx.Client | httpx.AsyncClient, root: str, send: Send, timeout: object
) -> httpx.Request:
    """Build a request; nothing in it is plaintext."""
    return client.build_request(
        send.method,
        root + send.path,
        headers=[*send.headers, *_OWN],
        content=send.body or None,
        extensions={} if timeout is None else {"timeout": timeout},
    )


def is_stream(send: Send, response: httpx.Response) -> bool:
    """Whether the body is left to be read piece by piece."""
    if not send.stream or response.status_code != _OK or answer_bounds.is_encoded(response):
        return False
    return is_event_stream(response.headers.get("content-type", ""))


def patience_s(send: Send) -> float:
    """Return how long the answer's bytes are waited for, all together."""
    if send.method == "POST":
        return answer_bounds.ANSWER_WAIT_MAX_S
    return answer_bounds.QUESTION_WAIT_MAX_S


def received(response: httpx.Response, body: bytes, *, streaming: bool) -> Received:
    """Return what came, without the type of the library that brought it."""
    headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
    return Received(response.status_code, headers, body, streaming)


class Carrier(Generic[ClientT]):
    """An HTTP client that carries, and whether it is ours to close; shared by copies."""

    __slots__ = ("_client", "_inherited", "_make", "_pid")

    def __init__(self, client: ClientT, make: Callable[[], ClientT] | None = None) -> None:
        """Take a client, and if it is ours what makes another one."""
        self._client = client
        self._make = make
        self._pid = os.getpid()
        self._inherited: ClientT | None = None

    @property
    def owned(self) -> bool:
        """Whether it is ours: made here, and in this process."""
        return self._make is not None and self._pid == os.getpid()

    @property
    def client(self) -> ClientT:
        """The client of this process: two processes must not speak on one connection."""
        if self._make is not None and self._pid != os.getpid():
            # Never closed: a thread that was not forked may hold the lock of its connections.
            self._inherited = self._client
            self._client, self._pid = self._make(), os.getpid()
        return self._client


class SyncCarrier(Carrier["httpx.Client"]):
    """Carries for threads; closed when nobody is left who could use it.

    A thread of our own that is connecting at the moment of the close would leave its connection
    behind. It borrows the client, and who gives it back last closes it.
    """

    __slots__ = ("_closed_in", "_lent")

    def __init__(
        self, client: httpx.Client, make: Callable[[], httpx.Client] | None = None
    ) -> None:
        """Take a client, and if it is ours what makes another one."""
        super().__init__(client, make)
        self._closed_in: int | None = None
        self._lent: list[int] = []

    @contextlib.contextmanager
    def borrowed(self) -> Generator[None]:
        """Keep the client open until the end, whoever closes it meanwhile."""
        self._lent.append(os.getpid())
        try:
            yield
        finally:
            self._lent.pop()
            if self._closed_in == os.getpid():
                self.close()

    @classmethod
    def own(cls, root: str) -> Self:
        """Make a client for a gateway."""

        def make() -> httpx.Client:
            return httpx.Client(
                timeout=default_timeout(), cookies=answer_bounds.no_cookies(), mounts=_direct(root)
            )

        return cls(make(), make)

    def close(self) -> None:
        """Close the client, unless it is the application's own or still borrowed."""
        self._closed_in = os.getpid()
        if self.owned and os.getpid() not in self._lent:
            self._client.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


class AsyncCarrier(Carrier["httpx.AsyncClient"]):
    """Carries for tasks."""

    __slots__ = ("_beside",)

    def __init__(
        self, client: httpx.AsyncClient, make: Callable[[], httpx.AsyncClient] | None = None
    ) -> None:
        """Take a client, and if it is ours what makes another one."""
        super().__init__(client, make)
        self._beside: set[asyncio.Task[None]] = set()

    def run_beside(self, work: Coroutine[None, None, None]) -> None:
        """Run something that carries beside its caller; it ends with the client."""
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    @classmethod
    def own(
        cls, root: str, *, limits: httpx.Limits | None = None, verify: ssl.SSLContext | bool = True
    ) -> Self:
        """Make a client for a gateway, with other limits or authorities than httpx has."""

        def make() -> httpx.AsyncClient:
            return httpx.AsyncClient(
                timeout=default_timeout(),
                cookies=answer_bounds.no_cookies(),
                mounts=_direct(root),
                limits=limits or httpx.Limits(max_connections=100, max_keepalive_connections=20),
                verify=verify,
            )

        return cls(make(), make)

    async def aclose(self) -> None:
        """End what runs beside, and close the client unless it is the application's own."""
        try:
            await self._end_beside()
        finally:
            if self.owned:
                await self._client.aclose()

    async def _end_beside(self) -> None:
        if not self._beside:
            return
        await asyncio.sleep(0)  # what has not begun begins now: only then it can clean up
        loop, own = asyncio.get_running_loop(), asyncio.current_task()
        ending = [task for task in self._beside if task.get_loop() is loop and task is not own]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)


def _direct(root: str) -> dict[str, None]:
    """Let what is for this machine pass no proxy: it may go without TLS, with an API key."""
    host = urlsplit(root).hostname or ""
    hosts = dict.fromkeys((*_THIS_MACHINE, *((host,) if is_loopback(host) else ())))
    return {f"all://[{host}]" if ":" in host else f"all://{host}": None for host in hosts}


def httpx_timeout(of: object) -> httpx.Timeout:
    """Return a timeout as httpx's own, whichever library made it."""
    return httpx.Timeout(**cast("httpx.Timeout", of).as_dict())


def timing(timeout: object) -> object:
    """Return an OpenAI client's timeout as an extension of a request."""
    if timeout is None or isinstance(timeout, (int, float)):
        return httpx.Timeout(timeout).as_dict()
    return httpx_timeout(timeout).as_dict()


def default_timeout() -> httpx.Timeout:
    """Return the OpenAI client's own."""
    return httpx_timeout(openai.DEFAULT_TIMEOUT)


class BodyReader:
    """Joins the pieces of a body up to a limit."""

    __slots__ = ("_max_bytes", "_pieces", "_size")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            AnswerInvalidError: The body is longer than any answer.
        """
        self._size += len(piece)
        if self._size > self._max_bytes:
            raise AnswerInvalidError(f"answer: at most {self._max_bytes} bytes expected")
        self._pieces.append(piece)

    def whole(self) -> bytes:
        """Return the body."""
        return b"".join(self._pieces)
