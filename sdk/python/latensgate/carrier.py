"""The HTTP client that carries sealed bytes, and what it is asked.

It is httpx's or, with openai 3.x, httpx2's: both have the same methods. It never sees plaintext, so
an application's own client, with its proxies, certificates and event hooks, may do the carrying.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

import httpx
import openai

from latensgate import answer_bounds
from latensgate.exchange import is_event_stream
from latensgate.exchange_steps import Received, Send
from latensgate_shared.errors import LatensgateError
from latensgate_shared.sealed import AnswerInvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping

_OK: Final = 200
_OWN: Final = (("Accept-Encoding", "identity"),)
"""A compressed answer would be larger than its limit before anyone could look."""
_FIRST_WITH_HTTPX2: Final = 3


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
