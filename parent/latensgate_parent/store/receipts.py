"""Receipts and start records: what must be durable before an answer leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, and_, delete, func, select

from latensgate_parent.store.daily import count_days
from latensgate_parent.store.database import every, first, given, insertion, stored
from latensgate_parent.store.interfaces import (
    IdempotencyRecord,
    ReceiptPage,
    ReceiptQuery,
    StartRecord,
    StoreConflictError,
    StoredReceipt,
)
from latensgate_parent.store.tables import RECEIPTS, START_RECORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection, Table

    from latensgate_parent.store.daily import DayCount
    from latensgate_parent.store.database import Database
    from latensgate_parent.store.idempotency import Idempotency
    from latensgate_parent.store.prepared import Prepared, Row, Transaction

_WHICH = ("tenant_id", "receipt_id")
_POSITIONS = 2**63
"""Beyond the largest number that a database counts rows with."""


class Receipts:
    """The ``ReceiptStore`` of a database."""

    def __init__(self, database: Database, idempotency: Idempotency) -> None:
        self._database = database
        self._idempotency = idempotency
        self._receipt_insert = database.prepare(insertion(RECEIPTS).on_conflict_do_nothing())
        self._receipt_select = _comparable(database, RECEIPTS)
        self._start_delete = database.prepare(
            delete(START_RECORDS).where(given(START_RECORDS, *_WHICH))
        )
        self._start_insert = database.prepare(insertion(START_RECORDS).on_conflict_do_nothing())
        self._start_select = _comparable(database, START_RECORDS)

    async def insert_start(self, start: StartRecord) -> None:
        """Return when the record is durable."""
        row = self._start_insert.from_fields(start)

        def insert(transaction: Transaction) -> None:
            if not transaction.change(self._start_insert, row):
                _compare(transaction, self._start_select, start)

        await self._database.write(insert)

    async def insert_receipt(
        self, receipt: StoredReceipt, answered: IdempotencyRecord | None = None
    ) -> None:
        """Return when the receipt, and with it the answer to replay, are durable."""
        row = self._receipt_insert.from_fields(receipt)
        which = self._start_delete.from_fields(receipt)
        settlement = None if answered is None else self._idempotency.settlement(answered)

        def insert(transaction: Transaction) -> None:
            if not transaction.change(self._receipt_insert, row):
                _compare(transaction, self._receipt_select, receipt)
            transaction.change(self._start_delete, which)
            if settlement is not None:
                self._idempotency.settle_in(transaction, settlement)

        await self._database.write(insert)

    async def receipt(self, tenant_id: str, receipt_id: str) -> StoredReceipt | None:
        """Return one receipt of a tenant."""
        query = select(*stored(RECEIPTS)).where(
            RECEIPTS.c.tenant_id == tenant_id, RECEIPTS.c.receipt_id == receipt_id
        )

        def ask(connection: Connection) -> StoredReceipt | None:
            row = first(connection, query)
            return None if row is None else StoredReceipt(*row)

        return await self._database.read(ask)

    async def receipts(self, tenant_id: str, query: ReceiptQuery) -> ReceiptPage:
        """Return a page of a tenant's receipts, newest first, and their number."""
        matching = and_(*_conditions(tenant_id, query))
        count = select(func.count()).select_from(RECEIPTS).where(matching)
        page = _page(select(*stored(RECEIPTS)).where(matching), query)

        def ask(connection: Connection) -> ReceiptPage:
            total = connection.execute(count).scalar_one()
            if (query.page - 1) * query.limit >= total:
                return ReceiptPage((), total)
            entries = tuple(StoredReceipt(*row) for row in every(connection, page))
            return ReceiptPage(entries, total)

        return await self._database.read(ask)

    async def daily_counts(
        self, tenant_id: str, since_s: int | None, until_s: int | None
    ) -> Sequence[DayCount]:
        """Count a tenant's receipts by day and outcome, the latest day first."""
        return await self._database.read(
            lambda connection: count_days(connection, tenant_id, since_s, until_s)
        )

    async def unfinished(self, tenant_id: str) -> Sequence[StartRecord]:
        """Return start records without a receipt, oldest first."""
        has_receipt = (
            select(RECEIPTS.c.position)
            .where(
                RECEIPTS.c.tenant_id == START_RECORDS.c.tenant_id,
                RECEIPTS.c.receipt_id == START_RECORDS.c.receipt_id,
            )
            .exists()
        )
        query = (
            select(*stored(START_RECORDS))
            .where(START_RECORDS.c.tenant_id == tenant_id, ~has_receipt)
            .order_by(START_RECORDS.c.started_at_ms, START_RECORDS.c.position)
        )
        return await self._database.read(
            lambda connection: tuple(StartRecord(*row) for row in every(connection, query))
        )


def _comparable(database: Database, table: Table) -> Prepared:
    columns = [each for each in stored(table) if each.name != "stored_at_ms"]
    return database.prepare(select(*columns).where(given(table, *_WHICH)))


def _compare(
    transaction: Transaction, standing: Prepared, value: StartRecord | StoredReceipt
) -> None:
    """Refuse if another row than this one stands under the id; when it was stored may differ."""
    which: Row = standing.from_fields(value)
    found = transaction.one(standing, which)
    names = [each for each in value.__slots__ if each != "stored_at_ms"]
    if found is None or tuple(found) != tuple(getattr(value, name) for name in names):
        raise StoreConflictError(f"something else stands under {value.receipt_id}")


def _conditions(tenant_id: str, query: ReceiptQuery) -> list[ColumnElement[bool]]:
    found = [RECEIPTS.c.tenant_id == tenant_id]
    exact = {
        RECEIPTS.c.outcome: query.outcome,
        RECEIPTS.c.key_id: query.key_id,
        RECEIPTS.c.attestation_hash: query.attestation_hash,
    }
    found += [column == value for column, value in exact.items() if value is not None]
    if query.since_s is not None:
        found.append(RECEIPTS.c.issued_at_s >= query.since_s)
    if query.until_s is not None:
        found.append(RECEIPTS.c.issued_at_s < query.until_s)
    return found


def _page(rows: Select[*tuple[Any, ...]], query: ReceiptQuery) -> Select[*tuple[Any, ...]]:
    limit = min(query.limit, _POSITIONS - 1)
    offset = min((query.page - 1) * query.limit, _POSITIONS - 1)
    return rows.order_by(RECEIPTS.c.position.desc()).limit(limit).offset(offset)
