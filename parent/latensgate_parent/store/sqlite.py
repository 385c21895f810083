"""What is particular to SQLite: its file, its settings, the form of its transactions."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from sqlalchemy import URL, create_engine, event

from latensgate_parent.limits import (
    STORE_BUSY_TIMEOUT_MS,
    STORE_LOCK_PAUSE_MS,
    STORE_MIGRATION_TIMEOUT_MS,
    STORE_READERS_MAX_COUNT,
)
from latensgate_parent.store.interfaces import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor

_PRIMARY: Final = 0xFF
"""Of a result code; what is above says more of the same (sqlite.org/rescode.html)."""
BEGIN_WRITE: Final = "BEGIN IMMEDIATE"
"""Takes the lock at once: a transaction that begins as a reader may find itself unable to write."""

SETTINGS: Final = (
    "journal_mode=WAL",  # readers do not wait for the writer, nor it for them
    "synchronous=FULL",  # a commit returns when it is on the disk (sqlite.org/pragma.html)
    "foreign_keys=ON",  # off by default
    f"busy_timeout={STORE_BUSY_TIMEOUT_MS}",
)


def create_file(path: Path) -> None:
    """Create folder (0700) and file (0600) where absent; SQLite gives its WAL the file's mode.

    Raises:
        StoreError: The file system refused.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"the database {path} cannot be opened: {error.strerror}") from error


def claim(path: Path) -> Callable[[], None]:
    """Keep other parents away from a database; return what ends that. A kill ends it, too.

    The lock is on a file beside it: closing another descriptor of the database itself would drop
    SQLite's own locks on it (sqlite.org/howtocorrupt.html, 2.2).

    Raises:
        StoreError: Another parent has it, or the file system refused.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"the database {path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StoreError(f"the database {path} is in use by another parent") from error
    return partial(os.close, lock)


def migrating_engine(path: Path) -> Engine:
    """Return an engine that waits long for its lock: another process may be migrating."""
    return _engine(path, (*SETTINGS, f"busy_timeout={STORE_MIGRATION_TIMEOUT_MS}"), BEGIN_WRITE)


def writing_engine(path: Path) -> Engine:
    """Return an engine whose transactions write."""
    return _engine(path, SETTINGS, BEGIN_WRITE)


def reading_engine(path: Path) -> Engine:
    """Return an engine whose transactions read one state and cannot write."""
    return _engine(path, (*SETTINGS, "query_only=ON"), "BEGIN")


def _set(cursor: DBAPICursor, setting: str) -> None:
    """Make a setting, for as long as SQLite waits for locks otherwise.

    Of two processes that turn a new file to WAL at once one is told that it is locked, whatever the
    timeout: both have it open for reading, so waiting for one another would not end.
    """
    ends_at = time.monotonic() + STORE_BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute(f"PRAGMA {setting}")
        except sqlite3.OperationalError as error:
            if (
                error.sqlite_errorcode & _PRIMARY != sqlite3.SQLITE_BUSY
                or time.monotonic() > ends_at
            ):
                raise
            time.sleep(STORE_LOCK_PAUSE_MS / 1000)
        else:
            return


def _engine(path: Path, settings: tuple[str, ...], begin: str) -> Engine:
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(
        url, pool_size=STORE_READERS_MAX_COUNT, max_overflow=0, hide_parameters=True
    )

    def connected(connection: DBAPIConnection, _record: object) -> None:
        # The driver must not begin transactions of its own; SQLAlchemy's page on SQLite.
        if isinstance(connection, sqlite3.Connection):
            connection.isolation_level = None
        cursor = connection.cursor()
        for setting in settings:
            _set(cursor, setting)
        cursor.close()

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine
