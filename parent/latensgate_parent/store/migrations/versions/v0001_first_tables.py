"""The first tables.

A migration says what a release did to the tables, and is never changed after that release: it
repeats what ``tables`` says today and imports nothing of it. Names of constraints come from the
naming convention there, which does not change either.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _integer(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, INTEGER, nullable=nullable)


def _bytes(name: str, *, nullable: bool = False) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=nullable)


def _table(name: str, *items: sa.schema.SchemaItem) -> None:
    position = sa.Column("position", INTEGER, primary_key=True)
    op.create_table(name, position, *items, sqlite_strict=True)


def _of_tenant() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"])


def upgrade() -> None:
    """Create everything."""
    _create_tenants()
    _create_receipts()
    _create_idempotency_records()
    _create_documents()


def _create_tenants() -> None:
    _table(
        "tenants",
        _text("tenant_id"),
        _text("name"),
        _integer("requests_per_minute"),
        _integer("created_at_s"),
        _integer("disabled_at_s", nullable=True),
        sa.UniqueConstraint("tenant_id"),
    )
    _table(
        "api_keys",
        _text("key_id"),
        _text("tenant_id"),
        _text("name"),
        _bytes("digest"),
        _text("hint"),
        _text("scopes"),
        _integer("created_at_s"),
        _integer("expires_at_s", nullable=True),
        _integer("revoked_at_s", nullable=True),
        _of_tenant(),
        sa.UniqueConstraint("tenant_id", "key_id"),
        sa.UniqueConstraint("digest"),
    )


def _create_receipts() -> None:
    _table(
        "start_records",
        _text("receipt_id"),
        _text("tenant_id"),
        _text("attestation_hash"),
        _text("request_hash"),
        _integer("started_at_ms"),
        _of_tenant(),
        sa.UniqueConstraint("tenant_id", "receipt_id"),
    )
    _table(
        "receipts",
        _text("receipt_id"),
        _text("tenant_id"),
        _text("key_id"),
        _integer("sequence"),
        _integer("issued_at_s"),
        _text("outcome"),
        _text("attestation_hash"),
        _bytes("public"),
        _bytes("signature"),
        _bytes("private_sealed", nullable=True),
        _integer("stored_at_ms"),
        _of_tenant(),
        sa.UniqueConstraint("tenant_id", "receipt_id"),
    )
    op.create_index("ix_receipts_tenant_id_position", "receipts", ["tenant_id", "position"])


def _create_idempotency_records() -> None:
    _table(
        "idempotency_records",
        _text("tenant_id"),
        _text("idempotency_key"),
        _bytes("request_digest"),
        _text("state"),
        _text("holder"),
        _integer("expires_at_s"),
        _integer("status", nullable=True),
        _text("content_type", nullable=True),
        _bytes("body", nullable=True),
        _of_tenant(),
        sa.UniqueConstraint("tenant_id", "idempotency_key"),
        sa.CheckConstraint("state IN ('running', 'answered', 'unknown')", "state"),
        sa.CheckConstraint("(state = 'answered') = (body IS NOT NULL)", "answer"),
        sa.CheckConstraint(
            "(body IS NULL) = (status IS NULL) AND (body IS NULL) = (content_type IS NULL)",
            "whole",
        ),
    )
    op.create_index("ix_idempotency_records_expires_at_s", "idempotency_records", ["expires_at_s"])


def _create_documents() -> None:
    _table(
        "attestation_documents",
        _text("attestation_hash"),
        _bytes("document"),
        _bytes("manifest"),
        _integer("archived_at_s"),
        sa.UniqueConstraint("attestation_hash"),
    )
    _table(
        "wrapped_secrets",
        _text("key_arn"),
        _text("deployment_digest"),
        _bytes("wrapped"),
        sa.UniqueConstraint("key_arn", "deployment_digest"),
    )
    _table(
        "usage_totals",
        _text("receipt_key"),
        _integer("issued_at_s"),
        _bytes("totals"),
        _bytes("signature"),
        sa.UniqueConstraint("receipt_key"),
    )
