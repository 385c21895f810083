"""What is inside a sealed request (docs/spec/wire.md section 5), built and read.

The application's own JSON bytes are embedded as they are: a client that wrote them again could
change a number, and hashes in the receipt are over these bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from latensgate_shared import formats
from latensgate_shared.errors import ErrorCode, MalformedError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import (
    KMS_CIPHERTEXT_MAX_BYTES,
    NAME_MAX_CHARS,
    SEALED_REQUEST_MAX_BYTES,
)
from latensgate_shared.padding import append_pad, check_pad
from latensgate_shared.stream_shape import StreamShape, parse_stream_shape
from latensgate_shared.strict_json import JSONError, parse_json_members

if TYPE_CHECKING:
    from latensgate_shared.messages import Outer
    from latensgate_shared.strict_json import JSONMember, JSONObject, JSONValue

CONVERSATION_SECRET_BYTES: Final = 32
TENANT_ROOT_BYTES: Final = 32
_WHITE_SPACE: Final = b" \t\n\r"
"""RFC 8259, section 2."""


@dataclass(frozen=True, slots=True)
class KMSEnvelope:
    """The tenant's own data key, wrapped (DESIGN 3.6).

    Attributes:
        key_arn: ARN of the tenant's KMS key, 1 to 256 characters.
        wrapped_data_key: What KMS returned as ``CiphertextBlob``.
    """

    key_arn: str
    wrapped_data_key: bytes

    def __post_init__(self) -> None:
        formats.text(self.key_arn, "kms_envelope.key_arn", NAME_MAX_CHARS)
        if not 1 <= len(self.wrapped_data_key) <= KMS_CIPHERTEXT_MAX_BYTES:
            raise JSONError(
                f"kms_envelope.wrapped_data_key: 1 to {KMS_CIPHERTEXT_MAX_BYTES} bytes expected"
            )


@dataclass(frozen=True, slots=True, repr=False)
class RequestFields:
    """All members but the body; never printed, because some are secret.

    Attributes:
        request_id: UUID of version 7, new for each sealing.
        issued_at_ms: Milliseconds since 1970.
        policy: Tightens what is done with personal data; its members are checked elsewhere.
        stream: In what shape a streamed answer leaves, at least.
        tenant_root: Raw Ed25519 key (32 bytes) that signs the tenant's settings.
        min_settings_version: Oldest settings that will do; only with ``tenant_root``.
        conversation_secret: 32 bytes.
        kms_envelope: Present where the body is encrypted under a data key.

    Raises:
        JSONError: A member that is not of the form above.
    """

    request_id: str
    issued_at_ms: int
    policy: JSONObject | None = None
    stream: StreamShape | None = None
    tenant_root: bytes | None = None
    min_settings_version: int | None = None
    conversation_secret: bytes | None = None
    kms_envelope: KMSEnvelope | None = None

    def __post_init__(self) -> None:
        formats.uuid7(self.request_id, "plaintext.request_id")
        formats.integer(self.issued_at_ms, "plaintext.issued_at")
        _check_length(self.tenant_root, "plaintext.tenant_root", TENANT_ROOT_BYTES)
        _check_length(
            self.conversation_secret, "plaintext.conversation_secret", CONVERSATION_SECRET_BYTES
        )
        if self.min_settings_version is not None:
            formats.integer(self.min_settings_version, "plaintext.min_settings_version")
            if self.tenant_root is None:
                raise JSONError("plaintext.min_settings_version: only with tenant_root")


def _check_length(value: bytes | None, what: str, length_bytes: int) -> None:
    if value is not None and len(value) != length_bytes:
        raise JSONError(f"{what}: {length_bytes} bytes expected, found {len(value)}")


@dataclass(frozen=True, slots=True, repr=False)
class SealedPlaintext:
    """What a sealed request holds; never printed.

    Attributes:
        fields: All members but the body.
        body: The exact JSON text of the OpenAI request, without white space around it; with
            ``kms_envelope`` what is encrypted under the data key: nonce (12 bytes) and AES-256-GCM
            ciphertext.
        body_object: The same, parsed; None with ``kms_envelope``.
    """

    fields: RequestFields
    body: bytes
    body_object: JSONObject | None


def build_plaintext(fields: RequestFields, body: bytes, *, pad: bool = True) -> bytes:
    """Return the JSON text that is sealed, which ``parse_plaintext`` takes: that is tried.

    Args:
        fields: All members but the body.
        body: See ``SealedPlaintext.body``. White space around JSON is dropped: it is no part of the
            member, so the enclave would not see it and its hash would be of other bytes.
        pad: Whether to fill up to the Padmé length.

    Raises:
        TooLargeError: A request above ``SEALED_REQUEST_MAX_BYTES`` or with too many values.
        JSONError: A body that is not one strict JSON object (without ``kms_envelope``), or with
            the members around it nested too deep.
    """
    head = canonicalize(_plain_members(fields))
    if fields.kms_envelope is None:
        kept = embedded = body.strip(_WHITE_SPACE)
    else:
        kept = body
        embedded = b'"' + formats.to_base64(body).encode("ascii") + b'"'
    plaintext = append_pad(head[:-1] + b',"body":' + embedded, pad=pad)
    if parse_plaintext(plaintext).body != kept:
        raise JSONError("plaintext.body: one JSON object and nothing behind it expected")
    return plaintext


def _plain_members(fields: RequestFields) -> JSONObject:
    """Every member but body and pad, those without a value left out."""
    envelope = fields.kms_envelope
    members: dict[str, JSONValue] = {
        "request_id": fields.request_id,
        "issued_at": fields.issued_at_ms,
        "policy": fields.policy,
        "stream": None if fields.stream is None else fields.stream.document(),
        "tenant_root": _hex(fields.tenant_root),
        "min_settings_version": fields.min_settings_version,
        "conversation_secret": _hex(fields.conversation_secret),
        "kms_envelope": None
        if envelope is None
        else {
            "key_arn": envelope.key_arn,
            "wrapped_data_key": formats.to_base64(envelope.wrapped_data_key),
        },
    }
    return {name: value for name, value in members.items() if value is not None}


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


_REQUIRED: Final = frozenset({"request_id", "issued_at", "body", "pad"})
_OPTIONAL: Final = frozenset(
    {
        "policy",
        "stream",
        "tenant_root",
        "min_settings_version",
        "conversation_secret",
        "kms_envelope",
    }
)


def parse_plaintext(data: bytes) -> SealedPlaintext:
    """Read an opened request.

    Raises:
        TooLargeError: More than ``SEALED_REQUEST_MAX_BYTES``.
        JSONError: Anything else that is not docs/spec/wire.md section 5.
    """
    members = parse_json_members(data, max_bytes=SEALED_REQUEST_MAX_BYTES)
    formats.check_names(members.keys(), "plaintext", _REQUIRED, _OPTIONAL)
    check_pad(members["pad"].value, "plaintext.pad")
    request_id = cast("str", members["request_id"].value)  # both are checked by their class
    issued_at_ms = cast("int", members["issued_at"].value)
    fields = (
        RequestFields(request_id, issued_at_ms)
        if len(members) == len(_REQUIRED)
        else _fields(request_id, issued_at_ms, members)
    )
    body, body_object = _body(members["body"], enveloped=fields.kms_envelope is not None)
    return SealedPlaintext(fields, body, body_object)


def _fields(request_id: str, issued_at_ms: int, members: dict[str, JSONMember]) -> RequestFields:
    return RequestFields(
        request_id,
        issued_at_ms,
        policy=_policy(members),
        stream=parse_stream_shape(members["stream"].value) if "stream" in members else None,
        tenant_root=_bytes(members, "tenant_root", TENANT_ROOT_BYTES),
        min_settings_version=_settings_version(members),
        conversation_secret=_bytes(members, "conversation_secret", CONVERSATION_SECRET_BYTES),
        kms_envelope=_envelope(members),
    )


def _policy(members: dict[str, JSONMember]) -> JSONObject | None:
    if "policy" not in members:
        return None
    value = members["policy"].value
    if type(value) is not dict:
        raise JSONError("plaintext.policy: an object expected")
    return value


def _bytes(members: dict[str, JSONMember], name: str, length_bytes: int) -> bytes | None:
    if name not in members:
        return None
    return formats.hex_bytes(members[name].value, f"plaintext.{name}", length_bytes)


def _settings_version(members: dict[str, JSONMember]) -> int | None:
    if "min_settings_version" not in members:
        return None
    return formats.integer(members["min_settings_version"].value, "plaintext.min_settings_version")


def _envelope(members: dict[str, JSONMember]) -> KMSEnvelope | None:
    if "kms_envelope" not in members:
        return None
    value = formats.members(
        members["kms_envelope"].value, "kms_envelope", frozenset({"key_arn", "wrapped_data_key"})
    )
    return KMSEnvelope(
        formats.text(value["key_arn"], "kms_envelope.key_arn", NAME_MAX_CHARS),
        formats.base64_bytes(
            value["wrapped_data_key"], "kms_envelope.wrapped_data_key", KMS_CIPHERTEXT_MAX_BYTES
        ),
    )


def _body(member: JSONMember, *, enveloped: bool) -> tuple[bytes, JSONObject | None]:
    if enveloped:
        return formats.base64_bytes(member.value, "plaintext.body", SEALED_REQUEST_MAX_BYTES), None
    if type(member.value) is not dict:
        raise JSONError("plaintext.body: an object expected")
    return member.text.encode(), member.value


def check_body_model(body: JSONObject, outer: Outer) -> JSONObject:
    """Return the body if it asks for the model that stands outside.

    Raises:
        MalformedError: ``ERR_OUTER_MISMATCH``.
    """
    if body.get("model") != outer.model:
        raise MalformedError(
            "plaintext.body.model: not the model of the visible part",
            code=ErrorCode.ERR_OUTER_MISMATCH,
        )
    return body
