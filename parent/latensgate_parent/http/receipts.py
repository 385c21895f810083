"""Making receipts durable: before an answer is released, and also where nobody waits for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from latensgate_parent.http.aside import aside
from latensgate_parent.limits import BACKLOG_ANSWER_MAX_BYTES
from latensgate_parent.store.interfaces import StartRecord, StoredReceipt
from latensgate_shared import formats
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError
from latensgate_shared.receipts import OUTCOMES
from latensgate_shared.sealed import request_hash

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from latensgate_parent.clock import Clock
    from latensgate_parent.http.backlog import Backlog
    from latensgate_parent.http.idempotency import Claim, Idempotency
    from latensgate_parent.http.sealed_call import SealedCall
    from latensgate_parent.store.interfaces import ReceiptStore, StoredAnswer
    from latensgate_shared.calls import InferenceEnd


class ReceiptFormError(LatensgateError):
    """What the enclave gave as a receipt is none of this request."""

    code = ErrorCode.ERR_INTERNAL


class _Public(msgspec.Struct):
    """What of a public part the store has columns for; the rest is signed and for clients."""

    receipt_id: str
    tenant_id: str
    key_id: str
    sequence: int
    issued_at: int
    outcome: str
    attestation_hash: str


_PUBLIC = msgspec.json.Decoder(_Public)


def read_receipt(end: InferenceEnd, receipt_id: str, stored_at_ms: int) -> StoredReceipt:
    """Return the receipt of an answer as it is stored.

    Raises:
        ReceiptFormError: It is not one, or has another id than the answer began with.
    """
    try:
        public = _PUBLIC.decode(end.receipt_public)
        formats.tenant_id(public.tenant_id)
        formats.integer(public.sequence, "sequence")
        formats.integer(public.issued_at, "issued_at")
    except (msgspec.MsgspecError, MalformedError, RecursionError):
        raise ReceiptFormError("a receipt's public part expected") from None
    if public.receipt_id != receipt_id or public.outcome not in OUTCOMES:
        raise ReceiptFormError("the receipt of this answer expected")
    return StoredReceipt(
        receipt_id=receipt_id,
        tenant_id=public.tenant_id,
        key_id=public.key_id,
        sequence=public.sequence,
        issued_at_s=public.issued_at,
        outcome=public.outcome,
        attestation_hash=public.attestation_hash,
        public=end.receipt_public,
        signature=end.receipt_signature,
        private_sealed=end.private_sealed,
        stored_at_ms=stored_at_ms,
    )


class ReceiptWriter:
    """Stores receipts, with the answers that keyed requests replay.

    Args:
        store: Where they are kept.
        backlog: Repeats what the store did not confirm.
        idempotency: Whose claims end with their answers.
        clock: Seconds since 1970.
    """

    def __init__(
        self, store: ReceiptStore, backlog: Backlog, idempotency: Idempotency, clock: Clock
    ) -> None:
        self._store = store
        self._backlog = backlog
        self._idempotency = idempotency
        self._clock = clock

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self._clock() * 1000)

    async def start(self, receipt_id: str, sealed: SealedCall) -> None:
        """Return when it is durable that an answer begins.

        Raises:
            StoreError: Nothing may be released.
        """
        hashed = await aside(len(sealed.sealed_request), request_hash, sealed.sealed_request)
        await self._store.insert_start(
            StartRecord(
                receipt_id=receipt_id,
                tenant_id=sealed.call.tenant_id,
                attestation_hash=sealed.call.attestation_hash,
                request_hash=hashed,
                started_at_ms=self.now_ms(),
            )
        )

    async def finish(
        self, receipt: StoredReceipt, claim: Claim | None, answer: StoredAnswer | None
    ) -> None:
        """Return when a receipt is durable, and with it the end of the claim.

        If the store fails nothing may be released now, but it is tried again in the background: the
        request ran, so its receipt belongs into the chain, and a keyed retry gets its answer.

        Args:
            receipt: Of the answer.
            claim: Of a keyed request.
            answer: To replay; None: it is too long to store, so a retry gets an unknown outcome.

        Raises:
            StoreError: Nothing may be released.
        """
        try:
            await self._write(receipt, claim, answer)
        except BaseException:  # StoreError, or the waiting task was cancelled; a fault shows there
            self._later(receipt, claim, answer)
            raise

    async def store(self, receipt: StoredReceipt) -> None:
        """Return when a receipt is durable; the identical one twice is no error.

        Raises:
            StoreError: It is not.
        """
        await self._store.insert_receipt(receipt)

    async def after(
        self, write: Awaitable[None], receipt: StoredReceipt, claim: Claim | None
    ) -> None:
        """Return when something is durable without which an answer is worth nothing.

        Raises:
            StoreError: It is not: the receipt is stored later, and the answer not at all.
        """
        try:
            await write
        except BaseException:
            self._later(receipt, claim, None)
            raise

    async def _write(
        self, receipt: StoredReceipt, claim: Claim | None, answer: StoredAnswer | None
    ) -> None:
        if claim is None:
            await self._store.insert_receipt(receipt)
            return
        await self._store.insert_receipt(
            receipt, claim.unknown() if answer is None else claim.answered(answer)
        )
        self._idempotency.done(claim)

    def _later(
        self, receipt: StoredReceipt, claim: Claim | None, answer: StoredAnswer | None
    ) -> None:
        kept = answer if answer and len(answer.body) <= BACKLOG_ANSWER_MAX_BYTES else None
        self._backlog.add(
            lambda: self._write(receipt, claim, kept),
            None if claim is None else lambda: self._idempotency.abandon(claim),
        )

    def orphan(self, end: InferenceEnd, receipt_id: str) -> None:
        """Store the receipt of an answer that nobody waits for; never blocks.

        What is no receipt is dropped: nobody is there to be told.
        """
        try:
            receipt = read_receipt(end, receipt_id, self.now_ms())
        except ReceiptFormError:
            return
        self._later(receipt, None, None)
