"""Statements of SQLAlchemy Core, compiled once, for the one connection that writes.

``Connection.execute`` builds, caches and unpacks for 40 to 100 microseconds a call, which is more
than SQLite needs to insert a receipt (docs/adr/0019-group-commit.md). The text that Core compiled
for the dialect goes to the driver's cursor instead.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Dialect
    from sqlalchemy.engine.interfaces import DBAPICursor
    from sqlalchemy.sql import ClauseElement

Value: TypeAlias = "str | bytes | int | None"
Row: TypeAlias = "Sequence[Any]"
"""Values of a row or of parameters. What a column holds is the table's to say (STRICT), and a row
is unpacked into a frozen value of the same names at once."""


class Prepared:
    """One statement as text, and the order of its parameters.

    Attributes:
        text: For the driver, with positional placeholders.
    """

    __slots__ = ("_defaults", "_names", "from_fields", "text")

    def __init__(self, statement: ClauseElement, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        names = getattr(compiled, "positiontup", None)
        if not names:
            raise TypeError(f"a statement with positional parameters was expected: {compiled}")
        self.text = str(compiled)
        self._names = cast("list[str]", names)
        self._defaults = cast("dict[str, Value]", compiled.params)
        self.from_fields = attrgetter(*self._names)
        """Take the parameters from the attributes of the same names; for two and more."""

    def values(self, **given: Value) -> Row:
        """Return parameters by name in the order of the placeholders."""
        merged = {**self._defaults, **given}
        return [merged[name] for name in self._names]


class Transaction:
    """The transaction that is open on the writing connection."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: DBAPICursor) -> None:
        self._cursor = cursor

    def change(self, statement: Prepared, parameters: Row) -> int:
        """Return how many rows were inserted, updated or deleted."""
        self._cursor.execute(statement.text, parameters)
        return self._cursor.rowcount

    def one(self, statement: Prepared, parameters: Row) -> Row | None:
        """Return the first row, if there is any."""
        self._cursor.execute(statement.text, parameters)
        return cast("Row | None", self._cursor.fetchone())

    def command(self, text: str) -> None:
        """Run a command of the transaction itself."""
        self._cursor.execute(text)
