"""A proxy's application without a gateway: what stands behind it answers by script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import httpx

from latensgate.attested import AttestedCell
from latensgate.exchange_failure import Failure
from latensgate.proxy.app import ProxyApp
from latensgate.proxy.guard import Guard
from latensgate.proxy.sealing import Sealing
from latensgate.proxy.state import ProxyState
from latensgate.transport_routes import CARRIED, Carried, failed_response
from latensgate_shared.errors import ErrorCode

ROOT = "http://127.0.0.1:9"
JSON_HEADERS = {"content-type": "application/json"}
Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]


@dataclass
class FakeTrust:
    """Holds nothing, or what it was given."""

    root: str = ROOT
    sealable: bool = True
    cell: AttestedCell = field(default_factory=AttestedCell)
    tenant: str = "tnt_a3f9c42b"

    @property
    def exchange(self) -> FakeTrust:
        return self

    @property
    def sealer(self) -> FakeTrust:
        return self

    def held(self, _need: object) -> object:
        return object() if self.sealable else None


@dataclass
class Behind:
    """The transport behind the proxy.

    Attributes:
        answers: Taken one after the other; the last one again and again.
        asked: Requests that came.
    """

    answers: list[Answer | httpx.Response | Exception]
    asked: list[httpx.Request] = field(default_factory=list[httpx.Request])
    bodies: list[bytes] = field(default_factory=list[bytes])

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        self.bodies.append(request.read())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else await answer(request)


def whole(body: bytes = b'{"object":"chat.completion"}', **carried: Any) -> httpx.Response:  # noqa: ANN401 -- of Carried
    return httpx.Response(
        200,
        headers=[("content-type", "application/json"), ("x-request-id", "abc")],
        content=body,
        extensions={CARRIED: Carried(**carried)},
    )


def failure(code: ErrorCode, message: str = "No.", **more: Any) -> httpx.Response:  # noqa: ANN401 -- of Failure
    members: dict[str, Any] = {"status": code.http_status, "retry": False, **more}
    return failed_response(Failure(code=code, message=message, **members))


@dataclass
class FakeOpener:
    """What a stream's receipt is read from."""

    receipt: Any = None


class Events(httpx.AsyncByteStream):
    """A stream by script; an exception in it is raised, a number is waited for."""

    def __init__(self, *steps: bytes | float | Exception) -> None:
        self.closed = False
        self._events = self._run(steps)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._events

    async def _run(self, steps: tuple[bytes | float | Exception, ...]) -> AsyncIterator[bytes]:
        for step in steps:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, bytes):
                yield step
            else:
                await asyncio.sleep(step)

    async def aclose(self) -> None:
        self.closed = True


def streaming(events: Events, opener: FakeOpener | None = None) -> httpx.Response:
    carried = Carried(opener=cast("Any", opener or FakeOpener()))
    return httpx.Response(
        200,
        headers=[("content-type", "text/event-stream")],
        stream=events,
        extensions={CARRIED: carried},
    )


@dataclass
class Example:
    """A proxy's application and what stands behind it."""

    behind: Behind
    app: ProxyApp
    trust: FakeTrust

    def client(self, base_url: str = "http://127.0.0.1:8788") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=cast("Any", self.app), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url=base_url)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 -- of httpx
        """Ask once, as a program of this machine."""
        base_url = options.pop("base_url", "http://127.0.0.1:8788")

        async def once() -> httpx.Response:
            async with self.client(base_url) as client:
                return await client.request(method, path, **options)

        return asyncio.run(once())

    def post(
        self,
        path: str = "/v1/chat/completions",
        body: bytes = b"{}",
        **options: Any,  # noqa: ANN401 -- of httpx
    ) -> httpx.Response:
        headers = {**JSON_HEADERS, **options.pop("headers", {})}
        return self.ask("POST", path, content=body, headers=headers, **options)


def example(
    *answers: Answer | httpx.Response | Exception,
    token: bytes | None = None,
    names_host: bool = True,
    ping_s: float = 10.0,
) -> Example:
    behind, trust = Behind(list(answers) or [whole()]), FakeTrust()
    state = ProxyState(cast("Any", trust), lambda: datetime.now(UTC))
    sealing = Sealing(cast("Any", behind), ROOT, "lg_test_" + "A" * 43, None)
    return Example(
        behind, ProxyApp(sealing, Guard(token, names_host=names_host), state, ping_s), trust
    )


@dataclass
class Caller:
    """An ASGI caller that can go away."""

    app: ProxyApp
    sent: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    pieces: list[dict[str, Any]] = field(
        default_factory=lambda: [{"type": "http.request", "body": b"{}", "more_body": False}]
    )

    async def receive(self) -> dict[str, Any]:
        if self.pieces:
            return self.pieces.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:  # noqa: ANN401 -- ASGI
        self.sent.append(message)

    async def call(self, path: str = "/v1/chat/completions") -> None:
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        await self.app(scope, self.receive, self.send)

    @property
    def body(self) -> bytes:
        return b"".join(one.get("body", b"") for one in self.sent)
