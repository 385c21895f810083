"""One configured enclave as the parent's other parts see it, connected or not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from latensgate_parent.limits import HEALTH_STALE_MS
from latensgate_parent.link.interfaces import EnclaveError, EnclaveStatus
from latensgate_shared.calls import EnclaveState
from latensgate_shared.errors import ErrorCode

if TYPE_CHECKING:
    from latensgate_parent.link.address import Address
    from latensgate_parent.link.enclave import ConnectedEnclave
    from latensgate_parent.link.interfaces import InferenceReply, OpenInference
    from latensgate_parent.link.registry import KeyRegistry
    from latensgate_shared.calls import (
        AttestationAnswer,
        AttestationCall,
        HealthAnswer,
        InferenceCall,
    )
    from latensgate_shared.calls_hold import HoldDecideCall, HoldViewAnswer, HoldViewCall


class Member:
    """An ``Enclave`` of the fleet: it keeps its place while its connection comes and goes.

    Attributes:
        address: Where it listens.
        name: The same as text.
        links: Connections so far: another one may lead to another process, with other keys.
    """

    def __init__(self, address: Address, registry: KeyRegistry) -> None:
        self.address = address
        self.name = str(address)
        self.links = 0
        self._registry = registry
        self._link: ConnectedEnclave | None = None
        self._health: HealthAnswer | None = None
        self._checked_at_ms: int | None = None
        self._checked_at = 0.0
        self._checked_link = 0

    # --- what its keeper tells ---

    def connected(self, link: ConnectedEnclave) -> None:
        """Send calls over this connection from now on."""
        self._link = link
        self.links += 1

    def saw(self, health: HealthAnswer, at_ms: int) -> None:
        """Take over its own word on how it is; milliseconds since 1970."""
        self._health = health
        self._checked_at_ms = at_ms
        self._checked_at = time.monotonic()
        self._checked_link = self.links

    # --- what is known ---

    @property
    def link(self) -> ConnectedEnclave | None:
        """The connection, if one stands."""
        return self._link if self._link is not None and self._link.is_open else None

    @property
    def health(self) -> HealthAnswer | None:
        """Its last own answer, however old."""
        return self._health

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests: connected, ready by its own fresh word, its keys routed.

        A word from before it was connected again may be that of a process that is gone.
        """
        if self.link is None or self._health is None or self._checked_link != self.links:
            return False
        fresh = time.monotonic() - self._checked_at <= HEALTH_STALE_MS / 1_000
        ready = self._health.enclave is EnclaveState.READY
        return fresh and ready and self._registry.newest(self) is not None

    @property
    def status(self) -> EnclaveStatus:
        """What operators and ``GET /api/health`` are told."""
        return EnclaveStatus(self.name, self.link is not None, self._health, self._checked_at_ms)

    # --- Enclave ---

    async def infer(self, call: InferenceCall, sealed_request: bytes) -> InferenceReply:
        """Run a request, as ``Enclave.infer``."""
        return await self._connected().infer(call, sealed_request)

    async def stream(self, call: InferenceCall, sealed_request: bytes) -> OpenInference:
        """Run a request, as ``Enclave.stream``."""
        return await self._connected().stream(call, sealed_request)

    async def decide(self, call: HoldDecideCall, body: bytes) -> OpenInference:
        """Present a decision, as ``HoldingEnclave.decide``."""
        return await self._connected().decide(call, body)

    async def view(self, call: HoldViewCall, body: bytes) -> tuple[HoldViewAnswer, bytes]:
        """Show a held request, as ``HoldingEnclave.view``."""
        return await self._connected().view(call, body)

    async def attestation(self, call: AttestationCall) -> AttestationAnswer:
        """Return the attestation of a key, once it is archived and the key is routed here.

        A client seals to what it gets here at once: its request must find its way.

        Raises:
            EnclaveError, EnclaveLostError: As ``Enclave.attestation``.
            StoreError: It could not be archived, so it is not shown to anyone.
        """
        answer = await self._connected().attestation(call)
        await self._registry.learn(self, answer)
        return answer

    def _connected(self) -> ConnectedEnclave:
        link = self.link
        if link is None:
            raise EnclaveError(
                f"{self.name}: not connected", code=ErrorCode.ERR_ENCLAVE_UNAVAILABLE
            )
        return link
