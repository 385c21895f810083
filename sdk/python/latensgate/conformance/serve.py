"""``latensgate conformance answer``: one JSON line in, one JSON line out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latensgate.conformance.case import CASE_MAX_BYTES, INVALID_CASE, Answer
from latensgate.conformance.operations import perform
from latensgate_shared.errors import LatensgateError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from latensgate_shared.strict_json import JSONObject


def answer_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Answer every line that is not blank, in order."""
    for line in lines:
        if line.strip():
            yield answer_line(line)


def answer_line(line: bytes) -> bytes:
    """Answer one question; a question that is none is answered as an invalid case."""
    try:
        question = parse_json_object(line, max_bytes=CASE_MAX_BYTES)
        case_id, operation, members = _parts(question)
    except LatensgateError:
        return _line(None, Answer(error=INVALID_CASE))
    return _line(case_id, perform(operation, members))


def _parts(question: JSONObject) -> tuple[str, str, JSONObject]:
    case_id, operation, members = (question.get(name) for name in ("id", "operation", "input"))
    if (
        isinstance(case_id, str)
        and isinstance(operation, str)
        and isinstance(members, dict)
        and len(question) == 3  # noqa: PLR2004 - id, operation, input
    ):
        return case_id, operation, members
    raise JSONError("question: exactly id, operation and input expected")


def _line(case_id: str | None, answer: Answer) -> bytes:
    said: JSONObject = (
        {"ok": False, "error": answer.error}
        if answer.output is None
        else {"ok": True, "output": answer.output}
    )
    return canonicalize({"id": case_id, **said}) + b"\n"
