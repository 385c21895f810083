"""From an HTTP answer to what the application may see: opened, compared, verified (http.md 3)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from latensgate.exchange_failure import (
    ERROR_STATUS,
    Failure,
    inside_failure,
    invalid_answer,
    outside_failure,
    parse_refusal,
    retry_after,
    strange_answer,
)
from latensgate.exchange_steps import Answered
from latensgate.receipts import AnswerReceipt
from latensgate.verify import verify_answer
from latensgate_shared.answer_records import parse_content_record, parse_final_record
from latensgate_shared.errors import MalformedError
from latensgate_shared.messages import check_hints, parse_inference_answer
from latensgate_shared.sealed import AnswerInvalidError, AnswerOpener

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latensgate.exchange_seal import SealedCall
    from latensgate.exchange_steps import Headers, Received
    from latensgate_shared.answer_records import AnswerValues, ContentRecord
    from latensgate_shared.error_answers import ErrorAnswer, SealedRefusal
    from latensgate_shared.errors import ErrorCode

_OK: Final = 200
_HANDED_ON: Final = frozenset(
    {"x-request-id", "latensgate-correlation-id", "ratelimit", "ratelimit-policy", "retry-after"}
)
_HANDED_ON_PREFIX: Final = "x-ratelimit-"
_OWN_MEMBERS: Final = ("attestation_hash", "audit_receipt_id")
"""What an answer has besides OpenAI's members, as the API reference shows it."""


def handed_on(headers: Mapping[str, str]) -> Headers:
    """Return the header fields of the gateway that an application may want; hints, all of them.

    Only printable ASCII: anything else could not be written into a header field again.
    """
    return tuple(
        (name, value)
        for name, value in headers.items()
        if (name in _HANDED_ON or name.startswith(_HANDED_ON_PREFIX))
        and (name + value).isascii()
        and value.isprintable()
    )


def judge_unary(call: SealedCall, received: Received) -> Answered | Failure:
    """Open a whole answer and verify it.

    Raises:
        LatensgateError: The answer is not the enclave's answer to this request.
    """
    if received.status >= ERROR_STATUS:
        return judge_error(call, received)
    if received.status != _OK:
        return strange_answer(received)
    try:
        told = parse_inference_answer(received.body)
    except MalformedError as error:
        raise AnswerInvalidError(error.detail) from error
    record, receipt, values = _open(call, told.sealed_answer)
    if record.error is not None:
        return invalid_answer("answer: a refusal stands inside an answer of status 200")
    check_hints(told, values)
    return Answered(_with_names(record, receipt), handed_on(received.headers), receipt)


def judge_error(call: SealedCall, received: Received) -> Failure:
    """Read an error; where a sealed answer is in it, believe that one alone.

    Raises:
        LatensgateError: What is sealed is not the enclave's answer to this request.
    """
    answer = parse_refusal(received)
    if isinstance(answer, Failure):
        return answer
    if answer.refusal is None:
        return outside_failure(received, answer)
    return _judge_sealed(call, received, answer, answer.refusal)


def _judge_sealed(
    call: SealedCall, received: Received, answer: ErrorAnswer, refusal: SealedRefusal
) -> Failure:
    record, receipt, _ = _open(call, refusal.sealed_answer)
    if record.error is None:
        return invalid_answer("answer: an answer stands inside a refusal")
    code = record.error.code
    hints = (answer.error.code, received.status, refusal.audit_receipt_id)
    if hints != (code, code.http_status, receipt.audit_receipt_id):
        return invalid_answer("answer: outside the seal stands another code, status or receipt id")
    wait = retry_after(received.headers)
    return inside_failure(record.error, receipt, answer.correlation_id, wait)


def _open(
    call: SealedCall, sealed_answer: bytes
) -> tuple[ContentRecord, AnswerReceipt, AnswerValues]:
    opener = AnswerOpener(call.secret)
    pieces = opener.feed(sealed_answer)
    final = opener.finish()
    # A stream has a record in each chunk; one that came whole was refused before it began.
    content = pieces[-1] if call.sent.outer.stream else b"".join(pieces)
    record = parse_content_record(content)
    code = record.error.code if record.error else None
    receipt, values = verified_receipt(call, final, opener.response_hash, code)
    return record, receipt, values


def verified_receipt(
    call: SealedCall, final: bytes, response_hash: str, code: ErrorCode | None
) -> tuple[AnswerReceipt, AnswerValues]:
    """Verify the final chunk against request, content and attestation (receipts.md 1 to 10).

    Raises:
        AnswerInvalidError: Not a final record.
        ReceiptInvalid: A step refused.
    """
    record = parse_final_record(final)
    answer = verify_answer(
        record,
        request=call.sent,
        response_hash=response_hash,
        code=code,
        attestation=call.attested.attestation,
    )
    if call.pin is not None:
        call.pin.seen(record.receipt)
    return AnswerReceipt.of(answer, record.receipt, call.attested.evidence), answer.values


def _with_names(record: ContentRecord, receipt: AnswerReceipt) -> bytes:
    """Return the OpenAI answer with the two names by which it can be checked later."""
    names = {name: getattr(receipt, name) for name in _OWN_MEMBERS}
    return json.dumps({**record.body_object, **names}, ensure_ascii=False).encode()
