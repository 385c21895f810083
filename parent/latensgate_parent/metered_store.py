"""Receipts on their way to the store, counted and timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from latensgate_parent.store.interfaces import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from latensgate_parent.clock import Clock
    from latensgate_parent.metrics import Metrics
    from latensgate_parent.store.daily import DayCount
    from latensgate_parent.store.interfaces import (
        IdempotencyRecord,
        ReceiptPage,
        ReceiptQuery,
        ReceiptStore,
        StartRecord,
        StoredReceipt,
    )

_T = TypeVar("_T")


class MeteredReceipts:
    """A ``ReceiptStore`` that tells metrics what another one does.

    Args:
        store: Does the work.
        metrics: Is told.
        monotonic: Seconds from any start.
    """

    def __init__(self, store: ReceiptStore, metrics: Metrics, monotonic: Clock) -> None:
        self._store = store
        self._metrics = metrics
        self._monotonic = monotonic

    async def insert_start(self, start: StartRecord) -> None:
        """See ``ReceiptStore``."""
        await self._timed(self._store.insert_start(start))

    async def insert_receipt(
        self, receipt: StoredReceipt, answered: IdempotencyRecord | None = None
    ) -> None:
        """See ``ReceiptStore``."""
        await self._timed(self._store.insert_receipt(receipt, answered))
        self._metrics.receipt_stored()

    async def _timed(self, write: Awaitable[_T]) -> _T:
        started = self._monotonic()
        try:
            return await write
        except StoreError:
            self._metrics.store_failed()
            raise
        finally:
            self._metrics.store_took(self._monotonic() - started)

    async def receipt(self, tenant_id: str, receipt_id: str) -> StoredReceipt | None:
        """See ``ReceiptStore``."""
        return await self._store.receipt(tenant_id, receipt_id)

    async def receipts(self, tenant_id: str, query: ReceiptQuery) -> ReceiptPage:
        """See ``ReceiptStore``."""
        return await self._store.receipts(tenant_id, query)

    async def daily_counts(
        self, tenant_id: str, since_s: int | None, until_s: int | None
    ) -> Sequence[DayCount]:
        """See ``DailyCounts``."""
        return await self._store.daily_counts(tenant_id, since_s, until_s)

    async def unfinished(self, tenant_id: str) -> Sequence[StartRecord]:
        """See ``ReceiptStore``."""
        return await self._store.unfinished(tenant_id)
