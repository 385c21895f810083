"""All enclaves of this parent: connected again whenever they can be, routed by key id."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latensgate_parent.limits import LINK_RECONNECT_MAX_MS, LINK_RECONNECT_MIN_MS
from latensgate_parent.link.enclave import connect_enclave
from latensgate_parent.link.events import LinkEvent, LinkEventKind
from latensgate_parent.link.interfaces import EnclaveError
from latensgate_parent.link.member import Member
from latensgate_parent.link.registry import KeyRegistry
from latensgate_parent.link.supervisor import Supervisor, Surroundings, pause_s
from latensgate_parent.link.usage import fetch_usage
from latensgate_shared.calls import AttestationCall, BedrockState
from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from latensgate_parent.link.address import Address
    from latensgate_parent.link.credentials import CredentialsProvider
    from latensgate_parent.link.events import EventSink
    from latensgate_parent.link.interfaces import Enclave, EnclaveStatus, HoldingEnclave
    from latensgate_parent.link.open_calls import OnOrphan
    from latensgate_parent.store.interfaces import DocumentStore
    from latensgate_shared.calls import AttestationAnswer
    from latensgate_shared.calls_upstream import UpstreamCredentialAnswer, UpstreamCredentialCall


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """What the operator says.

    Attributes:
        enclaves: Where they listen.
        key_arn: KMS key of the release.
        deployment_digest: ``sha384:…`` of ``deployment.toml``.
    """

    enclaves: Sequence[Address]
    key_arn: str
    deployment_digest: str


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class EnclaveFleet:
    """A ``Fleet`` that keeps itself.

    Args:
        settings: What the operator says.
        store: Documents are archived here before their keys are routed.
        credentials: For the enclaves.
        on_orphan: Gets the end and the receipt id of every inference that nobody waits for any
            more: its receipt must be stored. Runs in the loop and must not block.
        events: The log.
        now_ms: Milliseconds since 1970.
    """

    def __init__(  # noqa: PLR0913  # the composition root's one call, all by name
        self,
        settings: FleetSettings,
        *,
        store: DocumentStore,
        credentials: CredentialsProvider,
        on_orphan: OnOrphan,
        events: EventSink,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        self._registry = KeyRegistry(store, lambda: now_ms() // 1_000, events)
        self._surroundings = Surroundings(
            settings.key_arn,
            settings.deployment_digest,
            store,
            credentials,
            self._registry,
            events,
            now_ms,
        )
        self._members = [Member(address, self._registry) for address in settings.enclaves]
        self._on_orphan = on_orphan
        self._events = events
        self._keepers: list[asyncio.Task[None]] = []
        self._turn = 0

    # --- life ---

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._keepers = [asyncio.create_task(self._keep(member)) for member in self._members]

    async def aclose(self) -> None:
        """Stop looking after the enclaves and cut every connection."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for member in self._members:
            if member.link is not None:
                member.link.close()

    async def wait_ready(self) -> None:
        """Return when an enclave is ready; give it a deadline with ``asyncio.timeout``."""
        while not any(member.is_ready for member in self._members):  # noqa: ASYNC110  # time, too
            await asyncio.sleep(0.02)

    async def _keep(self, member: Member) -> None:
        """Connect, look after, connect again; the pause between grows until it has answered."""
        failures = 0
        while True:
            answered_at_ms = member.status.checked_at_ms
            try:
                await self._connect_and_supervise(member)
            except LatensgateError as error:
                if not failures:  # once until it has answered again
                    self._tell(LinkEventKind.CONNECT_FAILED, member, error.code, error.detail)
            except Exception as error:  # noqa: BLE001  # an enclave must not stay alone for a bug
                self._tell(LinkEventKind.INTERNAL, member, None, type(error).__name__)
            failures = 0 if member.status.checked_at_ms != answered_at_ms else failures + 1
            await asyncio.sleep(pause_s(failures, LINK_RECONNECT_MIN_MS, LINK_RECONNECT_MAX_MS))

    async def _connect_and_supervise(self, member: Member) -> None:
        link = await connect_enclave(member.address, self._on_orphan)
        member.connected(link)
        self._tell(LinkEventKind.CONNECTED, member)
        try:
            await Supervisor(member, link, self._surroundings).run()
            self._tell(LinkEventKind.DISCONNECTED, member, detail=await link.wait_closed())
        finally:
            link.close()

    def _tell(
        self,
        kind: LinkEventKind,
        member: Member,
        code: ErrorCode | None = None,
        detail: str = "",
    ) -> None:
        self._events(LinkEvent(kind, member.name, code, detail))

    # --- Fleet ---

    def holder_of(self, key_id: str) -> Enclave:
        """Return the enclave that holds a key; if it is not connected, its calls say so.

        Raises:
            EnclaveError: ``ERR_KEY_STALE``: none does; nothing was dispatched.
        """
        member = self._registry.holder(key_id)
        if member is None:
            raise EnclaveError("no enclave here holds this key", code=ErrorCode.ERR_KEY_STALE)
        return member

    def ready(self) -> Enclave:
        """Return a ready enclave, in turn; one that can reach its model before one that cannot.

        Raises:
            EnclaveError: ``ERR_ENCLAVE_UNAVAILABLE``.
        """
        ready = [member for member in self._members if member.is_ready]
        if not ready:
            raise EnclaveError("no enclave is ready", code=ErrorCode.ERR_ENCLAVE_UNAVAILABLE)
        able = [member for member in ready if _reaches_model(member)] or ready
        self._turn += 1
        return able[self._turn % len(able)]

    def named(self, name: str) -> HoldingEnclave:
        """Return the enclave of this address; if it is not connected, its calls say so.

        Raises:
            EnclaveError: ``ERR_HOLD_LOST``: there is none here any more.
        """
        for member in self._members:
            if member.name == name:
                return member
        raise EnclaveError("no enclave of this address is here", code=ErrorCode.ERR_HOLD_LOST)

    def statuses(self) -> Sequence[EnclaveStatus]:
        """Return what is known of each, without asking."""
        return [member.status for member in self._members]

    # --- for operators, and at the end ---

    @property
    def open_calls(self) -> int:
        """Calls whose end has not come, also those that nobody waits for: it holds a receipt."""
        return sum(member.link.open_calls for member in self._members if member.link is not None)

    async def collect_usage(self) -> None:
        """Fetch and store the totals of every connected enclave; failures go to the log."""
        await asyncio.gather(*(self._collect(member) for member in self._members))

    async def _collect(self, member: Member) -> None:
        manifest = self._registry.newest(member)
        if member.link is None or manifest is None:
            return
        try:
            stored = await fetch_usage(member.link, manifest.receipt_public_key)
            await self._surroundings.store.store_usage(stored)
        except LatensgateError as error:
            self._tell(LinkEventKind.USAGE_FAILED, member, error.code, error.detail)
        else:
            self._tell(LinkEventKind.USAGE_STORED, member)

    @property
    def names(self) -> Sequence[str]:
        """Enclaves that are connected."""
        return [member.name for member in self._members if member.link is not None]

    async def attestation_of(self, name: str, nonce: bytes) -> AttestationAnswer:
        """Return the attestation of one enclave, freshly proven. Raises as ``drain``."""
        return await self._connected(name).attestation(AttestationCall(nonce))

    async def upstream_credential(
        self, name: str, call: UpstreamCredentialCall
    ) -> UpstreamCredentialAnswer:
        """Hand a sealed credential over, or ask which are missing. Raises as ``drain``."""
        link = self._connected(name).link
        assert link is not None  # noqa: S101  # `_connected` has looked
        return await link.upstream_credential(call)

    def _connected(self, name: str) -> Member:
        for member in self._members:
            if member.name == name and member.link is not None:
                return member
        raise EnclaveError("no enclave of this name is connected", code=ErrorCode.ERR_NOT_FOUND)

    async def drain(self, name: str) -> int:
        """Have an enclave take no further requests, and store its totals.

        Returns:
            How many calls still run there; ask again until none does, so that the totals that are
            stored are its last.

        Raises:
            EnclaveError: ``ERR_NOT_FOUND``: no enclave of this name; or it could not be asked.
            EnclaveLostError: The connection ended.
        """
        member = self._connected(name)
        assert member.link is not None  # noqa: S101  # `_connected` has looked
        answer = await member.link.drain()
        await self._collect(member)
        return answer.open_calls


def _reaches_model(member: Member) -> bool:
    health = member.health
    return health is not None and health.bedrock in {BedrockState.READY, BedrockState.LOGGING_ON}
