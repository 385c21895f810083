"""What is fuzzed: one function a parser that faces the outside.

Each takes arbitrary bytes. Refusing is right only with a typed error; any other exception is a
finding. Where a parser has an inverse, the round trip is demanded too.
"""

from __future__ import annotations

import hashlib

import fuzz_documents as documents
import fuzz_enclave as enclave
import fuzz_frames as frames
import fuzz_images as images
import fuzz_messages as messages
import fuzz_policies as policies
import fuzz_seals as seals
import fuzz_upstreams as upstreams
from fuzz_forms import MAX_BYTES, Target
from latensgate_shared import cbor, cose
from latensgate_shared.errors import LatensgateError


def fuzz_cbor(data: bytes) -> None:
    """Strict CBOR: what decodes has exactly one encoding of its values."""
    try:
        value = cbor.decode(data, max_bytes=MAX_BYTES)
    except LatensgateError:
        return
    again = cbor.encode(value)
    if cbor.decode(again, max_bytes=MAX_BYTES) != value:
        raise AssertionError("a decoded value does not survive encoding")


def fuzz_cose(data: bytes) -> None:
    """COSE_Sign1: whatever parses has a Sig_structure."""
    try:
        message = cose.parse_sign1(data, max_bytes=MAX_BYTES)
    except LatensgateError:
        return
    hashlib.sha384(cose.sig_structure(message.protected, message.payload)).digest()


def _cose_seeds() -> tuple[bytes, ...]:
    payload = cbor.encode({"module_id": "i-0", "pcrs": {0: bytes(48)}, "nonce": None})
    message = cbor.encode([b"\xa1\x01\x38\x22", {}, payload, bytes(96)])
    return message, b"\xd2" + message, cbor.encode([b"", {4: b"11"}, payload, bytes(96)])


_SHARED = "latensgate_shared."
_VERIFY = "latensgate.verify."
_ENCLAVE = "latensgate_enclave."
_EDITS = (
    b"\x00\x00",
    b"\x01\x00",
    b"\x00\x01\x00\x03\x00\x06",
    b"\x01\x02\x00\x03\x03\x00\x01\x01\x05",
)

TARGETS = {
    "cbor": Target(fuzz_cbor, (_SHARED + "cbor",), (b"\xa2\x01\x20aa\x83\xf4\xf6\x41\x00",)),
    "cose": Target(fuzz_cose, (_SHARED + "cose", _SHARED + "cbor"), _cose_seeds()),
    "frames": Target(
        frames.fuzz_frames,
        (_SHARED + "frames", _SHARED + "frame_rules", _SHARED + "cbor"),
        frames.frame_seeds(),
    ),
    "frame_talk": Target(
        frames.fuzz_frame_talk,
        (_SHARED + "frames", _SHARED + "frame_rules"),
        frames.talk_seeds(),
    ),
    "envelope": Target(
        seals.fuzz_envelope,
        (_SHARED + "chunks", _SHARED + "sealed_request", _SHARED + "sealed_answer"),
        seals.envelope_seeds(),
    ),
    "answer": Target(
        seals.fuzz_answer, (_SHARED + "sealed_answer", _SHARED + "chunks"), seals.answer_seeds()
    ),
    "json": Target(
        messages.fuzz_json,
        (_SHARED + "strict_json", _SHARED + "jcs"),
        (b'{"a":[1,-0.5e3,"\\u00e9",null,true]}', b'["\\ud83d\\ude00",1e400]', b"[" * 70),
    ),
    "manifest": Target(messages.fuzz_manifest, (_SHARED + "manifest", _SHARED + "formats"), _EDITS),
    "receipt": Target(
        messages.fuzz_receipt,
        (_SHARED + "receipts", _VERIFY + "receipt", _VERIFY + "receipt_rules"),
        _EDITS,
    ),
    "plaintext": Target(
        messages.fuzz_plaintext, (_SHARED + "sealed_plaintext", _SHARED + "padding"), _EDITS
    ),
    "messages": Target(
        messages.fuzz_messages,
        (_SHARED + "messages", _SHARED + "answer_records", _SHARED + "error_answers"),
        messages.message_seeds(),
    ),
    "document": Target(
        documents.fuzz_document,
        (
            *(_VERIFY + name for name in ("document", "attestation", "chain", "profile")),
            _SHARED + "cose",
        ),
        documents.document_seeds(),
    ),
    "image": Target(
        images.fuzz_image,
        tuple("latensgate_eif." + name for name in ("image", "signature", "describe")),
        images.image_seeds(),
    ),
    "ramdisk": Target(
        images.fuzz_ramdisk, ("latensgate_eif.ramdisk_reader",), images.ramdisk_seeds()
    ),
    "cms": Target(enclave.fuzz_cms, (_ENCLAVE + "aws.cms",), enclave.cms_seeds()),
    "eventstream": Target(
        enclave.fuzz_eventstream,
        (_ENCLAVE + "aws.eventstream", _ENCLAVE + "aws.converse_answer"),
        enclave.eventstream_seeds(),
    ),
    "http1": Target(enclave.fuzz_http1, (_ENCLAVE + "http1",), enclave.http1_seeds()),
    "chat": Target(
        enclave.fuzz_chat,
        tuple(
            _ENCLAVE + name
            for name in ("chat", "chat_texts", "aws.converse", "aws.converse_answer")
        ),
        enclave.chat_seeds(),
    ),
    "sse": Target(upstreams.fuzz_sse, (_ENCLAVE + "sse",), upstreams.sse_seeds()),
    "upstream": Target(
        upstreams.fuzz_upstream,
        tuple(
            _ENCLAVE + name
            for name in ("openai_upstream_answer", "openai_native_answer", "chat_render")
        ),
        upstreams.upstream_seeds(),
    ),
    "embeddings": Target(
        upstreams.fuzz_embeddings, (_ENCLAVE + "aws.invoke",), upstreams.embeddings_seeds()
    ),
    "policy": Target(
        policies.fuzz_policy,
        (_SHARED + "pii_policy_document", _SHARED + "pii_policy", _ENCLAVE + "pii.custom"),
        policies.policy_seeds(),
    ),
    "settings": Target(
        policies.fuzz_settings,
        (_SHARED + "settings", _SHARED + "formats"),
        policies.settings_seeds(),
    ),
    "responses": Target(
        policies.fuzz_responses,
        tuple(_ENCLAVE + name for name in ("responses", "responses_items", "embeddings")),
        policies.responses_seeds(),
    ),
}
