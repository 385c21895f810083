"""Audit entries: receipts as the parent keeps them, to be verified by ``latensgate.verify``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate.gateway import read
from latensgate_shared import formats
from latensgate_shared.limits import SEALED_BODY_MAX_BYTES
from latensgate_shared.receipts import PublicPart, parse_public_part, parse_signature

if TYPE_CHECKING:
    from datetime import datetime

    from latensgate_shared.strict_json import JSONObject, JSONValue

DEFAULT_LIMIT: Final = 25
"""Entries of a page where nothing is said (the seed's own example)."""
MAX_LIMIT: Final = 100
"""Entries of a page that the gateway admits; all receipts are fetched in pages of this size."""
_ENTRY: Final = frozenset({"public", "signature", "private_sealed"})
_PAGE: Final = frozenset({"entries", "page", "limit", "total"})


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One receipt of the log. Well formed; its signature is not verified.

    Attributes:
        public: What the enclave is said to have stated.
        signature: 128 hex digits.
        private_sealed: Private part, sealed to the tenant's audit key; None if it has none.
    """

    public: PublicPart
    signature: str
    private_sealed: bytes | None = field(repr=False)

    def to_json(self) -> JSONObject:
        """Return the entry as the gateway tells it."""
        sealed = self.private_sealed
        return {
            "public": self.public.to_json(),
            "signature": self.signature,
            "private_sealed": None if sealed is None else formats.to_base64(sealed),
        }


@dataclass(frozen=True, slots=True)
class AuditPage:
    """One page, newest first.

    Attributes:
        page: From 1.
        limit: Most entries of a page.
        total: How many receipts match in all.
    """

    entries: tuple[AuditEntry, ...]
    page: int
    limit: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which receipts of the tenant.

    Attributes:
        outcome, key_id, attestation_hash: Exactly these, where given.
        since: ``issued_at`` from here on.
        until: ``issued_at`` before this.
        limit: Most entries of a page.
    """

    outcome: str | None = None
    key_id: str | None = None
    attestation_hash: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = DEFAULT_LIMIT

    def parameters(self, page: int) -> dict[str, str | int]:
        """Return the query of one page."""
        texts = {
            "outcome": self.outcome,
            "key_id": self.key_id,
            "attestation_hash": self.attestation_hash,
            "since": _instant(self.since),
            "until": _instant(self.until),
        }
        asked: dict[str, str | int] = {"page": page, "limit": self.limit}
        return asked | {name: text for name, text in texts.items() if text is not None}


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else read.rfc3339(moment)


def parse_entry(value: JSONValue) -> AuditEntry:
    """Read one entry.

    Raises:
        JSONError: Another form.
    """
    members = formats.members(value, "audit entry", _ENTRY)
    sealed = members["private_sealed"]
    return AuditEntry(
        parse_public_part(members["public"]),
        parse_signature(members["signature"]).hex(),
        None
        if sealed is None
        else formats.base64_bytes(sealed, "audit entry.private_sealed", SEALED_BODY_MAX_BYTES),
    )


def parse_page(value: JSONObject) -> AuditPage:
    """Read a page.

    Raises:
        JSONError: Another form.
    """
    members = formats.members(value, "audit", _PAGE)
    return AuditPage(
        tuple(parse_entry(item) for item in read.array(members["entries"], "audit.entries")),
        formats.integer(members["page"], "audit.page", 1),
        formats.integer(members["limit"], "audit.limit", 1),
        formats.integer(members["total"], "audit.total"),
    )
