"""What one enclave remembers of requests that wait for an approver (docs/spec/holds.md).

What it would forward is not kept here. The parent keeps the sealed request, which it cannot read,
and beside it a state that this enclave sealed to itself: the KEM's shared secret of that request,
the plan's digest, and what the settings were. The key of these states lives in this process alone,
and goes when the enclave's keys go: then every request that waits is lost, and is asked anew.

Remembered are only the ids of requests that were decided, until they would have expired anyway: a
parent that presents one twice, or repeats an approval, gets nothing run a second time.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.hold import HoldLostError
from latensgate_shared.hpke_primitives import Concealed
from latensgate_shared.limits import HOLDS_SPENT_MAX_COUNT, RECEIPT_TENANTS_MAX_COUNT

if TYPE_CHECKING:
    from latensgate_shared.settings import TenantSettings

_LABEL: Final = b"latensgate/1 hold state"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class PendingState(msgspec.Struct, frozen=True, kw_only=True):
    """What is sealed of a held request; never printed.

    Attributes:
        pending_id: `hld_` and 32 hex digits.
        expires_at: Seconds since 1970, enclave time.
        attestation_hash, model, tenant_id, operation, stream: The visible part of the request.
        shared_secret: Of the request's KEM: opens it again.
        surrogate_secret: Where the request had no conversation secret: the random one it got.
        settings: Version and digest of what was in force.
        tenant_root: Ed25519 key that signs the tenant's settings.
        settings_version: Of those in force.
        plan_salt: Of the digest.
        plan_digest: Of what is to be forwarded.
        counts: What asks for an approver.
        show_content: Whether approvers may read what would be forwarded.
    """

    pending_id: str
    expires_at: int
    attestation_hash: str
    model: str
    tenant_id: str
    operation: str
    stream: bool
    shared_secret: bytes
    surrogate_secret: bytes
    settings: str
    tenant_root: bytes
    settings_version: int
    plan_salt: bytes
    plan_digest: str
    counts: dict[str, dict[str, int]]
    show_content: bool

    def __repr__(self) -> str:
        """Say which, and nothing of it."""
        return f"<PendingState {self.pending_id}>"


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(PendingState)


class Holds(Concealed):
    """The key of held requests, and which of them were decided.

    Args:
        max_spent: How many decided ids are remembered.
    """

    __slots__ = ("_cipher", "_ends", "_max_spent", "_newest", "_spent")

    def __init__(self, max_spent: int = HOLDS_SPENT_MAX_COUNT) -> None:
        self._max_spent = max_spent
        self._spent: set[str] = set()
        self._ends: list[tuple[int, str]] = []
        self._newest: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        self.drop()

    def drop(self) -> None:
        """Forget the key: KMS has denied. Everything that waits is lost."""
        self._cipher = AESGCM(os.urandom(_KEY_BYTES))

    def seal(self, state: PendingState) -> bytes:
        """Seal a state to this enclave: nonce (12 bytes) ‖ AES-256-GCM."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, _ENCODER.encode(state), _LABEL)

    def open(self, sealed: bytes) -> PendingState:
        """Open a state.

        Raises:
            HoldLostError: This enclave did not seal it, or not since it got its keys.
        """
        try:
            plain = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _LABEL)
        except (InvalidTag, ValueError):
            raise HoldLostError("hold: this enclave does not hold such a request") from None
        return _DECODER.decode(plain)

    def spend(self, state: PendingState, now_s: int) -> None:
        """Let a request be decided, once.

        Raises:
            LatensgateError: `ERR_OUTCOME_UNKNOWN`: it was decided before; `ERR_OVERLOADED`: it
                could not be remembered that it is decided now.
        """
        while self._ends and self._ends[0][0] <= now_s:  # expired ones are refused as such
            self._spent.discard(heappop(self._ends)[1])
        if state.pending_id in self._spent:
            raise LatensgateError(
                "hold: this request was decided before", code=ErrorCode.ERR_OUTCOME_UNKNOWN
            )
        if len(self._spent) >= self._max_spent:
            raise LatensgateError(
                f"{self._max_spent} decided requests are remembered and none has expired yet",
                code=ErrorCode.ERR_OVERLOADED,
            )
        self._spent.add(state.pending_id)
        heappush(self._ends, (state.expires_at, state.pending_id))

    def seen(self, settings: TenantSettings) -> None:
        """Note that settings of this version exist: no older ones name an approver here again."""
        name = (settings.tenant_id, settings.root)
        self._newest[name] = max(settings.version, self._newest.get(name, 0))
        self._newest.move_to_end(name)
        if len(self._newest) > RECEIPT_TENANTS_MAX_COUNT:
            self._newest.popitem(last=False)

    def oldest_admitted(self, state: PendingState) -> int:
        """Return the version that settings must have at least to name an approver."""
        name = (state.tenant_id, state.tenant_root)
        return max(state.settings_version, self._newest.get(name, 0))
