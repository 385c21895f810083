"""The operations of docs/spec/conformance.md, each in terms of the code under test and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from latensgate.conformance import documents, primitives, sealing
from latensgate.conformance.case import (
    INVALID_CASE,
    UNSUPPORTED,
    Answer,
    Arguments,
    CaseError,
)
from latensgate.verify.errors import VerificationError
from latensgate_shared.errors import LatensgateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate_shared.strict_json import JSONObject

OPERATIONS: Final[dict[str, Callable[[Arguments], JSONObject]]] = {
    **primitives.OPERATIONS,
    **sealing.OPERATIONS,
    **documents.OPERATIONS,
}
"""Name of every operation, and what does it."""


def perform(operation: str, members: JSONObject) -> Answer:
    """Answer one case.

    A refusal becomes its kind. Any other exception leaves: it is a fault of the code under test.
    """
    function = OPERATIONS.get(operation)
    if function is None:
        return Answer(error=UNSUPPORTED)
    try:
        return Answer(output=function(Arguments(members)))
    except CaseError:
        return Answer(error=INVALID_CASE)
    except LatensgateError as error:
        return Answer(error=kind_of(error))


def kind_of(error: LatensgateError) -> str:
    """Return the verifier's kind where there is a finer one than the code of the wire."""
    if isinstance(error, VerificationError) and error.kind != "receipt-invalid":
        return error.kind
    return error.code.name
