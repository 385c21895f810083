"""A store that fails on demand, in the two ways a caller cannot tell apart (DESIGN 10).

``FaultyStore(store, plan)`` stands before any ``Store``. The plan is asked once for every call and
says whether it fails, and if so, whether it was stored all the same. To cross every call of a
scenario with both, run the scenario once with ``never`` and then once for each of ``crossings``.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Never, TypeAlias, TypeVar

from latensgate_parent.store.daily import DayCount
from latensgate_parent.store.held_forms import HoldState, StoredHold
from latensgate_parent.store.interfaces import (
    APIKey,
    ArchivedDocument,
    IdempotencyRecord,
    ReceiptPage,
    ReceiptQuery,
    StartRecord,
    Store,
    StoredAnswer,
    StoredReceipt,
    StoredSettings,
    StoredUsage,
    StoreError,
    Tenant,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

T = TypeVar("T")


class Fault(Enum):
    """How a call fails: both raise the same ``StoreError``."""

    NOTHING_STORED = "failed, nothing stored"
    STORED = "failed, but stored"


Plan: TypeAlias = "Callable[[str, int], Fault | None]"
"""From the method's name and how often it was called before to what happens to this call."""


def never(_method: str, _earlier: int) -> Fault | None:
    """Let every call through."""
    return None


def always(fault: Fault, *methods: str) -> Plan:
    """Fail every call, or every one of these methods."""
    return lambda method, _earlier: fault if method in methods or not methods else None


def once(fault: Fault, method: str, earlier: int = 0) -> Plan:
    """Fail one call of one method: the first, or that after ``earlier`` others."""
    return lambda called, number: fault if (called, number) == (method, earlier) else None


class FaultyStore(Store):
    """A store whose calls fail as the plan says.

    Attributes:
        calls: How often each method was called, ``aclose`` aside: it never fails.
    """

    def __init__(self, store: Store, plan: Plan = never) -> None:
        self._store = store
        self._plan = plan
        self.calls: Counter[str] = Counter()

    def crossings(self) -> list[tuple[str, Plan]]:
        """Return a named plan for every call so far and both ways to fail."""
        return [
            (f"{method} {number}: {fault.value}", once(fault, method, number))
            for method, count in self.calls.items()
            for number in range(count)
            for fault in Fault
        ]

    async def _cross(self, method: str, call: Coroutine[object, Never, T]) -> T:
        fault = self._plan(method, self.calls[method])
        self.calls[method] += 1
        if fault is Fault.NOTHING_STORED:
            call.close()
            raise StoreError("the store fails as the test planned")
        result = await call
        if fault is Fault.STORED:
            raise StoreError("the store fails as the test planned")
        return result

    async def insert_tenant(self, tenant: Tenant) -> None:
        await self._cross("insert_tenant", self._store.insert_tenant(tenant))

    async def replace_tenant(self, tenant: Tenant, was: Tenant | None = None) -> bool:
        return await self._cross("replace_tenant", self._store.replace_tenant(tenant, was))

    async def tenant(self, tenant_id: str) -> Tenant | None:
        return await self._cross("tenant", self._store.tenant(tenant_id))

    async def tenants(self) -> Sequence[Tenant]:
        return await self._cross("tenants", self._store.tenants())

    async def insert_key(self, key: APIKey) -> None:
        await self._cross("insert_key", self._store.insert_key(key))

    async def keys(self, tenant_id: str) -> Sequence[APIKey]:
        return await self._cross("keys", self._store.keys(tenant_id))

    async def key(self, tenant_id: str, key_id: str) -> APIKey | None:
        return await self._cross("key", self._store.key(tenant_id, key_id))

    async def authenticate(self, digest: bytes) -> tuple[APIKey, Tenant] | None:
        return await self._cross("authenticate", self._store.authenticate(digest))

    async def revoke_key(self, tenant_id: str, key_id: str, at_s: int) -> APIKey | None:
        return await self._cross("revoke_key", self._store.revoke_key(tenant_id, key_id, at_s))

    async def rotate_key(self, old: APIKey, new: APIKey) -> bool:
        return await self._cross("rotate_key", self._store.rotate_key(old, new))

    async def insert_start(self, start: StartRecord) -> None:
        await self._cross("insert_start", self._store.insert_start(start))

    async def insert_receipt(
        self, receipt: StoredReceipt, answered: IdempotencyRecord | None = None
    ) -> None:
        await self._cross("insert_receipt", self._store.insert_receipt(receipt, answered))

    async def receipt(self, tenant_id: str, receipt_id: str) -> StoredReceipt | None:
        return await self._cross("receipt", self._store.receipt(tenant_id, receipt_id))

    async def receipts(self, tenant_id: str, query: ReceiptQuery) -> ReceiptPage:
        return await self._cross("receipts", self._store.receipts(tenant_id, query))

    async def unfinished(self, tenant_id: str) -> Sequence[StartRecord]:
        return await self._cross("unfinished", self._store.unfinished(tenant_id))

    async def insert_hold(self, hold: StoredHold) -> None:
        await self._cross("insert_hold", self._store.insert_hold(hold))

    async def hold(self, tenant_id: str, pending_id: str) -> StoredHold | None:
        return await self._cross("hold", self._store.hold(tenant_id, pending_id))

    async def holds(self, tenant_id: str, limit: int) -> Sequence[StoredHold]:
        return await self._cross("holds", self._store.holds(tenant_id, limit))

    async def claim_hold(self, tenant_id: str, pending_id: str, holder: str) -> bool:
        return await self._cross(
            "claim_hold", self._store.claim_hold(tenant_id, pending_id, holder)
        )

    async def settle_hold(
        self,
        tenant_id: str,
        pending_id: str,
        state: HoldState,
        answer: StoredAnswer | None = None,
    ) -> None:
        settled = self._store.settle_hold(tenant_id, pending_id, state, answer)
        await self._cross("settle_hold", settled)

    async def abandon_holds(self, holder: str) -> int:
        return await self._cross("abandon_holds", self._store.abandon_holds(holder))

    async def expire_holds(self, before_s: int) -> int:
        return await self._cross("expire_holds", self._store.expire_holds(before_s))

    async def begin(self, record: IdempotencyRecord, now_s: int) -> IdempotencyRecord | None:
        return await self._cross("begin", self._store.begin(record, now_s))

    async def settle(self, record: IdempotencyRecord) -> None:
        await self._cross("settle", self._store.settle(record))

    async def forget(self, tenant_id: str, idempotency_key: str) -> None:
        await self._cross("forget", self._store.forget(tenant_id, idempotency_key))

    async def abandon(self, holder: str) -> int:
        return await self._cross("abandon", self._store.abandon(holder))

    async def expire(self, now_s: int) -> int:
        return await self._cross("expire", self._store.expire(now_s))

    async def archive(self, document: ArchivedDocument) -> None:
        await self._cross("archive", self._store.archive(document))

    async def document(self, attestation_hash: str) -> ArchivedDocument | None:
        return await self._cross("document", self._store.document(attestation_hash))

    async def wrapped_secret(self, key_arn: str, deployment_digest: str) -> bytes | None:
        return await self._cross(
            "wrapped_secret", self._store.wrapped_secret(key_arn, deployment_digest)
        )

    async def insert_wrapped_secret(
        self, key_arn: str, deployment_digest: str, wrapped: bytes
    ) -> bytes:
        return await self._cross(
            "insert_wrapped_secret",
            self._store.insert_wrapped_secret(key_arn, deployment_digest, wrapped),
        )

    async def store_usage(self, usage: StoredUsage) -> None:
        await self._cross("store_usage", self._store.store_usage(usage))

    async def usages(self) -> Sequence[StoredUsage]:
        return await self._cross("usages", self._store.usages())

    async def settings(self, tenant_id: str) -> StoredSettings | None:
        return await self._cross("settings", self._store.settings(tenant_id))

    async def insert_settings(self, settings: StoredSettings) -> bool:
        return await self._cross("insert_settings", self._store.insert_settings(settings))

    async def forget_settings(self, tenant_id: str) -> int:
        return await self._cross("forget_settings", self._store.forget_settings(tenant_id))

    async def check(self) -> None:
        await self._cross("check", self._store.check())

    async def aclose(self) -> None:
        await self._store.aclose()

    async def daily_counts(
        self, tenant_id: str, since_s: int | None, until_s: int | None
    ) -> Sequence[DayCount]:
        return await self._cross(
            "daily_counts", self._store.daily_counts(tenant_id, since_s, until_s)
        )
