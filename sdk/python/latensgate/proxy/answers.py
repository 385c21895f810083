"""What the proxy itself answers: OpenAI's error envelope, header fields, error events. No I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from latensgate.errors import HeldError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latensgate.errors import LatensgateClientError
    from latensgate_shared.errors import ErrorCode

RawHeaders = list[tuple[bytes, bytes]]
JSON_TYPE: Final = "application/json"
EVENT_STREAM_TYPE: Final = "text/event-stream; charset=utf-8"
PING: Final = b": ping\n\n"
"""A comment: every event-stream reader passes over it."""
_RESPONSES_EVENT: Final = "error"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is answered in place of an answer.

    Attributes:
        code: Member of the closed enumeration; decides OpenAI's ``type``.
        message: For people; never content.
        status: HTTP status; 0: that of the code.
        param: What it is about.
        headers: Besides the usual ones.
        unsure: Whether what was asked for may have been run all the same.
    """

    code: ErrorCode
    message: str
    status: int = 0
    param: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    unsure: bool = False

    @property
    def http_status(self) -> int:
        """Status of the answer."""
        return self.status or self.code.http_status

    @property
    def body(self) -> bytes:
        """OpenAI's envelope."""
        told = {"message": self.message, "type": self.code.openai_type, "param": self.param}
        return json.dumps({"error": {**told, "code": self.code.openai_code}}).encode()


def raw_headers(fields: Iterable[tuple[str, str]]) -> RawHeaders:
    """Return header fields as ASGI wants them; one that could split an answer is left out."""
    return [
        (name.lower().encode("ascii"), value.encode("latin-1"))
        for name, value in fields
        if value.isprintable() and value.isascii()
    ]


def retry_headers(retry_after: str | None) -> tuple[tuple[str, str], ...]:
    """Return ``retry-after-ms`` beside ``Retry-After``: OpenAI's clients look at it first."""
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        return ()
    return (("retry-after-ms", str(int(retry_after) * 1000)),)


def error_event(error: LatensgateClientError, *, of_responses: bool, sequence_number: int) -> bytes:
    """Return the event that ends a stream which failed; no ``[DONE]`` follows it.

    The official clients raise on any event whose data has an ``error`` member. A Responses stream
    tells it in the form of its own ``error`` event as well.

    Args:
        error: Why.
        of_responses: Whether the stream is one of Responses.
        sequence_number: How many events went before.
    """
    code = error.error_code
    told: dict[str, object] = {
        "message": text_of(error),
        "type": code.openai_type,
        "param": error.param,
        "code": code.openai_code,
    }
    if isinstance(error, HeldError) and error.expires_at is not None:
        told["hold"] = {
            "approvers": [*error.approvers],
            "counts": error.counts,
            "expires_at": int(error.expires_at.timestamp()),
            "pending_id": error.pending_id,
            "plan_digest": error.plan_digest,
        }
    return _event(told, of_responses=of_responses, sequence_number=sequence_number)


def refusal_event(refusal: Refusal, *, of_responses: bool, sequence_number: int) -> bytes:
    """Return the same for what was found here."""
    told: dict[str, object] = {
        "message": refusal.message,
        "type": refusal.code.openai_type,
        "param": refusal.param,
        "code": refusal.code.openai_code,
    }
    return _event(told, of_responses=of_responses, sequence_number=sequence_number)


def _event(told: dict[str, object], *, of_responses: bool, sequence_number: int) -> bytes:
    data: dict[str, object] = {"error": told}
    if of_responses:
        data = {
            "type": _RESPONSES_EVENT,
            "sequence_number": sequence_number,
            "code": told["code"],
            "message": told["message"],
            "param": told["param"],
            "error": told,
        }
    return b"event: error\ndata: " + json.dumps(data).encode() + b"\n\n"


def text_of(error: LatensgateClientError) -> str:
    """Return the message without the code before it, which has a member of its own."""
    return error.message.removeprefix(f"{error.error_code.name}: ")
