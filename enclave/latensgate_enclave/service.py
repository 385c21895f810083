"""What the parent may ask, and who answers it inside: one method a call."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from latensgate_enclave.aws.sigv4 import Credentials
from latensgate_enclave.hold_service import HeldRequests
from latensgate_enclave.steps import Sealed
from latensgate_enclave.stream import run_stream
from latensgate_shared.calls import (
    AttestationAnswer,
    AttestationCall,
    BedrockState,
    ConfigureKMSAnswer,
    ConfigureKMSCall,
    CredentialsCall,
    Done,
    DrainAnswer,
    DrainCall,
    EnclaveState,
    HealthAnswer,
    HealthCall,
    InferenceCall,
    InferenceEnd,
    InferenceHead,
    KMSState,
    UsageAnswer,
    UsageCall,
    parse_call,
)
from latensgate_shared.calls_hold import HoldDecideCall, HoldViewAnswer, HoldViewCall
from latensgate_shared.calls_upstream import UpstreamCredentialAnswer, UpstreamCredentialCall
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.hold import HoldLostError
from latensgate_shared.limits import NONCE_DOCUMENTS_PER_S
from latensgate_shared.usage import UsageTotals, encode_usage_totals, usage_signing_input

if TYPE_CHECKING:
    from latensgate_enclave.clock import EnclaveClock
    from latensgate_enclave.environment import MonotonicClock
    from latensgate_enclave.identity import UpstreamIdentity
    from latensgate_enclave.keys import KeyRing
    from latensgate_enclave.pipeline import Pipeline
    from latensgate_enclave.receipt_book import ReceiptBook
    from latensgate_enclave.session import Reply, Room
    from latensgate_enclave.steps import Released
    from latensgate_enclave.supervisor import Supervisor
    from latensgate_shared.frames import Request


class Service:
    """Answers calls."""

    def __init__(
        self,
        pipeline: Pipeline,
        supervisor: Supervisor,
        identity: UpstreamIdentity,
        room: Room,
    ) -> None:
        self._pipeline = pipeline
        self._keys: KeyRing = pipeline.parts.keys
        self._receipts: ReceiptBook = pipeline.parts.receipts
        self._clock: EnclaveClock = pipeline.parts.clock
        self._supervisor = supervisor
        self._identity = identity
        self._room = room
        self._held = HeldRequests(pipeline)
        self._nonce_documents = _Rate(
            NONCE_DOCUMENTS_PER_S, pipeline.parts.environment.monotonic_ns
        )

    async def __call__(self, request: Request, body: bytes, reply: Reply) -> None:
        """Answer one call; raises a `LatensgateError` whose code the parent is told."""
        call = parse_call(request)
        match call:
            case InferenceCall():
                await self._infer(call, body, reply)
            case AttestationCall():
                await self._answer(reply, await self._attest(call))
            case HealthCall():
                await self._answer(reply, self._health())
            case CredentialsCall():
                await self._answer(reply, await self._accept_credentials(call))
            case ConfigureKMSCall():
                await self._answer(reply, await self._configure_kms(call))
            case UsageCall():
                await self._usage(reply)
            case DrainCall():
                await self._answer(reply, self._drain())
            case UpstreamCredentialCall():
                credentials = self._pipeline.parts.upstream_credentials
                await self._answer(reply, credentials.answer(call))
            case HoldDecideCall() | HoldViewCall():  # pragma: no branch  # the union is closed
                await self._about_held(call, body, reply)

    async def _answer(
        self,
        reply: Reply,
        answer: AttestationAnswer
        | HealthAnswer
        | ConfigureKMSAnswer
        | DrainAnswer
        | UpstreamCredentialAnswer
        | Done,
    ) -> None:
        reply.head(answer.to_head())
        reply.end({})
        await reply.drained()

    async def _infer(self, call: InferenceCall, body: bytes, reply: Reply) -> None:
        self._room.require_serving()
        self._supervisor.require_open()
        sealed, sink = Sealed(call.outer(), body, call.tenant_settings), _ReplySink(reply)
        if call.stream:
            await run_stream(self._pipeline, sealed, sink)
        else:
            await self._pipeline.run(sealed, sink)

    async def _about_held(
        self, call: HoldDecideCall | HoldViewCall, body: bytes, reply: Reply
    ) -> None:
        if self._room.draining:
            raise HoldLostError("hold: this enclave ends")
        self._supervisor.require_open()
        if isinstance(call, HoldDecideCall):
            await self._held.decide(call, body, _ReplySink(reply))
            return
        shown = await self._held.view(call, body)
        reply.head(HoldViewAnswer(shown.sealed).to_head())
        reply.end({}, shown.view)
        await reply.drained()

    async def _attest(self, call: AttestationCall) -> AttestationAnswer:
        self._supervisor.require_open()
        key_id = None if call.key_id is None else bytes.fromhex(call.key_id)
        nonce_document: bytes | None = None
        if call.nonce is None:
            publication = (
                self._keys.current() if key_id is None else self._keys.find(key_id).publication
            )
        else:
            self._nonce_documents.take()
            publication, nonce_document = await self._keys.fresh_document(key_id, call.nonce)
        return AttestationAnswer(
            attestation_hash=publication.attestation_hash,
            document=publication.document,
            manifest=publication.manifest_bytes,
            nonce_document=nonce_document,
        )

    async def _accept_credentials(self, call: CredentialsCall) -> Done:
        await self._supervisor.accept_credentials(
            Credentials(call.access_key_id, call.secret_access_key, call.session_token)
        )
        return Done()

    async def _configure_kms(self, call: ConfigureKMSCall) -> ConfigureKMSAnswer:
        wrapped = await self._supervisor.configure_kms(call.key_arn, call.wrapped_secret)
        is_new = wrapped != call.wrapped_secret
        return ConfigureKMSAnswer(KMSState.RELEASED, wrapped if is_new else None)

    async def _usage(self, reply: Reply) -> None:
        totals = UsageTotals(self._clock.now_s(), self._receipts.totals())
        body = encode_usage_totals(totals)
        signature = self._keys.receipt_key.sign(usage_signing_input(body))
        reply.head(UsageAnswer(signature).to_head())
        reply.end({}, body)
        await reply.drained()

    def _drain(self) -> DrainAnswer:
        return DrainAnswer(self._room.drain() - 1)  # without this call itself

    def _health(self) -> HealthAnswer:
        because = self._supervisor.closed_because
        return HealthAnswer(
            enclave=self._enclave_state(because),
            kms=_KMS_STATES.get(because, KMSState.UNREACHABLE),
            bedrock=self._bedrock_state(),
        )

    def _enclave_state(self, because: ErrorCode | None) -> EnclaveState:
        if self._room.draining:
            return EnclaveState.DRAINING
        if because is None:
            return EnclaveState.READY
        never = because is ErrorCode.ERR_ENCLAVE_UNAVAILABLE
        return EnclaveState.LOCKED if never else EnclaveState.STOPPED

    def _bedrock_state(self) -> BedrockState:
        held = self._identity.held
        if held is None:
            foreign = self._identity.is_foreign
            return BedrockState.FOREIGN_ACCOUNT if foreign else BedrockState.UNCHECKED
        if any(held.logging.values()):
            return BedrockState.LOGGING_ON
        return BedrockState.READY if self._identity.is_fresh else BedrockState.UNREACHABLE


_KMS_STATES: Final[dict[ErrorCode | None, KMSState]] = {
    None: KMSState.RELEASED,
    ErrorCode.ERR_ENCLAVE_UNAVAILABLE: KMSState.UNCONFIGURED,
    ErrorCode.ERR_KMS_DENIED: KMSState.DENIED,
    ErrorCode.ERR_KMS_KEY_UNFIT: KMSState.UNFIT,
}


_NS_PER_S: Final = 1_000_000_000


class _Rate:
    """At most so many a second, in bursts of as many."""

    def __init__(self, per_s: int, monotonic_ns: MonotonicClock) -> None:
        self._per_s = per_s
        self._monotonic_ns = monotonic_ns
        self._taken: deque[int] = deque()

    def take(self) -> None:
        """Take one.

        Raises:
            LatensgateError: `ERR_RATE_LIMITED`.
        """
        now_ns = self._monotonic_ns()
        while self._taken and now_ns - self._taken[0] >= _NS_PER_S:
            self._taken.popleft()
        if len(self._taken) >= self._per_s:
            raise LatensgateError(
                f"at most {self._per_s} freshness proofs a second", code=ErrorCode.ERR_RATE_LIMITED
            )
        self._taken.append(now_ns)


class _ReplySink:
    """A sealed answer as the frames of one call."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.drained = reply.drained
        self.content = reply.body

    def begin(self, receipt_id: str) -> None:
        self._reply.head(InferenceHead(receipt_id).to_head())

    def finish(self, released: Released, content: bytes) -> None:
        pending = released.pending
        end = InferenceEnd(
            final_chunk=released.final,
            receipt_public=released.receipt.public.canonical(),
            receipt_signature=released.receipt.signature,
            latency_ms=released.values.latency_ms,
            pii_detected=released.values.pii_detected,
            code=released.code.name if released.code else None,
            private_sealed=released.private_sealed,
            pending_id=None if pending is None else pending.pending_id,
            pending_state=None if pending is None else pending.state,
            pending_until=None if pending is None else pending.expires_at,
        )
        self._reply.end(end.to_head(), content)
