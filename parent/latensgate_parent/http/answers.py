"""What a caller gets of a sealed answer (docs/spec/http.md section 3)."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Final

from latensgate_parent.http.errors import error_response
from latensgate_parent.store.interfaces import StoredAnswer
from latensgate_shared.error_answers import SealedRefusal
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.messages import encode_stream_chunk

if TYPE_CHECKING:
    from latensgate_parent.link.interfaces import InferenceReply

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
PING: Final = b": ping\n\n"


def unary_answer(
    reply: InferenceReply, attestation_hash: str, correlation_id: str
) -> tuple[StoredAnswer, ErrorCode | None]:
    """Return a whole answer, and the code if it is a refusal inside the seal."""
    end = reply.end
    sealed = reply.content + end.final_chunk
    if end.code is None:
        # Canonical JSON as messages.encode_inference_answer writes it, of values that are checked.
        body = b"".join(
            (
                b'{"attestation_hash":"',
                attestation_hash.encode("ascii"),
                b'","audit_receipt_id":"',
                reply.receipt_id.encode("ascii"),
                b'","latency_ms":%d,"pii_detected":' % end.latency_ms,
                b"true" if end.pii_detected else b"false",
                b',"response_ciphertext":"',
                binascii.b2a_base64(sealed, newline=False),
                b'"}',
            )
        )
        return StoredAnswer(200, JSON, body), None
    code = ErrorCode[end.code]
    error = LatensgateError("sealed", code=code)  # whose caller is told what the code says
    refusal = SealedRefusal(sealed, reply.receipt_id)
    told = error_response(error, correlation_id, refusal=refusal)
    return StoredAnswer(told.status, JSON, told.body), code


def stream_event(piece: bytes) -> bytes:
    """Return one event of a streamed answer (WHATWG HTML, "Server-sent events")."""
    return b"data: " + encode_stream_chunk(piece) + b"\n\n"
