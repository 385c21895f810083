"""Keeping requests that an enclave holds: durable before their callers are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latensgate_parent.store.held_forms import HoldState, StoredHold

if TYPE_CHECKING:
    from latensgate_parent.clock import Clock
    from latensgate_parent.http.sealed_call import SealedCall
    from latensgate_parent.store.held_forms import HoldStore
    from latensgate_shared.calls import InferenceEnd


class HoldShelf:
    """Stores what enclaves hand over.

    Args:
        store: Where held requests are.
        clock: Seconds since 1970.
    """

    def __init__(self, store: HoldStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def keep(
        self, sealed: SealedCall, end: InferenceEnd, receipt_id: str, enclave: str
    ) -> None:
        """Return when a request is kept, if its answer says that it is held.

        Raises:
            StoreError: It is not: its caller must not be told of an id that nobody finds.
        """
        if end.pending_id is None or end.pending_state is None or end.pending_until is None:
            return
        call = sealed.call
        await self._store.insert_hold(
            StoredHold(
                pending_id=end.pending_id,
                tenant_id=call.tenant_id,
                receipt_id=receipt_id,
                attestation_hash=call.attestation_hash,
                model=call.model,
                operation=call.operation,
                enclave=enclave,
                state=HoldState.PENDING,
                holder="",
                held_at_s=int(self._clock()),
                expires_at_s=end.pending_until,
                sealed_request=sealed.sealed_request,
                settings=call.tenant_settings or b"",
                pending_state=end.pending_state,
            )
        )
