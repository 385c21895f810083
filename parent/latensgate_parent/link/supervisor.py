"""Keeps one enclave fit to serve, as far as the parent can: credentials, KMS, manifests, usage.

Every few seconds the enclave is asked how it is, and what is missing is done again: there is no
state in which only a restart of the parent would help. Whatever fails is told to the log and tried
again after a pause that grows to a bound.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from latensgate_parent.limits import (
    ATTESTATION_POLL_MS,
    CONTROL_RETRY_MAX_MS,
    CONTROL_RETRY_MIN_MS,
    CREDENTIALS_POLL_MS,
    HEALTH_POLL_MS,
    USAGE_POLL_MS,
)
from latensgate_parent.link.events import LinkEvent, LinkEventKind
from latensgate_parent.link.usage import fetch_usage
from latensgate_shared.calls import (
    AttestationCall,
    BedrockState,
    ConfigureKMSCall,
    EnclaveState,
    KMSState,
)
from latensgate_shared.errors import LatensgateError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from latensgate_parent.link.credentials import AWSCredentials, CredentialsProvider
    from latensgate_parent.link.enclave import ConnectedEnclave
    from latensgate_parent.link.events import EventSink
    from latensgate_parent.link.member import Member
    from latensgate_parent.link.registry import KeyRegistry
    from latensgate_parent.store.interfaces import DocumentStore
    from latensgate_shared.calls import HealthAnswer

_UNIDENTIFIED: Final = frozenset({BedrockState.UNCHECKED, BedrockState.UNREACHABLE})


def pause_s(failures: int, min_ms: int, max_ms: int) -> float:
    """Return a pause in seconds that doubles with each failure; half of it is random."""
    longest = min(max_ms, min_ms << min(failures, 32))
    return longest * random.uniform(0.5, 1.0) / 1_000  # noqa: S311  # spreads load, hides nothing


class Duty:
    """Something to be done at times.

    Args:
        period_ms: From one success to the next time.
    """

    def __init__(self, period_ms: int) -> None:
        self._period_s = period_ms / 1_000
        self._next_at = 0.0
        self._failures = 0

    def is_due(self, now: float) -> bool:
        """Whether its time has come; seconds of the loop's clock."""
        return now >= self._next_at

    def done(self, now: float) -> None:
        """It has succeeded."""
        self._failures = 0
        self._next_at = now + self._period_s

    def failed(self, now: float) -> None:
        """It has not; try again after a pause."""
        self._next_at = now + pause_s(self._failures, CONTROL_RETRY_MIN_MS, CONTROL_RETRY_MAX_MS)
        self._failures += 1

    def hurry(self) -> None:
        """It is needed before its time; a pause after failures is kept, and one after success."""
        if not self._failures:
            last = self._next_at - self._period_s
            self._next_at = min(self._next_at, last + CONTROL_RETRY_MIN_MS / 1_000)

    def again(self) -> None:
        """What it failed for may have changed: try at once."""
        self._failures = 0
        self._next_at = 0.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What supervising needs.

    Attributes:
        key_arn: KMS key of the release.
        deployment_digest: ``sha384:…`` of ``deployment.toml``, as manifests state it.
        store: Documents, wrapped secrets, usage.
        credentials: For the enclaves.
        registry: Key id → enclave.
        events: The log.
        now_ms: Milliseconds since 1970.
    """

    key_arn: str
    deployment_digest: str
    store: DocumentStore
    credentials: CredentialsProvider
    registry: KeyRegistry
    events: EventSink
    now_ms: Callable[[], int]


class Supervisor:
    """Looks after one enclave over one connection; a new connection gets a new one.

    A connection does not tell whether the enclave behind it is the one of before, so everything is
    delivered anew.
    """

    def __init__(self, member: Member, link: ConnectedEnclave, surroundings: Surroundings) -> None:
        self._member = member
        self._link = link
        self._at = surroundings
        self._clock = asyncio.get_running_loop().time
        self._delivered: AWSCredentials | None = None
        self._credentials = Duty(CREDENTIALS_POLL_MS)
        self._configured = False
        self._gate = Duty(0)
        self._attestation = Duty(ATTESTATION_POLL_MS)
        self._usage = Duty(USAGE_POLL_MS)

    async def run(self) -> None:
        """Look after it until the connection ends."""
        closed = asyncio.ensure_future(self._link.wait_closed())
        try:
            while not closed.done():
                await self.turn()
                await asyncio.wait({closed}, timeout=HEALTH_POLL_MS / 1_000)
        finally:
            closed.cancel()

    async def turn(self) -> None:
        """Ask once how it is, and do what is due."""
        health = await self._ask_health()
        if health is None:
            return
        if await self._tend(health):
            health = await self._ask_health() or health
        if health.enclave is EnclaveState.READY:
            await self._do(self._attestation, self._publish, LinkEventKind.PUBLISH_FAILED)
            await self._do(self._usage, self._fetch_usage, LinkEventKind.USAGE_FAILED)

    async def _tend(self, health: HealthAnswer) -> bool:
        """Deliver credentials and open the gate if need be; return whether anything changed."""
        delivered, configured = self._delivered, self._configured
        if health.bedrock in _UNIDENTIFIED:
            self._delivered = None
            self._credentials.hurry()
        await self._do(
            self._credentials, self._deliver_credentials, LinkEventKind.CREDENTIALS_FAILED
        )
        closed = health.kms is not KMSState.RELEASED and health.enclave is not EnclaveState.DRAINING
        opened = False
        if closed or not configured:
            opened = await self._do(self._gate, self._open_gate, LinkEventKind.GATE_FAILED)
        return opened or self._delivered is not delivered

    async def _do(
        self, duty: Duty, work: Callable[[], Awaitable[None]], failure: LinkEventKind
    ) -> bool:
        if not duty.is_due(self._clock()) or not self._link.is_open:
            return False
        try:
            await work()
        except LatensgateError as error:
            duty.failed(self._clock())
            self._tell(failure, error)
            return False
        duty.done(self._clock())
        return True

    async def _ask_health(self) -> HealthAnswer | None:
        before = self._member.health
        try:
            health = await self._link.health()
        except LatensgateError as error:
            self._tell(LinkEventKind.HEALTH_FAILED, error)
            return None
        self._member.saw(health, self._at.now_ms())
        if health != before:
            states = f"enclave={health.enclave} kms={health.kms} bedrock={health.bedrock}"
            self._at.events(LinkEvent(LinkEventKind.STATE, self._member.name, detail=states))
        return health

    async def _deliver_credentials(self) -> None:
        credentials = await self._at.credentials.credentials()
        if credentials == self._delivered:
            return
        await self._link.deliver_credentials(credentials.to_call())
        self._delivered = credentials
        self._gate.again()
        self._tell(LinkEventKind.CREDENTIALS_DELIVERED)

    async def _open_gate(self) -> None:
        """Name the KMS key; of two first wrapped secrets the one that is stored first counts."""
        key = self._at.key_arn, self._at.deployment_digest
        stored = await self._at.store.wrapped_secret(*key)
        answer = await self._link.configure_kms(ConfigureKMSCall(self._at.key_arn, stored))
        if answer.wrapped_secret is not None:
            winner = await self._at.store.insert_wrapped_secret(*key, answer.wrapped_secret)
            self._tell(LinkEventKind.WRAPPED_SECRET_STORED)
            if winner != answer.wrapped_secret:
                await self._link.configure_kms(ConfigureKMSCall(self._at.key_arn, winner))
        self._configured = True
        self._attestation.again()
        self._tell(LinkEventKind.GATE_OPENED)

    async def _publish(self) -> None:
        answer = await self._link.attestation(AttestationCall())
        await self._at.registry.learn(self._member, answer)

    async def _fetch_usage(self) -> None:
        manifest = self._at.registry.newest(self._member)
        if manifest is None:
            self._usage.again()
            return
        stored = await fetch_usage(self._link, manifest.receipt_public_key)
        await self._at.store.store_usage(stored)
        self._tell(LinkEventKind.USAGE_STORED)

    def _tell(self, kind: LinkEventKind, error: LatensgateError | None = None) -> None:
        code, detail = (None, "") if error is None else (error.code, error.detail)
        self._at.events(LinkEvent(kind, self._member.name, code, detail))
