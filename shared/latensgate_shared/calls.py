"""What the parent may ask of the enclave, and what comes back: the heads that travel in frames.

One frozen class a head. Constructing one checks every field, so an instance is always within its
form, whoever made it; ``from_head`` reads one from a frame, ``to_head`` writes it. Unknown fields
are refused, optional ones are absent and never null. Bodies travel beside the heads as chunks. The
tables of docs/spec/frames.md section 4 are the specification.

Nothing here is to be believed by the enclave because the parent says it, nor the other way round:
these are forms, not judgements.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

from latensgate_shared import formats, limits
from latensgate_shared.call_forms import (
    CallError,
    Message,
    Operation,
    binary,
    check_names,
    construct,
    error_name,
    exactly,
    member,
    state,
)
from latensgate_shared.calls_hold import HoldDecideCall, HoldViewCall, check_pending
from latensgate_shared.calls_upstream import UpstreamCredentialCall
from latensgate_shared.errors import ErrorCode
from latensgate_shared.frames import Request
from latensgate_shared.messages import Outer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from latensgate_shared.frames import HeadMap

_FINAL_CHUNK_MAX_BYTES: Final = 1 + limits.CHUNK_MAX_BYTES + 16
"""Its mark, the piece and the tag of AES-GCM (docs/spec/wire.md section 4)."""
_KEY_ID_BYTES: Final = 8


class EnclaveState(StrEnum):
    """Whether this enclave takes requests."""

    STARTING = "starting"
    LOCKED = "locked"
    """No keys yet: KMS has not released the service secret."""
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    """Keys gone: KMS denied, or was unreachable for longer than the grace."""


class KMSState(StrEnum):
    """What KMS said last."""

    UNCONFIGURED = "unconfigured"
    RELEASED = "released"
    UNREACHABLE = "unreachable"
    """Within the grace: the keys live on."""
    DENIED = "denied"
    UNFIT = "unfit"
    """The key or its policy is not the one that the template demands."""


class BedrockState(StrEnum):
    """What the last check of the upstream account said."""

    UNCHECKED = "unchecked"
    READY = "ready"
    FOREIGN_ACCOUNT = "foreign_account"
    LOGGING_ON = "logging_on"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class InferenceCall(Message):
    """Run a sealed request. Body: the sealed request (decoded ``prompt_ciphertext``).

    Attributes:
        attestation_hash, model, tenant_id, operation, stream: The visible part, as in ``Outer``.
        tenant_settings: The tenant's signed settings document, if the parent stores one.
    """

    call: ClassVar[Operation] = Operation.INFERENCE
    attestation_hash: str
    model: str
    tenant_id: str
    operation: str
    stream: bool
    tenant_settings: bytes | None = None
    _outer: Outer = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        outer = Outer(
            self.attestation_hash, self.model, self.tenant_id, self.operation, self.stream
        )
        object.__setattr__(self, "_outer", outer)
        binary(self.tenant_settings, "tenant_settings", limits.TENANT_SETTINGS_MAX_BYTES, None)

    def outer(self) -> Outer:
        """Return the visible part, to be bound into the opening of the seal."""
        return self._outer


@dataclass(frozen=True, slots=True)
class InferenceHead(Message):
    """The answer begins: what the parent stores as start record. Body: its content chunks.

    The body is ``response_nonce`` and the framed content chunks (docs/spec/wire.md section 6).
    """

    receipt_id: str

    def __post_init__(self) -> None:
        formats.receipt_id(self.receipt_id)


@dataclass(frozen=True, slots=True)
class InferenceEnd(Message):
    """The answer ends. The parent stores the receipt, then releases the final chunk.

    The final chunk travels here and not in the body so that a parent cannot release it first by
    mistake (DESIGN 8).

    Attributes:
        final_chunk: The sealed final chunk with its 0x00, last bytes of the answer.
        receipt_public: JCS of the receipt's public part.
        receipt_signature: 64 bytes.
        latency_ms: Hint.
        pii_detected: Hint.
        code: Name of an error code if the sealed answer is an error; decides the HTTP status.
        private_sealed: The receipt's private part, sealed to the tenant's audit key.
        pending_id: Of a request that is held; with it, and never without:
        pending_state: What the enclave sealed to itself, to be stored beside the sealed request.
        pending_until: Seconds since 1970; then both are worth nothing.
    """

    final_chunk: bytes = field(repr=False)
    receipt_public: bytes = field(repr=False)
    receipt_signature: bytes = field(repr=False)
    latency_ms: int
    pii_detected: bool
    code: str | None = None
    private_sealed: bytes | None = field(default=None, repr=False)
    pending_id: str | None = None
    pending_state: bytes | None = field(default=None, repr=False)
    pending_until: int | None = None

    def __post_init__(self) -> None:
        check_pending(self.pending_id, self.pending_state, self.pending_until)
        binary(self.final_chunk, "final_chunk", _FINAL_CHUNK_MAX_BYTES)
        binary(self.receipt_public, "receipt_public", limits.RECEIPT_PUBLIC_MAX_BYTES)
        exactly(self.receipt_signature, "receipt_signature", limits.ED25519_SIGNATURE_BYTES)
        formats.integer(self.latency_ms, "latency_ms")
        formats.boolean(self.pii_detected, "pii_detected")
        if self.code is not None:
            error_name(self.code, "code")
        binary(self.private_sealed, "private_sealed", limits.RECEIPT_PRIVATE_SEALED_MAX_BYTES, None)

    @property
    def http_status(self) -> int:
        """Status of the unary HTTP answer; streams stay 200."""
        return 200 if self.code is None else ErrorCode[self.code].http_status


@dataclass(frozen=True, slots=True)
class AttestationCall(Message):
    """Give the attestation of a key, freshly proven if a nonce is given.

    Attributes:
        nonce: 32 bytes; asks for a ``nonce_document``.
        key_id: 16 hex; default: the newest key.
    """

    call: ClassVar[Operation] = Operation.ATTESTATION
    nonce: bytes | None = None
    key_id: str | None = None

    def __post_init__(self) -> None:
        exactly(self.nonce, "nonce", limits.NONCE_BYTES, None)
        if self.key_id is not None:
            formats.hex_text(self.key_id, "key_id", _KEY_ID_BYTES)


@dataclass(frozen=True, slots=True)
class AttestationAnswer(Message):
    """Head of the answer to ``AttestationCall``; no body.

    Attributes:
        attestation_hash: Of ``document``.
        document: The published one (null nonce).
        manifest: The exact bytes whose hash both documents hold.
        nonce_document: Over the same manifest, if a nonce was given.
    """

    attestation_hash: str
    document: bytes = field(repr=False)
    manifest: bytes = field(repr=False)
    nonce_document: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        formats.sha384_digest(self.attestation_hash, "attestation_hash")
        binary(self.document, "document", limits.ATTESTATION_DOCUMENT_MAX_BYTES)
        binary(self.manifest, "manifest", limits.MANIFEST_MAX_BYTES)
        binary(self.nonce_document, "nonce_document", limits.ATTESTATION_DOCUMENT_MAX_BYTES, None)


@dataclass(frozen=True, slots=True)
class HealthCall(Message):
    """Say how you are."""

    call: ClassVar[Operation] = Operation.HEALTH


@dataclass(frozen=True, slots=True)
class HealthAnswer(Message):
    """Head of the answer to ``HealthCall``; no body."""

    enclave: EnclaveState
    kms: KMSState
    bedrock: BedrockState

    def __post_init__(self) -> None:
        state(self.enclave, "enclave", EnclaveState)
        state(self.kms, "kms", KMSState)
        state(self.bedrock, "bedrock", BedrockState)

    @classmethod
    def from_head(cls, head: HeadMap) -> Self:
        """Read the states; a name outside the closed sets is refused."""
        check_names(cls.__name__, head, cls)
        return cls(
            member(EnclaveState, head, "enclave"),
            member(KMSState, head, "kms"),
            member(BedrockState, head, "bedrock"),
        )


@dataclass(frozen=True, slots=True)
class CredentialsCall(Message):
    """Use these AWS credentials from now on. Answered by ``Done`` or an error, after checks.

    Attributes:
        expires_at_s: Seconds since 1970.
    """

    call: ClassVar[Operation] = Operation.CREDENTIALS
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at_s: int

    def __post_init__(self) -> None:
        for name in ("access_key_id", "secret_access_key", "session_token"):
            formats.text(getattr(self, name), name, limits.AWS_CREDENTIAL_MAX_CHARS)
        formats.integer(self.expires_at_s, "expires_at_s")


@dataclass(frozen=True, slots=True)
class ConfigureKMSCall(Message):
    """Ask this KMS key for the service secret.

    Attributes:
        key_arn: Full ARN of the key.
        wrapped_secret: The service secret as KMS wrapped it; absent: first of its release.
    """

    call: ClassVar[Operation] = Operation.CONFIGURE_KMS
    key_arn: str
    wrapped_secret: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        formats.text(self.key_arn, "key_arn", limits.ARN_MAX_CHARS)
        binary(self.wrapped_secret, "wrapped_secret", limits.KMS_CIPHERTEXT_MAX_BYTES, None)


@dataclass(frozen=True, slots=True)
class ConfigureKMSAnswer(Message):
    """Head of the answer to ``ConfigureKMSCall``; no body.

    Attributes:
        kms: As in ``HealthAnswer``.
        wrapped_secret: New, to be stored; the first insert for key and deployment wins.
    """

    kms: KMSState
    wrapped_secret: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        state(self.kms, "kms", KMSState)
        binary(self.wrapped_secret, "wrapped_secret", limits.KMS_CIPHERTEXT_MAX_BYTES, None)

    @classmethod
    def from_head(cls, head: HeadMap) -> Self:
        """Read the state and the wrapped secret, if there is one."""
        check_names(cls.__name__, head, cls)
        return construct(cls, dict(head) | {"kms": member(KMSState, head, "kms")})


@dataclass(frozen=True, slots=True)
class UsageCall(Message):
    """Give the signed totals."""

    call: ClassVar[Operation] = Operation.USAGE


@dataclass(frozen=True, slots=True)
class UsageAnswer(Message):
    """Head of the answer to ``UsageCall``. Body: what ``usage.encode_usage_totals`` returns.

    Attributes:
        signature: 64 bytes, by the receipt key.
    """

    signature: bytes

    def __post_init__(self) -> None:
        exactly(self.signature, "signature", limits.ED25519_SIGNATURE_BYTES)


@dataclass(frozen=True, slots=True)
class DrainCall(Message):
    """Take no further requests. Asking again is no error."""

    call: ClassVar[Operation] = Operation.DRAIN


@dataclass(frozen=True, slots=True)
class DrainAnswer(Message):
    """Head of the answer to ``DrainCall``; no body.

    Attributes:
        open_calls: How many still run.
    """

    open_calls: int

    def __post_init__(self) -> None:
        formats.integer(self.open_calls, "open_calls")


@dataclass(frozen=True, slots=True)
class Done(Message):
    """A head without fields."""


Call: TypeAlias = (
    InferenceCall
    | AttestationCall
    | HealthCall
    | CredentialsCall
    | ConfigureKMSCall
    | UsageCall
    | DrainCall
    | UpstreamCredentialCall
    | HoldDecideCall
    | HoldViewCall
)

_CALLS: Final[Mapping[str, type[Call]]] = {
    Operation.INFERENCE: InferenceCall,
    Operation.ATTESTATION: AttestationCall,
    Operation.HEALTH: HealthCall,
    Operation.CREDENTIALS: CredentialsCall,
    Operation.CONFIGURE_KMS: ConfigureKMSCall,
    Operation.USAGE: UsageCall,
    Operation.DRAIN: DrainCall,
    Operation.UPSTREAM_CREDENTIAL: UpstreamCredentialCall,
    Operation.HOLD_DECIDE: HoldDecideCall,
    Operation.HOLD_VIEW: HoldViewCall,
}


def request_frame(call_id: int, call: Call) -> Request:
    """Return the event that opens a call."""
    return Request(call_id, call.call, call.to_head())


def parse_call(request: Request) -> Call:
    """Read what a request asks.

    Raises:
        CallError: Another operation (``ERR_UNSUPPORTED``).
        MalformedError: A field is missing, unknown, or not of its form.
    """
    kind = _CALLS.get(request.operation)
    if kind is None:
        raise CallError("an operation that is not served here", code=ErrorCode.ERR_UNSUPPORTED)
    return kind.from_head(request.head)
