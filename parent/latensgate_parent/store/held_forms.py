"""Requests that wait for an approver, as frozen values, and the store that keeps them.

Nothing in them can be read here: the request is sealed to an enclave, and so is its state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_parent.store.interfaces import StoredAnswer


class HoldState(StrEnum):
    """Where a held request stands; one list for whoever polls and whoever decides."""

    PENDING = "pending"
    RUNNING = "running"
    """An approval was taken; the model is asked."""
    ANSWERED = "answered"
    DENIED = "denied"
    FAILED = "failed"
    """It was approved, and came to an error, which is sealed to the caller."""
    UNKNOWN = "unknown"
    """It may have run; nobody can say what became of it."""
    LOST = "lost"
    """Its enclave is gone."""
    EXPIRED = "expired"
    """Nobody decided in time."""


@dataclass(frozen=True, slots=True)
class StoredHold:
    """One held request.

    Attributes:
        pending_id: ``hld_`` and 32 hex digits.
        tenant_id: Whose.
        receipt_id: Of the answer that said that it is held.
        attestation_hash, model, operation: The visible part of the request.
        enclave: Which one holds it, by its address.
        state: Where it stands.
        holder: Which process runs it.
        held_at_s: Seconds since 1970.
        expires_at_s: From then on nobody decides.
        sealed_request: As it came; empty once it is decided.
        settings: The tenant's, in force when it was held.
        pending_state: What the enclave sealed to itself; empty once it is decided.
        answer: Sealed to the caller; present exactly when answered, denied or failed.
    """

    pending_id: str
    tenant_id: str
    receipt_id: str
    attestation_hash: str
    model: str
    operation: str
    enclave: str
    state: HoldState
    holder: str
    held_at_s: int
    expires_at_s: int
    sealed_request: bytes = field(repr=False)
    settings: bytes = field(repr=False)
    pending_state: bytes = field(repr=False)
    answer: StoredAnswer | None = None


class HoldStore(Protocol):
    """Held requests."""

    async def insert_hold(self, hold: StoredHold) -> None:
        """Return when it is durable; the identical one twice is no error."""
        ...

    async def hold(self, tenant_id: str, pending_id: str) -> StoredHold | None:
        """Return one of a tenant."""
        ...

    async def holds(self, tenant_id: str, limit: int) -> Sequence[StoredHold]:
        """Return the newest of a tenant; without what is sealed."""
        ...

    async def claim_hold(self, tenant_id: str, pending_id: str, holder: str) -> bool:
        """Make a pending one running, durably; two at the same moment: exactly one gets True."""
        ...

    async def settle_hold(
        self,
        tenant_id: str,
        pending_id: str,
        state: HoldState,
        answer: StoredAnswer | None = None,
    ) -> None:
        """End a running one, or make it pending again; what does not run stays as it is."""
        ...

    async def abandon_holds(self, holder: str) -> int:
        """Make every running one of other holders one of unknown outcome; return how many."""
        ...

    async def expire_holds(self, before_s: int) -> int:
        """Remove those that expired before a moment; return how many."""
        ...
