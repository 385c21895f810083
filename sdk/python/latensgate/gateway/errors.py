"""What a call of the gateway's own routes can end in."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from latensgate_shared.error_answers import ErrorAnswer


class GatewayClientError(LatensgateError):
    """Base: a route of the gateway gave no answer that can be used."""


class Unreachable(StrEnum):
    """How far the way to the gateway was open."""

    NAME = "name"
    """Its host name does not resolve."""
    CONNECTION = "connection"
    """Nothing listens there, or the connection broke."""
    TLS = "tls"
    """No TLS handshake: certificate, authority or version."""
    PROXY = "proxy"
    """The proxy on the way refused."""
    TIMEOUT = "timeout"
    """No answer in time."""


class GatewayUnreachableError(GatewayClientError):
    """No HTTP answer came.

    Attributes:
        where: How far the way was open.
    """

    code = ErrorCode.ERR_ENCLAVE_UNAVAILABLE

    def __init__(self, detail: str, *, where: Unreachable = Unreachable.CONNECTION) -> None:
        super().__init__(detail)
        self.where = where


class GatewayAnswerMalformedError(GatewayClientError):
    """The answer is not of the form that docs/spec/http.md demands.

    Attributes:
        status: HTTP status of the answer.
    """

    code = ErrorCode.ERR_MALFORMED

    def __init__(self, detail: str, *, status: int) -> None:
        super().__init__(detail)
        self.status = status


class GatewayRefusedError(GatewayClientError):
    """The gateway answered with its error envelope. Nothing in it is authenticated.

    Attributes:
        status: HTTP status of the answer.
        param: Field that the error is about, if one.
        correlation_id: To quote to the operator.
        retry_after_s: Whole seconds after which the gateway wants to be asked again, if it says.
    """

    def __init__(self, answer: ErrorAnswer, *, status: int, retry_after_s: int | None) -> None:
        super().__init__(answer.error.message, code=answer.error.code)
        self.status = status
        self.param = answer.error.param
        self.correlation_id = answer.correlation_id
        self.retry_after_s = retry_after_s
