"""What the doctor finds, and how one finding leads to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from latensgate.cli.exit_codes import DONE, ExitCode
from latensgate.cli.failures import failure_of
from latensgate.cli.inspection import State
from latensgate.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate_shared.errors import LatensgateError
    from latensgate_shared.strict_json import JSONObject


@dataclass(frozen=True, slots=True)
class Finding:
    """One step.

    Attributes:
        title: What was looked at.
        state: How it went.
        detail: What was found.
        advice: What to do, if anything is wrong.
        code: Exit code that a failure means.
    """

    title: str
    state: State
    detail: str = ""
    advice: str = ""
    code: ExitCode = DONE

    def to_json(self, number: int) -> JSONObject:
        """Return it for programs."""
        return {
            "number": number,
            "title": self.title,
            "state": self.state.value,
            "detail": self.detail,
            "advice": self.advice,
            "exit_code": int(self.code),
        }


class FoundError(Exception):
    """Something is wrong, and it is known what to do.

    Attributes:
        detail: What was found.
        advice: What to do.
        code: Exit code.
    """

    def __init__(self, detail: str, advice: str, code: ExitCode) -> None:
        super().__init__(detail)
        self.detail = detail
        self.advice = advice
        self.code = code


class NotNeededError(Exception):
    """There is nothing to look at here; the text says why."""


def found_of(error: LatensgateError, advice: str = "") -> FoundError:
    """Return what an error means for the doctor."""
    failure = failure_of(error)
    return FoundError(failure.message, advice or failure.hint, failure.exit_code)


@dataclass(slots=True)
class Findings:
    """All of them, in order.

    Attributes:
        items: So far.
        show: Told each one at once.
    """

    show: Callable[[int, Finding], None]
    items: list[Finding] = field(default_factory=list[Finding])
    _passed: set[str] = field(default_factory=set[str])

    def look(self, title: str, step: Callable[[], str], *needs: str) -> bool:
        """Take one step if those that it needs went well; return whether it did."""
        missing = next((need for need in needs if need not in self._passed), None)
        if missing is not None:
            return self._add(Finding(title, State.NOT_RUN, f"needs: {missing.lower()}"))
        try:
            finding = Finding(title, State.PASSED, printable(step()))
        except NotNeededError as reason:
            self._passed.add(title)
            return self._add(Finding(title, State.NOT_RUN, str(reason)))
        except FoundError as error:
            detail, advice = printable(error.detail), error.advice
            return self._add(Finding(title, State.FAILED, detail, advice, error.code))
        self._passed.add(title)
        return self._add(finding)

    def _add(self, finding: Finding) -> bool:
        self.items.append(finding)
        self.show(len(self.items), finding)
        return finding.state is State.PASSED

    @property
    def failed(self) -> list[Finding]:
        """Those that went wrong."""
        return [item for item in self.items if item.state is State.FAILED]

    @property
    def code(self) -> ExitCode:
        """Exit code of the first that went wrong: the others may follow from it."""
        return self.failed[0].code if self.failed else DONE
