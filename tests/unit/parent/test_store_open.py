"""Opening: which URLs, whose files, which tables, which releases."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError

from latensgate_parent.store import sqlite
from latensgate_parent.store.interfaces import StoreError
from latensgate_parent.store.migrate import configuration, migrate
from latensgate_parent.store.open import open_store
from latensgate_parent.store.prepared import Prepared
from latensgate_parent.store.tables import METADATA
from store_examples import ONE, receipt, tenant


def open_and_close(url: str) -> None:
    async def scenario() -> None:
        await (await open_store(url)).aclose()

    asyncio.run(scenario())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "store.db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///store.db?mode=ro",
        "sqlite+aiosqlite:///store.db",
        "postgresql://user:secret@host/name",
        "://secret",
    ],
)
def test_other_urls_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(StoreError, match=r"sqlite:///path|a file was expected") as refused:
        open_and_close(url)
    assert "secret" not in refused.value.detail


def test_files_are_for_their_owner(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"

    async def scenario() -> None:
        store = await open_store(f"sqlite:///{folder}/store.db")
        await store.insert_tenant(tenant(ONE))
        found = {path.name: mode(path) for path in folder.iterdir()}
        assert found == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
        assert mode(folder) == 0o700
        await store.aclose()

    asyncio.run(scenario())


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be opened"):
        open_and_close(f"sqlite:///{tmp_path}/file/store.db")


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match="file is not a database"):
        open_and_close(f"sqlite:///{tmp_path}/store.db")


def test_commits_reach_the_disk_and_readers_do_not_write(tmp_path: Path) -> None:
    path = tmp_path / "plain.db"
    full = 2
    names = ("journal_mode", "synchronous", "foreign_keys", "query_only")
    for engine, expected in (
        (sqlite.writing_engine(path), ["wal", full, 1, 0]),
        (sqlite.reading_engine(path), ["wal", full, 1, 1]),
    ):
        with engine.connect() as connection:
            settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]
        engine.dispose()
        assert settings == expected
    reader = sqlite.reading_engine(path)
    with (
        reader.connect() as connection,
        pytest.raises(Exception, match="attempt to write a readonly database"),
    ):
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
    reader.dispose()


# --- migrations ---


def schema(connection: Connection) -> dict[str, list[str]]:
    """Return what SQLite keeps of each table and index, line by line; their order is no matter."""
    query = text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    found = {
        name: sorted(line.strip(" \t,") for line in sql.split("\n"))
        for name, sql in connection.execute(query)
    }
    found.pop("alembic_version", None)
    return found


def test_migrations_give_the_tables_of_this_release(tmp_path: Path) -> None:
    migrated = sqlite.writing_engine(tmp_path / "migrated.db")
    migrate(migrated)
    created = create_engine("sqlite://")
    METADATA.create_all(created)
    with migrated.connect() as left, created.connect() as right:
        assert schema(left) == schema(right)
        assert len(schema(left)) >= len(METADATA.tables)
        assert compare_metadata(MigrationContext.configure(left), METADATA) == []
    migrated.dispose()
    created.dispose()


def test_migrations_are_one_line_of_revisions() -> None:
    scripts = ScriptDirectory.from_config(configuration())
    assert len(scripts.get_heads()) == 1
    assert len(scripts.get_bases()) == 1


def test_a_second_start_keeps_everything(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"

    async def first() -> None:
        store = await open_store(url)
        await store.insert_tenant(tenant(ONE))
        await store.insert_receipt(receipt(1))
        await store.aclose()

    async def second() -> None:
        store = await open_store(url)
        assert await store.receipt(ONE, receipt(1).receipt_id) == receipt(1)
        await store.aclose()

    asyncio.run(first())
    asyncio.run(second())


def test_two_processes_may_start_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"

    async def scenario() -> None:
        for store in await asyncio.gather(open_store(url), open_store(url), open_store(url)):
            await store.aclose()

    asyncio.run(scenario())


class _Told:
    """A cursor that is told so often that a file is locked, or what else is wrong with it."""

    def __init__(self, code: int, times: int) -> None:
        self.asked: list[str] = []
        self._code = code
        self._times = times

    def execute(self, command: str) -> None:
        self.asked.append(command)
        if len(self.asked) <= self._times:
            error = sqlite3.OperationalError("as SQLite says it")
            error.sqlite_errorcode = self._code
            raise error


def test_of_two_that_turn_a_new_file_to_wal_the_one_that_is_told_asks_again() -> None:
    told = _Told(sqlite3.SQLITE_BUSY, 3)
    sqlite._set(told, "journal_mode=WAL")  # type: ignore[arg-type]  # all that is asked of a cursor
    assert told.asked == ["PRAGMA journal_mode=WAL"] * 4


def test_nothing_else_is_asked_again() -> None:
    told = _Told(sqlite3.SQLITE_READONLY, 3)
    with pytest.raises(sqlite3.OperationalError):
        sqlite._set(told, "journal_mode=WAL")  # type: ignore[arg-type]  # as above
    assert len(told.asked) == 1


def test_it_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "STORE_BUSY_TIMEOUT_MS", 50)
    path = tmp_path / "new.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM sqlite_master")
        engine = sqlite.writing_engine(path)
        with pytest.raises(OperationalError, match="locked"):
            engine.connect()
        engine.dispose()


def test_a_newer_release_s_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    open_and_close(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match=r"newer release: it has revision 9999, .* up to 0003"):
        open_and_close(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
            ("9999",)
        ]
    connection.close()


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE usage_totals (n INTEGER)")  # in the way of the last table
    connection.close()
    with pytest.raises(StoreError, match="usage_totals already exists"):
        open_and_close(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
    connection.close()
    assert names == ["usage_totals"]


def test_only_statements_with_parameters_are_prepared() -> None:
    engine = create_engine("sqlite://")
    with pytest.raises(TypeError):
        Prepared(text("SELECT 1"), engine.dialect)
    engine.dispose()


def test_two_parents_never_have_one_database(tmp_path: Path) -> None:
    """The second would give up what the first has running."""

    async def scenario() -> None:
        url = f"sqlite:///{tmp_path}/one.db"
        first = await open_store(url, alone=True)
        with pytest.raises(StoreError, match="another parent"):
            await open_store(url, alone=True)
        beside = await open_store(url)  # a command of the operator
        await beside.check()
        await beside.aclose()
        with pytest.raises(StoreError, match="another parent"):
            await open_store(url, alone=True)
        await first.aclose()
        again = await open_store(url, alone=True)
        await again.check()
        await again.aclose()
        with pytest.raises(StoreError, match="cannot be opened"):
            await open_store(f"{url}/no/folder.db", alone=True)

    asyncio.run(scenario())
