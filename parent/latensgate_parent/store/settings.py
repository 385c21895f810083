"""Signed settings of tenants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from latensgate_parent.limits import SETTINGS_VERSIONS_MAX_COUNT
from latensgate_parent.store.database import first, given, insertion, stored
from latensgate_parent.store.interfaces import StoredSettings
from latensgate_parent.store.tables import TENANT_SETTINGS

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from latensgate_parent.store.database import Database
    from latensgate_parent.store.prepared import Transaction


class Settings:
    """The ``SettingsStore`` of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._settings_insert = database.prepare(insertion(TENANT_SETTINGS))
        self._settings_newest = database.prepare(
            select(TENANT_SETTINGS.c.version)
            .where(given(TENANT_SETTINGS, "tenant_id"))
            .order_by(TENANT_SETTINGS.c.version.desc())
            .limit(1)
        )
        newest_gone = (
            select(TENANT_SETTINGS.c.version)
            .where(given(TENANT_SETTINGS, "tenant_id"))
            .order_by(TENANT_SETTINGS.c.version.desc())
            .offset(SETTINGS_VERSIONS_MAX_COUNT)
            .limit(1)
        )
        self._settings_prune = database.prepare(
            delete(TENANT_SETTINGS).where(
                given(TENANT_SETTINGS, "tenant_id"),
                TENANT_SETTINGS.c.version <= newest_gone.scalar_subquery(),
            )
        )
        self._settings_forget = database.prepare(
            delete(TENANT_SETTINGS).where(given(TENANT_SETTINGS, "tenant_id"))
        )

    async def settings(self, tenant_id: str) -> StoredSettings | None:
        """Return the newest of a tenant."""
        query = (
            select(*stored(TENANT_SETTINGS))
            .where(TENANT_SETTINGS.c.tenant_id == tenant_id)
            .order_by(TENANT_SETTINGS.c.version.desc())
            .limit(1)
        )

        def ask(connection: Connection) -> StoredSettings | None:
            row = first(connection, query)
            return None if row is None else StoredSettings(*row)

        return await self._database.read(ask)

    async def insert_settings(self, settings: StoredSettings) -> bool:
        """Add settings; False if they are not newer than those that are there."""
        which = self._settings_newest.values(tenant_id=settings.tenant_id)
        row = self._settings_insert.from_fields(settings)
        whose = self._settings_prune.values(tenant_id=settings.tenant_id)

        def insert(transaction: Transaction) -> bool:
            found = transaction.one(self._settings_newest, which)
            if found is not None and found[0] >= settings.version:
                return False
            transaction.change(self._settings_insert, row)
            transaction.change(self._settings_prune, whose)
            return True

        return await self._database.write(insert)

    async def forget_settings(self, tenant_id: str) -> int:
        """Remove all settings of a tenant; return how many there were."""
        which = self._settings_forget.values(tenant_id=tenant_id)
        return await self._database.write(
            lambda transaction: transaction.change(self._settings_forget, which)
        )
