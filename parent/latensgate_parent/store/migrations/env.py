"""What Alembic runs: the migrations, on the connection that it is given.

There is no configuration file: the one caller is ``latensgate_parent.store.migrate``.
"""

from __future__ import annotations

from alembic import context

from latensgate_parent.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,  # SQLite can, once the driver begins no transactions of its own
)
context.run_migrations()
