"""Bring a database to the tables of this release, when it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError

from latensgate_parent.store.faults import told
from latensgate_parent.store.interfaces import StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

FOLDER: Final = Path(__file__).with_name("migrations")


def configuration() -> Config:
    """Return what Alembic needs to know, without a file."""
    found = Config()
    found.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return found


def migrate(engine: Engine) -> None:
    """Run the missing migrations in one transaction; two processes at once do it one by one.

    Raises:
        StoreError: The database is of a newer release, or it could not be changed.
    """
    try:
        with engine.begin() as connection:
            if _is_behind(connection):
                config = configuration()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
    except SQLAlchemyError as error:
        raise told(error, engine.dialect) from error


def _is_behind(connection: Connection) -> bool:
    """Tell whether migrations are missing; refuse what this release does not know."""
    scripts = ScriptDirectory.from_config(configuration())
    known = {script.revision for script in scripts.walk_revisions()}
    found = MigrationContext.configure(connection).get_current_heads()
    if unknown := set(found) - known:
        raise StoreError(
            f"the database is of a newer release: it has revision {', '.join(sorted(unknown))}, "
            f"this release knows up to {scripts.get_current_head()}"
        )
    return set(found) != set(scripts.get_heads())
