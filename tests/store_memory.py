"""The parent's store in memory: the same behaviour without a disk, for tests of what stands on it.

One suite (``tests/unit/parent/test_store_behaviour.py``) holds it and the real store to the same
expectations.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from latensgate_parent.limits import SETTINGS_VERSIONS_MAX_COUNT
from latensgate_parent.store.daily import DayCount
from latensgate_parent.store.held_forms import HoldState, StoredHold
from latensgate_parent.store.interfaces import (
    APIKey,
    ArchivedDocument,
    IdempotencyRecord,
    IdempotencyState,
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
    from collections.abc import Sequence


class _Shelf:
    """What every part of the store shares: tenants, and whether the store is open."""

    def __init__(self) -> None:
        super().__init__()
        self._tenants: dict[str, Tenant] = {}
        self._closed = False

    async def _step(self) -> None:
        """Let others run, as a real store does; refuse once closed."""
        await asyncio.sleep(0)
        if self._closed:
            raise StoreError("the store is closed")

    def _known(self, tenant_id: str) -> None:
        if tenant_id not in self._tenants:
            raise StoreError(f"there is no tenant {tenant_id}")


class _Tenants(_Shelf):
    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[tuple[str, str], APIKey] = {}

    async def insert_tenant(self, tenant: Tenant) -> None:
        await self._step()
        if tenant.tenant_id in self._tenants:
            raise StoreError(f"tenant {tenant.tenant_id} is there already")
        self._tenants[tenant.tenant_id] = tenant

    async def replace_tenant(self, tenant: Tenant, was: Tenant | None = None) -> bool:
        await self._step()
        found = self._tenants.get(tenant.tenant_id)
        if found is None or (was is not None and was != found):
            return False
        self._tenants[tenant.tenant_id] = replace(tenant, created_at_s=found.created_at_s)
        return True

    async def tenant(self, tenant_id: str) -> Tenant | None:
        await self._step()
        return self._tenants.get(tenant_id)

    async def tenants(self) -> Sequence[Tenant]:
        await self._step()
        return tuple(sorted(self._tenants.values(), key=lambda each: each.created_at_s))

    async def insert_key(self, key: APIKey) -> None:
        await self._step()
        self._insert_key(key)

    def _insert_key(self, key: APIKey) -> None:
        self._known(key.tenant_id)
        place = (key.tenant_id, key.key_id)
        if place in self._keys or any(key.digest == each.digest for each in self._all_keys()):
            raise StoreError(f"key {key.key_id} or its digest is there already")
        self._keys[place] = key

    def _all_keys(self) -> Sequence[APIKey]:
        return tuple(self._keys.values())

    async def keys(self, tenant_id: str) -> Sequence[APIKey]:
        await self._step()
        mine = [each for each in reversed(self._all_keys()) if each.tenant_id == tenant_id]
        return tuple(sorted(mine, key=lambda each: -each.created_at_s))

    async def key(self, tenant_id: str, key_id: str) -> APIKey | None:
        await self._step()
        return self._keys.get((tenant_id, key_id))

    async def authenticate(self, digest: bytes) -> tuple[APIKey, Tenant] | None:
        await self._step()
        for key in self._all_keys():
            if key.digest == digest:
                return key, self._tenants[key.tenant_id]
        return None

    async def revoke_key(self, tenant_id: str, key_id: str, at_s: int) -> APIKey | None:
        await self._step()
        found = self._keys.get((tenant_id, key_id))
        if found is not None and found.revoked_at_s is None:
            found = self._keys[tenant_id, key_id] = replace(found, revoked_at_s=at_s)
        return found

    async def rotate_key(self, old: APIKey, new: APIKey) -> bool:
        await self._step()
        if old.tenant_id != new.tenant_id:
            raise StoreError("a key is replaced by one of the same tenant")
        found = self._keys.get((old.tenant_id, old.key_id))
        if found is None or found.revoked_at_s is not None:
            return False
        self._insert_key(new)
        self._keys[old.tenant_id, old.key_id] = replace(
            found, expires_at_s=old.expires_at_s, revoked_at_s=old.revoked_at_s
        )
        return True


class _Idempotency(_Shelf):
    def __init__(self) -> None:
        super().__init__()
        self._records: dict[tuple[str, str], IdempotencyRecord] = {}

    async def begin(self, record: IdempotencyRecord, now_s: int) -> IdempotencyRecord | None:
        await self._step()
        self._known(record.tenant_id)
        if record.state is not IdempotencyState.RUNNING or record.answer is not None:
            raise StoreError("a record begins as running and without an answer")
        place = (record.tenant_id, record.idempotency_key)
        found = self._records.get(place)
        if found is not None and found.expires_at_s > now_s:
            return found
        self._records[place] = record
        return None

    async def settle(self, record: IdempotencyRecord) -> None:
        await self._step()
        self._settle(record)

    def _settle(self, record: IdempotencyRecord) -> None:
        is_answered = record.state is IdempotencyState.ANSWERED
        if record.state is IdempotencyState.RUNNING or is_answered != (record.answer is not None):
            raise StoreError("a record is settled as answered with an answer, or as unknown")
        place = (record.tenant_id, record.idempotency_key)
        found = self._records.get(place)
        if (
            found is not None
            and found.state is IdempotencyState.RUNNING
            and found.request_digest == record.request_digest
        ):
            self._records[place] = replace(found, state=record.state, answer=record.answer)

    async def forget(self, tenant_id: str, idempotency_key: str) -> None:
        await self._step()
        found = self._records.get((tenant_id, idempotency_key))
        if found is not None and found.state is IdempotencyState.RUNNING:
            del self._records[tenant_id, idempotency_key]

    async def abandon(self, holder: str) -> int:
        await self._step()
        lost = {
            place: replace(record, state=IdempotencyState.UNKNOWN)
            for place, record in self._records.items()
            if record.state is IdempotencyState.RUNNING and record.holder != holder
        }
        self._records.update(lost)
        return len(lost)

    async def expire(self, now_s: int) -> int:
        await self._step()
        old = [place for place, each in self._records.items() if each.expires_at_s <= now_s]
        for place in old:
            del self._records[place]
        return len(old)


class _Receipts(_Idempotency):
    def __init__(self) -> None:
        super().__init__()
        self._receipts: dict[tuple[str, str], StoredReceipt] = {}
        self._starts: dict[tuple[str, str], StartRecord] = {}

    async def insert_start(self, start: StartRecord) -> None:
        await self._step()
        self._known(start.tenant_id)
        place = (start.tenant_id, start.receipt_id)
        if self._starts.setdefault(place, start) != start:
            raise StoreError(f"another start record stands under {start.receipt_id}")

    async def insert_receipt(
        self, receipt: StoredReceipt, answered: IdempotencyRecord | None = None
    ) -> None:
        await self._step()
        self._known(receipt.tenant_id)
        place = (receipt.tenant_id, receipt.receipt_id)
        found = self._receipts.get(place, receipt)
        if replace(found, stored_at_ms=receipt.stored_at_ms) != receipt:
            raise StoreError(f"another receipt stands under {receipt.receipt_id}")
        if answered is not None:
            self._settle(answered)
        self._receipts[place] = found
        self._starts.pop(place, None)

    async def receipt(self, tenant_id: str, receipt_id: str) -> StoredReceipt | None:
        await self._step()
        return self._receipts.get((tenant_id, receipt_id))

    async def receipts(self, tenant_id: str, query: ReceiptQuery) -> ReceiptPage:
        await self._step()
        found = [
            each
            for each in reversed(self._receipts.values())
            if each.tenant_id == tenant_id and _matches(each, query)
        ]
        first = (query.page - 1) * query.limit
        return ReceiptPage(tuple(found[first : first + query.limit]), len(found))

    async def daily_counts(
        self, tenant_id: str, since_s: int | None, until_s: int | None
    ) -> Sequence[DayCount]:
        await self._step()
        query = ReceiptQuery(since_s=since_s, until_s=until_s)
        mine = [each for each in self._receipts.values() if each.tenant_id == tenant_id]
        found: dict[tuple[int, str], list[StoredReceipt]] = {}
        for each in mine:
            if _matches(each, query):
                found.setdefault((-(each.issued_at_s // 86_400), each.outcome), []).append(each)
        return tuple(
            DayCount(
                -day, outcome, len(all_), sum(each.private_sealed is not None for each in all_)
            )
            for (day, outcome), all_ in sorted(found.items())
        )

    async def unfinished(self, tenant_id: str) -> Sequence[StartRecord]:
        await self._step()
        mine = [
            each
            for place, each in self._starts.items()
            if each.tenant_id == tenant_id and place not in self._receipts
        ]
        return tuple(sorted(mine, key=lambda each: each.started_at_ms))


def _matches(receipt: StoredReceipt, query: ReceiptQuery) -> bool:
    return (
        query.outcome in {None, receipt.outcome}
        and query.key_id in {None, receipt.key_id}
        and query.attestation_hash in {None, receipt.attestation_hash}
        and (query.since_s is None or receipt.issued_at_s >= query.since_s)
        and (query.until_s is None or receipt.issued_at_s < query.until_s)
    )


class _Documents(_Shelf):
    def __init__(self) -> None:
        super().__init__()
        self._documents: dict[str, ArchivedDocument] = {}
        self._secrets: dict[tuple[str, str], bytes] = {}
        self._usages: dict[str, StoredUsage] = {}

    async def archive(self, document: ArchivedDocument) -> None:
        await self._step()
        self._documents.setdefault(document.attestation_hash, document)

    async def document(self, attestation_hash: str) -> ArchivedDocument | None:
        await self._step()
        return self._documents.get(attestation_hash)

    async def wrapped_secret(self, key_arn: str, deployment_digest: str) -> bytes | None:
        await self._step()
        return self._secrets.get((key_arn, deployment_digest))

    async def insert_wrapped_secret(
        self, key_arn: str, deployment_digest: str, wrapped: bytes
    ) -> bytes:
        await self._step()
        return self._secrets.setdefault((key_arn, deployment_digest), wrapped)

    async def store_usage(self, usage: StoredUsage) -> None:
        await self._step()
        found = self._usages.setdefault(usage.receipt_key, usage)
        if found.issued_at_s <= usage.issued_at_s:
            self._usages[usage.receipt_key] = usage

    async def usages(self) -> Sequence[StoredUsage]:
        await self._step()
        return tuple(sorted(self._usages.values(), key=lambda each: each.receipt_key))


class _Settings(_Shelf):
    def __init__(self) -> None:
        super().__init__()
        self._settings: dict[str, list[StoredSettings]] = {}

    async def settings(self, tenant_id: str) -> StoredSettings | None:
        await self._step()
        return next(iter(self._settings.get(tenant_id, ())), None)

    async def insert_settings(self, settings: StoredSettings) -> bool:
        await self._step()
        self._known(settings.tenant_id)
        found = self._settings.setdefault(settings.tenant_id, [])
        if found and found[0].version >= settings.version:
            return False
        self._settings[settings.tenant_id] = [settings, *found][:SETTINGS_VERSIONS_MAX_COUNT]
        return True

    async def forget_settings(self, tenant_id: str) -> int:
        await self._step()
        return len(self._settings.pop(tenant_id, ()))


class _Held(_Shelf):
    def __init__(self) -> None:
        super().__init__()
        self._held: dict[tuple[str, str], StoredHold] = {}

    async def insert_hold(self, hold: StoredHold) -> None:
        await self._step()
        self._known(hold.tenant_id)
        self._held.setdefault((hold.tenant_id, hold.pending_id), hold)

    async def hold(self, tenant_id: str, pending_id: str) -> StoredHold | None:
        await self._step()
        return self._held.get((tenant_id, pending_id))

    async def holds(self, tenant_id: str, limit: int) -> Sequence[StoredHold]:
        await self._step()
        own = [each for each in self._held.values() if each.tenant_id == tenant_id]
        bare = [
            replace(
                each,
                sealed_request=b"",
                settings=b"",
                pending_state=b"",
                answer=None if each.answer is None else replace(each.answer, body=b""),
            )
            for each in own
        ]
        return bare[::-1][:limit]

    async def claim_hold(self, tenant_id: str, pending_id: str, holder: str) -> bool:
        await self._step()
        found = self._held.get((tenant_id, pending_id))
        if found is None or found.state is not HoldState.PENDING:
            return False
        self._held[tenant_id, pending_id] = replace(found, state=HoldState.RUNNING, holder=holder)
        return True

    async def settle_hold(
        self,
        tenant_id: str,
        pending_id: str,
        state: HoldState,
        answer: StoredAnswer | None = None,
    ) -> None:
        await self._step()
        found = self._held.get((tenant_id, pending_id))
        if found is None or found.state is not HoldState.RUNNING:
            return
        ended = replace(found, state=state, answer=answer)
        if state is not HoldState.PENDING:
            ended = replace(ended, sealed_request=b"", settings=b"", pending_state=b"")
        self._held[tenant_id, pending_id] = ended

    async def abandon_holds(self, holder: str) -> int:
        await self._step()
        left = [
            place
            for place, each in self._held.items()
            if each.state is HoldState.RUNNING and each.holder != holder
        ]
        for place in left:
            self._held[place] = replace(self._held[place], state=HoldState.UNKNOWN)
        return len(left)

    async def expire_holds(self, before_s: int) -> int:
        await self._step()
        ended = [place for place, each in self._held.items() if each.expires_at_s <= before_s]
        for place in ended:
            del self._held[place]
        return len(ended)


class MemoryStore(_Tenants, _Receipts, _Documents, _Settings, _Held, Store):
    """A ``Store`` that forgets everything with the process."""

    async def check(self) -> None:
        await self._step()

    async def aclose(self) -> None:
        self._closed = True
