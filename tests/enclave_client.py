"""A client of the enclave's parts: seals requests, opens answers, verifies every receipt."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from enclave_doubles import MODEL, TENANT, Bench, Recording
from latensgate.verify import verify_receipt
from latensgate.verify.receipt import VerifiedPublicPart
from latensgate_enclave.keys import Publication
from latensgate_enclave.pipeline import Pipeline
from latensgate_enclave.steps import Sealed
from latensgate_enclave.stream import run_stream
from latensgate_shared.answer_records import (
    AnswerValues,
    ContentRecord,
    parse_content_record,
    parse_final_record,
)
from latensgate_shared.errors import ErrorCode
from latensgate_shared.messages import DEFAULT_OPERATION, Outer
from latensgate_shared.receipts import PublicPart
from latensgate_shared.sealed import (
    AnswerOpener,
    SealedRequest,
    SealingKey,
    request_hash,
    seal_request,
)
from latensgate_shared.sealed_plaintext import RequestFields, build_plaintext
from latensgate_shared.strict_json import JSONObject, JSONValue
from verified_examples import trusting

EMAIL = "bob@example.com"


def uuid7(now_ms: int) -> str:
    tail = os.urandom(10)
    version, variant = 0x70 | tail[0] & 15, 0x80 | tail[2] & 63
    text = (now_ms.to_bytes(6, "big") + bytes([version, tail[1], variant]) + tail[3:]).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def chat(text: str = "Hello", **members: JSONValue) -> JSONObject:
    messages: list[JSONValue] = [{"role": "user", "content": text}]
    return {"model": MODEL, "messages": messages, **members}


def tool(name: str = "look_up") -> JSONObject:
    schema: JSONObject = {"type": "object", "properties": {"q": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


@dataclass(frozen=True)
class Asked:
    """One sealed request."""

    outer: Outer
    request: SealedRequest
    body: bytes
    publication: Publication
    tenant_settings: bytes | None = None

    @property
    def sealed(self) -> Sealed:
        return Sealed(self.outer, self.request.wire, self.tenant_settings)


@dataclass(frozen=True)
class Told:
    """An answer whose seal and receipt hold."""

    records: Sequence[ContentRecord]
    values: AnswerValues
    verified: VerifiedPublicPart
    private: JSONObject
    code: ErrorCode | None

    @property
    def public(self) -> PublicPart:
        return self.verified.public

    @property
    def body(self) -> JSONObject:
        assert len(self.records) == 1
        return self.records[0].body_object

    @property
    def text(self) -> str:
        """All bodies as they stand there."""
        return b"".join(record.body for record in self.records).decode()

    @property
    def deltas(self) -> list[JSONObject]:
        choices = [record.body_object.get("choices") for record in self.records]
        firsts = [each[0] for each in choices if isinstance(each, list) and each]
        return [delta for each in firsts if isinstance(each, dict) for delta in [_dict(each)]]


def _dict(choice: JSONObject) -> JSONObject:
    delta = choice["delta"]
    assert isinstance(delta, dict)
    return delta


def fields(made: Bench, **changes: object) -> RequestFields:
    now_ms = made.clock.now_ms()
    given: dict[str, object] = {"request_id": uuid7(now_ms), "issued_at_ms": now_ms, **changes}
    return RequestFields(**given)  # type: ignore[arg-type]  # checked there


def ask(  # noqa: PLR0913  # a request has so many members
    made: Bench,
    body: JSONObject | bytes | None = None,
    *,
    stream: bool = False,
    operation: str = DEFAULT_OPERATION,
    model: str | None = None,
    attestation_hash: str | None = None,
    publication: Publication | None = None,
    inside: RequestFields | None = None,
) -> Asked:
    """Seal a request as a client does that has verified the newest publication."""
    publication = publication or made.keys.current()
    if not isinstance(body, bytes):
        value = chat() if body is None else body
        body = json.dumps(value | {"stream": True} if stream else value).encode()
    if model is None:
        model = _model_of(body)
    outer = Outer(
        attestation_hash or publication.attestation_hash, model, TENANT, operation, stream=stream
    )
    key = publication.manifest.hpke_keys[0]
    plaintext = build_plaintext(inside or fields(made), body)
    request = seal_request(SealingKey(key.suite, key.public_key), outer.canonical(), plaintext)
    return Asked(outer, request, body, publication)


def _model_of(body: bytes) -> str:
    """Return the model of a body; of a sealed one, which may begin with anything, ours."""
    try:
        return str(json.loads(body)["model"])
    except ValueError:
        return MODEL


async def run(pipeline: Pipeline, asked: Asked, sink: Recording) -> None:
    if asked.outer.stream:
        await run_stream(pipeline, asked.sealed, sink)
    else:
        await pipeline.run(asked.sealed, sink)


async def tell(made: Bench, asked: Asked, *, pipeline: Pipeline | None = None) -> Told:
    """Run a request and open what it gave."""
    sink = Recording()
    await run(pipeline or made.pipeline, asked, sink)
    return open_told(asked, sink)


def open_told(asked: Asked, sink: Recording) -> Told:
    """Open an answer, verify its receipt, and check what the parent is told against it."""
    assert sink.released is not None, "nothing was released"
    opener = AnswerOpener(asked.request.answer_secret)
    contents = [content for piece in sink.pieces for content in opener.feed(piece)]
    assert opener.feed(sink.released.final) == []
    final = parse_final_record(opener.finish())
    if not asked.outer.stream:
        contents = [b"".join(contents)]
    receipt = verify_receipt(
        final.receipt,
        attestation=trusting(asked.publication.document, asked.publication.manifest_bytes),
        tenant_id=TENANT,
        request_hash=request_hash(asked.request.wire),
        response_hash=opener.response_hash,
    )
    public = sink.released.receipt.public
    assert sink.begun == public.receipt_id == final.values.audit_receipt_id
    assert sink.released.values == final.values
    records = [parse_content_record(content) for content in contents]
    code = sink.released.code
    assert [record.error.code for record in records if record.error] == ([code] if code else [])
    return Told(records, final.values, receipt.signed, receipt.private, code)


def is_hash_of(value: JSONValue, content: bytes) -> bool:
    """Whether a member of the private part is the salted hash of a content."""
    assert isinstance(value, dict)
    salt = bytes.fromhex(str(value["salt"]))
    return value["hash"] == "sha384:" + hashlib.sha384(salt + content).hexdigest()
