"""The proxy as an ASGI application: guard, route, seal, hand on."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from latensgate.proxy import page
from latensgate.proxy.answers import (
    EVENT_STREAM_TYPE,
    JSON_TYPE,
    Refusal,
    raw_headers,
    retry_headers,
)
from latensgate.proxy.events import PING_S, Ended, Relay
from latensgate.proxy.guard import Asked
from latensgate.proxy.presence import GoneError, Presence, read_body
from latensgate.proxy.routes import Route, route_of
from latensgate.proxy.sealing import UNAVAILABLE, carried, may_have_run, not_again, status_of
from latensgate.proxy.state import Served, receipt_facts
from latensgate_shared.errors import ErrorCode

if TYPE_CHECKING:
    import httpx

    from latensgate.exchange_failure import Failure
    from latensgate.proxy.events import Send
    from latensgate.proxy.guard import Guard
    from latensgate.proxy.presence import Message, Receive
    from latensgate.proxy.sealing import Sealing
    from latensgate.proxy.state import ProxyState
    from latensgate.receipts import AnswerReceipt

ACTIVE_MAX_COUNT: Final = 512
"""Requests at once, of all programs of this machine: beyond what a tenant's limits let through."""
_IDEMPOTENCY: Final = "idempotency-key"
_ALWAYS: Final = (("cache-control", "no-store"), ("x-content-type-options", "nosniff"))
_FIRST_ERROR: Final = 400
_FIRST_FAULT: Final = 500
_CANCELLED: Final = 499


@dataclass(slots=True)
class Reply:
    """One answer being written.

    Attributes:
        send: ASGI's.
        began_s: Loop time at the request.
        request_id: For ``x-request-id`` where the gateway gave none.
        presence: Told when the answer is whole.
        started: Whether the status is written.
    """

    send: Send
    began_s: float
    request_id: str = field(default_factory=lambda: f"req_{secrets.token_hex(12)}")
    presence: Presence | None = None
    started: bool = False

    @property
    def took_ms(self) -> int:
        """Milliseconds since the request came."""
        return round((asyncio.get_running_loop().time() - self.began_s) * 1000)

    async def start(self, status: int, fields: list[tuple[str, str]]) -> None:
        """Write status and header fields; the usual ones are added."""
        headers = [*fields, *_ALWAYS, ("openai-processing-ms", str(self.took_ms))]
        if all(name.lower() != "x-request-id" for name, _ in fields):
            headers.append(("x-request-id", self.request_id))
        self.started = True
        await self.send(
            {"type": "http.response.start", "status": status, "headers": raw_headers(headers)}
        )

    async def whole(self, status: int, fields: list[tuple[str, str]], body: bytes) -> None:
        """Write a whole answer."""
        await self.start(status, [*fields, ("content-length", str(len(body)))])
        if self.presence is not None:
            self.presence.answered()
        await self.send({"type": "http.response.body", "body": body})

    async def refuse(self, refusal: Refusal) -> None:
        """Write a refusal in OpenAI's envelope."""
        fields = [("content-type", JSON_TYPE), *refusal.headers]
        await self.whole(refusal.http_status, fields, refusal.body)


@dataclass(frozen=True, slots=True)
class ProxyApp:
    """The application.

    Attributes:
        sealing: Asks the gateway.
        guard: Who may ask.
        state: Counts.
        ping_s: How long a stream may be silent.
    """

    sealing: Sealing
    guard: Guard
    state: ProxyState
    ping_s: float = PING_S

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request; nothing is ever raised, and nothing of it logged."""
        reply = Reply(send, asyncio.get_running_loop().time())
        asked = Asked.of(scope["method"], scope["path"], scope["headers"])
        found = self.guard.refusal(asked) or route_of(asked.method, asked.path)
        route = found if isinstance(found, Route) else Route("refused")
        if route.name in {"page", "status"}:
            await self._own(route, reply)
            return
        self.state.active += 1
        try:
            ended = await self._served(found, asked, receive, reply)
        except GoneError:
            ended = _ended(route, _CANCELLED, Ended("cancelled"), reply)
        except Exception as error:  # noqa: BLE001 -- the outermost frame: its text may hold content
            ended = await _broke(route, error, reply)
        finally:
            self.state.active -= 1
        self.state.end(ended)

    async def _own(self, route: Route, reply: Reply) -> None:
        if route.name == "page":
            await reply.whole(200, list(page.HEADERS), page.render(self.state.snapshot()))
            return
        status = 200 if self.state.ready else UNAVAILABLE
        body = page.status_json(self.state.snapshot())
        await reply.whole(status, [("content-type", JSON_TYPE)], body)

    async def _served(
        self, found: Route | Refusal, asked: Asked, receive: Receive, reply: Reply
    ) -> Served:
        if isinstance(found, Route) and self.state.active > ACTIVE_MAX_COUNT:
            refusal = Refusal(
                ErrorCode.ERR_OVERLOADED,
                f"at most {ACTIVE_MAX_COUNT} requests at once",
                headers=(("retry-after", "1"), *retry_headers("1")),
            )
            return await _refused(found, refusal, reply)
        if isinstance(found, Refusal):
            return await _refused(Route("refused"), found, reply)
        body = await read_body(asked, receive) if found.sealed else b""
        if isinstance(body, Refusal):
            return await _refused(found, body, reply)
        async with Presence(receive) as presence:
            reply.presence = presence
            return await self._asked(found, body, asked.one(_IDEMPOTENCY), reply)

    async def _asked(self, route: Route, body: bytes, key: str | None, reply: Reply) -> Served:
        answer = await self.sealing.ask(route, body, key)
        if isinstance(answer, Refusal):
            return await _refused(route, answer, reply)
        if carried(answer).opener is not None:
            return await self._stream(route, answer, key, reply)
        return await self._whole(route, answer, reply)

    async def _whole(self, route: Route, answer: httpx.Response, reply: Reply) -> Served:
        about = carried(answer)
        status = status_of(answer.status_code, about.failure)
        fields = [*_fields(answer), *self._proof(about.receipt), *_waits(about.failure)]
        await reply.whole(status, fields, answer.content)
        code = None if about.failure is None else about.failure.code.name
        return _ended(route, status, Ended(_outcome(status), code, about.receipt), reply)

    async def _stream(
        self, route: Route, answer: httpx.Response, key: str | None, reply: Reply
    ) -> Served:
        presence = reply.presence
        if presence is None:
            raise TypeError("a stream is written to somebody who is watched")
        relay = Relay(reply.send, answer, route.name, self.ping_s)
        error = await relay.refused()
        if error is not None:
            refused = cast("httpx.Response", error.response)
            if key is None and may_have_run(refused):
                not_again(refused)
            return await self._whole(route, refused, reply)
        fields = [("content-type", EVENT_STREAM_TYPE), ("x-accel-buffering", "no")]
        named = [*_fields(answer, but="content-type"), *self._proof(None)]
        await reply.start(200, fields + named)
        return _ended(route, 200, await relay.run(presence), reply)

    def _proof(self, receipt: AnswerReceipt | None) -> list[tuple[str, str]]:
        """Name what the answer can be checked by."""
        fields = [("latensgate-status", self.state.word)]
        if receipt is not None:
            fields.append(("latensgate-receipt", receipt.audit_receipt_id))
            fields.append(("latensgate-attestation", receipt.attestation_hash))
            dropped = receipt.private.get("fields_dropped")
            if isinstance(dropped, list) and dropped:
                fields.append(("latensgate-dropped", ", ".join(map(str, dropped))))
        return fields


def _waits(failure: Failure | None) -> list[tuple[str, str]]:
    """Name where to ask for a request that an approver must decide on."""
    if failure is None or failure.hold is None:
        return []
    pending_id = failure.hold.pending_id
    return [("latensgate-hold", pending_id), ("location", f"/v1/holds/{pending_id}")]


def _fields(answer: httpx.Response, but: str = "content-length") -> list[tuple[str, str]]:
    """Return the transport's header fields that an application may want."""
    found = [
        (name, value)
        for name, value in answer.headers.multi_items()
        if name not in {"content-length", but}
    ]
    if "retry-after-ms" in answer.headers:
        return found
    return [*found, *retry_headers(answer.headers.get("retry-after"))]


async def _refused(route: Route, refusal: Refusal, reply: Reply) -> Served:
    await reply.refuse(refusal)
    status = refusal.http_status
    return _ended(route, status, Ended(_outcome(status), refusal.code.name), reply)


async def _broke(route: Route, error: Exception, reply: Reply) -> Served:
    """End a request that met a fault of this program; only its type is told."""
    refusal = Refusal(ErrorCode.ERR_INTERNAL, f"fault of the proxy ({type(error).__name__})")
    if not reply.started:
        return await _refused(route, refusal, reply)
    return _ended(route, 200, Ended("cut", refusal.code.name), reply)


def _outcome(status: int) -> str:
    if status < _FIRST_ERROR:
        return "answered"
    return "refused" if status < _FIRST_FAULT else "failed"


def _ended(route: Route, status: int, how: Ended, reply: Reply) -> Served:
    receipt_id, usage = receipt_facts(how.receipt)
    return Served(
        route=route.name,
        status=status,
        outcome=how.outcome,
        took_ms=reply.took_ms,
        code=how.code,
        receipt_id=receipt_id,
        usage=usage,
    )
