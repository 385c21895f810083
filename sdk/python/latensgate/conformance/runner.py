"""Put cases to an implementation and compare."""

from __future__ import annotations

import shlex
import subprocess
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from latensgate.conformance.case import CASE_MAX_BYTES, Answer, Case, disagreement
from latensgate.conformance.operations import perform
from latensgate_shared.errors import LatensgateError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from latensgate_shared.strict_json import JSONObject

    Implementation = Callable[[Sequence[Case]], Mapping[str, Answer]]

IMPLEMENTATION_TIMEOUT_S: Final = 600
"""Seconds for all cases together: twenty times what the slowest run needed."""


class ImplementationError(Exception):
    """The implementation crashed, hung or said what is not the protocol."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case with its verdict.

    Attributes:
        case: The case.
        answer: What was said.
        problem: How it differs, in a sentence; None if it agrees.
    """

    case: Case
    answer: Answer
    problem: str | None


def run(cases: Sequence[Case], implementation: Implementation) -> list[Outcome]:
    """Put all cases and compare each answer.

    Raises:
        ImplementationError: No verdict is possible.
    """
    repeated = [name for name, count in Counter(c.case_id for c in cases).items() if count > 1]
    if repeated:
        raise ImplementationError(f"two cases have the id {repeated[0]}; name a folder once")
    answers = implementation(cases)
    return [
        Outcome(case, answers[case.case_id], disagreement(case.expect, answers[case.case_id]))
        for case in cases
    ]


def in_process(cases: Sequence[Case]) -> Mapping[str, Answer]:
    """Answer with this very program.

    Raises:
        ImplementationError: An error that is not one of ours left the code under test.
    """
    return {case.case_id: _perform(case) for case in cases}


def _perform(case: Case) -> Answer:
    try:
        return perform(case.operation, case.input)
    except Exception as error:  # whatever else comes out of the code under test is the finding
        raise ImplementationError(f"{case.case_id}: {type(error).__name__} escaped") from error


@dataclass(frozen=True, slots=True)
class Command:
    """An implementation behind a command that speaks the protocol on stdin and stdout.

    Attributes:
        line: As a shell would split it; no shell is used.
        timeout_s: Seconds for all cases together.
    """

    line: str
    timeout_s: float = IMPLEMENTATION_TIMEOUT_S

    def __call__(self, cases: Sequence[Case]) -> Mapping[str, Answer]:
        """Ask everything in one process.

        Raises:
            ImplementationError: As named there.
        """
        questions = b"".join(_question(case) for case in cases)
        return _match(cases, self._ask(questions))

    def _ask(self, questions: bytes) -> list[bytes]:
        try:
            words = shlex.split(self.line)
            done = subprocess.run(  # noqa: S603 - the command is what the person asked for
                words, input=questions, capture_output=True, timeout=self.timeout_s, check=False
            )
        except (OSError, ValueError, IndexError) as error:
            raise ImplementationError(f"cannot start '{self.line}': {error}") from None
        except subprocess.TimeoutExpired:
            raise ImplementationError(f"no end after {self.timeout_s:g} s") from None
        if done.returncode != 0:
            told = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise ImplementationError(f"exit status {done.returncode}: {' '.join(told)}")
        return done.stdout.splitlines()


def _question(case: Case) -> bytes:
    question: JSONObject = {
        "id": case.case_id,
        "operation": case.operation,
        "input": case.input,
    }
    return canonicalize(question) + b"\n"


def _match(cases: Sequence[Case], lines: Sequence[bytes]) -> Mapping[str, Answer]:
    if len(lines) != len(cases):
        raise ImplementationError(f"{len(cases)} questions, {len(lines)} answers")
    return {case.case_id: _read(case, line) for case, line in zip(cases, lines, strict=True)}


def _read(case: Case, line: bytes) -> Answer:
    try:
        said = parse_json_object(line, max_bytes=CASE_MAX_BYTES)
    except LatensgateError as error:
        raise ImplementationError(f"{case.case_id}: {error.detail}") from None
    if said.get("id") != case.case_id:
        raise ImplementationError(f"{case.case_id}: the answer is to {said.get('id')!r}")
    output, error_kind = said.get("output"), said.get("error")
    if said.keys() == {"id", "ok", "output"} and said["ok"] is True and isinstance(output, dict):
        return Answer(output=output)
    if said.keys() == {"id", "ok", "error"} and said["ok"] is False and isinstance(error_kind, str):
        return Answer(error=error_kind)
    raise ImplementationError(f"{case.case_id}: neither an output nor an error in the answer")
