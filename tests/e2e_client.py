"""A client as an application would be, over a parent's connection, with the one verifier.

It verifies the attestation under the simulated root, seals, opens, and accepts an answer only after
``verify_answer``. Tests reach in to be dishonest.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from latensgate.verify import (
    AppraisalPolicy,
    Measurements,
    SentRequest,
    VerifiedAttestation,
    verify_answer,
    verify_attestation,
)
from latensgate.verify.receipt import VerifiedReceipt
from latensgate_shared import calls
from latensgate_shared.answer_records import (
    ContentRecord,
    FinalRecord,
    parse_content_record,
    parse_final_record,
)
from latensgate_shared.errors import ErrorCode
from latensgate_shared.frames import HeadMap
from latensgate_shared.kms_envelope import encryption_context, seal_body
from latensgate_shared.messages import Outer
from latensgate_shared.sealed import (
    AnswerOpener,
    AnswerSecret,
    SealingKey,
    seal_request,
)
from latensgate_shared.sealed_plaintext import KMSEnvelope, RequestFields, build_plaintext
from latensgate_shared.strict_json import JSONObject, parse_json_object
from latensgate_sim.deployment import SERVICE_ROLE_ARN
from latensgate_sim.identity import Credentials
from latensgate_sim.world import TENANT_ACCOUNT, World
from stack import MODEL, Answer, CallFailedError, ParentLink, Stack

TENANT = "tnt_a3f9c42b"
Chat = dict[str, object]


def uuid7(at_s: float) -> str:
    """Return a UUID of version 7 for a time in seconds since 1970."""
    random = os.urandom(10)
    raw = int(at_s * 1000).to_bytes(6, "big") + bytes([0x70 | random[0] & 15, random[1]])
    text = (raw + bytes([0x80 | random[2] & 63]) + random[3:]).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def chat(text: str, **fields: object) -> Chat:
    """Return a chat completions request with one user message."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


@dataclass(frozen=True)
class Sealed:
    """A request as the parent gets it, and what opens its answer."""

    outer: Outer
    wire: bytes
    secret: AnswerSecret
    request_id: str
    hpke_secret: AnswerSecret | None = None  # with a KMS envelope: without the data key

    @property
    def call(self) -> calls.InferenceCall:
        outer = self.outer
        return calls.InferenceCall(
            outer.attestation_hash, outer.model, outer.tenant_id, outer.operation, outer.stream
        )

    def outside(self, **changes: object) -> Sealed:
        """Change what stands outside the seal, as a malicious parent would."""
        return replace(self, outer=replace(self.outer, **changes))  # type: ignore[arg-type]  # by the tests


@dataclass(frozen=True)
class Opened:
    """An answer that was opened and whose receipt was verified."""

    records: list[ContentRecord]
    final: FinalRecord
    receipt: VerifiedReceipt
    end: HeadMap = field(repr=False)

    @property
    def body(self) -> Chat:
        """The object of a unary answer."""
        (record,) = self.records
        return cast("Chat", record.body_object)

    @property
    def code(self) -> ErrorCode | None:
        """Code of a sealed refusal."""
        error = self.records[-1].error
        return error.code if error else None

    @property
    def message(self) -> dict[str, object]:
        """The assistant's message of a unary answer."""
        (choice,) = cast("list[dict[str, dict[str, object]]]", self.body["choices"])
        return choice["message"]

    @property
    def text(self) -> str:
        """The assistant's text, unary or streamed."""
        if len(self.records) == 1:
            return str(self.message["content"])
        return "".join(str(delta.get("content") or "") for delta in self.deltas)

    @property
    def deltas(self) -> list[dict[str, object]]:
        """The deltas of a streamed answer."""
        found: list[dict[str, object]] = []
        for record in self.records:
            chunk = cast("dict[str, list[dict[str, dict[str, object]]]]", record.body_object)
            found += [choice["delta"] for choice in chunk.get("choices", [])]
        return found

    @property
    def usage(self) -> dict[str, int]:
        return cast("dict[str, int]", self.final.values.usage)


@dataclass(frozen=True)
class TenantKey:
    """The application's own KMS key and credentials."""

    arn: str
    world: World
    credentials: Credentials

    def data_key(self, context: Mapping[str, str]) -> tuple[bytes, bytes]:
        """Return a data key, in the clear and wrapped; as the application calls KMS."""
        parameters = {"KeyId": self.arn, "KeySpec": "AES_256", "EncryptionContext": context}
        kms = self.world.home.kms
        answer = kms.call(self.credentials.identity, "GenerateDataKey", parameters)
        return _unbase64(answer["Plaintext"]), _unbase64(answer["CiphertextBlob"])


def _unbase64(value: object) -> bytes:
    return base64.b64decode(str(value))


def tenant_policy(stack: Stack) -> str:
    """Return a tenant's key policy: the application makes data keys, this image opens them."""
    pcrs = stack.process.device.measurements.hex()
    conditions = {f"kms:RecipientAttestation:{name}": value for name, value in pcrs.items()}
    statements = [
        {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{TENANT_ACCOUNT}:root"},
            "Action": "kms:*",
            "Resource": "*",
        },
        {
            "Effect": "Allow",
            "Principal": {"AWS": SERVICE_ROLE_ARN},
            "Action": "kms:Decrypt",
            "Resource": "*",
            "Condition": {"StringEqualsIgnoreCase": conditions},
        },
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def tenant_key(stack: Stack) -> TenantKey:
    """Make a key of the tenant's own account that accepts this image."""
    world = stack.world
    return TenantKey(world.create_key(tenant_policy(stack), by=world.tenant), world, world.tenant)


@dataclass(frozen=True)
class Client:
    """Seals to one verified attestation."""

    world: World
    attestation: VerifiedAttestation
    tenant_id: str = TENANT
    suite: int = 0

    @classmethod
    def attest(cls, stack: Stack, link: ParentLink) -> Client:
        """Fetch a fresh proof and verify it, as an SDK does."""
        nonce = os.urandom(32)
        answer = link.call(calls.AttestationCall(nonce=nonce))
        told = calls.AttestationAnswer.from_head(answer.head)
        assert told.nonce_document is not None
        policy, at = appraisal_policy(stack), stack.world.clock.now()
        verify_attestation(told.nonce_document, told.manifest, policy=policy, at=at, nonce=nonce)
        published = verify_attestation(told.document, told.manifest, policy=policy, at=at)
        assert published.attestation_hash == told.attestation_hash
        return cls(stack.world, published)

    @property
    def sealing_key(self) -> SealingKey:
        key = self.attestation.manifest.hpke_keys[self.suite]
        return SealingKey(key.suite, key.public_key)

    def fields(self, **changes: object) -> RequestFields:
        now_s = self.world.clock.seconds()
        base = RequestFields(uuid7(now_s), int(now_s * 1000))
        return replace(base, **changes)  # type: ignore[arg-type]  # by the tests

    def outer(self, body: Chat, **changes: object) -> Outer:
        outer = Outer(
            attestation_hash=self.attestation.attestation_hash,
            model=str(body.get("model")),
            tenant_id=self.tenant_id,
            stream=body.get("stream") is True,
        )
        return replace(outer, **changes)  # type: ignore[arg-type]  # by the tests

    def seal(
        self, body: Chat, fields: RequestFields | None = None, outer: Outer | None = None
    ) -> Sealed:
        """Seal a request; `fields` and `outer` default to the honest ones."""
        raw = json.dumps(body).encode()
        return self.seal_raw(
            build_plaintext(fields or self.fields(), raw), outer or self.outer(body)
        )

    def seal_raw(self, plaintext: bytes, outer: Outer) -> Sealed:
        """Seal any plaintext."""
        made = seal_request(self.sealing_key, outer.canonical(), plaintext)
        found = re.search(rb'"request_id":"([^"]*)"', plaintext)
        request_id = found[1].decode() if found else ""
        return Sealed(outer, made.wire, made.answer_secret, request_id)

    def seal_enveloped(
        self, body: Chat, key: TenantKey, *, wrap: Mapping[str, str] | None = None
    ) -> Sealed:
        """Seal a request whose body is under a data key of the tenant's own KMS key."""
        context = wrap or encryption_context(self.tenant_id)
        data_key, wrapped = key.data_key(context)
        return self.seal_under(body, data_key, KMSEnvelope(key.arn, wrapped))

    def seal_under(
        self, body: Chat, data_key: bytes, envelope: KMSEnvelope, outer: Outer | None = None
    ) -> Sealed:
        """Seal a request whose body is under this data key."""
        fields = self.fields(kms_envelope=envelope)
        under = self.under(data_key, fields, body)
        sealed = self.seal_raw(build_plaintext(fields, under), outer or self.outer(body))
        return replace(
            sealed, secret=sealed.secret.with_data_key(data_key), hpke_secret=sealed.secret
        )

    def under(self, data_key: bytes, fields: RequestFields, body: Chat) -> bytes:
        """Return the body under a data key."""
        return seal_body(data_key, fields.request_id, json.dumps(body).encode())

    def open(self, sealed: Sealed, answer: Answer) -> Opened:
        """Open an answer and verify its receipt; raises what an SDK would."""
        opener = AnswerOpener(sealed.secret)
        pieces = opener.feed(answer.body)
        pieces += opener.feed(cast("bytes", answer.end["final_chunk"]))
        final = parse_final_record(opener.finish())
        contents = pieces if sealed.outer.stream else [b"".join(pieces)]
        records = [parse_content_record(each) for each in contents]
        told = records[-1].error
        verified = verify_answer(
            final,
            request=SentRequest.of(sealed.wire, outer=sealed.outer, request_id=sealed.request_id),
            response_hash=opener.response_hash,
            code=told.code if told else None,
            attestation=self.attestation,
        )
        return Opened(records, final, verified.receipt, answer.end)

    def send(self, link: ParentLink, sealed: Sealed) -> Opened:
        return self.open(sealed, link.call(sealed.call, sealed.wire))

    def ask(self, link: ParentLink, body: Chat) -> Opened:
        return self.send(link, self.seal(body))

    def fails(self, link: ParentLink, body: Chat) -> ErrorCode | None:
        """Ask; return the code of an outer error, or None."""
        try:
            self.ask(link, body)
        except CallFailedError as error:
            return error.code
        return None

    def refusal(self, link: ParentLink, sealed: Sealed) -> Refusal:
        """Send a request that must be refused; say how it was."""
        return refusal(lambda: self.send(link, sealed))


@dataclass(frozen=True)
class Refusal:
    """How a request was refused."""

    code: ErrorCode
    sealed: bool


def refusal(send: Callable[[], Opened]) -> Refusal:
    """Run what must be refused; a sealed refusal has a verified receipt that says so."""
    try:
        opened = send()
    except CallFailedError as error:
        return Refusal(error.code, sealed=False)
    assert opened.code is not None, "answered although it had to be refused"
    assert opened.receipt.signed.public.outcome in {"refused", "failed", "cancelled"}
    assert opened.end["code"] == opened.code.name
    return Refusal(opened.code, sealed=True)


def outer_refusal(code: ErrorCode) -> Refusal:
    return Refusal(code, sealed=False)


def sealed_refusal(code: ErrorCode) -> Refusal:
    return Refusal(code, sealed=True)


def appraisal_policy(stack: Stack) -> AppraisalPolicy:
    """Accept exactly this image, under the simulator's root."""
    pcrs = stack.process.device.measurements
    return AppraisalPolicy(
        measurements=(Measurements(pcrs.pcr0, pcrs.pcr1, pcrs.pcr2),),
        unsafe_accept_simulated_root_sha256=stack.world.nitro_root_sha256,
    )


def gate_refusal(link: ParentLink, key_arn: str, wrapped_secret: bytes | None = None) -> ErrorCode:
    """Name a KMS key that must be refused; return the code."""
    try:
        link.call(calls.ConfigureKMSCall(key_arn, wrapped_secret))
    except CallFailedError as error:
        return error.code
    raise AssertionError("the KMS gate opened although it had to stay shut")


def parsed(data: object) -> JSONObject:
    return parse_json_object(cast("bytes", data), max_bytes=1 << 20)
