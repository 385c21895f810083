"""What is kept, as frozen values, and the stores that keep it.

Every store may fail with ``StoreError`` in one of two ways that a caller cannot tell apart: nothing
was stored, or it was. Whatever takes a tenant id gives and changes that tenant's things only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from latensgate_parent.store.daily import DailyCounts
from latensgate_parent.store.held_forms import HoldStore
from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from collections.abc import Sequence


class StoreError(LatensgateError):
    """The store could not be asked, or did not confirm."""

    code = ErrorCode.ERR_STORE_UNAVAILABLE


class StoreConflictError(StoreError):
    """Something else stands there: trying again would not help."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant.

    Attributes:
        tenant_id: ``tnt_`` and 8 hex digits.
        name: For people.
        requests_per_minute: Over all routes; 60 unless the operator says otherwise.
        created_at_s: Seconds since 1970.
        disabled_at_s: When it was disabled; None: its keys are taken.
    """

    tenant_id: str
    name: str
    requests_per_minute: int
    created_at_s: int
    disabled_at_s: int | None = None


@dataclass(frozen=True, slots=True)
class APIKey:
    """One API key, without its secret.

    Attributes:
        key_id: ``key_`` and 16 hex digits; what is listed and revoked.
        tenant_id: Whose it is.
        name: For people.
        digest: SHA-256 of the full key, 32 bytes.
        hint: The first characters of the key, enough to recognise it and far from enough to use it.
        scopes: What it permits, sorted.
        created_at_s: Seconds since 1970.
        expires_at_s: From then on it is refused; None: never.
        revoked_at_s: When it was revoked; None: it was not.
    """

    key_id: str
    tenant_id: str
    name: str
    digest: bytes = field(repr=False)
    hint: str
    scopes: tuple[str, ...]
    created_at_s: int
    expires_at_s: int | None = None
    revoked_at_s: int | None = None


@dataclass(frozen=True, slots=True)
class StartRecord:
    """That an answer began: durable before the first byte of a stream leaves (DESIGN 8)."""

    receipt_id: str
    tenant_id: str
    attestation_hash: str
    request_hash: str
    started_at_ms: int


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """One receipt as the parent may keep it.

    Attributes:
        public: JCS of the public part; what the signature is over (with its label).
        signature: 64 bytes.
        private_sealed: To the tenant's audit key, or None.
        stored_at_ms: Milliseconds since 1970 on the parent's clock.
    """

    receipt_id: str
    tenant_id: str
    key_id: str
    sequence: int
    issued_at_s: int
    outcome: str
    attestation_hash: str
    public: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    private_sealed: bytes | None = field(repr=False)
    stored_at_ms: int


@dataclass(frozen=True, slots=True)
class ReceiptQuery:
    """Which receipts of a tenant. Newest first.

    Attributes:
        page: From 1.
        limit: Entries of one page.
        outcome, key_id, attestation_hash: Exactly these, where given.
        since_s, until_s: ``issued_at`` from (included) and until (excluded), seconds since 1970.
    """

    page: int = 1
    limit: int = 25
    outcome: str | None = None
    key_id: str | None = None
    attestation_hash: str | None = None
    since_s: int | None = None
    until_s: int | None = None


@dataclass(frozen=True, slots=True)
class ReceiptPage:
    """One page, and how many receipts match in all."""

    entries: tuple[StoredReceipt, ...]
    total: int


class IdempotencyState(StrEnum):
    """Where a keyed request stands."""

    RUNNING = "running"
    ANSWERED = "answered"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A sealed answer to replay, byte for byte.

    Attributes:
        status: Of the HTTP answer.
        content_type: Of the HTTP answer.
        body: Its body; sealed, so nothing in it can be read here.
    """

    status: int
    content_type: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """What an ``Idempotency-Key`` of a tenant was used for.

    Attributes:
        request_digest: SHA-384 of the sealed bytes, 48 bytes.
        holder: Which process dispatched it: after a restart nobody answers for it any more.
        expires_at_s: From then on it is forgotten.
        answer: Present exactly when answered.
    """

    tenant_id: str
    idempotency_key: str
    request_digest: bytes
    state: IdempotencyState
    holder: str
    expires_at_s: int
    answer: StoredAnswer | None = None


@dataclass(frozen=True, slots=True)
class ArchivedDocument:
    """A published attestation document and its manifest."""

    attestation_hash: str
    document: bytes = field(repr=False)
    manifest: bytes = field(repr=False)
    archived_at_s: int


@dataclass(frozen=True, slots=True)
class StoredUsage:
    """Totals of one enclave; of two under one receipt key the later counts, or the last stored.

    Attributes:
        receipt_key: 64 hex digits, as in the manifest.
        issued_at_s: As inside ``totals``.
        totals: Exact bytes that are signed.
        signature: 64 bytes.
    """

    receipt_key: str
    issued_at_s: int
    totals: bytes = field(repr=False)
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredSettings:
    """Signed settings of a tenant; what they say is not the parent's to judge.

    Attributes:
        tenant_id: Whose.
        version: Counts up.
        document: The signed document, at most 65,536 bytes.
        stored_at_s: Seconds since 1970.
    """

    tenant_id: str
    version: int
    document: bytes = field(repr=False)
    stored_at_s: int


class TenantStore(Protocol):
    """Tenants and their API keys."""

    async def insert_tenant(self, tenant: Tenant) -> None:
        """Add a tenant; an id that is there already is a ``StoreError``."""
        ...

    async def replace_tenant(self, tenant: Tenant, was: Tenant | None = None) -> bool:
        """Change name, limit or disabling of a tenant, not its age; False if there is none.

        With ``was`` also False, and nothing is changed, if it does not stand as that any more: of
        two changes at one moment, the second must not undo the first.
        """
        ...

    async def tenant(self, tenant_id: str) -> Tenant | None:
        """Return one."""
        ...

    async def tenants(self) -> Sequence[Tenant]:
        """Return all, oldest first; for the operator."""
        ...

    async def insert_key(self, key: APIKey) -> None:
        """Add a key."""
        ...

    async def keys(self, tenant_id: str) -> Sequence[APIKey]:
        """Return all keys of a tenant, revoked and expired ones too, newest first."""
        ...

    async def key(self, tenant_id: str, key_id: str) -> APIKey | None:
        """Return one key of a tenant."""
        ...

    async def authenticate(self, digest: bytes) -> tuple[APIKey, Tenant] | None:
        """Return the key of this digest and its tenant, whatever their state; the caller judges."""
        ...

    async def revoke_key(self, tenant_id: str, key_id: str, at_s: int) -> APIKey | None:
        """Revoke a key (a revoked one keeps its first time); None if the tenant has none."""
        ...

    async def rotate_key(self, old: APIKey, new: APIKey) -> bool:
        """Store ``old`` (with its new end) and insert ``new``, in one transaction.

        False, and nothing is stored, if the tenant has no such key or it is revoked: a rotation
        that crosses a revocation does not bring the key back.
        """
        ...


class ReceiptStore(DailyCounts, Protocol):
    """Receipts and start records."""

    async def insert_start(self, start: StartRecord) -> None:
        """Return when the record is durable.

        The identical record twice is no error, another one under its id is.
        """
        ...

    async def insert_receipt(
        self, receipt: StoredReceipt, answered: IdempotencyRecord | None = None
    ) -> None:
        """Return when the receipt, and with it the answer to replay, are durable.

        Storing the identical receipt twice is no error: the first write may have been confirmed
        to nobody. ``stored_at_ms`` may differ; the first stays. Another receipt under an id of its
        tenant is a ``StoreConflictError``, and then ``answered`` is not stored either.
        """
        ...

    async def receipt(self, tenant_id: str, receipt_id: str) -> StoredReceipt | None:
        """Return one receipt of a tenant."""
        ...

    async def receipts(self, tenant_id: str, query: ReceiptQuery) -> ReceiptPage:
        """Return a page of a tenant's receipts, in the order of storing, the latest first."""
        ...

    async def unfinished(self, tenant_id: str) -> Sequence[StartRecord]:
        """Return start records without a receipt: still running or cut by a crash, oldest first."""
        ...


class IdempotencyStore(Protocol):
    """What keyed requests became."""

    async def begin(self, record: IdempotencyRecord, now_s: int) -> IdempotencyRecord | None:
        """Store a running record if the key is free; else return what stands there.

        Two at the same moment: exactly one gets None. Durable when it returns.
        """
        ...

    async def settle(self, record: IdempotencyRecord) -> None:
        """Make a running record an answered one or one of unknown outcome; its end stays.

        What is not running, or began with other bytes, stays: who retries finds it done.
        """
        ...

    async def forget(self, tenant_id: str, idempotency_key: str) -> None:
        """Remove a running record: nothing was dispatched, or the enclave opened nothing."""
        ...

    async def abandon(self, holder: str) -> int:
        """At a start: make other holders' running records ones of unknown outcome; count them."""
        ...

    async def expire(self, now_s: int) -> int:
        """Remove what has expired; return how many."""
        ...


class DocumentStore(Protocol):
    """Published documents, wrapped service secrets, usage totals."""

    async def archive(self, document: ArchivedDocument) -> None:
        """Store a document; the same again changes nothing."""
        ...

    async def document(self, attestation_hash: str) -> ArchivedDocument | None:
        """Return one."""
        ...

    async def wrapped_secret(self, key_arn: str, deployment_digest: str) -> bytes | None:
        """Return the service secret as KMS wrapped it."""
        ...

    async def insert_wrapped_secret(
        self, key_arn: str, deployment_digest: str, wrapped: bytes
    ) -> bytes:
        """Store it if there is none; return what stands there now: the first insert wins."""
        ...

    async def store_usage(self, usage: StoredUsage) -> None:
        """Replace totals under the same receipt key that are not newer; the last fetched count."""
        ...

    async def usages(self) -> Sequence[StoredUsage]:
        """Return the latest totals of every enclave."""
        ...


class SettingsStore(Protocol):
    """Signed settings of tenants."""

    async def settings(self, tenant_id: str) -> StoredSettings | None:
        """Return the newest of a tenant."""
        ...

    async def insert_settings(self, settings: StoredSettings) -> bool:
        """Add settings and drop the oldest; False if they are not newer than those there are."""
        ...

    async def forget_settings(self, tenant_id: str) -> int:
        """Remove all settings of a tenant; return how many there were."""
        ...


class Store(
    TenantStore, ReceiptStore, IdempotencyStore, DocumentStore, SettingsStore, HoldStore, Protocol
):
    """All of them, in one database."""

    async def check(self) -> None:
        """Ask the database something cheap; raises ``StoreError``."""
        ...

    async def aclose(self) -> None:
        """Write what is queued, then close."""
        ...
