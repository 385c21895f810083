"""Published documents, wrapped service secrets and usage totals."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sqlalchemy import select

from latensgate_parent.store.database import every, first, given, insertion, stored
from latensgate_parent.store.interfaces import ArchivedDocument, StoredUsage
from latensgate_parent.store.tables import DOCUMENTS, USAGE_TOTALS, WRAPPED_SECRETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from latensgate_parent.store.database import Database
    from latensgate_parent.store.prepared import Transaction


class Documents:
    """The ``DocumentStore`` of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._document_insert = database.prepare(insertion(DOCUMENTS).on_conflict_do_nothing())
        self._secret_insert = database.prepare(insertion(WRAPPED_SECRETS).on_conflict_do_nothing())
        self._secret_select = database.prepare(
            select(WRAPPED_SECRETS.c.wrapped).where(
                given(WRAPPED_SECRETS, "key_arn", "deployment_digest")
            )
        )
        usage = insertion(USAGE_TOTALS)
        self._usage_insert = database.prepare(
            usage.on_conflict_do_update(
                index_elements=["receipt_key"],
                set_={
                    name: usage.excluded[name] for name in ("issued_at_s", "totals", "signature")
                },
                where=USAGE_TOTALS.c.issued_at_s <= usage.excluded.issued_at_s,
            )
        )

    async def archive(self, document: ArchivedDocument) -> None:
        """Store a document."""
        row = self._document_insert.from_fields(document)
        await self._database.write(
            lambda transaction: transaction.change(self._document_insert, row)
        )

    async def document(self, attestation_hash: str) -> ArchivedDocument | None:
        """Return one."""
        query = select(*stored(DOCUMENTS)).where(DOCUMENTS.c.attestation_hash == attestation_hash)

        def ask(connection: Connection) -> ArchivedDocument | None:
            row = first(connection, query)
            return None if row is None else ArchivedDocument(*row)

        return await self._database.read(ask)

    async def wrapped_secret(self, key_arn: str, deployment_digest: str) -> bytes | None:
        """Return the service secret as KMS wrapped it."""
        query = select(WRAPPED_SECRETS.c.wrapped).where(
            WRAPPED_SECRETS.c.key_arn == key_arn,
            WRAPPED_SECRETS.c.deployment_digest == deployment_digest,
        )
        return await self._database.read(
            lambda connection: cast("bytes | None", connection.execute(query).scalar())
        )

    async def insert_wrapped_secret(
        self, key_arn: str, deployment_digest: str, wrapped: bytes
    ) -> bytes:
        """Store it if there is none; return what stands there now."""
        row = self._secret_insert.values(
            key_arn=key_arn, deployment_digest=deployment_digest, wrapped=wrapped
        )
        which = self._secret_select.values(key_arn=key_arn, deployment_digest=deployment_digest)

        def insert(transaction: Transaction) -> bytes:
            transaction.change(self._secret_insert, row)
            found = transaction.one(self._secret_select, which)
            return wrapped if found is None else cast("bytes", found[0])

        return await self._database.write(insert)

    async def store_usage(self, usage: StoredUsage) -> None:
        """Replace older totals under the same receipt key."""
        row = self._usage_insert.from_fields(usage)
        await self._database.write(lambda transaction: transaction.change(self._usage_insert, row))

    async def usages(self) -> Sequence[StoredUsage]:
        """Return the latest totals of every enclave."""
        query = select(*stored(USAGE_TOTALS)).order_by(USAGE_TOTALS.c.receipt_key)
        return await self._database.read(
            lambda connection: tuple(StoredUsage(*row) for row in every(connection, query))
        )
