"""States of held requests, without requests."""

from __future__ import annotations

from latensgate_enclave.holds import PendingState


def state(number: int, *, expires_at: int) -> PendingState:
    return PendingState(
        pending_id=f"hld_{number:032x}",
        expires_at=expires_at,
        attestation_hash="sha384:" + "00" * 48,
        model="m",
        tenant_id="tnt_00000000",
        operation="chat.completions",
        stream=False,
        shared_secret=bytes(32),
        surrogate_secret=bytes(32),
        settings="none",
        tenant_root=bytes(32),
        settings_version=1,
        plan_salt=bytes(32),
        plan_digest="sha384:" + "00" * 48,
        counts={"US_SSN": {"prompt": 1}},
        show_content=False,
    )
