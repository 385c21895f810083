"""The visible messages of ``POST /api/inference`` (docs/spec/wire.md sections 3 and 7).

What is inside the seals stands in ``sealed_plaintext`` (request) and ``answer_records`` (answer);
errors stand in ``error_answers``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from latensgate_shared import formats
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import (
    CHUNK_FRAMED_MAX_BYTES,
    NAME_MAX_CHARS,
    SEALED_ANSWER_MAX_BYTES,
    SEALED_BODY_MAX_BYTES,
    SEALED_REQUEST_MAX_BYTES,
)
from latensgate_shared.sealed import AnswerInvalidError
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from latensgate_shared.answer_records import AnswerValues
    from latensgate_shared.strict_json import JSONObject

ATTESTATION_HEADER: Final = "Latensgate-Attestation"
"""HTTP field that carries ``attestation_hash``."""
DEFAULT_OPERATION: Final = "chat.completions"
DRY_RUN: Final = "policy.dry_run"
"""Says what the policy would do, and calls no model."""
OPERATIONS: Final = frozenset({DEFAULT_OPERATION, "embeddings", "responses", DRY_RUN})


@dataclass(frozen=True, slots=True)
class Outer:
    """Everything visible that must not be changed on the way; bound by the seal.

    Attributes:
        attestation_hash: ``sha384:…`` of the document that the client verified.
        model: 1 to 256 characters; must equal ``body.model``.
        tenant_id: ``tnt_`` and 8 hex digits.
        operation: One of ``OPERATIONS``.
        stream: Whether the answer comes in pieces.

    Raises:
        JSONError: A member that is not of the form above.
    """

    attestation_hash: str
    model: str
    tenant_id: str
    operation: str = DEFAULT_OPERATION
    stream: bool = False

    def __post_init__(self) -> None:
        formats.sha384_digest(self.attestation_hash, "outer.attestation_hash")
        formats.text(self.model, "outer.model", NAME_MAX_CHARS)
        formats.tenant_id(self.tenant_id, "outer.tenant_id")
        if type(self.operation) is not str or self.operation not in OPERATIONS:
            raise JSONError(f"outer.operation: one of {', '.join(sorted(OPERATIONS))} expected")
        formats.boolean(self.stream, "outer.stream")

    def canonical(self) -> bytes:
        """JCS of all five members: what is hashed into ``info``.

        Raises:
            JSONError: A lone surrogate in ``model``.
        """
        # Only the model can hold a character that JSON escapes; the names stand in JCS order.
        return (
            b'{"attestation_hash":"%b","model":%b,"operation":"%b","stream":%b,"tenant_id":"%b"}'
            % (
                self.attestation_hash.encode("ascii"),
                canonicalize(self.model),
                self.operation.encode("ascii"),
                b"true" if self.stream else b"false",
                self.tenant_id.encode("ascii"),
            )
        )


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A sealed request as it stands in HTTP.

    Attributes:
        outer: The visible part; its ``attestation_hash`` travels in ``ATTESTATION_HEADER``.
        sealed_request: Decoded ``prompt_ciphertext``.
    """

    outer: Outer
    sealed_request: bytes


_REQUIRED: Final = frozenset({"prompt_ciphertext", "model", "tenant_id"})
_DEFAULTED: Final = frozenset({"operation", "stream"})


def encode_inference_request(request: InferenceRequest) -> bytes:
    """Return the body of ``POST /api/inference``; members with their default are left out."""
    outer = request.outer
    body: JSONObject = {
        "prompt_ciphertext": formats.to_base64(request.sealed_request),
        "model": outer.model,
        "tenant_id": outer.tenant_id,
    }
    if outer.operation != DEFAULT_OPERATION:
        body["operation"] = outer.operation
    if outer.stream:
        body["stream"] = True
    return canonicalize(body)


def parse_inference_request(body: bytes, attestation_header: str) -> InferenceRequest:
    """Read the body of ``POST /api/inference`` and the header that belongs to it.

    Raises:
        TooLargeError: A body of more than ``SEALED_BODY_MAX_BYTES``.
        JSONError: Anything else that is not docs/spec/wire.md section 3.
    """
    members = formats.members(
        parse_json_object(body, max_bytes=SEALED_BODY_MAX_BYTES), "request", _REQUIRED, _DEFAULTED
    )
    outer = Outer(
        attestation_hash=attestation_header,
        model=formats.text(members["model"], "request.model", NAME_MAX_CHARS),
        tenant_id=formats.tenant_id(members["tenant_id"], "request.tenant_id"),
        operation=formats.text(
            members.get("operation", DEFAULT_OPERATION), "request.operation", NAME_MAX_CHARS
        ),
        stream=formats.boolean(members.get("stream", False), "request.stream"),
    )
    return InferenceRequest(
        outer,
        formats.base64_bytes(
            members["prompt_ciphertext"], "request.prompt_ciphertext", SEALED_REQUEST_MAX_BYTES
        ),
    )


@dataclass(frozen=True, slots=True)
class InferenceAnswer:
    """A unary answer as it stands in HTTP. All but the sealed answer are hints.

    Attributes:
        sealed_answer: Decoded ``response_ciphertext``.
        audit_receipt_id: ``aud_`` and 16 hex digits.
        attestation_hash: ``sha384:…`` of the published document.
        latency_ms: In the enclave.
        pii_detected: Whether the scan found personal data.
    """

    sealed_answer: bytes
    audit_receipt_id: str
    attestation_hash: str
    latency_ms: int
    pii_detected: bool

    def __post_init__(self) -> None:
        formats.receipt_id(self.audit_receipt_id, "answer.audit_receipt_id")
        formats.sha384_digest(self.attestation_hash, "answer.attestation_hash")
        formats.integer(self.latency_ms, "answer.latency_ms")
        formats.boolean(self.pii_detected, "answer.pii_detected")


_HINTS: Final = ("audit_receipt_id", "attestation_hash", "latency_ms", "pii_detected")


def encode_inference_answer(answer: InferenceAnswer) -> bytes:
    """Return the body of a unary answer."""
    body: JSONObject = {name: getattr(answer, name) for name in _HINTS}
    body["response_ciphertext"] = formats.to_base64(answer.sealed_answer)
    return canonicalize(body)


def parse_inference_answer(body: bytes) -> InferenceAnswer:
    """Read the body of a unary answer.

    Raises:
        TooLargeError: More than ``SEALED_BODY_MAX_BYTES``.
        JSONError: Anything else that is not docs/spec/wire.md section 7.
    """
    members = formats.members(
        parse_json_object(body, max_bytes=SEALED_BODY_MAX_BYTES),
        "answer",
        frozenset({*_HINTS, "response_ciphertext"}),
    )
    sealed_answer = formats.base64_bytes(
        members["response_ciphertext"], "answer.response_ciphertext", SEALED_ANSWER_MAX_BYTES
    )
    hints = {name: members[name] for name in _HINTS}
    return InferenceAnswer(sealed_answer, **hints)  # type: ignore[arg-type]  # checked there


def check_hints(answer: InferenceAnswer, values: AnswerValues) -> InferenceAnswer:
    """Return the answer if what stands outside the seal is what stands inside.

    Raises:
        AnswerInvalidError: A hint differs, so somebody changed it.
    """
    differing = [name for name in _HINTS if getattr(answer, name) != getattr(values, name)]
    if differing:
        raise AnswerInvalidError(f"answer: outside the seal stands another {', '.join(differing)}")
    return answer


def encode_stream_chunk(framed: bytes) -> bytes:
    """Return the value of one ``data:`` line of a streamed answer.

    Args:
        framed: The next bytes of the answer, at most ``CHUNK_FRAMED_MAX_BYTES``.
    """
    return b'{"chunk":"' + formats.to_base64(framed).encode("ascii") + b'"}'


def parse_stream_chunk(data: bytes) -> bytes:
    """Read the value of one ``data:`` line of a streamed answer.

    Raises:
        TooLargeError: A line that no chunk can fill.
        JSONError: Anything else that is not docs/spec/wire.md section 7.
    """
    members = formats.members(
        parse_json_object(data, max_bytes=2 * CHUNK_FRAMED_MAX_BYTES),
        "stream chunk",
        frozenset({"chunk"}),
    )
    return formats.base64_bytes(members["chunk"], "stream chunk", CHUNK_FRAMED_MAX_BYTES)
