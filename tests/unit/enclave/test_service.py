"""What the parent may ask, and what it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from enclave_client import EMAIL, ask, chat, fields
from enclave_doubles import (
    TENANT,
    Accident,
    Bench,
    bench,
    deliver_credential,
    in_loop,
)
from latensgate.verify.document import parse_untrusted_document
from latensgate_enclave.service import Service
from latensgate_enclave.session import Room
from latensgate_shared import calls
from latensgate_shared.answer_records import parse_content_record
from latensgate_shared.calls import (
    AttestationAnswer,
    AttestationCall,
    BedrockState,
    ConfigureKMSAnswer,
    ConfigureKMSCall,
    CredentialsCall,
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
    request_frame,
)
from latensgate_shared.calls_upstream import UpstreamCredentialCall
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.frames import HeadMap, Request
from latensgate_shared.limits import (
    IDENTITY_MAX_AGE_S,
    KEY_ROTATION_S,
    KMS_GATE_CHECK_S,
    NONCE_DOCUMENTS_PER_S,
)
from latensgate_shared.receipts import signing_input
from latensgate_shared.sealed import open_answer
from latensgate_sim.errors import AWSError
from latensgate_sim.faults import Fault, FaultKind
from latensgate_sim.identity import Credentials
from latensgate_sim.openai_upstream import OpenAIUpstream
from latensgate_sim.world import ACCOUNT


@dataclass
class Heard:
    """The answer to one call."""

    head_fields: HeadMap | None = None
    pieces: list[bytes] = field(default_factory=list[bytes])
    end_fields: HeadMap | None = None

    def head(self, fields: HeadMap) -> None:
        self.head_fields = fields

    def body(self, data: bytes) -> None:
        self.pieces.append(data)

    def end(self, fields: HeadMap, body: bytes = b"") -> None:
        self.pieces += [body] if body else []
        self.end_fields = fields

    async def drained(self) -> None:
        await asyncio.sleep(0)


@dataclass
class Enclave:
    made: Bench
    room: Room
    service: Service

    async def call(self, call: calls.Call, body: bytes = b"") -> Heard:
        """Call as a session does: with a place taken."""
        heard = Heard()
        self.room.take_call()
        try:
            await self.service(request_frame(1, call), body, heard)
        finally:
            self.room.give_back(0)
        assert heard.head_fields is not None
        assert heard.end_fields is not None
        return heard

    async def ask(self, call: calls.Call) -> HeadMap:
        heard = await self.call(call)
        assert heard.head_fields is not None
        assert heard.end_fields == {}
        return heard.head_fields

    async def refusal(self, call: calls.Call, body: bytes = b"") -> ErrorCode:
        with pytest.raises(LatensgateError) as caught:
            await self.call(call, body)
        return caught.value.code

    async def health(self) -> tuple[EnclaveState, KMSState, BedrockState]:
        answer = HealthAnswer.from_head(await self.ask(HealthCall()))
        return answer.enclave, answer.kms, answer.bedrock


@asynccontextmanager
async def enclave(*, opened: bool = True) -> AsyncGenerator[Enclave]:
    async with bench(invocation_logging="flag") as made:
        if opened:
            await made.open()
        room = Room(4)
        yield Enclave(made, room, Service(made.pipeline, made.supervisor, made.identity, room))


def inference(made: Bench, *, stream: bool = False, text: str = "Hello") -> InferenceCall:
    outer = ask(made, chat(text), stream=stream).outer
    return InferenceCall(
        outer.attestation_hash, outer.model, outer.tenant_id, outer.operation, stream=stream
    )


def given(held: Credentials) -> CredentialsCall:
    token = held.session_token or "none"
    return CredentialsCall(held.access_key_id, held.secret_access_key, token, 1)


@pytest.mark.parametrize("stream", [False, True])
def test_inference_gives_a_sealed_answer_and_its_receipt(*, stream: bool) -> None:
    @in_loop
    async def scenario() -> None:
        async with enclave() as it:
            asked = ask(it.made, chat(f"I am {EMAIL}"), stream=stream)
            heard = await it.call(inference(it.made, stream=stream), asked.request.wire)
            assert heard.head_fields is not None
            assert heard.end_fields is not None
            head = InferenceHead.from_head(heard.head_fields)
            end = InferenceEnd.from_head(heard.end_fields)
            assert (end.code, end.http_status, end.pii_detected) == (None, 200, True)
            public = json.loads(end.receipt_public)
            assert public["receipt_id"] == head.receipt_id
            assert public["outcome"] == "answered"
            key = it.made.keys.receipt_key.public_key()
            key.verify(end.receipt_signature, signing_input(end.receipt_public))
            wire = b"".join(heard.pieces) + end.final_chunk
            answer = open_answer(asked.request.answer_secret, wire)
            assert answer.response_hash == public["response_hash"]
            assert end.private_sealed is None

    scenario()


@in_loop
async def test_a_sealed_refusal_names_its_code_for_the_http_status() -> None:
    async with enclave() as it:
        asked = ask(it.made, inside=fields(it.made, tenant_root=bytes(32)))
        heard = await it.call(inference(it.made), asked.request.wire)
        assert heard.end_fields is not None
        end = InferenceEnd.from_head(heard.end_fields)
        assert (end.code, end.http_status) == ("ERR_SETTINGS_REFUSED", 422)
        wire = b"".join(heard.pieces) + end.final_chunk
        answer = open_answer(asked.request.answer_secret, wire)
        error = parse_content_record(answer.content).error
        assert error is not None
        assert error.code is ErrorCode.ERR_SETTINGS_REFUSED


@in_loop
async def test_before_the_gate_is_open_there_is_only_health() -> None:
    async with enclave(opened=False) as it:
        expected = (EnclaveState.LOCKED, KMSState.UNCONFIGURED, BedrockState.UNCHECKED)
        assert await it.health() == expected
        digest = "sha384:" + "00" * 48
        call = InferenceCall(digest, "m", TENANT, "chat.completions", stream=False)
        assert await it.refusal(call) is ErrorCode.ERR_ENCLAVE_UNAVAILABLE
        assert await it.refusal(AttestationCall()) is ErrorCode.ERR_ENCLAVE_UNAVAILABLE


@in_loop
async def test_the_parent_opens_the_gate_by_its_calls() -> None:
    async with enclave(opened=False) as it:
        assert await it.ask(given(it.made.world.service)) == {}
        key_arn = it.made.create_key()
        answer = ConfigureKMSAnswer.from_head(await it.ask(ConfigureKMSCall(key_arn)))
        assert answer.kms is KMSState.RELEASED
        assert answer.wrapped_secret is not None
        again = await it.ask(ConfigureKMSCall(key_arn, answer.wrapped_secret))
        assert ConfigureKMSAnswer.from_head(again).wrapped_secret is None  # nothing new to store
        expected = (EnclaveState.READY, KMSState.RELEASED, BedrockState.READY)
        assert await it.health() == expected


@in_loop
async def test_refused_credentials_and_keys_are_told_by_code() -> None:
    async with enclave(opened=False) as it:
        foreign = it.made.world.identities.role_session("999988887777", "Elsewhere")
        assert await it.refusal(given(foreign)) is ErrorCode.ERR_UPSTREAM_IDENTITY
        assert (await it.health())[2] is BedrockState.FOREIGN_ACCOUNT
        key_arn = it.made.create_key()
        call = ConfigureKMSCall(key_arn)
        assert await it.refusal(call) is ErrorCode.ERR_UPSTREAM_IDENTITY
        await it.ask(given(it.made.world.service))
        unfit = ConfigureKMSCall(it.made.create_key(multi_region=True))
        assert await it.refusal(unfit) is ErrorCode.ERR_KMS_KEY_UNFIT
        assert (await it.health())[:2] == (EnclaveState.STOPPED, KMSState.UNFIT)
        it.made.cloud.fail("DescribeKey", Accident.LOST)
        assert await it.refusal(call) is ErrorCode.ERR_KMS_UNREACHABLE
        assert (await it.health())[:2] == (EnclaveState.STOPPED, KMSState.UNREACHABLE)


@in_loop
async def test_health_tells_a_denial_logging_and_an_old_check() -> None:
    async with enclave() as it:
        made = it.made
        made.world.home.control.logging_accounts.add(ACCOUNT)
        await made.identity.recheck()
        assert (await it.health())[2] is BedrockState.LOGGING_ON
        made.world.home.control.logging_accounts.clear()
        await made.identity.recheck()
        made.advance(IDENTITY_MAX_AGE_S + 1)
        assert (await it.health())[2] is BedrockState.UNREACHABLE
        error = AWSError(400, "AccessDeniedException")
        made.world.home.kms.faults.on(Fault(FaultKind.ERROR, error, times=None))
        made.advance(KMS_GATE_CHECK_S)
        await made.identity.recheck()
        await made.supervisor.recheck_gate()
        assert (await it.health())[:2] == (EnclaveState.STOPPED, KMSState.DENIED)
        assert await it.refusal(inference_of(made)) is ErrorCode.ERR_KMS_DENIED


def inference_of(made: Bench) -> InferenceCall:
    assert made.keys.opening_keys() == {}
    digest = "sha384:" + "00" * 48
    return InferenceCall(digest, "m", TENANT, "chat.completions", stream=False)


@in_loop
async def test_freshness_proofs_are_bounded_by_the_second() -> None:
    async with enclave() as it:
        for _ in range(NONCE_DOCUMENTS_PER_S):
            await it.ask(AttestationCall(nonce=bytes(32)))
        call = AttestationCall(nonce=bytes(32))
        assert await it.refusal(call) is ErrorCode.ERR_RATE_LIMITED
        await it.ask(AttestationCall())  # the published document costs no NSM call
        it.made.monotonic.advance(1)
        await it.ask(call)


@in_loop
async def test_attestation_by_key_and_with_a_nonce() -> None:
    async with enclave() as it:
        first = it.made.keys.current()
        it.made.advance(KEY_ROTATION_S)
        await it.made.identity.recheck()
        await it.made.supervisor.recheck_gate()
        await it.made.supervisor.rotate_if_due()
        second = it.made.keys.current()
        key_id = first.manifest.hpke_keys[1].key_id
        nonce = bytes(range(32))
        for call, publication in (
            (AttestationCall(), second),
            (AttestationCall(key_id=key_id), first),
            (AttestationCall(nonce=nonce), second),
            (AttestationCall(nonce=nonce, key_id=key_id), first),
        ):
            answer = AttestationAnswer.from_head(await it.ask(call))
            assert answer.attestation_hash == publication.attestation_hash
            assert answer.document == publication.document
            assert answer.manifest == publication.manifest_bytes
            assert (answer.nonce_document is None) == (call.nonce is None)
            if answer.nonce_document is not None:
                assert parse_untrusted_document(answer.nonce_document).nonce == nonce
        unknown = AttestationCall(key_id="00" * 8)
        assert await it.refusal(unknown) is ErrorCode.ERR_KEY_STALE


@in_loop
async def test_usage_is_signed_by_the_receipt_key() -> None:
    async with enclave() as it:
        await it.call(inference(it.made), ask(it.made).request.wire)
        heard = await it.call(UsageCall())
        assert heard.head_fields is not None
        signature = UsageAnswer.from_head(heard.head_fields).signature
        totals = b"".join(heard.pieces)
        key: Ed25519PublicKey = it.made.keys.receipt_key.public_key()
        key.verify(signature, b"latensgate/1 usage\x00" + totals)
        assert json.loads(totals)["tenants"][TENANT]["requests"] == 1


@in_loop
async def test_draining_refuses_requests_and_answers_questions() -> None:
    async with enclave() as it:
        call, wire = inference(it.made), ask(it.made).request.wire
        it.room.take_call()  # a call that still runs
        for _ in range(2):
            answer = DrainAnswer.from_head(await it.ask(DrainCall()))
            assert answer.open_calls == 1
        assert await it.refusal(call, wire) is ErrorCode.ERR_ENCLAVE_UNAVAILABLE
        assert (await it.health())[0] is EnclaveState.DRAINING
        await it.call(UsageCall())
        await it.ask(AttestationCall())


@in_loop
async def test_what_is_not_served_is_refused() -> None:
    async with enclave(opened=False) as it:
        heard = Heard()
        with pytest.raises(LatensgateError) as caught:
            await it.service(Request(1, "become root", {}), b"", heard)
        assert caught.value.code is ErrorCode.ERR_UNSUPPORTED
        with pytest.raises(LatensgateError) as caught:
            await it.service(Request(2, "health", {"extra": 1}), b"", heard)
        assert caught.value.code is ErrorCode.ERR_MALFORMED
        assert heard.head_fields is None


@in_loop
async def test_the_parent_is_told_which_upstreams_lack_a_credential() -> None:
    async with bench(openai=OpenAIUpstream()) as made:
        await made.open()
        room = Room(4)
        it = Enclave(made, room, Service(made.pipeline, made.supervisor, made.identity, room))
        heard = await it.call(UpstreamCredentialCall())
        assert heard.head_fields == {"missing": "house"}
        deliver_credential(made, "sk-of-nobody")
        heard = await it.call(UpstreamCredentialCall())
        assert heard.head_fields == {}
