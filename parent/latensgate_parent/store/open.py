"""Open the store that a URL names. Only here is it known which database it is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from latensgate_parent.store import sqlite
from latensgate_parent.store.database import Database
from latensgate_parent.store.documents import Documents
from latensgate_parent.store.held import Held
from latensgate_parent.store.idempotency import Idempotency
from latensgate_parent.store.interfaces import Store, StoreError
from latensgate_parent.store.migrate import migrate
from latensgate_parent.store.readers import Readers
from latensgate_parent.store.receipts import Receipts
from latensgate_parent.store.settings import Settings
from latensgate_parent.store.tables import TENANTS
from latensgate_parent.store.tenants import Tenants
from latensgate_parent.store.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine


class SQLStore(Tenants, Receipts, Idempotency, Documents, Settings, Held, Store):
    """All stores, in one database."""

    def __init__(self, database: Database, release: Callable[[], None]) -> None:
        self._database = database
        self._release = release
        Tenants.__init__(self, database)
        Idempotency.__init__(self, database)
        Receipts.__init__(self, database, self)
        Documents.__init__(self, database)
        Settings.__init__(self, database)
        Held.__init__(self, database)

    async def check(self) -> None:
        """Ask a reader for a row and the writer for its lock."""
        await self._database.read(
            lambda connection: connection.execute(select(TENANTS.c.position).limit(1)).first()
        )
        await self._database.write(lambda _: None)

    async def aclose(self) -> None:
        """Write what is queued, then close."""
        try:
            await self._database.aclose()
        finally:
            self._release()


async def open_store(url: str, *, alone: bool = False) -> Store:
    """Open a database, created and migrated as needed.

    Args:
        url: ``sqlite:///relative/path`` or ``sqlite:////absolute/path``.
        alone: For a parent: refuse if another one has it. What that one has running would be
            given up (``IdempotencyStore.abandon``). Commands of the operator may come beside it.

    Raises:
        StoreError: No such database, no access, a newer release's, or another parent's.
    """
    path = _sqlite_path(url)
    release = sqlite.claim(path) if alone else _nothing
    try:
        return await _opened(path, release)
    except BaseException:  # also a cancel: the lock file must not stay taken
        release()
        raise


def _nothing() -> None:
    return


async def _opened(path: Path, release: Callable[[], None]) -> Store:
    writing = await asyncio.to_thread(_prepare, path)
    database = Database(
        Writer(writing, sqlite.BEGIN_WRITE), Readers(sqlite.reading_engine(path)), writing.dialect
    )
    return SQLStore(database, release)


def _sqlite_path(url: str) -> Path:
    """Return the file. The URL itself may hold a password one day: it is not told."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError("database: sqlite:///path was expected, this is no URL") from None
    if parsed.drivername != "sqlite" or not parsed.database or parsed.query:
        raise StoreError("database: sqlite:///path was expected, with nothing behind the path")
    if parsed.database == ":memory:":
        raise StoreError("database: a file was expected; receipts must outlive the process")
    return Path(parsed.database)


def _prepare(path: Path) -> Engine:
    sqlite.create_file(path)
    migrating = sqlite.migrating_engine(path)
    try:
        migrate(migrating)
    finally:
        migrating.dispose()
    return sqlite.writing_engine(path)
