"""Which settings and which database a command works on, and how it tells what it did."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from latensgate.cli.text import printable
from latensgate_parent import settings_forms
from latensgate_parent.admin.exit_codes import DatabaseFault, SettingsFault
from latensgate_parent.settings import ENVIRONMENT_PREFIX, SettingsError, read_file
from latensgate_parent.store.interfaces import StoreError
from latensgate_parent.store.open import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
    from pathlib import Path

    from latensgate_parent.store.interfaces import Store

_Done = TypeVar("_Done")


@dataclass(frozen=True, slots=True)
class Place:
    """What stands before the command.

    Attributes:
        config: The settings' file, if named.
        database: Database URL, if named.
        as_json: Whether programs read the output.
    """

    config: Path | None
    database: str | None
    as_json: bool

    def database_url(self) -> str:
        """Return the database of the option, the environment or the settings, in this order.

        The other settings are not looked at: a fault in them must not keep a key from being
        revoked.

        Raises:
            CommandError: None of them names one.
        """
        found = self.database or self.setting("database")
        if found is None:
            raise SettingsFault("database: name the settings with --config, or use --database")
        try:
            return settings_forms.database(found)
        except settings_forms.FormError as error:
            raise SettingsFault(f"database: {error} expected") from None

    def setting(self, name: str) -> object:
        """Return one raw setting, None if nobody says it.

        Raises:
            CommandError: The file cannot be read.
        """
        said = os.environ.get(ENVIRONMENT_PREFIX + name.upper())
        if said is not None:
            return settings_forms.from_environment(name, said)
        try:
            return read_file(self.config, os.environ).get(name)
        except SettingsError as error:
            raise SettingsFault(error.detail) from None

    @asynccontextmanager
    async def store(self) -> AsyncGenerator[Store]:
        """Open the database for one command."""
        store = await open_store(self.database_url())
        try:
            yield store
        finally:
            await store.aclose()

    def run(self, work: Coroutine[object, object, _Done]) -> _Done:
        """Run a command to its end.

        Raises:
            CommandError: The database failed.
        """
        try:
            return asyncio.run(_awaited(work))
        except StoreError as error:
            raise DatabaseFault(error.detail) from None

    def tell(self, value: Mapping[str, object], show: Callable[[Console], None]) -> None:
        """Print what was done: as JSON, or for people."""
        if self.as_json:
            click.echo(json.dumps(value, indent=2, ensure_ascii=True))
        else:
            show(Console(soft_wrap=True))


async def _awaited(work: Coroutine[object, object, _Done]) -> _Done:
    return await work


def grid(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return a table of plain values; nothing in them is markup or steers the terminal."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number == 0)  # an id is to be copied
    for row in rows:
        cells = ("" if value is None else str(value) for value in row)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


pass_place = click.make_pass_decorator(Place)
