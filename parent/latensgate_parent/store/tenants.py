"""Tenants and API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select, update

from latensgate_parent.store.database import every, first, given, insertion, stored
from latensgate_parent.store.interfaces import APIKey, StoreError, Tenant
from latensgate_parent.store.tables import API_KEYS, TENANTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from latensgate_parent.store.database import Database
    from latensgate_parent.store.prepared import Row, Transaction


_CHANGED = ("name", "requests_per_minute", "disabled_at_s")


class Tenants:
    """The ``TenantStore`` of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tenant_insert = database.prepare(insertion(TENANTS))
        self._key_insert = database.prepare(insertion(API_KEYS))
        change = (
            update(TENANTS)
            .where(TENANTS.c.tenant_id == bindparam("tenant"))
            .values({name: bindparam(name) for name in _CHANGED})
        )
        self._tenant_replace = database.prepare(change)
        unchanged = [TENANTS.c[name].is_(bindparam(f"was_{name}")) for name in _CHANGED]
        self._tenant_exchange = database.prepare(change.where(*unchanged))
        in_force = (API_KEYS.c.tenant_id == bindparam("tenant")) & (
            API_KEYS.c.key_id == bindparam("key")
        )
        in_force &= API_KEYS.c.revoked_at_s.is_(None)
        self._key_revoke = database.prepare(
            update(API_KEYS).where(in_force).values(revoked_at_s=bindparam("revoked_at_s"))
        )
        self._key_end = database.prepare(
            update(API_KEYS)
            .where(in_force)
            .values({name: bindparam(name) for name in ("expires_at_s", "revoked_at_s")})
        )
        self._key_select = database.prepare(
            select(*stored(API_KEYS)).where(given(API_KEYS, "tenant_id", "key_id"))
        )

    async def insert_tenant(self, tenant: Tenant) -> None:
        """Add a tenant."""
        row = self._tenant_insert.from_fields(tenant)
        await self._database.write(lambda transaction: transaction.change(self._tenant_insert, row))

    async def replace_tenant(self, tenant: Tenant, was: Tenant | None = None) -> bool:
        """Change name, limit or disabling, if it still stands as ``was``."""
        change = self._tenant_replace if was is None else self._tenant_exchange
        values = {name: getattr(tenant, name) for name in _CHANGED}
        if was is not None:
            values |= {f"was_{name}": getattr(was, name) for name in _CHANGED}
        row = change.values(tenant=tenant.tenant_id, **values)
        return bool(await self._database.write(lambda transaction: transaction.change(change, row)))

    async def tenant(self, tenant_id: str) -> Tenant | None:
        """Return one."""
        query = select(*stored(TENANTS)).where(TENANTS.c.tenant_id == tenant_id)

        def ask(connection: Connection) -> Tenant | None:
            row = first(connection, query)
            return None if row is None else Tenant(*row)

        return await self._database.read(ask)

    async def tenants(self) -> Sequence[Tenant]:
        """Return all, oldest first."""
        query = select(*stored(TENANTS)).order_by(TENANTS.c.created_at_s, TENANTS.c.position)
        return await self._database.read(
            lambda connection: tuple(Tenant(*row) for row in every(connection, query))
        )

    async def insert_key(self, key: APIKey) -> None:
        """Add a key."""
        row = self._key_values(key)
        await self._database.write(lambda transaction: transaction.change(self._key_insert, row))

    async def keys(self, tenant_id: str) -> Sequence[APIKey]:
        """Return all keys of a tenant, newest first."""
        query = (
            select(*stored(API_KEYS))
            .where(API_KEYS.c.tenant_id == tenant_id)
            .order_by(API_KEYS.c.created_at_s.desc(), API_KEYS.c.position.desc())
        )
        return await self._database.read(
            lambda connection: tuple(_key(row) for row in every(connection, query))
        )

    async def key(self, tenant_id: str, key_id: str) -> APIKey | None:
        """Return one key of a tenant."""
        query = select(*stored(API_KEYS)).where(
            API_KEYS.c.tenant_id == tenant_id, API_KEYS.c.key_id == key_id
        )

        def ask(connection: Connection) -> APIKey | None:
            row = first(connection, query)
            return None if row is None else _key(row)

        return await self._database.read(ask)

    async def authenticate(self, digest: bytes) -> tuple[APIKey, Tenant] | None:
        """Return the key of this digest and its tenant."""
        columns = stored(API_KEYS)
        query = (
            select(*columns, *stored(TENANTS))
            .join(TENANTS, TENANTS.c.tenant_id == API_KEYS.c.tenant_id)
            .where(API_KEYS.c.digest == digest)
        )

        def ask(connection: Connection) -> tuple[APIKey, Tenant] | None:
            row = first(connection, query)
            if row is None:
                return None
            return _key(row[: len(columns)]), Tenant(*row[len(columns) :])

        return await self._database.read(ask)

    async def revoke_key(self, tenant_id: str, key_id: str, at_s: int) -> APIKey | None:
        """Revoke a key; return it as it stands then."""
        end = self._key_revoke.values(tenant=tenant_id, key=key_id, revoked_at_s=at_s)
        which = self._key_select.values(tenant_id=tenant_id, key_id=key_id)

        def revoke(transaction: Transaction) -> APIKey | None:
            transaction.change(self._key_revoke, end)
            row = transaction.one(self._key_select, which)
            return None if row is None else _key(row)

        return await self._database.write(revoke)

    async def rotate_key(self, old: APIKey, new: APIKey) -> bool:
        """End the old key as it says and insert the new one; False if the old is not in force."""
        if old.tenant_id != new.tenant_id:
            raise StoreError("a key is replaced by one of the same tenant")
        end = self._key_end.values(
            tenant=old.tenant_id,
            key=old.key_id,
            expires_at_s=old.expires_at_s,
            revoked_at_s=old.revoked_at_s,
        )
        row = self._key_values(new)

        def rotate(transaction: Transaction) -> bool:
            if not transaction.change(self._key_end, end):
                return False
            transaction.change(self._key_insert, row)
            return True

        return await self._database.write(rotate)

    def _key_values(self, key: APIKey) -> Row:
        names = [column.name for column in stored(API_KEYS) if column.name != "scopes"]
        return self._key_insert.values(
            scopes=" ".join(key.scopes), **{name: getattr(key, name) for name in names}
        )


def _key(row: Row) -> APIKey:
    """Read a row whose scopes are one text."""
    key_id, tenant_id, name, digest, hint, scopes, *times = row
    return APIKey(key_id, tenant_id, name, digest, hint, tuple(scopes.split()), *times)
