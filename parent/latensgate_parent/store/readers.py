"""Reading, on a few threads with a connection each: a long page of receipts holds nobody up."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from latensgate_parent.limits import STORE_READERS_MAX_COUNT
from latensgate_parent.store.faults import told
from latensgate_parent.store.interfaces import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

T = TypeVar("T")


class Readers:
    """Queries see one state of the database each, and what was written before they began."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._threads = ThreadPoolExecutor(STORE_READERS_MAX_COUNT, "store-reader")
        self._closed = False

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Return what ``query`` returns.

        Raises:
            StoreError: The database could not be asked, or the store is closed.
        """
        if self._closed:
            raise StoreError("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, query)

    def _ask(self, query: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                return query(connection)
        except (SQLAlchemyError, OverflowError, UnicodeError) as error:
            raise told(error, self._engine.dialect) from error

    async def aclose(self) -> None:
        """Let running queries finish, then close the connections."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        self._engine.dispose()
