"""From an OpenAI request to sealed bytes, and what is kept to open the answer."""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from latensgate.verify import SentRequest
from latensgate_shared import limits
from latensgate_shared.jcs import canonicalize
from latensgate_shared.kms_envelope import seal_body
from latensgate_shared.messages import (
    ATTESTATION_HEADER,
    DEFAULT_OPERATION,
    InferenceRequest,
    Outer,
    encode_inference_request,
)
from latensgate_shared.sealed import seal_request
from latensgate_shared.sealed_plaintext import KMSEnvelope, RequestFields, build_plaintext
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from latensgate.attested import Attested
    from latensgate.data_keys import DataKey
    from latensgate.settings_pin import SettingsPin
    from latensgate_shared.sealed import AnswerSecret
    from latensgate_shared.stream_shape import StreamShape
    from latensgate_shared.strict_json import JSONObject, JSONValue


@dataclass(frozen=True, slots=True, kw_only=True)
class SealOptions:
    """What a client seals besides the request itself.

    Attributes:
        policy: Tightens what is done with personal data (docs/spec/wire.md 5.1).
        kms_key_arn: The tenant's own KMS key; the body is then also under a data key of it.
        tenant_root: Raw Ed25519 key that signs the tenant's settings.
        min_settings_version: Oldest settings that will do.
        pin: Remembers the newest version that a receipt told of.
        stream_shape: In what shape streamed answers leave, at least.
    """

    policy: JSONObject | None = None
    kms_key_arn: str | None = None
    tenant_root: bytes | None = None
    min_settings_version: int | None = None
    pin: SettingsPin | None = None
    stream_shape: StreamShape | None = None

    @property
    def demanded_version(self) -> int | None:
        """The oldest settings that will do now."""
        pin = self.pin
        return self.min_settings_version if pin is None else pin.at_least(self.min_settings_version)


@dataclass(frozen=True, slots=True, repr=False)
class ChatRequest:
    """An OpenAI request that is to be sealed; never printed.

    Attributes:
        body: Exactly as the OpenAI client wrote it.
        model: From the body.
        stream: From the body.
        messages: From the body, for the conversation secret alone.
        operation: What is asked for.
    """

    body: bytes
    model: str
    stream: bool
    messages: JSONObject
    operation: str = DEFAULT_OPERATION

    @property
    def digest(self) -> bytes:
        """SHA-256 of operation and body: the body itself is not kept for retries."""
        return sha256(self.operation.encode() + b"\x00" + self.body).digest()


def parse_request(body: bytes, operation: str = DEFAULT_OPERATION) -> ChatRequest:
    """Read what must be known of a request outside the seal.

    Args:
        body: Exactly as the OpenAI client wrote it.
        operation: One of ``latensgate_shared.messages.OPERATIONS``.

    Raises:
        JSONError: Not one strict JSON object with a model.
        TooLargeError: It cannot fit into a sealed request.
    """
    value = parse_json_object(body, max_bytes=limits.SEALED_REQUEST_MAX_BYTES)
    model, stream = value.get("model"), value.get("stream")
    if not isinstance(model, str):
        raise JSONError("model: text expected")
    if stream is not None and not isinstance(stream, bool):
        raise JSONError("stream: true or false expected")
    return ChatRequest(body, model, bool(stream), {"messages": _messages(value)}, operation)


def _messages(value: JSONObject) -> JSONValue:
    """Return what a conversation begins with, in whichever operation it is had."""
    said, instructions = value.get("messages", value.get("input")), value.get("instructions")
    if isinstance(said, str):
        said = [_said_by("user", said)]
    if instructions is not None and isinstance(said, list):
        return [_said_by("system", instructions), *said]
    return said


def _said_by(role: str, content: JSONValue) -> JSONValue:
    return {"role": role, "content": content}


def new_request_id(now_s: float) -> str:
    """Return a UUID of version 7 (RFC 9562 section 5.7) for a time in seconds since 1970."""
    random = os.urandom(10)
    raw = int(now_s * 1000).to_bytes(6, "big") + bytes((0x70 | random[0] & 0x0F, random[1]))
    text = (raw + bytes((0x80 | random[2] & 0x3F,)) + random[3:]).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


@dataclass(frozen=True, slots=True, repr=False)
class SealedCall:
    """A sealed request, ready to be sent any number of times, and what opens its answer.

    Attributes:
        body: Of ``POST /api/inference``.
        sent: What the answer is compared with.
        secret: Opens the answer.
        attested: What it was sealed to.
        sealed_at_s: When, on the client's clock; seconds since 1970.
        pin: Is told which settings the receipt names.
    """

    body: bytes = field(repr=False)
    sent: SentRequest
    secret: AnswerSecret
    attested: Attested
    sealed_at_s: float
    pin: SettingsPin | None = None

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Those that belong to these bytes."""
        return (
            ("Content-Type", "application/json"),
            (ATTESTATION_HEADER, self.sent.outer.attestation_hash),
        )


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals requests of one tenant.

    Attributes:
        tenant: ``tnt_`` and 8 hex digits.
        options: What is sealed besides.
    """

    tenant: str
    options: SealOptions

    def seal(
        self,
        chat: ChatRequest,
        attested: Attested,
        *,
        now_s: float,
        conversation: bytes | None,
        data_key: DataKey | None,
    ) -> SealedCall:
        """Seal a request anew: with an id and a time of its own.

        Args:
            chat: The request.
            attested: What may be sealed to now.
            now_s: The client's time, seconds since 1970.
            conversation: Conversation secret, 32 bytes, or None.
            data_key: Of the tenant's KMS key, exactly if the options name one.

        Raises:
            MalformedError: The request cannot be sealed as it is: too large or too deep.
        """
        outer = Outer(
            attestation_hash=attested.attestation.attestation_hash,
            model=chat.model,
            tenant_id=self.tenant,
            operation=chat.operation,
            stream=chat.stream,
        )
        fields = self._fields(now_s, conversation, data_key)
        if chat.stream:  # others have no shape, and old gateways need not know the word
            fields = replace(fields, stream=self.options.stream_shape)
        body = chat.body
        if data_key is not None:
            body = seal_body(data_key.plaintext, fields.request_id, body)
        made = seal_request(attested.sealing_key, outer.canonical(), build_plaintext(fields, body))
        secret = made.answer_secret
        if data_key is not None:
            secret = secret.with_data_key(data_key.plaintext)
        return SealedCall(
            encode_inference_request(InferenceRequest(outer, made.wire)),
            SentRequest.of(made.wire, outer=outer, request_id=fields.request_id),
            secret,
            attested,
            now_s,
            self.options.pin,
        )

    def _fields(
        self, now_s: float, conversation: bytes | None, data_key: DataKey | None
    ) -> RequestFields:
        options, envelope = self.options, None
        if options.kms_key_arn is not None:
            if data_key is None:  # never unwrapped
                raise JSONError("kms_envelope: a data key expected")
            envelope = KMSEnvelope(options.kms_key_arn, data_key.wrapped)
        return RequestFields(
            request_id=new_request_id(now_s),
            issued_at_ms=int(now_s * 1000),
            policy=options.policy,
            tenant_root=options.tenant_root,
            min_settings_version=options.demanded_version,
            conversation_secret=conversation,
            kms_envelope=envelope,
        )


def check_policy(policy: JSONObject) -> JSONObject:
    """Return a request policy that can be sealed; its members are the enclave's to judge.

    Raises:
        JSONError: It holds what JSON cannot.
    """
    canonicalize(policy)
    return deepcopy(policy)  # what the application does to its own later loosens nothing
