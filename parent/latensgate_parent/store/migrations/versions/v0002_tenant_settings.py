"""Signed settings of tenants, each version once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "tenant_settings",
        sa.Column("position", INTEGER, primary_key=True),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("stored_at_s", INTEGER, nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"]),
        sa.UniqueConstraint("tenant_id", "version"),
        sqlite_strict=True,
    )
