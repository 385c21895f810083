"""The tables, as the current release wants them. ``migrations`` brings every database here.

Columns have the names and the order of the frozen values in ``interfaces``, after a ``position``
that counts up as rows are inserted: it says what is newer where two rows bear the same second.
SQLite tables are STRICT, so that a column holds its type and nothing else.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

NAMES: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Names of constraints are fixed, for a migration can only change what it can name."""

INTEGER: Final = BigInteger().with_variant(Integer, "sqlite")
"""64 bits everywhere; SQLite's INTEGER has them and STRICT knows no other name."""

METADATA: Final = MetaData(naming_convention=NAMES)


def _position() -> Column[int]:
    return Column("position", INTEGER, primary_key=True)


def _tenant() -> Column[str]:
    return Column("tenant_id", Text, ForeignKey("tenants.tenant_id"), nullable=False)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _integer(name: str) -> Column[int]:
    return Column(name, INTEGER, nullable=False)


def _bytes(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


TENANTS: Final = Table(
    "tenants",
    METADATA,
    _position(),
    _text("tenant_id"),
    _text("name"),
    _integer("requests_per_minute"),
    _integer("created_at_s"),
    Column("disabled_at_s", INTEGER),
    UniqueConstraint("tenant_id"),
    sqlite_strict=True,
)

API_KEYS: Final = Table(
    "api_keys",
    METADATA,
    _position(),
    _text("key_id"),
    _tenant(),
    _text("name"),
    _bytes("digest"),
    _text("hint"),
    _text("scopes"),  # with a space between two
    _integer("created_at_s"),
    Column("expires_at_s", INTEGER),
    Column("revoked_at_s", INTEGER),
    UniqueConstraint("tenant_id", "key_id"),
    UniqueConstraint("digest"),
    sqlite_strict=True,
)

START_RECORDS: Final = Table(
    "start_records",
    METADATA,
    _position(),
    _text("receipt_id"),
    _tenant(),
    _text("attestation_hash"),
    _text("request_hash"),
    _integer("started_at_ms"),
    UniqueConstraint("tenant_id", "receipt_id"),
    sqlite_strict=True,
)

RECEIPTS: Final = Table(
    "receipts",
    METADATA,
    _position(),
    _text("receipt_id"),
    _tenant(),
    _text("key_id"),
    _integer("sequence"),
    _integer("issued_at_s"),
    _text("outcome"),
    _text("attestation_hash"),
    _bytes("public"),
    _bytes("signature"),
    Column("private_sealed", LargeBinary),
    _integer("stored_at_ms"),
    UniqueConstraint("tenant_id", "receipt_id"),
    Index(None, "tenant_id", "position"),
    sqlite_strict=True,
)

IDEMPOTENCY_RECORDS: Final = Table(
    "idempotency_records",
    METADATA,
    _position(),
    _tenant(),
    _text("idempotency_key"),
    _bytes("request_digest"),
    _text("state"),
    _text("holder"),
    _integer("expires_at_s"),
    Column("status", INTEGER),
    Column("content_type", Text),
    Column("body", LargeBinary),
    UniqueConstraint("tenant_id", "idempotency_key"),
    Index(None, "expires_at_s"),
    CheckConstraint("state IN ('running', 'answered', 'unknown')", "state"),
    CheckConstraint("(state = 'answered') = (body IS NOT NULL)", "answer"),
    CheckConstraint(
        "(body IS NULL) = (status IS NULL) AND (body IS NULL) = (content_type IS NULL)", "whole"
    ),
    sqlite_strict=True,
)

DOCUMENTS: Final = Table(
    "attestation_documents",
    METADATA,
    _position(),
    _text("attestation_hash"),
    _bytes("document"),
    _bytes("manifest"),
    _integer("archived_at_s"),
    UniqueConstraint("attestation_hash"),
    sqlite_strict=True,
)

WRAPPED_SECRETS: Final = Table(
    "wrapped_secrets",
    METADATA,
    _position(),
    _text("key_arn"),
    _text("deployment_digest"),
    _bytes("wrapped"),
    UniqueConstraint("key_arn", "deployment_digest"),
    sqlite_strict=True,
)

TENANT_SETTINGS: Final = Table(
    "tenant_settings",
    METADATA,
    _position(),
    _tenant(),
    _integer("version"),
    _bytes("document"),
    _integer("stored_at_s"),
    UniqueConstraint("tenant_id", "version"),
    sqlite_strict=True,
)

HELD_REQUESTS: Final = Table(
    "held_requests",
    METADATA,
    _position(),
    _text("pending_id"),
    _tenant(),
    _text("receipt_id"),
    _text("attestation_hash"),
    _text("model"),
    _text("operation"),
    _text("enclave"),
    _text("state"),
    _text("holder"),
    _integer("held_at_s"),
    _integer("expires_at_s"),
    _bytes("sealed_request"),
    _bytes("settings"),
    _bytes("pending_state"),
    Column("status", INTEGER),
    Column("content_type", Text),
    Column("body", LargeBinary),
    UniqueConstraint("tenant_id", "pending_id"),
    Index(None, "expires_at_s"),
    sqlite_strict=True,
)

USAGE_TOTALS: Final = Table(
    "usage_totals",
    METADATA,
    _position(),
    _text("receipt_key"),
    _integer("issued_at_s"),
    _bytes("totals"),
    _bytes("signature"),
    UniqueConstraint("receipt_key"),
    sqlite_strict=True,
)
