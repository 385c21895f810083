"""How an exchange failed: one value, from which the transport makes an answer and an error."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from latensgate_shared.error_answers import ErrorAnswer, WireError, parse_error_answer
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from latensgate.exchange_steps import Received
    from latensgate.receipts import AnswerReceipt
    from latensgate_shared.hold import HoldNotice

ERROR_STATUS: Final = 400
_BAD_GATEWAY: Final = 502
_NOT_YET: Final = 403
"""Of what is held (202 on the way): an OpenAI client takes no status below 400 for an error, and no
version of it asks again after this one."""
WAIT_MAX_S: Final = 60
"""The longest Retry-After that every version of the OpenAI client honours. Of longer ones openai 1
takes no notice and would ask again within a second."""
_PATH: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\[[0-9]+\]|\.[A-Za-z_][A-Za-z0-9_]*)*")
"""As ``messages[0].content``; of a field of OpenAI's or the policy's."""
_PASSING: Final = frozenset({408, 429, 502, 503, 504})
"""Statuses by which a proxy on the way says that it was busy or that its upstream was away."""


class ClocksDifferError(LatensgateError):
    """Client and enclave disagree about the time.

    Attributes:
        client_time: When the client asked.
        enclave_time: What the attestation, made for that question, says.
    """

    code = ErrorCode.ERR_REQUEST_AGE

    def __init__(self, client_time: datetime, enclave_time: datetime) -> None:
        super().__init__(
            f"clocks differ: this client's says {client_time.isoformat(timespec='seconds')},"
            f" the enclave's says {enclave_time.isoformat(timespec='seconds')}"
        )
        self.client_time = client_time
        self.enclave_time = enclave_time


class GatewayRefusalError(LatensgateError):
    """The gateway answered an error outside the seal."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message, code=failure.code)
        self.failure = failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A refusal, or a fault that was found here.

    Attributes:
        code: Closed enumeration; decides type, hint and, mostly, status.
        message: For people; never content.
        status: HTTP status that an OpenAI client sees.
        retry: Whether sending again may help.
        param: Request field that it is about.
        correlation_id: To quote to the operator.
        retry_after: As the gateway said, in seconds.
        retry_after_ms: As the enclave said inside the seal.
        receipt: Of a refusal inside the seal: signed proof of it.
        client_time: Of this machine, where clocks differ.
        enclave_time: Of the enclave, where clocks differ.
        hold: Of a request that waits for an approver.
    """

    code: ErrorCode
    message: str
    status: int
    retry: bool
    param: str | None = None
    correlation_id: str | None = None
    retry_after: str | None = None
    retry_after_ms: int | None = None
    receipt: AnswerReceipt | None = None
    client_time: datetime | None = None
    enclave_time: datetime | None = None
    hold: HoldNotice | None = None

    @property
    def retry_after_s(self) -> int | None:
        """How long gateway or enclave ask to wait; the enclave is believed first."""
        if self.retry_after_ms is not None:
            return -(-self.retry_after_ms // 1000)
        return None if self.retry_after is None else int(self.retry_after)

    @property
    def retried_by_client(self) -> bool:
        """Whether the OpenAI client is told to try again: some versions would not wait so long."""
        return self.retry and (self.retry_after_s or 0) <= WAIT_MAX_S

    @property
    def sealed(self) -> bool:
        """Whether the enclave itself said it."""
        return self.receipt is not None


def failure_of(error: LatensgateError) -> Failure:
    """Return what a fault that was raised comes to."""
    if isinstance(error, GatewayRefusalError):
        return error.failure
    failure = Failure(
        code=error.code,
        message=error.detail,
        status=error.code.http_status,
        retry=error.code.retryable and error.code is not ErrorCode.ERR_KEY_STALE,
    )
    if isinstance(error, ClocksDifferError):
        return replace(failure, client_time=error.client_time, enclave_time=error.enclave_time)
    return failure


def outside_failure(received: Received, answer: ErrorAnswer) -> Failure:
    """Return what a well-formed error outside the seal comes to; none of it is authenticated."""
    code = answer.error.code
    return Failure(
        code=code,
        message=_shown(answer.error.message),
        status=code.http_status if code.http_status >= ERROR_STATUS else _NOT_YET,
        # A stale key was sealed anew once already; a third seal would not help (http.md 2).
        retry=code.retryable and code is not ErrorCode.ERR_KEY_STALE,
        param=None if answer.error.param is None else _shown(answer.error.param),
        correlation_id=_shown(answer.correlation_id),
        retry_after=retry_after(received.headers),
    )


def _shown(text: str) -> str:
    """Replace what could steer a terminal or an editor: anybody may have written it."""
    return "".join(mark if mark.isprintable() else "\ufffd" for mark in text)


def parse_refusal(received: Received) -> ErrorAnswer | Failure:
    """Read an error answer; what is not of our form is some proxy's (docs/spec/http.md 6)."""
    try:
        return parse_error_answer(received.body)
    except MalformedError:
        return strange_answer(received)


def strange_answer(received: Received) -> Failure:
    """Return what an answer comes to that no gateway of ours gives."""
    status = received.status if received.status >= ERROR_STATUS else _BAD_GATEWAY
    return Failure(
        code=ErrorCode.ERR_MALFORMED,
        message=f"HTTP {received.status} with a body that is not of this protocol: something on"
        " the way answered instead of the gateway",
        status=status,
        retry=received.status in _PASSING,  # the identical sealed bytes again: harmless
        retry_after=retry_after(received.headers),
    )


def invalid_answer(message: str) -> Failure:
    """Return what an answer comes to that is not the enclave's."""
    code = ErrorCode.ERR_ANSWER_INVALID
    return Failure(code=code, message=message, status=code.http_status, retry=False)


def cut_stream() -> Failure:
    """Return what a connection that broke within a stream comes to."""
    code = ErrorCode.ERR_ANSWER_TRUNCATED
    return Failure(
        code=code,
        message="stream: the connection broke before its end",
        status=code.http_status,
        retry=code.retryable,
    )


def inside_failure(
    error: WireError, receipt: AnswerReceipt, correlation_id: str | None, wait: str | None
) -> Failure:
    """Return what a refusal inside the seal comes to."""
    code = error.code
    return Failure(
        code=code,
        message=_naming(error.message, error.param),
        status=code.http_status if code.http_status >= ERROR_STATUS else _NOT_YET,
        retry=code.retryable,
        param=error.param,
        correlation_id=None if correlation_id is None else _shown(correlation_id),
        retry_after=wait,
        retry_after_ms=error.retry_after_ms,
        receipt=receipt,
        hold=error.hold,
    )


def _naming(message: str, param: str | None) -> str:
    """Name the field in the message: all that openai 3 shows of an error is its message.

    Only where the path looks like one: a name that the caller made up may hold anything.
    """
    if param is None or _PATH.fullmatch(param) is None:
        return message
    if re.search(rf"(?<!\w){re.escape(param)}(?!\w)", message):
        return message
    return f"{message} ({param})"


def retry_after(headers: Mapping[str, str]) -> str | None:
    """Return ``Retry-After`` if it says seconds."""
    value = headers.get("retry-after", "")
    return value if value.isascii() and value.isdigit() and len(value) <= len("86400") else None
