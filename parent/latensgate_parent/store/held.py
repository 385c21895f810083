"""Requests that wait for an approver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import LargeBinary, bindparam, case, delete, literal, literal_column, select, update

from latensgate_parent.store.database import every, first, given, insertion, stored
from latensgate_parent.store.held_forms import HoldState, StoredHold
from latensgate_parent.store.interfaces import StoredAnswer
from latensgate_parent.store.tables import HELD_REQUESTS as HELD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from latensgate_parent.store.database import Database
    from latensgate_parent.store.prepared import Row, Value

_RUNNING = HELD.c.state == literal_column("'running'")
_SEALED = ("sealed_request", "settings", "pending_state")
_ANSWER = ("status", "content_type", "body")


class Held:
    """The ``HoldStore`` of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        one = given(HELD, "tenant_id", "pending_id")
        self._hold_insert = database.prepare(
            insertion(HELD).on_conflict_do_nothing(index_elements=["tenant_id", "pending_id"])
        )
        self._hold_claim = database.prepare(
            update(HELD)
            .where(one, HELD.c.state == literal_column("'pending'"))
            .values(state=literal_column("'running'"), holder=bindparam("by"))
        )
        ends = bindparam("state_after") != literal_column("'pending'")
        nothing = literal_column("x''", LargeBinary())
        emptied = {name: case((ends, nothing), else_=HELD.columns[name]) for name in _SEALED}
        self._hold_settle = database.prepare(
            update(HELD)
            .where(one, _RUNNING)
            .values(
                state=bindparam("state_after"),
                **{name: bindparam(name) for name in _ANSWER},
                **emptied,
            )
        )
        self._hold_abandon = database.prepare(
            update(HELD)
            .where(_RUNNING, HELD.c.holder != bindparam("own"))
            .values(state=literal_column("'unknown'"))
        )
        self._hold_expire = database.prepare(
            delete(HELD).where(HELD.c.expires_at_s <= bindparam("before_s"))
        )

    async def insert_hold(self, hold: StoredHold) -> None:
        """Return when it is durable."""
        row = self._hold_insert.values(**_values(hold))
        await self._database.write(lambda transaction: transaction.change(self._hold_insert, row))

    async def hold(self, tenant_id: str, pending_id: str) -> StoredHold | None:
        """Return one of a tenant."""
        query = select(*stored(HELD)).where(
            HELD.c.tenant_id == tenant_id, HELD.c.pending_id == pending_id
        )

        def ask(connection: Connection) -> StoredHold | None:
            row = first(connection, query)
            return None if row is None else _hold(row)

        return await self._database.read(ask)

    async def holds(self, tenant_id: str, limit: int) -> Sequence[StoredHold]:
        """Return the newest of a tenant; without what is sealed."""
        left_out = {*_SEALED, "body"}
        columns: list[Any] = [
            literal(b"").label(column.name) if column.name in left_out else column
            for column in stored(HELD)
        ]
        query = (
            select(*columns)
            .where(HELD.c.tenant_id == tenant_id)
            .order_by(HELD.c.position.desc())
            .limit(limit)
        )

        def ask(connection: Connection) -> Sequence[StoredHold]:
            return [_hold(row) for row in every(connection, query)]

        return await self._database.read(ask)

    async def claim_hold(self, tenant_id: str, pending_id: str, holder: str) -> bool:
        """Make a pending one running."""
        row = self._hold_claim.values(tenant_id=tenant_id, pending_id=pending_id, by=holder)
        changed = await self._database.write(
            lambda transaction: transaction.change(self._hold_claim, row)
        )
        return changed == 1

    async def settle_hold(
        self,
        tenant_id: str,
        pending_id: str,
        state: HoldState,
        answer: StoredAnswer | None = None,
    ) -> None:
        """End a running one, or make it pending again."""
        row = self._hold_settle.values(
            tenant_id=tenant_id,
            pending_id=pending_id,
            state_after=state.value,
            status=None if answer is None else answer.status,
            content_type=None if answer is None else answer.content_type,
            body=None if answer is None else answer.body,
        )
        await self._database.write(lambda transaction: transaction.change(self._hold_settle, row))

    async def abandon_holds(self, holder: str) -> int:
        """Make running ones of other holders ones of unknown outcome."""
        row = self._hold_abandon.values(own=holder)
        return await self._database.write(
            lambda transaction: transaction.change(self._hold_abandon, row)
        )

    async def expire_holds(self, before_s: int) -> int:
        """Remove those that expired before a moment."""
        row = self._hold_expire.values(before_s=before_s)
        return await self._database.write(
            lambda transaction: transaction.change(self._hold_expire, row)
        )


def _values(hold: StoredHold) -> dict[str, Value]:
    answer = hold.answer
    return {
        "pending_id": hold.pending_id,
        "tenant_id": hold.tenant_id,
        "receipt_id": hold.receipt_id,
        "attestation_hash": hold.attestation_hash,
        "model": hold.model,
        "operation": hold.operation,
        "enclave": hold.enclave,
        "state": hold.state.value,
        "holder": hold.holder,
        "held_at_s": hold.held_at_s,
        "expires_at_s": hold.expires_at_s,
        "sealed_request": hold.sealed_request,
        "settings": hold.settings,
        "pending_state": hold.pending_state,
        "status": None if answer is None else answer.status,
        "content_type": None if answer is None else answer.content_type,
        "body": None if answer is None else answer.body,
    }


def _hold(row: Row) -> StoredHold:
    """Read a row whose last three columns are the answer."""
    pending_id, tenant_id, receipt_id, attestation_hash, model, operation, *more = row
    enclave, state, holder, held_at_s, expires_at_s, *sealed = more
    request, settings, pending_state, status, content_type, body = sealed
    return StoredHold(
        pending_id,
        tenant_id,
        receipt_id,
        attestation_hash,
        model,
        operation,
        enclave,
        HoldState(state),
        holder,
        held_at_s,
        expires_at_s,
        request,
        settings,
        pending_state,
        None if status is None else StoredAnswer(status, content_type, body),
    )
