"""Usage totals as the enclaves signed them, read for one tenant (docs/adr/0020)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from hashlib import sha384
from typing import TYPE_CHECKING

from latensgate_parent.limits import USAGE_CACHE_S
from latensgate_shared.usage import parse_usage_totals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latensgate_parent.clock import Clock
    from latensgate_parent.store.interfaces import DocumentStore, StoredUsage
    from latensgate_shared.usage import TenantUsage


@dataclass(frozen=True, slots=True)
class CountedUsage:
    """What one enclave counted for one tenant.

    Attributes:
        receipt_key: 64 hex digits.
        issued_at_s: Of the totals.
        used: The tenant's counts.
        totals_hash: ``sha384:`` and hex, of the totals of all tenants.
        signature: 64 bytes, over these totals.
    """

    receipt_key: str
    issued_at_s: int
    used: TenantUsage
    totals_hash: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class _Read:
    """Totals of one enclave, parsed."""

    stored: StoredUsage
    totals_hash: str
    tenants: Mapping[str, TenantUsage]


class UsageBook:
    """Reads stored totals now and then: they change hourly, and may be large.

    Args:
        store: Where they are.
        monotonic: Seconds from any start.
    """

    def __init__(self, store: DocumentStore, monotonic: Clock) -> None:
        self._store = store
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._read: dict[str, _Read] = {}
        self._read_until: float | None = None

    async def of(self, tenant_id: str) -> tuple[CountedUsage, ...]:
        """Return what the enclaves counted for a tenant, latest totals first.

        Raises:
            StoreError: They cannot be read now.
            JSONError: What is stored is no usage totals.
        """
        await self._refresh()
        counted = [
            CountedUsage(
                each.stored.receipt_key,
                each.stored.issued_at_s,
                each.tenants[tenant_id],
                each.totals_hash,
                each.stored.signature,
            )
            for each in self._read.values()
            if tenant_id in each.tenants
        ]
        return tuple(sorted(counted, key=lambda each: (-each.issued_at_s, each.receipt_key)))

    async def _refresh(self) -> None:
        async with self._lock:
            if self._read_until is not None and self._monotonic() < self._read_until:
                return
            stored = await self._store.usages()
            self._read = await asyncio.to_thread(_parse, stored, self._read)
            self._read_until = self._monotonic() + USAGE_CACHE_S


def _parse(stored: Sequence[StoredUsage], known: Mapping[str, _Read]) -> dict[str, _Read]:
    found: dict[str, _Read] = {}
    for each in stored:
        before = known.get(each.receipt_key)
        if before is None or before.stored != each:
            totals = parse_usage_totals(each.totals)
            digest = "sha384:" + sha384(each.totals).hexdigest()
            before = _Read(each, digest, totals.tenants)
        found[each.receipt_key] = before
    return found
