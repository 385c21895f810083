"""How a command ends when it cannot do what it should: one sentence, one exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from latensgate.cli.evidence import UnreadableError
from latensgate.cli.exit_codes import KIND_TO_CODE, ExitCode
from latensgate.cli.text import printable
from latensgate.gateway.errors import (
    GatewayAnswerMalformedError,
    GatewayRefusedError,
    GatewayUnreachableError,
)
from latensgate.verify.errors import VerificationError
from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject

_BY_CODE: Final = {
    ErrorCode.ERR_ATTESTATION_INVALID: ExitCode.UNTRUSTED,
    ErrorCode.ERR_RECEIPT_INVALID: ExitCode.RECEIPT,
    ErrorCode.ERR_CONFIGURATION: ExitCode.USAGE,
    ErrorCode.ERR_ANSWER_INVALID: ExitCode.ANSWER,
    ErrorCode.ERR_ANSWER_TRUNCATED: ExitCode.ANSWER,
    ErrorCode.ERR_UNAUTHENTICATED: ExitCode.UNAUTHENTICATED,
    ErrorCode.ERR_FORBIDDEN: ExitCode.UNAUTHENTICATED,
    ErrorCode.ERR_OUTCOME_UNKNOWN: ExitCode.OUTCOME_UNKNOWN,
    ErrorCode.ERR_REQUEST_AGE: ExitCode.CLOCK,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What is told.

    Attributes:
        exit_code: How the command ends.
        message: One sentence.
        hint: What to do; may be empty.
        code: Name of the error code, where there is one.
        correlation_id: To quote to the operator, where there is one.
        retry_after_s: When the gateway wants to be asked again, if it says.
    """

    exit_code: ExitCode
    message: str
    hint: str = ""
    code: str | None = None
    correlation_id: str | None = None
    retry_after_s: int | None = None

    def to_json(self) -> JSONObject:
        """Return it for programs."""
        return {
            "format": "latensgate-failure/1",
            "verdict": self.exit_code.verdict,
            "exit_code": int(self.exit_code),
            "message": self.message,
            "hint": self.hint,
            "code": self.code,
            "correlation_id": self.correlation_id,
            "retry_after_s": self.retry_after_s,
        }


def failure_of(error: LatensgateError | UnreadableError) -> Failure:
    """Say what an error means for the command."""
    if isinstance(error, UnreadableError):
        return Failure(ExitCode.UNREADABLE, printable(str(error)))
    told = Failure(_exit_code(error), printable(error.detail), _hint(error), error.code.name)
    if isinstance(error, GatewayRefusedError):
        return Failure(
            told.exit_code,
            told.message,
            told.hint,
            told.code,
            printable(error.correlation_id),
            error.retry_after_s,
        )
    return told


def _exit_code(error: LatensgateError) -> ExitCode:
    if isinstance(error, GatewayUnreachableError):
        return ExitCode.UNREACHABLE
    if isinstance(error, GatewayAnswerMalformedError):
        return ExitCode.PROTOCOL
    if isinstance(error, VerificationError):
        return KIND_TO_CODE.get(error.kind, ExitCode.UNTRUSTED)
    return exit_code_of(error.code)


def exit_code_of(code: ErrorCode) -> ExitCode:
    """Return how a command ends that met this code."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    return ExitCode.LATER if code.retryable else ExitCode.REFUSED


def _hint(error: LatensgateError) -> str:
    if isinstance(error, GatewayUnreachableError):
        return "Check the address and the network; latensgate doctor goes the whole way."
    if isinstance(error, GatewayAnswerMalformedError):
        return "Check that the base URL is a Latensgate gateway of this version."
    if error.code is ErrorCode.ERR_CONFIGURATION:
        return ""  # its text says what is expected
    return error.code.hint
