"""The seam: everything the enclave needs from outside its own memory, and nothing more.

The composition root (`__main__`) chooses the implementations once. Above this file no code knows
whether it runs on Nitro hardware, in QEMU or in the simulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Mapping

    from latensgate_enclave.events import EventLog


@dataclass(frozen=True, slots=True)
class OwnMeasurements:
    """PCR0, PCR1 and PCR2 of this enclave, 48 bytes each, as its NSM states them."""

    pcr0: bytes
    pcr1: bytes
    pcr2: bytes


class NSM(Protocol):
    """The Nitro Security Module (`/dev/nsm`). Calls are serial: it serves one at a time."""

    async def attest(
        self, *, user_data: bytes | None, nonce: bytes | None, public_key: bytes | None
    ) -> bytes:
        """Return a fresh attestation document (COSE_Sign1); fields of at most 1,024 bytes."""
        ...

    async def describe_pcrs(self, *indexes: int) -> Mapping[int, bytes]:
        """Return the values of the named PCRs, 48 bytes each."""
        ...


class Dial(Protocol):
    """The parent's byte tunnel to one host of the allow-list. Carries TLS, never plaintext."""

    async def __call__(self, host: str, port: int) -> tuple[StreamReader, StreamWriter]:
        """Connect; raises `EgressError` when the tunnel refuses or does not answer in time."""
        ...


class MonotonicClock(Protocol):
    """CLOCK_MONOTONIC: never set by anyone."""

    def __call__(self) -> int:
        """Return nanoseconds since an arbitrary start."""
        ...


class Entropy(Protocol):
    """The kernel's generator, which is fed by the NSM."""

    def __call__(self, length: int, /) -> bytes:
        """Return fresh random bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Environment:
    """One implementation of each."""

    nsm: NSM
    dial: Dial
    monotonic_ns: MonotonicClock
    entropy: Entropy
    events: EventLog
