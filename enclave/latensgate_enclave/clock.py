"""Enclave time: the timestamp of an own, fresh NSM document plus CLOCK_MONOTONIC.

Never the parent's time and never the system clock. The NSM's timestamp comes from the hypervisor
side; it was measured to be within a second of NTP, where the guest clock drifts by seconds a week.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latensgate_shared.cbor import decode
from latensgate_shared.cose import parse_sign1
from latensgate_shared.errors import LatensgateError
from latensgate_shared.limits import (
    ATTESTATION_DOCUMENT_MAX_BYTES,
    ATTESTATION_PAYLOAD_MAX_BYTES,
)

if TYPE_CHECKING:
    from latensgate_enclave.environment import NSM, MonotonicClock

_NS_PER_MS = 1_000_000


class ClockError(LatensgateError):
    """The NSM gave no usable time; without time nothing is served."""


def own_document_timestamp_ms(document: bytes) -> int:
    """Return the timestamp of a document that this enclave has just got from its own NSM.

    The document is not verified: it comes from the device, and who controls the device controls
    the enclave.

    Returns:
        Milliseconds since 1970, UTC.

    Raises:
        MalformedError: The bytes are no COSE_Sign1 with a CBOR map as payload.
        ClockError: The map has no positive integer timestamp.
    """
    payload = decode(
        parse_sign1(document, max_bytes=ATTESTATION_DOCUMENT_MAX_BYTES).payload,
        max_bytes=ATTESTATION_PAYLOAD_MAX_BYTES,
        indefinite_root_map=True,
    )
    timestamp = payload.get("timestamp") if isinstance(payload, dict) else None
    if type(timestamp) is not int or timestamp <= 0:
        raise ClockError("the NSM's document holds no positive integer timestamp")
    return timestamp


class EnclaveClock:
    """Tells enclave time between refreshes; the difference is CLOCK_MONOTONIC's."""

    def __init__(self, nsm: NSM, monotonic_ns: MonotonicClock) -> None:
        self._nsm = nsm
        self._monotonic_ns = monotonic_ns
        self._offset_ms: int | None = None

    async def refresh(self) -> None:
        """Take the time anew.

        The document was stamped between asking and answer, so the middle of the two is the best
        guess; an NSM call takes a few milliseconds.

        Raises:
            ClockError: The NSM's time would move enclave time backwards past its last reading by
                more than a second: time that jumps back would re-open the replay window.
        """
        asked_ms = self._monotonic_ns() // _NS_PER_MS
        document = await self._nsm.attest(user_data=None, nonce=None, public_key=None)
        answered_ms = self._monotonic_ns() // _NS_PER_MS
        offset_ms = own_document_timestamp_ms(document) - (asked_ms + answered_ms) // 2
        if self._offset_ms is not None and offset_ms < self._offset_ms - _MAX_STEP_BACK_MS:
            raise ClockError(
                f"the NSM's time went back by {self._offset_ms - offset_ms} ms, at most "
                f"{_MAX_STEP_BACK_MS} ms is drift"
            )
        self._offset_ms = offset_ms

    def now_ms(self) -> int:
        """Return enclave time in milliseconds since 1970.

        Raises:
            ClockError: `refresh` has never succeeded.
        """
        if self._offset_ms is None:
            raise ClockError("enclave time was never set")
        return self._monotonic_ns() // _NS_PER_MS + self._offset_ms

    def now_s(self) -> int:
        """Return enclave time in whole seconds since 1970."""
        return self.now_ms() // 1000


_MAX_STEP_BACK_MS = 1_000
"""Drift between two refreshes stays far below; facts C2: at most 6 s a week."""
