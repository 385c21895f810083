"""What keyed requests became."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, literal_column, select, update

from latensgate_parent.limits import STORE_EXPIRED_PER_WRITE_MAX_COUNT
from latensgate_parent.store.database import given, insertion, stored
from latensgate_parent.store.interfaces import (
    IdempotencyRecord,
    IdempotencyState,
    StoredAnswer,
    StoreError,
)
from latensgate_parent.store.tables import IDEMPOTENCY_RECORDS as RECORDS

if TYPE_CHECKING:
    from latensgate_parent.store.database import Database
    from latensgate_parent.store.prepared import Row, Transaction, Value

_RUNNING = RECORDS.c.state == literal_column("'running'")
_SETTLED = ("state", "status", "content_type", "body")
"""Holder and expiry stay as they began: an index over one of them would be written once more."""
_BEGUN = ("request_digest", "holder", "expires_at_s", *_SETTLED)


class Idempotency:
    """The ``IdempotencyStore`` of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        fresh = insertion(RECORDS)
        self._record_begin = database.prepare(
            fresh.on_conflict_do_update(
                index_elements=["tenant_id", "idempotency_key"],
                set_={name: fresh.excluded[name] for name in _BEGUN},
                where=RECORDS.c.expires_at_s <= bindparam("now_s"),
            )
        )
        self._record_select = database.prepare(
            select(*stored(RECORDS)).where(given(RECORDS, "tenant_id", "idempotency_key"))
        )
        self._record_settle = database.prepare(
            update(RECORDS)
            .where(_RUNNING, given(RECORDS, "tenant_id", "idempotency_key", "request_digest"))
            .values({name: bindparam(name) for name in _SETTLED})
        )
        self._record_forget = database.prepare(
            delete(RECORDS).where(_RUNNING, given(RECORDS, "tenant_id", "idempotency_key"))
        )
        self._record_abandon = database.prepare(
            update(RECORDS)
            .where(_RUNNING, RECORDS.c.holder != bindparam("own"))
            .values(state=literal_column("'unknown'"))
        )
        some = select(RECORDS.c.position).where(RECORDS.c.expires_at_s <= bindparam("now_s"))
        self._record_expire = database.prepare(
            delete(RECORDS).where(
                RECORDS.c.position.in_(some.limit(STORE_EXPIRED_PER_WRITE_MAX_COUNT))
            )
        )

    async def begin(self, record: IdempotencyRecord, now_s: int) -> IdempotencyRecord | None:
        """Store a running record if the key is free; else return what stands there."""
        if record.state is not IdempotencyState.RUNNING or record.answer is not None:
            raise StoreError("a record begins as running and without an answer")
        row = self._record_begin.values(now_s=now_s, **_values(record))
        which = self._record_select.values(
            tenant_id=record.tenant_id, idempotency_key=record.idempotency_key
        )

        def begin(transaction: Transaction) -> IdempotencyRecord | None:
            if transaction.change(self._record_begin, row):
                return None
            found = transaction.one(self._record_select, which)
            return None if found is None else _record(found)

        return await self._database.write(begin)

    async def settle(self, record: IdempotencyRecord) -> None:
        """Replace the running record of the same bytes; what is not running stays."""
        row = self.settlement(record)
        await self._database.write(lambda transaction: self.settle_in(transaction, row))

    def settlement(self, record: IdempotencyRecord) -> Row:
        """Return the parameters of ``settle_in``.

        Raises:
            StoreError: The record is no settled one.
        """
        is_answered = record.state is IdempotencyState.ANSWERED
        if record.state is IdempotencyState.RUNNING or is_answered != (record.answer is not None):
            raise StoreError("a record is settled as answered with an answer, or as unknown")
        return self._record_settle.values(**_values(record))

    def settle_in(self, transaction: Transaction, row: Row) -> None:
        """Settle within a transaction that does more."""
        transaction.change(self._record_settle, row)

    async def forget(self, tenant_id: str, idempotency_key: str) -> None:
        """Remove a running record."""
        which = self._record_forget.values(tenant_id=tenant_id, idempotency_key=idempotency_key)
        await self._database.write(
            lambda transaction: transaction.change(self._record_forget, which)
        )

    async def abandon(self, holder: str) -> int:
        """Make running records of other holders ones of unknown outcome."""
        row = self._record_abandon.values(own=holder)
        return await self._database.write(
            lambda transaction: transaction.change(self._record_abandon, row)
        )

    async def expire(self, now_s: int) -> int:
        """Remove what has expired, some at a time."""
        row = self._record_expire.values(now_s=now_s)
        total = 0
        while removed := await self._database.write(
            lambda transaction: transaction.change(self._record_expire, row)
        ):
            total += removed
        return total


def _values(record: IdempotencyRecord) -> dict[str, Value]:
    answer = record.answer
    return {
        "tenant_id": record.tenant_id,
        "idempotency_key": record.idempotency_key,
        "request_digest": record.request_digest,
        "state": record.state.value,
        "holder": record.holder,
        "expires_at_s": record.expires_at_s,
        "status": None if answer is None else answer.status,
        "content_type": None if answer is None else answer.content_type,
        "body": None if answer is None else answer.body,
    }


def _record(row: Row) -> IdempotencyRecord:
    """Read a row whose last three columns are the answer."""
    tenant_id, key, digest, state, holder, expires_at_s, *answer = row
    return IdempotencyRecord(
        tenant_id,
        key,
        digest,
        IdempotencyState(state),
        holder,
        expires_at_s,
        None if answer[2] is None else StoredAnswer(*answer),
    )
