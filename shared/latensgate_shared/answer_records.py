"""What is inside a sealed answer: content records and the final record (docs/spec/wire.md 6).

A content record is written for every token of a stream, so it is put together from bytes that are
JSON already and not canonicalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from latensgate_shared import formats
from latensgate_shared.error_answers import (
    WireError,
    error_code,
    error_object,
    parse_error_object,
)
from latensgate_shared.errors import MalformedError, TooLargeError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import CHUNK_MAX_BYTES, SEALED_ANSWER_MAX_BYTES
from latensgate_shared.padding import append_pad, check_pad
from latensgate_shared.sealed import AnswerInvalidError
from latensgate_shared.strict_json import JSONError, parse_json_members, parse_json_object

if TYPE_CHECKING:
    from latensgate_shared.receipts import Receipt
    from latensgate_shared.strict_json import JSONMember, JSONObject, JSONValue


@dataclass(frozen=True, slots=True, repr=False)
class ContentRecord:
    """One record of content; never printed.

    Attributes:
        body: The exact JSON text of the body.
        body_object: The same, parsed.
        error: What ``body`` tells, if the record is an error; None for an answer.
    """

    body: bytes
    body_object: JSONObject
    error: WireError | None


def encode_content_record(body: bytes, *, pad: bool, step_bytes: int = 0) -> bytes:
    """Return one content record.

    Args:
        body: JSON text of one object, made by the caller; it is not looked at.
        pad: Whether to fill up to the Padmé length.
        step_bytes: Fill up to a multiple of it in place of the Padmé length; 0 for Padmé.
    """
    return append_pad(b'{"code":null,"body":' + body, pad=pad, step_bytes=step_bytes)


def encode_error_record(error: WireError, *, pad: bool, step_bytes: int = 0) -> bytes:
    """Return the content record that tells an error: the last one of its answer."""
    head = b'{"code":"' + error.code.name.encode("ascii") + b'","body":'
    return append_pad(head + canonicalize(error_object(error)), pad=pad, step_bytes=step_bytes)


_CONTENT: Final = frozenset({"body", "code", "pad"})


def parse_content_record(data: bytes) -> ContentRecord:
    """Read the joined content of a unary answer, or one content chunk of a stream.

    Raises:
        AnswerInvalidError: Not docs/spec/wire.md section 6.
    """
    try:
        return _content_record(data)
    except MalformedError as error:
        raise AnswerInvalidError(error.detail) from error


def _content_record(data: bytes) -> ContentRecord:
    members = parse_json_members(data, max_bytes=SEALED_ANSWER_MAX_BYTES)
    formats.check_names(members.keys(), "content record", _CONTENT)
    check_pad(members["pad"].value, "content record.pad")
    body = members["body"]
    if type(body.value) is not dict:
        raise JSONError("content record.body: an object expected")
    error = _error(members["code"], body.value)
    return ContentRecord(body.text.encode(), body.value, error)


def _error(code: JSONMember, body: JSONObject) -> WireError | None:
    if code.value is None:
        return None
    error = parse_error_object(body)
    if error_code(code.value, "content record.code") is not error.code:
        raise JSONError("content record.code: differs from the error in its body")
    return error


@dataclass(frozen=True, slots=True)
class AnswerValues:
    """The authoritative values of an answer.

    Attributes:
        audit_receipt_id: ``aud_`` and 16 hex digits.
        attestation_hash: ``sha384:…`` of the published document.
        latency_ms: In the enclave.
        pii_detected: Whether the scan found personal data.
        usage: Token counts as OpenAI clients know them; None where no model ran.
    """

    audit_receipt_id: str
    attestation_hash: str
    latency_ms: int
    pii_detected: bool
    usage: JSONObject | None

    def __post_init__(self) -> None:
        formats.receipt_id(self.audit_receipt_id, "values.audit_receipt_id")
        formats.sha384_digest(self.attestation_hash, "values.attestation_hash")
        formats.integer(self.latency_ms, "values.latency_ms")
        formats.boolean(self.pii_detected, "values.pii_detected")
        if self.usage is not None and type(self.usage) is not dict:
            raise JSONError("values.usage: an object or null expected")


@dataclass(frozen=True, slots=True, repr=False)
class FinalRecord:
    """The final chunk's content; never printed.

    Attributes:
        receipt: As received; ``latensgate.verify.verify_receipt`` judges it.
        values: Must agree with what stands outside the seal.
    """

    receipt: JSONObject
    values: AnswerValues


_VALUES: Final = tuple(AnswerValues.__dataclass_fields__)


def encode_final_record(
    receipt: Receipt, values: AnswerValues, *, usage: bytes | None = None, step_bytes: int = 0
) -> bytes:
    """Return the final record, padded.

    Args:
        receipt: Of the answer.
        values: Of the answer.
        usage: JCS of ``values.usage``, where whoever made it has written that, too.
        step_bytes: Fill up to a multiple of it in place of the Padmé length; 0 for Padmé.

    Raises:
        TooLargeError: It does not fit in one chunk.
    """
    # All are canonical, and their names in order: so is the whole (RFC 8785, section 3.2.3). No
    # text of the values can hold a character to escape; their class has checked them.
    told = (
        f'{{"attestation_hash":"{values.attestation_hash}",'
        f'"audit_receipt_id":"{values.audit_receipt_id}","latency_ms":{values.latency_ms},'
        f'"pii_detected":{"true" if values.pii_detected else "false"},"usage":'
    ).encode("ascii")
    usage = canonicalize(values.usage) if usage is None else usage
    whole = (b'{"receipt":', receipt.canonical(), b',"values":', told, usage, b"}")
    record = append_pad(b"".join(whole), pad=True, step_bytes=step_bytes)
    if len(record) > CHUNK_MAX_BYTES:
        raise TooLargeError(f"final record: at most {CHUNK_MAX_BYTES} bytes, found {len(record)}")
    return record


def parse_final_record(data: bytes) -> FinalRecord:
    """Read the final chunk's content.

    Raises:
        AnswerInvalidError: Not docs/spec/wire.md section 6.
    """
    try:
        return _final_record(data)
    except MalformedError as error:
        raise AnswerInvalidError(error.detail) from error


def _final_record(data: bytes) -> FinalRecord:
    members = formats.members(
        parse_json_object(data, max_bytes=CHUNK_MAX_BYTES),
        "final record",
        frozenset({"pad", "receipt", "values"}),
    )
    check_pad(members["pad"], "final record.pad")
    receipt = members["receipt"]
    if type(receipt) is not dict:
        raise JSONError("final record.receipt: an object expected")
    return FinalRecord(receipt, _values(members["values"]))


def _values(value: JSONValue) -> AnswerValues:
    members = formats.members(value, "values", frozenset(_VALUES))
    return AnswerValues(**{name: members[name] for name in _VALUES})  # type: ignore[arg-type]  # checked there
