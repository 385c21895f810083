"""Which failure is one write's own, which is the database's, and how both are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from latensgate_parent.store.interfaces import StoreError

if TYPE_CHECKING:
    from sqlalchemy import Dialect


def is_of_database(error: Exception, dialect: Dialect) -> bool:
    """Tell whether the whole transaction failed: disk full, locked, read-only, damaged.

    What remains is one write's own: a constraint, a value that does not fit.
    """
    driver = dialect.loaded_dbapi
    return isinstance(error, driver.Error) and not isinstance(
        error, driver.IntegrityError | driver.DataError | driver.InterfaceError
    )


def told(error: Exception, dialect: Dialect) -> Exception:
    """Return what a waiter gets: a fresh ``StoreError``, or a defect of ours as it is.

    The driver's texts name tables and columns, never values. A text that could not be encoded is
    quoted by Python's own error, so of such only the type is told.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, dialect.loaded_dbapi.Error):
        wrapped = StoreError(f"the database did not confirm: {cause}")
    elif isinstance(error, OverflowError | UnicodeError | SQLAlchemyError):
        wrapped = StoreError(f"the database cannot hold this value: {type(error).__name__}")
    else:
        return error
    wrapped.__cause__ = error
    return wrapped
