"""Values to keep in a store, each with everything filled in and any of it replaceable."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from latensgate_parent.store.interfaces import (
    APIKey,
    IdempotencyRecord,
    IdempotencyState,
    StartRecord,
    StoredAnswer,
    StoredReceipt,
    Tenant,
)
from latensgate_parent.store.open import open_store
from store_memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from latensgate_parent.store.interfaces import Store

ONE = "tnt_00000001"
TWO = "tnt_00000002"
KINDS = ("memory", "sqlite")


@asynccontextmanager
async def opened(kind: str, folder: Path) -> AsyncGenerator[Store]:
    """Open a store of one kind; the same folder gives the same SQLite database."""
    store = MemoryStore() if kind == "memory" else await open_store(f"sqlite:///{folder}/store.db")
    try:
        yield store
    finally:
        await store.aclose()


def tenant(tenant_id: str = ONE, *, created_at_s: int = 1_000) -> Tenant:
    return Tenant(tenant_id, f"name of {tenant_id}", 60, created_at_s)


def api_key(
    number: int = 1,
    tenant_id: str = ONE,
    *,
    created_at_s: int = 2_000,
    expires_at_s: int | None = None,
) -> APIKey:
    return APIKey(
        key_id=f"key_{number:016x}",
        tenant_id=tenant_id,
        name="laptop",
        digest=number.to_bytes(32, "big"),
        hint="lg_test_abcd",
        scopes=("audit:read", "inference:read"),
        created_at_s=created_at_s,
        expires_at_s=expires_at_s,
    )


def receipt(
    number: int = 1,
    tenant_id: str = ONE,
    *,
    outcome: str = "answered",
    issued_at_s: int = 1_800_000_000,
    public: bytes | None = None,
) -> StoredReceipt:
    return StoredReceipt(
        receipt_id=f"aud_{number:016x}",
        tenant_id=tenant_id,
        key_id="0011223344556677",
        sequence=number,
        issued_at_s=issued_at_s,
        outcome=outcome,
        attestation_hash="sha384:" + "ab" * 48,
        public=b'{"n":%d}' % number if public is None else public,
        signature=bytes(64),
        private_sealed=None,
        stored_at_ms=1_800_000_000_123,
    )


def start(number: int = 1, tenant_id: str = ONE, *, started_at_ms: int = 5) -> StartRecord:
    return StartRecord(
        receipt_id=f"aud_{number:016x}",
        tenant_id=tenant_id,
        attestation_hash="sha384:" + "ab" * 48,
        request_hash="sha384:" + "cd" * 48,
        started_at_ms=started_at_ms,
    )


def running(
    key: str = "once",
    tenant_id: str = ONE,
    *,
    digest: bytes = b"\x01" * 48,
    holder: str = "process 1",
    expires_at_s: int = 100,
) -> IdempotencyRecord:
    return IdempotencyRecord(tenant_id, key, digest, IdempotencyState.RUNNING, holder, expires_at_s)


def answered(record: IdempotencyRecord, body: bytes = b"sealed\x00bytes") -> IdempotencyRecord:
    return IdempotencyRecord(
        record.tenant_id,
        record.idempotency_key,
        record.request_digest,
        IdempotencyState.ANSWERED,
        record.holder,
        record.expires_at_s,
        StoredAnswer(200, "application/json", body),
    )


def unknown(record: IdempotencyRecord) -> IdempotencyRecord:
    return IdempotencyRecord(
        record.tenant_id,
        record.idempotency_key,
        record.request_digest,
        IdempotencyState.UNKNOWN,
        record.holder,
        record.expires_at_s,
    )
