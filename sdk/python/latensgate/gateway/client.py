"""The routes of docs/spec/http.md that carry no prompt, one method each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self, TypeVar

from latensgate.gateway import (
    approvals,
    attestations,
    audit,
    daily,
    keys,
    read,
    reports,
    settings,
)
from latensgate.gateway.address import GatewayAddress
from latensgate.gateway.connection import TIMEOUT_S, Answer, Connection
from latensgate.gateway.errors import GatewayAnswerMalformedError
from latensgate.verify.errors import ConfigurationError
from latensgate_shared import formats
from latensgate_shared.errors import MalformedError
from latensgate_shared.hold import pending_id
from latensgate_shared.limits import NONCE_BYTES, TENANT_SETTINGS_MAX_BYTES
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    import httpx

    from latensgate.gateway.approvals import HeldRequestInfo, UntrustedView
    from latensgate.gateway.attestations import ArchivedDocument, UntrustedEvidence
    from latensgate.gateway.audit import AuditEntry, AuditPage, AuditQuery
    from latensgate.gateway.daily import DaysPage
    from latensgate.gateway.keys import APIKeyInfo, NewAPIKey
    from latensgate.gateway.reports import HealthReport, ModelInfo, UsageReport
    from latensgate.gateway.settings import UntrustedSettings
    from latensgate_shared.hold import SignedDecision
    from latensgate_shared.strict_json import JSONObject, JSONValue

Parsed = TypeVar("Parsed")
UNSAID: Final = ""
"""A duration that is left out, so that the gateway's own default counts; None says: no end."""


class GatewayClient:
    """The gateway's own routes, blocking. Use it as a context manager, or close it.

    Every method raises ``GatewayUnreachableError`` (no answer), ``GatewayRefusedError`` (its error
    envelope) or ``GatewayAnswerMalformedError`` (anything that docs/spec/http.md does not permit).

    Args:
        base_url: Root of the gateway, or of a tenant of it.
        api_key: None is enough for the public routes.
        ca_file: Authorities in PEM form in the place of the usual ones.
        timeout_s: Longest wait for each step of an exchange.
        transport: Carries the requests in tests.

    Raises:
        ConfigurationError: Plain HTTP to another machine, or a key that cannot stand in a header.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        ca_file: Path | None = None,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._connection = Connection(
            GatewayAddress.parse(base_url),
            api_key=api_key,
            ca_file=ca_file,
            timeout_s=timeout_s,
            transport=transport,
        )
        self.last_answer: Answer | None = None

    @property
    def address(self) -> GatewayAddress:
        """Where the gateway is."""
        return self._connection.address

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def health(self) -> HealthReport:
        """Read what the parent says of its enclaves, also while none serves. Public."""
        answer = self._connection.get_health()
        return self._read(
            answer, lambda members: reports.parse_health(members, status=answer.status)
        )

    def models(self) -> tuple[ModelInfo, ...]:
        """List the operator's model names. Scope ``inference:read``."""
        return self._read(self._connection.get("/api/models"), reports.parse_models)

    def attestation(
        self, *, nonce: bytes | None = None, key_id: str | None = None
    ) -> UntrustedEvidence:
        """Fetch the attestation of an enclave. Public; nothing in it is verified.

        Args:
            nonce: 32 fresh random bytes: then there is a ``nonce_document``.
            key_id: HPKE key (16 hex digits) whose enclave is to answer.
        """
        if nonce is not None and len(nonce) != NONCE_BYTES:
            raise ConfigurationError(f"nonce: {NONCE_BYTES} bytes expected, {len(nonce)} given")
        asked = {"nonce": None if nonce is None else nonce.hex(), "key_id": key_id}
        query = {name: value for name, value in asked.items() if value is not None}
        return self._read(
            self._connection.get("/api/attestation", query),
            lambda members: attestations.parse_evidence(members, with_nonce=nonce is not None),
        )

    def attest(self, attestation_hash: str) -> ArchivedDocument:
        """Fetch the archived document behind a hash. Public; nothing in it is verified."""
        _check(formats.sha384_digest, attestation_hash, "hash")
        answer = self._connection.get("/api/attest", {"hash": attestation_hash})
        archived = self._read(answer, attestations.parse_archived)
        if archived.attestation_hash != attestation_hash:
            raise GatewayAnswerMalformedError(
                "attest: the answer is about another hash", status=answer.status
            )
        return archived

    def audit_page(self, query: AuditQuery | None = None, *, page: int = 1) -> AuditPage:
        """Read one page of the tenant's receipts, newest first. Scope ``audit:read``."""
        asked = query or audit.AuditQuery()
        return self._read(
            self._connection.get("/api/audit", asked.parameters(page)), audit.parse_page
        )

    def audit_entries(self, query: AuditQuery | None = None) -> Iterator[AuditEntry]:
        """Go through all pages. A receipt that moves to a later page meanwhile comes once.

        Receipts that are stored while this goes on may be missing at the end.
        """
        asked, page = query or audit.AuditQuery(limit=audit.MAX_LIMIT), 1
        seen = set[str]()
        while True:
            told = self.audit_page(asked, page=page)
            for entry in told.entries:
                if entry.public.receipt_id not in seen:
                    seen.add(entry.public.receipt_id)
                    yield entry
            if not told.entries or page * told.limit >= told.total:
                return
            page += 1

    def audit_entry(self, receipt_id: str) -> AuditEntry:
        """Read one receipt. Scope ``audit:read``."""
        _check(formats.receipt_id, receipt_id, "receipt_id")
        answer = self._connection.get(f"/api/audit/{receipt_id}")
        entry = self._read(answer, audit.parse_entry)
        if entry.public.receipt_id != receipt_id:
            raise GatewayAnswerMalformedError(
                "audit: the answer is another receipt", status=answer.status
            )
        return entry

    def keys(self) -> tuple[APIKeyInfo, ...]:
        """List the tenant's keys, newest first. Scope ``keys:read``."""
        return self._read(self._connection.get("/api/keys"), keys.parse_keys)

    def create_key(
        self, name: str, scopes: Sequence[str], *, expiry: str | None = UNSAID
    ) -> NewAPIKey:
        """Make a key. Its secret is in the answer and never again. Scope ``keys:write``.

        Args:
            name: For people.
            scopes: At least one.
            expiry: Such as ``90d`` or ``12h``; None: it does not end; left out: ``90d``.
        """
        body: JSONObject = {"name": name, "scopes": [*scopes], **_given(expiry=expiry)}
        return self._read(self._connection.post("/api/keys", body), keys.parse_new_key)

    def revoke_key(self, key_id: str) -> APIKeyInfo:
        """Revoke a key, at once; again changes nothing. Scope ``keys:write``."""
        return self._read(self._connection.delete(_key_path(key_id)), keys.parse_key)

    def rotate_key(
        self, key_id: str, *, grace: str | None = UNSAID, expiry: str | None = UNSAID
    ) -> NewAPIKey:
        """Replace a key by a new one of the same name and scopes. Scope ``keys:write``.

        Args:
            key_id: ``key_`` and 16 hex digits.
            grace: How long the old key goes on working; None: it is revoked at once.
            expiry: Of the new key, as in ``create_key``; left out: as long as the old one lived.
        """
        answer = self._connection.post(
            f"{_key_path(key_id)}/rotate", _given(grace=grace, expiry=expiry)
        )
        return self._read(answer, lambda members: keys.parse_new_key(members, rotated=True))

    def settings(self) -> UntrustedSettings:
        """Fetch the tenant's signed settings, nothing verified. Scope ``policy:read``."""
        return self._read(self._connection.get("/api/policy"), settings.parse_stored)

    def store_settings(self, document: bytes) -> UntrustedSettings:
        """Store signed settings. Scope ``policy:write``.

        Args:
            document: Canonical JSON of settings and signature.

        Raises:
            JSONError: The document is none.
        """
        body = parse_json_object(document, max_bytes=TENANT_SETTINGS_MAX_BYTES)
        return self._read(self._connection.put("/api/policy", body), settings.parse_stored)

    def approvals(self) -> tuple[HeldRequestInfo, ...]:
        """List the tenant's held requests, newest first. Scope ``approvals:write``."""
        return self._read(self._connection.get("/api/approvals"), approvals.parse_list)

    def approval(self, pending: str, approver: bytes) -> UntrustedView:
        """Have the enclave show a held request to an approver. Scope ``approvals:write``.

        Args:
            pending: ``hld_`` and 32 hex digits.
            approver: Ed25519 key of the tenant's settings, 32 bytes.
        """
        path, query = _approval_path(pending), {"approver": approver.hex()}
        found = self._read(self._connection.get(path, query), approvals.parse_view)
        if found.held.pending_id != pending:
            raise GatewayAnswerMalformedError("approvals: another request", status=200)
        return found

    def decide(self, signed: SignedDecision) -> HeldRequestInfo:
        """Hand an approver's decision to the enclave. Scope ``approvals:write``."""
        path = _approval_path(signed.decision.pending_id)
        return self._read(self._connection.post(path, signed.to_json()), approvals.parse_held)

    def usage(self) -> UsageReport:
        """Read what the enclaves counted for the tenant. Scope ``audit:read``."""
        return self._read(self._connection.get("/api/usage"), reports.parse_usage)

    def usage_days(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        page: int = 1,
        limit: int = daily.DAYS_LIMIT,
    ) -> DaysPage:
        """Read how many receipts of which outcome each day has. Scope ``audit:read``."""
        query: dict[str, str | int] = {"page": page, "limit": limit}
        given = {"since": since, "until": until}
        query |= {name: read.rfc3339(at) for name, at in given.items() if at is not None}
        return self._read(self._connection.get("/api/usage/days", query), daily.parse_days)

    def _read(self, answer: Answer, parse: Callable[[JSONObject], Parsed]) -> Parsed:
        self.last_answer = answer
        try:
            return parse(answer.members)
        except MalformedError as error:
            raise GatewayAnswerMalformedError(error.detail, status=answer.status) from None


def _given(**durations: str | None) -> JSONObject:
    """Only what is said; None is said, too."""
    said: JSONObject = {name: text for name, text in durations.items() if text != UNSAID}
    return said


def _approval_path(pending: str) -> str:
    return f"/api/approvals/{_check(pending_id, pending, 'pending_id')}"


def _key_path(key_id: str) -> str:
    return f"/api/keys/{_check(read.api_key_id, key_id, 'key_id')}"


def _check(form: Callable[[JSONValue, str], str], value: str, what: str) -> str:
    """Hold an argument to its form before it becomes a part of a URL.

    Raises:
        ConfigurationError: Another form.
    """
    try:
        return form(value, what)
    except MalformedError as error:
        raise ConfigurationError(error.detail) from None
