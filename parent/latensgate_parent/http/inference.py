"""``POST /api/inference``: the sealed route, top to bottom (docs/spec/http.md section 3)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from hashlib import sha384
from typing import TYPE_CHECKING, Final

from latensgate_parent.http.admission import Admission
from latensgate_parent.http.answers import unary_answer
from latensgate_parent.http.aside import aside
from latensgate_parent.http.auth import Scope, require
from latensgate_parent.http.body import ClientGoneError, Room, read_body
from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.receipts import read_receipt
from latensgate_parent.http.relay import Relay
from latensgate_parent.http.sealed_call import (
    check_content_type,
    idempotency_key,
    read_sealed_call,
)
from latensgate_parent.limits import STREAM_PING_S
from latensgate_parent.store.interfaces import StoredAnswer
from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_parent.clock import Clock
    from latensgate_parent.http.asgi_types import Receive
    from latensgate_parent.http.auth import Authenticator, Caller
    from latensgate_parent.http.backlog import Backlog, Tasks
    from latensgate_parent.http.body import Place
    from latensgate_parent.http.exchange import Exchange
    from latensgate_parent.http.hold_shelf import HoldShelf
    from latensgate_parent.http.idempotency import Claim, Idempotency
    from latensgate_parent.http.rate_limit import RateLimiter
    from latensgate_parent.http.receipts import ReceiptWriter
    from latensgate_parent.http.sealed_call import SealedCall
    from latensgate_parent.http.settings_shelf import SettingsShelf
    from latensgate_parent.link.interfaces import Fleet
    from latensgate_parent.settings_forms import Network


@dataclass(frozen=True, slots=True)
class InferenceParts:
    """What the route stands on.

    Attributes:
        authenticator: Finds the caller.
        limiter: Counts requests of tenants.
        fleet: The enclaves.
        receipts: Makes receipts durable.
        idempotency: Keys in use.
        backlog: What the store did not confirm.
        tasks: What outlives its request.
        room: How much is under way.
        monotonic: For rate limits: the same clock for all routes.
        trusted_proxies: Peers whose ``X-Forwarded-For`` is believed.
        settings: Signed settings of tenants; None: there are none.
        holds: Keeps requests that wait for an approver.
    """

    authenticator: Authenticator
    limiter: RateLimiter
    fleet: Fleet
    receipts: ReceiptWriter
    idempotency: Idempotency
    backlog: Backlog
    tasks: Tasks
    room: Room
    monotonic: Clock = time.monotonic
    trusted_proxies: Sequence[Network] = ()
    settings: SettingsShelf | None = None
    holds: HoldShelf | None = None


class Inference:
    """The route."""

    def __init__(self, parts: InferenceParts) -> None:
        self._parts = parts
        self._admission = Admission(
            parts.authenticator, parts.limiter, parts.monotonic, parts.trusted_proxies
        )

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request.

        Raises:
            LatensgateError: To be answered with its envelope; nothing was sent yet.
            ClientGoneError: There is nobody to answer.
        """
        if self._parts.backlog.refuses_new:
            raise GatewayError(
                ErrorCode.ERR_STORE_UNAVAILABLE, "Receipts cannot be stored at this moment."
            )
        with self._parts.room.place() as place:
            caller = await self._admission.caller(exchange)
            require(caller, Scope.INFERENCE_READ)
            place.belong_to(caller.tenant.tenant_id)
            check_content_type(exchange.headers)
            key = idempotency_key(exchange.headers)
            body = await read_body(exchange.headers, exchange.receive, place)
            sealed = await aside(len(body), read_sealed_call, exchange.headers, body)
            _check_tenant(caller, sealed)
            sealed = await self._with_settings(sealed)
            await self._answer(exchange, sealed, key, place)

    async def _with_settings(self, sealed: SealedCall) -> SealedCall:
        """Add the tenant's signed settings to a call; the enclave judges them."""
        if self._parts.settings is None:
            return sealed
        document = await self._parts.settings.document(sealed.call.tenant_id)
        if document is None:
            return sealed
        return replace(sealed, call=replace(sealed.call, tenant_settings=document))

    async def _answer(
        self, exchange: Exchange, sealed: SealedCall, key: str | None, place: Place
    ) -> None:
        claim: Claim | None = None
        if key is not None:
            digest = await aside(len(sealed.sealed_request), _digest, sealed.sealed_request)
            begun = await self._parts.idempotency.begin(sealed.call.tenant_id, key, digest)
            if isinstance(begun, StoredAnswer):
                await exchange.answer_stored(begun)
                return
            claim = begun
        if sealed.call.stream:
            await self._stream(exchange, sealed, claim, place)
        else:
            await self._unary(exchange, sealed, claim)

    # --- unary ---

    async def _unary(self, exchange: Exchange, sealed: SealedCall, claim: Claim | None) -> None:
        work = self._parts.tasks.start(self._infer(sealed, claim, exchange.correlation_id))
        if claim is None:
            await _with_caller(exchange.receive, work)
        answer, exchange.code = await asyncio.shield(work)  # a keyed request runs on
        await exchange.answer_stored(answer)

    async def _infer(
        self, sealed: SealedCall, claim: Claim | None, correlation_id: str
    ) -> tuple[StoredAnswer, ErrorCode | None]:
        """Run a request; return its answer once its receipt is durable."""
        parts = self._parts
        try:
            enclave = parts.fleet.holder_of(sealed.key_id)
            reply = await enclave.infer(sealed.call, sealed.sealed_request)
            receipt = read_receipt(reply.end, reply.receipt_id, parts.receipts.now_ms())
            answer, code = unary_answer(reply, sealed.call.attestation_hash, correlation_id)
        except BaseException as error:  # also a cancel: the key must not stay taken
            await parts.idempotency.failed(claim, error)
            raise
        if parts.holds is not None:
            await parts.receipts.after(
                parts.holds.keep(sealed, reply.end, reply.receipt_id, enclave.name), receipt, claim
            )
        await parts.receipts.finish(receipt, claim, answer)
        return answer, code

    # --- streams ---

    async def _stream(
        self, exchange: Exchange, sealed: SealedCall, claim: Claim | None, place: Place
    ) -> None:
        parts = self._parts
        relay = Relay(
            exchange=exchange,
            sealed=sealed,
            claim=claim,
            place=place,
            receipts=parts.receipts,
            idempotency=parts.idempotency,
            holds=parts.holds,
        )
        work = parts.tasks.start(relay.run(parts.fleet))
        try:
            await _accompany(exchange, relay, work)
        except LatensgateError as error:
            if exchange.status is None:
                raise
            await relay.cut(error)


async def _accompany(exchange: Exchange, relay: Relay, work: asyncio.Task[None]) -> None:
    """Wait for a relay's end, with or without its caller."""
    gone = asyncio.get_running_loop().create_task(_wait_gone(exchange.receive))
    try:
        while not work.done() and not gone.done():
            ended, _ = await asyncio.wait({work, gone}, timeout=STREAM_PING_S, return_when=_FIRST)
            if not ended:
                await relay.ping()
    finally:
        gone.cancel()
        if not work.done():
            relay.leave()
    await asyncio.shield(work)


_FIRST: Final = asyncio.FIRST_COMPLETED


def _digest(sealed_request: bytes) -> bytes:
    return sha384(sealed_request).digest()


def _check_tenant(caller: Caller, sealed: SealedCall) -> None:
    if sealed.call.tenant_id != caller.tenant.tenant_id:
        raise GatewayError(
            ErrorCode.ERR_FORBIDDEN,
            "tenant_id is not that of this API key.",
            param="tenant_id",
        )


async def _with_caller(receive: Receive, work: asyncio.Task[object]) -> None:
    """Wait for a task while its caller does; cancel it when the caller goes away.

    Raises:
        ClientGoneError: The caller went away first.
        LatensgateError: Whatever the task raises.
    """
    gone = asyncio.get_running_loop().create_task(_wait_gone(receive))
    gone.add_done_callback(lambda _: work.cancel())  # of a task that has ended it does nothing
    try:
        await work
    except asyncio.CancelledError:
        if gone.done() and not gone.cancelled():
            raise ClientGoneError("the caller went away before the answer") from None
        raise
    finally:
        gone.cancel()


async def _wait_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
