"""What the parts of the store share: who writes, who reads, and the form of common statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import ColumnElement, Table, and_, bindparam
from sqlalchemy.dialects.sqlite import insert

from latensgate_parent.store.prepared import Prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Column, Connection, Dialect, Select
    from sqlalchemy.dialects.sqlite import Insert
    from sqlalchemy.sql import ClauseElement

    from latensgate_parent.store.prepared import Row, Transaction
    from latensgate_parent.store.readers import Readers
    from latensgate_parent.store.writer import Writer

T = TypeVar("T")


class Database:
    """One open database."""

    def __init__(self, writer: Writer, readers: Readers, dialect: Dialect) -> None:
        self._writer = writer
        self._readers = readers
        self._dialect = dialect

    def prepare(self, statement: ClauseElement) -> Prepared:
        """Compile a statement for writes."""
        return Prepared(statement, self._dialect)

    async def write(self, apply: Callable[[Transaction], T]) -> T:
        """Return when the transaction is durable; see ``Writer.write``."""
        return await self._writer.write(apply)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Return what a query says; see ``Readers.read``."""
        return await self._readers.read(query)

    async def aclose(self) -> None:
        """Write what is queued, then close."""
        await self._writer.aclose()
        await self._readers.aclose()


def first(connection: Connection, query: Select[*tuple[Any, ...]]) -> Row | None:
    """Return the first row, if there is any."""
    return cast("Row | None", connection.execute(query).first())


def every(connection: Connection, query: Select[*tuple[Any, ...]]) -> Sequence[Row]:
    """Return all rows."""
    return cast("Sequence[Row]", connection.execute(query).all())


def stored(table: Table) -> list[Column[Any]]:
    """Return the columns of a row without its position."""
    return [column for column in table.columns if column.name != "position"]


def insertion(table: Table) -> Insert:
    """Return an insert of a whole row, its parameters named as its columns."""
    return (
        insert(table).inline().values({each.name: bindparam(each.name) for each in stored(table)})
    )


def given(table: Table, *names: str) -> ColumnElement[bool]:
    """Return the condition that these columns have the values of the parameters of their names."""
    return and_(*(table.columns[name] == bindparam(name) for name in names))
