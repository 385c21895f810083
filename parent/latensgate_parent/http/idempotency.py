"""``Idempotency-Key``: a keyed request runs at most once (docs/spec/http.md section 3).

A key is claimed in this process for as long as a request of it is under way, and its record is
durable before anything is dispatched. A store may fail at every step, without storing or with; what
then stands there is put right before the key is used again, and in the background:

* the record was begun, and nothing was dispatched: it is removed;
* it was dispatched, and its answer is not durable: its outcome is unknown, for ever.

If this process dies, its successor makes what still runs unknown (``IdempotencyStore.abandon``).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from latensgate_parent.http.errors import GatewayError
from latensgate_parent.link.interfaces import EnclaveError
from latensgate_parent.store.interfaces import (
    IdempotencyRecord,
    IdempotencyState,
    StoredAnswer,
    StoreError,
)
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import IDEMPOTENCY_RECORD_S

if TYPE_CHECKING:
    from latensgate_parent.clock import Clock
    from latensgate_parent.http.backlog import Backlog
    from latensgate_parent.store.interfaces import IdempotencyStore


NOTHING_RAN: Final = frozenset(
    {
        ErrorCode.ERR_MALFORMED,
        ErrorCode.ERR_TOO_LARGE,
        ErrorCode.ERR_VERSION,
        ErrorCode.ERR_KEY_STALE,
        ErrorCode.ERR_OPEN_FAILED,
        ErrorCode.ERR_OUTER_MISMATCH,
        ErrorCode.ERR_KMS_ENVELOPE,
        ErrorCode.ERR_KMS_DENIED,
        ErrorCode.ERR_KMS_UNREACHABLE,
        ErrorCode.ERR_KMS_KEY_UNFIT,
        ErrorCode.ERR_UNSUPPORTED,
        ErrorCode.ERR_ENCLAVE_TIMEOUT,
        ErrorCode.ERR_ENCLAVE_UNAVAILABLE,
        ErrorCode.ERR_OVERLOADED,
    }
)
"""Codes outside the seal after which a key is free again.

The enclave says each of them before it spends the ``request_id``. Should one of them be said of a
request that did run, the same bytes are refused by the enclave as a replay, never run again.
"""


class Fate(Enum):
    """What is true of a record that still stands as running although nothing runs."""

    NOTHING_RAN = auto()
    UNKNOWN = auto()


@dataclass(slots=True, eq=False)
class Claim:
    """A key in use by this process.

    Attributes:
        record: As it stands in the store, running.
        fate: None: a request of it is under way; else what must still be written.
        clearing: Held by who writes it.
    """

    record: IdempotencyRecord
    fate: Fate | None = None
    clearing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def place(self) -> tuple[str, str]:
        """What it is a claim on."""
        return self.record.tenant_id, self.record.idempotency_key

    def answered(self, answer: StoredAnswer) -> IdempotencyRecord:
        """Return the record to store with the receipt."""
        return replace(self.record, state=IdempotencyState.ANSWERED, answer=answer)

    def unknown(self) -> IdempotencyRecord:
        """Return the record of a request whose outcome nobody knows."""
        return replace(self.record, state=IdempotencyState.UNKNOWN)


class Idempotency:
    """Keys in use, over the records in the store.

    Args:
        store: Where records are.
        backlog: What writes later.
        holder: Names this process, newly each time it starts.
        clock: Seconds since 1970.
    """

    def __init__(
        self, store: IdempotencyStore, backlog: Backlog, holder: str, clock: Clock
    ) -> None:
        self._store = store
        self._backlog = backlog
        self._holder = holder
        self._clock = clock
        self._claims: dict[tuple[str, str], Claim] = {}

    async def begin(self, tenant_id: str, key: str, digest: bytes) -> Claim | StoredAnswer:
        """Claim a key for a request, or return the answer that is stored under it.

        Every claim must be ended, by exactly one of ``free``, ``lose``, ``done`` and ``abandon``.

        Args:
            tenant_id: Whose key it is.
            key: The ``Idempotency-Key``.
            digest: SHA-384 of the sealed bytes.

        Raises:
            GatewayError: ``ERR_IDEMPOTENCY_MISMATCH``, ``ERR_IDEMPOTENCY_RUNNING`` or
                ``ERR_OUTCOME_UNKNOWN``.
            StoreError: Nothing may be dispatched.
        """
        record = IdempotencyRecord(
            tenant_id,
            key,
            digest,
            IdempotencyState.RUNNING,
            self._holder,
            int(self._clock()) + IDEMPOTENCY_RECORD_S,
        )
        place = (tenant_id, key)
        while (left := self._claims.get(place)) is not None:
            if left.fate is None:
                raise _running() if left.record.request_digest == digest else _mismatch()
            await self._clear(left)
        claim = self._claims[place] = Claim(record)
        try:
            found = await self._store.begin(record, int(self._clock()))
        except BaseException:  # also a cancel: nothing was dispatched
            self._leave(claim, Fate.NOTHING_RAN)
            raise
        if found is None:
            return claim
        del self._claims[place]
        return self._judge(found, digest)

    def _judge(self, found: IdempotencyRecord, digest: bytes) -> StoredAnswer:
        if found.request_digest != digest:
            raise _mismatch()
        if found.answer is not None:
            return found.answer
        if found.state is IdempotencyState.RUNNING and found.holder != self._holder:
            raise _running()
        if found.state is IdempotencyState.RUNNING:  # ours, and nothing of it is known here
            self._leave(Claim(found), Fate.UNKNOWN)
        raise GatewayError(
            ErrorCode.ERR_OUTCOME_UNKNOWN,
            "What became of the first request with this Idempotency-Key is not known.",
        )

    # --- how a claim ends ---

    def done(self, claim: Claim) -> None:
        """Its answer is durable."""
        self._claims.pop(claim.place, None)

    async def free(self, claim: Claim) -> None:
        """Nothing ran: the same key may be used again, also for other bytes."""
        await self._end(claim, Fate.NOTHING_RAN)

    async def lose(self, claim: Claim) -> None:
        """It was dispatched, and nobody knows what became of it."""
        await self._end(claim, Fate.UNKNOWN)

    async def failed(
        self, claim: Claim | None, error: BaseException, *, began: bool = False
    ) -> None:
        """End the claim, if there is one, of a request that ends without a receipt.

        Args:
            claim: Of a keyed request.
            error: What it ended with.
            began: Whether the head of its answer was there, so that it ran.
        """
        if claim is None:
            return
        if isinstance(error, EnclaveError) and error.code in NOTHING_RAN and not began:
            await self.free(claim)
        elif isinstance(error, LatensgateError):
            await self.lose(claim)
        else:
            self.abandon(claim)

    def abandon(self, claim: Claim) -> None:
        """Nobody will end it in another way: a fault, or this process ends."""
        self._leave(claim, Fate.UNKNOWN)

    async def _end(self, claim: Claim, fate: Fate) -> None:
        try:
            if fate is Fate.UNKNOWN:
                await self._store.settle(claim.unknown())
            else:
                await self._store.forget(*claim.place)
        except StoreError:
            self._leave(claim, fate)
        except BaseException:  # also a cancel: what is known must not be lost
            self._leave(claim, fate)
            raise
        else:
            del self._claims[claim.place]

    # --- what a failing store left behind ---

    def _leave(self, claim: Claim, fate: Fate) -> None:
        claim.fate = fate
        self._claims[claim.place] = claim
        self._backlog.add(lambda: self._clear(claim))

    async def _clear(self, claim: Claim) -> None:
        """Put right what stands under a key, unless another has done so meanwhile.

        Raises:
            StoreError: It must be tried again.
        """
        async with claim.clearing:
            if self._claims.get(claim.place) is not claim:
                return
            if claim.fate is Fate.UNKNOWN:
                await self._store.settle(claim.unknown())
            elif await self._stands(claim.record):
                await self._store.forget(*claim.place)
            del self._claims[claim.place]

    async def _stands(self, record: IdempotencyRecord) -> bool:
        """Whether the record is there as we began it; if nothing is, it is afterwards.

        Only ``begin`` tells what stands under a key, and another parent may have begun since.
        """
        found = await self._store.begin(record, int(self._clock()))
        return found is None or (
            found.state is IdempotencyState.RUNNING
            and found.holder == record.holder
            and found.request_digest == record.request_digest
        )


def _mismatch() -> GatewayError:
    return GatewayError(
        ErrorCode.ERR_IDEMPOTENCY_MISMATCH,
        "This Idempotency-Key was used for another request.",
        param="Idempotency-Key",
    )


def _running() -> GatewayError:
    return GatewayError(
        ErrorCode.ERR_IDEMPOTENCY_RUNNING,
        "The first request with this Idempotency-Key still runs.",
        param="Idempotency-Key",
    )
