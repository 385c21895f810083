"""Heads of calls: what is written is read again, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from latensgate_shared import calls, limits
from latensgate_shared.call_forms import CallError, Message, Operation
from latensgate_shared.calls import (
    AttestationAnswer,
    AttestationCall,
    BedrockState,
    Call,
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
)
from latensgate_shared.calls_hold import HoldDecideCall, HoldViewAnswer, HoldViewCall
from latensgate_shared.calls_upstream import UpstreamCredentialAnswer, UpstreamCredentialCall
from latensgate_shared.errors import ErrorCode, MalformedError
from latensgate_shared.frames import FrameConnection, Head, Request, Role
from latensgate_shared.messages import Outer
from paths import REPOSITORY

if TYPE_CHECKING:
    from latensgate_shared.cbor import CBORValue

HASH: Final = "sha384:" + "ab" * 48
ARN: Final = "arn:aws:kms:us-east-1:111122223333:key/12345678-1234-1234-1234-123456789012"
SECRETS: Final = ("ACCESS-KEY-VALUE", "SECRET-KEY-VALUE", "SESSION-TOKEN-VALUE")
CREDENTIALS: Final = CredentialsCall(*SECRETS, expires_at_s=1_800_000_000)
CALLS: Final[list[Call]] = [
    InferenceCall(HASH, "m", "tnt_a3f9c42b", "chat.completions", stream=True),
    InferenceCall(HASH, "m", "tnt_a3f9c42b", "embeddings", stream=False, tenant_settings=b"{}"),
    AttestationCall(),
    AttestationCall(nonce=bytes(32), key_id="0123456789abcdef"),
    HealthCall(),
    CREDENTIALS,
    ConfigureKMSCall(ARN),
    ConfigureKMSCall(ARN, b"wrapped"),
    UsageCall(),
    DrainCall(),
    UpstreamCredentialCall(),
    UpstreamCredentialCall(HASH, "house", b"sealed"),
    HoldDecideCall(b"state", b"{}", 2, b"{}"),
    HoldViewCall(b"state", b"{}", 0, bytes(32)),
]
END: Final = InferenceEnd(
    final_chunk=b"\0" + bytes(16),
    receipt_public=b"{}",
    receipt_signature=bytes(64),
    latency_ms=23,
    pii_detected=False,
)
ANSWERS: Final[list[Message]] = [
    InferenceHead("aud_0123456789abcdef"),
    END,
    InferenceEnd(bytes(17), b"{}", bytes(64), 0, pii_detected=True, code="ERR_PII_HARD_FAIL"),
    InferenceEnd(bytes(17), b"{}", bytes(64), 1, pii_detected=True, private_sealed=b"x"),
    InferenceEnd(
        bytes(17),
        b"{}",
        bytes(64),
        1,
        pii_detected=True,
        code="ERR_HELD",
        pending_id="hld_" + "0" * 32,
        pending_state=b"sealed",
        pending_until=1,
    ),
    HoldViewAnswer(sealed=True),
    UpstreamCredentialAnswer(),
    UpstreamCredentialAnswer("house,shed", b"sealed"),
    AttestationAnswer(HASH, b"document", b"{}"),
    AttestationAnswer(HASH, b"document", b"{}", b"fresh"),
    HealthAnswer(EnclaveState.READY, KMSState.RELEASED, BedrockState.READY),
    ConfigureKMSAnswer(KMSState.DENIED),
    ConfigureKMSAnswer(KMSState.RELEASED, b"wrapped"),
    UsageAnswer(bytes(64)),
    DrainAnswer(3),
    Done(),
]


@pytest.mark.parametrize("call", CALLS)
def test_calls_cross_the_wire_unchanged(call: Call) -> None:
    wire = FrameConnection(Role.PARENT).send(calls.request_frame(1, call))
    (request,) = FrameConnection(Role.ENCLAVE).receive(wire)
    assert isinstance(request, Request)
    assert calls.parse_call(request) == call


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_are_read_as_they_were_written(answer: Message) -> None:
    head = answer.to_head()
    assert None not in head.values()
    assert type(answer).from_head(head) == answer


def test_the_outer_part_is_the_one_that_the_seal_binds() -> None:
    outer = Outer(attestation_hash=HASH, model="m", tenant_id="tnt_a3f9c42b", stream=True)
    first = CALLS[0]
    assert isinstance(first, InferenceCall)
    assert first.outer() == outer


def test_every_operation_is_served() -> None:
    assert {call.call for call in CALLS} == set(Operation)
    with pytest.raises(CallError) as caught:
        calls.parse_call(Request(1, "reboot", {}))
    assert caught.value.code is ErrorCode.ERR_UNSUPPORTED


@pytest.mark.parametrize("message", [*CALLS, *ANSWERS])
def test_missing_unknown_and_null_fields_are_refused(message: Message) -> None:
    head = message.to_head()
    kind = type(message)
    with pytest.raises(MalformedError, match="unknown"):
        kind.from_head(head | {"more": 1})
    for name in head:
        with pytest.raises(MalformedError):
            kind.from_head(head | {name: None})
        fewer = {key: value for key, value in head.items() if key != name}
        if name.startswith("pending_"):
            with pytest.raises(MalformedError, match="none of them"):
                kind.from_head(fewer)
        elif kind is UpstreamCredentialCall:
            with pytest.raises(MalformedError, match="all of its fields"):
                kind.from_head(fewer)
        elif kind in (HoldDecideCall, HoldViewCall):
            with pytest.raises(MalformedError, match="missing"):
                kind.from_head(fewer)
        elif kind is not InferenceCall and name in OPTIONAL:
            kind.from_head(fewer)
        elif name not in OPTIONAL:
            with pytest.raises(MalformedError, match="missing"):
                kind.from_head(fewer)


OPTIONAL: Final = {
    "tenant_settings",
    "nonce",
    "key_id",
    "wrapped_secret",
    "nonce_document",
    "code",
    "private_sealed",
    "missing",
    "confirmed",
}
WRONG: Final[list[CBORValue]] = [[], {}, -1, "", b"", "x" * 3_000_000, b"x" * 300_000, 2**64]


@pytest.mark.parametrize("message", [*CALLS, *ANSWERS])
def test_every_field_has_a_type_and_bounds(message: Message) -> None:
    head = message.to_head()
    for name in head:
        for value in WRONG:
            with pytest.raises(MalformedError):
                type(message).from_head(head | {name: value})


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (AttestationCall, "nonce", bytes(31)),
        (AttestationCall, "nonce", bytes(33)),
        (AttestationCall, "key_id", "0123456789ABCDEF"),
        (AttestationCall, "key_id", "0123"),
        (ConfigureKMSCall, "wrapped_secret", bytes(limits.KMS_CIPHERTEXT_MAX_BYTES + 1)),
    ],
)
def test_optional_fields_at_their_borders(kind: type[Message], name: str, value: str) -> None:
    with pytest.raises(MalformedError):
        kind.from_head({"key_arn": ARN, name: value} if kind is ConfigureKMSCall else {name: value})


@pytest.mark.parametrize("field", ["kms", "enclave", "bedrock"])
def test_states_are_closed(field: str) -> None:
    head = HealthAnswer(EnclaveState.READY, KMSState.DENIED, BedrockState.READY).to_head()
    with pytest.raises(CallError, match=field):
        HealthAnswer.from_head(head | {field: "fine"})


def test_an_error_inside_the_seal_decides_the_status() -> None:
    assert END.http_status == 200
    refused = InferenceEnd.from_head(END.to_head() | {"code": "ERR_PII_HARD_FAIL"})
    assert refused.http_status == 422
    with pytest.raises(CallError, match="code"):
        InferenceEnd.from_head(END.to_head() | {"code": "ERR_OF_MINE"})


def test_no_repr_shows_a_credential() -> None:
    request = calls.request_frame(1, CREDENTIALS)
    for shown in (repr(CREDENTIALS), str(CREDENTIALS), repr(request), repr(Head(1, request.head))):
        assert not any(secret in shown for secret in SECRETS)


@pytest.mark.parametrize("name", ["access_key_id", "secret_access_key", "session_token"])
def test_no_error_shows_a_credential(name: str) -> None:
    long = "SHOWN" * limits.AWS_CREDENTIAL_MAX_CHARS
    with pytest.raises(MalformedError) as caught:
        CredentialsCall.from_head(CREDENTIALS.to_head() | {name: long})
    assert "SHOWN" not in str(caught.value)


def test_the_largest_heads_fit_one_frame() -> None:
    largest = InferenceEnd(
        final_chunk=bytes(1 + limits.CHUNK_MAX_BYTES + 16),
        receipt_public=bytes(limits.RECEIPT_PUBLIC_MAX_BYTES),
        receipt_signature=bytes(64),
        latency_ms=2**53 - 1,
        pii_detected=True,
        code=max(ErrorCode.__members__, key=len),
        private_sealed=bytes(limits.RECEIPT_PRIVATE_SEALED_MAX_BYTES),
    )
    document = bytes(limits.ATTESTATION_DOCUMENT_MAX_BYTES)
    attestation = AttestationAnswer(HASH, document, bytes(limits.MANIFEST_MAX_BYTES), document)
    settings = bytes(limits.TENANT_SETTINGS_MAX_BYTES)
    inference = InferenceCall(
        HASH,
        "\U0001f512" * 256,
        "tnt_a3f9c42b",
        "chat.completions",
        stream=True,
        tenant_settings=settings,
    )
    for message in (largest, attestation, inference):
        parent = FrameConnection(Role.PARENT)
        assert parent.send(Request(1, "inference", message.to_head()))


def test_the_page_names_every_field_of_every_head() -> None:
    page = (REPOSITORY / "docs" / "spec" / "frames.md").read_text(encoding="utf-8")
    for message in (*CALLS, *ANSWERS):
        for name in message.to_head():
            assert f"`{name}`" in page, name
    for state in (*EnclaveState, *KMSState, *BedrockState, *Operation):
        assert f"`{state.value}`" in page, state


def test_states_are_members_of_their_sets_and_no_text() -> None:
    with pytest.raises(CallError, match="enclave"):
        HealthAnswer("ready", KMSState.RELEASED, BedrockState.READY)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(CallError, match="kms"):
        HealthAnswer(EnclaveState.READY, BedrockState.READY, BedrockState.READY)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(CallError, match="bedrock"):
        HealthAnswer(EnclaveState.READY, KMSState.RELEASED, None)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(CallError, match="kms"):
        ConfigureKMSAnswer("released")  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    "fields",
    [
        {"upstream": "house"},
        {"attestation_hash": HASH, "upstream": "house"},
        {"attestation_hash": "x", "upstream": "house", "sealed": b"x"},
        {"attestation_hash": HASH, "upstream": "", "sealed": b"x"},
        {"attestation_hash": HASH, "upstream": "house", "sealed": b""},
        {
            "attestation_hash": HASH,
            "upstream": "house",
            "sealed": bytes(limits.UPSTREAM_CREDENTIAL_SEALED_MAX_BYTES + 1),
        },
    ],
)
def test_a_credential_travels_whole_or_not_at_all(fields: dict[str, CBORValue]) -> None:
    with pytest.raises(MalformedError):
        UpstreamCredentialCall.from_head(fields)
