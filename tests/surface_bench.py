"""The gateway's surface in this process: a store in memory, enclaves that are only told of."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar
from unittest import mock

import httpx

from latensgate.verify import AppraisalPolicy, Measurements, parse_untrusted_document
from latensgate_parent import api_keys
from latensgate_parent.deployment import DeployedModel
from latensgate_parent.http.asgi import Gateway
from latensgate_parent.http.attestation_cache import AttestationCache
from latensgate_parent.http.auth import Authenticator
from latensgate_parent.http.context import Services
from latensgate_parent.http.exchange import Exchange
from latensgate_parent.http.observer import RequestDone
from latensgate_parent.http.openapi import describe
from latensgate_parent.http.rate_limit import MemoryRateLimiter
from latensgate_parent.http.sealed_route import SealedRoute
from latensgate_parent.http.settings_shelf import SettingsShelf
from latensgate_parent.http.surface import Surface, routes_only
from latensgate_parent.http.usage_book import UsageBook
from latensgate_parent.http.verdict import DocumentJudge
from latensgate_parent.link.interfaces import (
    EnclaveError,
    EnclaveStatus,
    HoldingEnclave,
    InferenceReply,
)
from latensgate_parent.settings_forms import Network
from latensgate_parent.store.interfaces import ArchivedDocument, Store, StoredReceipt, Tenant
from latensgate_shared.calls import (
    AttestationAnswer,
    AttestationCall,
    BedrockState,
    EnclaveState,
    HealthAnswer,
    InferenceCall,
    KMSState,
)
from latensgate_shared.error_answers import ErrorAnswer, parse_error_answer
from latensgate_shared.errors import ErrorCode
from latensgate_shared.manifest import build_user_data, encode_manifest
from latensgate_shared.receipts import PublicPart
from nitro_factory import PCR0, PCR1, PCR2, Draft, root_sha256
from protocol_examples import RECEIPT_KEY, manifest, public_members, sign
from store_memory import MemoryStore

_T = TypeVar("_T")
NOW_S = 1_780_315_400
TENANT = "tnt_a3f9c42b"
OTHER_TENANT = "tnt_00000001"
HELD_KEY = "5e0f3c2a9d817b64"
MANIFEST = encode_manifest(manifest())
GOOD = HealthAnswer(EnclaveState.READY, KMSState.RELEASED, BedrockState.READY)


@cache
def described(url: str) -> dict[str, object]:
    """Return the OpenAPI document: made once, it takes most of the time of a bench."""
    return describe(routes_only(), url)


def described_for(_: object, url: str) -> dict[str, object]:
    return described(url)


def document(draft: Draft | None = None) -> bytes:
    """Return a published document over MANIFEST."""
    return (draft or Draft()).but(user_data=build_user_data(MANIFEST, None)).sign()


def policy() -> AppraisalPolicy:
    return AppraisalPolicy(
        measurements=(Measurements(PCR0, PCR1, PCR2),),
        unsafe_accept_simulated_root_sha256=root_sha256(),
    )


@dataclass
class TalkingEnclave:
    """Answers attestations; everything else is not for the surface."""

    name: str = "unix:/enclave-0"
    links: int = 1
    calls: list[AttestationCall] = field(default_factory=list[AttestationCall])
    error: Exception | None = None

    async def infer(self, call: InferenceCall, sealed_request: bytes) -> InferenceReply:
        raise NotImplementedError

    async def stream(self, call: InferenceCall, sealed_request: bytes) -> object:
        raise NotImplementedError

    async def attestation(self, call: AttestationCall) -> AttestationAnswer:
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        found = document()
        name = parse_untrusted_document(found).attestation_hash
        return AttestationAnswer(name, found, MANIFEST, None if call.nonce is None else b"fresh")


@dataclass
class ToldFleet:
    """A fleet of one enclave, and any statuses."""

    enclave: TalkingEnclave = field(default_factory=TalkingEnclave)
    found: list[EnclaveStatus] = field(default_factory=list[EnclaveStatus])
    is_ready: bool = True

    def holder_of(self, key_id: str) -> TalkingEnclave:
        if key_id != HELD_KEY:
            raise EnclaveError("none holds it", code=ErrorCode.ERR_KEY_STALE)
        return self.enclave

    def ready(self) -> TalkingEnclave:
        if not self.is_ready:
            raise EnclaveError("/secret/path", code=ErrorCode.ERR_ENCLAVE_UNAVAILABLE)
        return self.enclave

    def statuses(self) -> Sequence[EnclaveStatus]:
        return self.found


class HoldingBench:
    """A fleet whose enclaves hold what a test says."""

    def __init__(self) -> None:
        self.enclave: HoldingEnclave | None = None

    def named(self, name: str) -> HoldingEnclave:
        if self.enclave is None or name != "unix:/enclave-0":
            raise EnclaveError("none is there", code=ErrorCode.ERR_HOLD_LOST)
        return self.enclave


@dataclass
class Notes:
    """An observer that remembers."""

    done: list[RequestDone] = field(default_factory=list[RequestDone])
    faults: list[BaseException] = field(default_factory=list[BaseException])

    def request_done(self, done: RequestDone) -> None:
        self.done.append(done)

    def failed_unexpectedly(self, correlation_id: str, error: BaseException) -> None:
        assert correlation_id
        self.faults.append(error)


class SurfaceBench:
    """A gateway without inference, and what stands behind it. Time stands still until moved."""

    def __init__(
        self,
        trusted_proxies: Sequence[Network] = (),
        *,
        open_store: Callable[[], Coroutine[object, object, Store]] | None = None,
    ) -> None:
        self.runner = asyncio.Runner()
        self.store: Store = MemoryStore() if open_store is None else self.run(open_store())
        self.fleet = ToldFleet()
        self.notes = Notes()
        self.now = float(NOW_S)
        self.draining = False
        self.store_fails = False
        self.limiter = MemoryRateLimiter()
        self.holding = HoldingBench()
        self.services = Services(
            store=self.store,
            fleet=self.fleet,  # type: ignore[arg-type]  # of an enclave only what the surface asks
            authenticator=Authenticator(self.store, self.clock, self.clock),
            limiter=self.limiter,
            attestations=AttestationCache(self.fleet, self.clock),  # type: ignore[arg-type]  # as above
            judge=DocumentJudge(policy()),
            usage=UsageBook(self.store, self.clock),
            settings=SettingsShelf(self.store, self.clock),
            holds=SealedRoute.over(self.store, self.notes, self.clock).desk(self.holding),
            models=(
                DeployedModel("claude-3.5-sonnet", 1_759_104_000, shutdown_date="2027-04-01"),
                DeployedModel("nova-embed-2", embeds=True),
            ),
            refuses_logging=True,
            clock=self.clock,
            monotonic=self.clock,
            observer=self.notes,
            is_draining=lambda: self.draining,
            public_url="https://gateway.example",
            trusted_proxies=trusted_proxies,
            is_store_failing=lambda: self.store_fails,
        )
        with mock.patch("latensgate_parent.http.surface.describe", described_for):
            self.surface = Surface(self.services)
        self.gateway = Gateway(_no_inference, self.surface, observer=self.notes)
        for tenant_id in (TENANT, OTHER_TENANT):
            self.run(self.store.insert_tenant(Tenant(tenant_id, "t", 10_000, NOW_S)))

    def clock(self) -> float:
        return self.now

    def close(self) -> None:
        self.runner.close()

    def run(self, work: Coroutine[object, object, _T]) -> _T:
        return self.runner.run(work)

    def key(self, *scopes: str, tenant: str = TENANT, life_s: int | None = None) -> str:
        """Make a key; return it in full."""
        made = api_keys.make_key(
            tenant, "bench", scopes or ("admin",), now_s=NOW_S, life_s=life_s, test=True
        )
        self.run(self.store.insert_key(made.stored))
        return made.full

    def ask(  # noqa: PLR0913 -- what a request is
        self,
        method: str,
        url: str,
        key: str | None = None,
        *,
        json: object = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        peer: str = "192.0.2.1",
    ) -> httpx.Response:
        """Send one request."""
        own = {} if key is None else {"authorization": f"Bearer {key}"}

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(
                self.gateway,
                raise_app_exceptions=False,
                client=(peer, 1),
            )
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                return await client.request(
                    method, url, json=json, content=content, headers={**own, **(headers or {})}
                )

        return self.run(send())

    def refused(self, method: str, url: str, key: str | None = None, **more: object) -> ErrorAnswer:
        """Send a request that is refused; its answer is held to the envelope of all errors."""
        answer = self.ask(method, url, key, **more)  # type: ignore[arg-type]  # handed on
        assert answer.status_code >= 400, answer.text
        told = parse_error_answer(answer.content)
        assert told.error.code.http_status == answer.status_code
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["latensgate-correlation-id"] == told.correlation_id
        return told

    def archive(self, draft: Draft | None = None, *, manifest_bytes: bytes = MANIFEST) -> str:
        """Archive a document; return its hash."""
        raw = document(draft)
        name = parse_untrusted_document(raw).attestation_hash
        self.run(self.store.archive(ArchivedDocument(name, raw, manifest_bytes, NOW_S)))
        return name

    def receipt(self, number: int, *, tenant: str = TENANT, **changes: object) -> StoredReceipt:
        """Store a receipt."""
        members = public_members() | {
            "receipt_id": f"aud_{number:016x}",
            "tenant_id": tenant,
            "sequence": number,
            "previous_receipt_hash": None if number == 0 else "sha384:" + "ab" * 48,
            **changes,
        }
        members.pop("version", None)
        public = PublicPart(**members)  # type: ignore[arg-type]  # the members of an example
        stored = StoredReceipt(
            receipt_id=public.receipt_id,
            tenant_id=tenant,
            key_id=public.key_id,
            sequence=number,
            issued_at_s=public.issued_at,
            outcome=public.outcome,
            attestation_hash=public.attestation_hash,
            public=public.canonical(),
            signature=sign(public).signature,
            private_sealed=b"sealed" if number % 2 else None,
            stored_at_ms=NOW_S * 1000 + number,
        )
        self.run(self.store.insert_receipt(stored))
        return stored


async def _no_inference(_: Exchange) -> None:
    raise NotImplementedError


def receipt_key_hex() -> str:
    return RECEIPT_KEY.public_key().public_bytes_raw().hex()


def sha384_name(data: bytes) -> str:
    return "sha384:" + hashlib.sha384(data).hexdigest()
