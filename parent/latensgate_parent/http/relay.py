"""A streamed answer on its way through: sealed chunks as events, receipt before the final chunk.

It runs to its end whatever the caller does: a caller who leaves cancels the model, and the enclave
then ends the answer with a receipt that says so, which belongs into the chain.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from latensgate_parent.http.answers import EVENT_STREAM, PING, stream_event
from latensgate_parent.http.errors import correlation_headers
from latensgate_parent.http.receipts import read_receipt
from latensgate_parent.limits import STREAM_SEND_TIMEOUT_S, STREAM_STORED_MAX_BYTES
from latensgate_parent.link.interfaces import EnclaveError
from latensgate_parent.store.interfaces import StoredAnswer, StoreError
from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from latensgate_parent.http.body import Place
    from latensgate_parent.http.exchange import Exchange
    from latensgate_parent.http.hold_shelf import HoldShelf
    from latensgate_parent.http.idempotency import Claim, Idempotency
    from latensgate_parent.http.receipts import ReceiptWriter
    from latensgate_parent.http.sealed_call import SealedCall
    from latensgate_parent.link.interfaces import Fleet, OpenInference
    from latensgate_parent.store.interfaces import StoredReceipt
    from latensgate_shared.calls import InferenceEnd

_HEADERS: Final = (
    (b"content-type", EVENT_STREAM.encode("ascii")),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
)


class Kept:
    """The events of a keyed answer, kept to be replayed for as long as there is room for them."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._events: list[bytes] | None = []
        self._size_bytes = 0

    def add(self, event: bytes) -> None:
        """Keep another event, or none any more."""
        if self._events is None:
            return
        self._size_bytes += len(event)
        if self._size_bytes > STREAM_STORED_MAX_BYTES or not self._place.try_take(len(event)):
            self.drop()
        else:
            self._events.append(event)

    def drop(self) -> None:
        """Keep nothing: the answer is not whole."""
        self._events = None

    def answer(self) -> StoredAnswer | None:
        """Return the whole answer, or None."""
        if self._events is None:
            return None
        return StoredAnswer(200, EVENT_STREAM, b"".join(self._events))


class Relay:
    """One streamed answer.

    Args:
        exchange: Of the caller.
        sealed: What is asked.
        claim: Of a keyed request; the relay ends it.
        place: Holds what is kept to be replayed.
        receipts: Makes the receipt durable.
        idempotency: Ends the claim if there is no receipt.
        holds: Keeps the request, should it be held.
    """

    def __init__(  # noqa: PLR0913  # its parts, all of them named at the one caller
        self,
        *,
        exchange: Exchange,
        sealed: SealedCall,
        claim: Claim | None,
        place: Place,
        receipts: ReceiptWriter,
        idempotency: Idempotency,
        holds: HoldShelf | None = None,
    ) -> None:
        self._holds = holds
        self._exchange = exchange
        self._sealed = sealed
        self._claim = claim
        self._receipts = receipts
        self._idempotency = idempotency
        self._kept = Kept(place)
        self._opened: OpenInference | None = None
        self._sending = asyncio.Lock()
        self._sent = 0
        self._seen_sent = 0
        self._gone = False
        self._ended = False

    async def run(self, fleet: Fleet) -> None:
        """Bring the answer to its end.

        Raises:
            EnclaveError: The enclave refused, or failed after its head.
            EnclaveLostError: The connection ended.
            StoreError: The receipt is not durable.
            ReceiptFormError: The receipt is none.
        """
        try:
            enclave = fleet.holder_of(self._sealed.key_id)
            self._opened = await enclave.stream(self._sealed.call, self._sealed.sealed_request)
            receipt, end = await self._relay(self._opened)
        except BaseException as error:  # also a cancel: the key must not stay taken
            await self._idempotency.failed(self._claim, error, began=self._opened is not None)
            raise
        if self._holds is not None:
            kept = self._holds.keep(self._sealed, end, receipt.receipt_id, enclave.name)
            await self._receipts.after(kept, receipt, self._claim)
        last = stream_event(end.final_chunk)
        self._kept.add(last)
        await self._receipts.finish(receipt, self._claim, self._kept.answer())
        await self._emit(last, more=False)
        if self._gone:
            self._exchange.code = self._exchange.code or ErrorCode.ERR_CANCELLED

    async def _relay(self, opened: OpenInference) -> tuple[StoredReceipt, InferenceEnd]:
        """Send everything but the final chunk."""
        try:
            if self._gone:
                opened.cancel()
            await self._begin(opened)
            end = await self._contents(opened)
        finally:
            await opened.aclose()
        return read_receipt(end, opened.receipt_id, self._receipts.now_ms()), end

    async def _begin(self, opened: OpenInference) -> None:
        """Send status and headers once the start is durable, else an error.

        After an error a keyed request runs on: a retry gets its answer.
        """
        try:
            await self._receipts.start(opened.receipt_id, self._sealed)
        except StoreError as error:
            await self._refuse(error, opened)
            return
        if not self._gone:
            await self._exchange.begin(
                200,
                [
                    *_HEADERS,
                    *correlation_headers(self._exchange.correlation_id),
                    *self._exchange.answer_headers,
                ],
            )

    async def _refuse(self, error: StoreError, opened: OpenInference) -> None:
        if self._claim is None:
            opened.cancel()
        if not self._gone:
            self._gone = True
            await self._exchange.refuse(error)

    async def _contents(self, opened: OpenInference) -> InferenceEnd:
        try:
            async for piece in opened.pieces():
                event = stream_event(piece)
                if self._claim is not None:
                    self._kept.add(event)
                await self._emit(event)
        except EnclaveError as error:
            if error.code is not ErrorCode.ERR_OVERLOADED:
                raise
            self._kept.drop()  # too slow a reader: the rest was dropped, but its end still comes
            self.leave()
        return await opened.end()

    async def _emit(self, data: bytes, *, more: bool = True) -> None:
        if self._gone or self._ended:
            return
        self._ended = not more
        self._sent += 1
        message: dict[str, object] = {"type": "http.response.body", "body": data, "more_body": more}
        try:
            async with self._sending, asyncio.timeout(STREAM_SEND_TIMEOUT_S):
                await self._exchange.send(message)
        except OSError:  # also TimeoutError
            self.leave()

    def leave(self) -> None:
        """Nobody reads any more: cancel the model, send nothing further."""
        if self._gone or self._ended:
            return
        self._gone = True
        if self._opened is not None:
            self._opened.cancel()

    async def ping(self) -> None:
        """Send a comment if nothing was sent since the last time this was called."""
        idle = self._sent == self._seen_sent and not self._sending.locked()
        if idle and self._exchange.status is not None:
            await self._emit(PING)
        self._seen_sent = self._sent

    async def cut(self, error: LatensgateError) -> None:
        """End the body before its final chunk, so that the caller sees it cut."""
        self._exchange.code = self._exchange.code or error.code
        await self._emit(b"", more=False)
