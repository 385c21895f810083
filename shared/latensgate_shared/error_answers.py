"""How an error looks in JSON: inside the seal, in the envelope, and with a sealed answer beside it.

The envelope is written by the parent and is not authenticated; where there is a sealed answer, the
client believes the error in there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from latensgate_shared import formats
from latensgate_shared.errors import ErrorCode
from latensgate_shared.hold import HoldNotice, parse_notice
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import (
    ERROR_MESSAGE_MAX_CHARS,
    NAME_MAX_CHARS,
    RETRY_AFTER_MAX_MS,
    SEALED_ANSWER_MAX_BYTES,
    SEALED_BODY_MAX_BYTES,
)
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject, JSONValue


@dataclass(frozen=True, slots=True)
class WireError:
    """One error as it is told.

    Attributes:
        code: Decides HTTP status, OpenAI type and hint.
        message: For a person, 1 to ``ERROR_MESSAGE_MAX_CHARS`` characters.
        param: The request field that it is about, or None.
        retry_after_ms: How long to wait before asking again, 0 to ``RETRY_AFTER_MAX_MS``, or None.
        hold: How to ask for a request that is held: with ``ERR_HELD`` inside a seal, else None.
    """

    code: ErrorCode
    message: str
    param: str | None = None
    retry_after_ms: int | None = None
    hold: HoldNotice | None = None

    def __post_init__(self) -> None:
        if self.hold is not None and self.code is not ErrorCode.ERR_HELD:
            raise JSONError("error.hold: only with ERR_HELD expected")
        formats.text(self.message, "error.message", ERROR_MESSAGE_MAX_CHARS)
        if self.param is not None:
            formats.text(self.param, "error.param", NAME_MAX_CHARS)
        if self.retry_after_ms is not None:
            _check_wait(self.retry_after_ms)


def _check_wait(value: JSONValue) -> int:
    wait_ms = formats.integer(value, "error.retry_after_ms")
    if wait_ms > RETRY_AFTER_MAX_MS:
        raise JSONError(f"error.retry_after_ms: at most {RETRY_AFTER_MAX_MS} expected")
    return wait_ms


def error_object(error: WireError) -> JSONObject:
    """Return ``{"error": …}`` as OpenAI clients know it: the body inside a seal."""
    told: JSONObject = {
        "message": error.message,
        "type": error.code.openai_type,
        "param": error.param,
        "code": error.code.name,
    }
    if error.retry_after_ms is not None:
        told["retry_after_ms"] = error.retry_after_ms
    if error.hold is not None:
        told["hold"] = error.hold.to_json()
    return {"error": told}


def parse_error_object(value: JSONValue) -> WireError:
    """Read ``{"error": …}``; type and hint are derived from the code again, never believed.

    Raises:
        JSONError: Another form, or a code that this version does not know.
    """
    return _error(formats.members(value, "error body", frozenset({"error"}))["error"])


_ERROR: Final = frozenset({"message", "type", "param", "code"})
_OPTIONAL: Final = frozenset({"retry_after_ms", "hold"})


def _error(value: JSONValue) -> WireError:
    members = formats.members(value, "error", _ERROR, _OPTIONAL)
    code = error_code(members["code"], "error.code")
    if members["type"] != code.openai_type:
        raise JSONError(f"error.type: {code.openai_type} expected for this code")
    param = members["param"]
    return WireError(
        code,
        formats.text(members["message"], "error.message", ERROR_MESSAGE_MAX_CHARS),
        None if param is None else formats.text(param, "error.param", NAME_MAX_CHARS),
        _check_wait(members["retry_after_ms"]) if "retry_after_ms" in members else None,
        parse_notice(members["hold"]) if "hold" in members else None,
    )


def error_code(value: JSONValue, what: str) -> ErrorCode:
    """Read the name of a code of the closed enumeration.

    Raises:
        JSONError: Anything else.
    """
    code = ErrorCode.__members__.get(value) if type(value) is str else None
    if code is None:
        raise JSONError(f"{what}: a code of the closed enumeration expected")
    return code


@dataclass(frozen=True, slots=True)
class SealedRefusal:
    """What a refusal after opening carries besides the envelope.

    Attributes:
        sealed_answer: Decoded ``response_ciphertext``; holds the error that counts.
        audit_receipt_id: ``aud_`` and 16 hex digits; a hint.
    """

    sealed_answer: bytes
    audit_receipt_id: str

    def __post_init__(self) -> None:
        if (
            type(self.sealed_answer) is not bytes
            or len(self.sealed_answer) > SEALED_ANSWER_MAX_BYTES
        ):
            raise JSONError(
                f"error answer: a sealed answer of at most {SEALED_ANSWER_MAX_BYTES} bytes expected"
            )
        formats.receipt_id(self.audit_receipt_id, "error answer.audit_receipt_id")


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """The body of every answer that is an error (DESIGN 9).

    Attributes:
        error: As the parent tells it.
        correlation_id: To quote to the operator.
        refusal: Present if the enclave had opened the request.
    """

    error: WireError
    correlation_id: str
    refusal: SealedRefusal | None = None

    def __post_init__(self) -> None:
        formats.text(self.correlation_id, "error answer.correlation_id", NAME_MAX_CHARS)


_ENVELOPE: Final = frozenset({"error", "code", "correlation_id", "hint"})
_REFUSAL: Final = frozenset({"response_ciphertext", "audit_receipt_id"})


def encode_error_answer(answer: ErrorAnswer) -> bytes:
    """Return the body: envelope, and the sealed answer if there is one."""
    body = error_object(answer.error)
    body["code"] = answer.error.code.name
    body["correlation_id"] = answer.correlation_id
    body["hint"] = answer.error.code.hint
    if answer.refusal is not None:
        body["response_ciphertext"] = formats.to_base64(answer.refusal.sealed_answer)
        body["audit_receipt_id"] = answer.refusal.audit_receipt_id
    return canonicalize(body)


def parse_error_answer(data: bytes) -> ErrorAnswer:
    """Read the body of an error; nothing in it is authenticated but what is sealed.

    Raises:
        TooLargeError: More than ``SEALED_BODY_MAX_BYTES``.
        JSONError: Another form, or a code that this version does not know.
    """
    body = parse_json_object(data, max_bytes=SEALED_BODY_MAX_BYTES)
    members = formats.members(body, "error answer", _ENVELOPE, _REFUSAL)
    error = _error(members["error"])
    if members["code"] != error.code.name:
        raise JSONError("error answer: code differs from error.code")
    formats.text(members["hint"], "error answer.hint", ERROR_MESSAGE_MAX_CHARS)
    correlation_id = formats.text(
        members["correlation_id"], "error answer.correlation_id", NAME_MAX_CHARS
    )
    return ErrorAnswer(error, correlation_id, _parse_refusal(members))


def _parse_refusal(members: JSONObject) -> SealedRefusal | None:
    if _REFUSAL.isdisjoint(members):
        return None
    formats.check_names(members.keys() & _REFUSAL, "error answer", _REFUSAL)
    return SealedRefusal(
        formats.base64_bytes(
            members["response_ciphertext"],
            "error answer.response_ciphertext",
            SEALED_ANSWER_MAX_BYTES,
        ),
        formats.receipt_id(members["audit_receipt_id"], "error answer.audit_receipt_id"),
    )
