"""Where a command prints: for people on a terminal, for programs as one JSON value."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from latensgate.cli.failures import Failure
    from latensgate_shared.strict_json import JSONObject


class Terminal(Console):
    """A console that leaves a reader who went away to ``main``, and colours nothing by itself."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(highlight=False, emoji=False, markup=False, stderr=stderr)

    def on_broken_pipe(self) -> None:
        """Tell the caller; the library would end the process with a code of its own."""
        raise BrokenPipeError


class Output:
    """Standard output and error of one command.

    Colours follow the terminal, NO_COLOR and TERM=dumb; without a terminal there are none.

    Attributes:
        as_json: One JSON value on standard output, and nothing else there.
        console: Standard output for people.
        error: Standard error.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Terminal()
        self.error = Terminal(stderr=True)

    def show(self, *shown: RenderableType) -> None:
        """Print for people; nothing with ``--json``."""
        if not self.as_json:
            for item in shown:
                self.console.print(item)

    def line(self, text: str = "", style: str = "") -> None:
        """Print one line, never broken: it may be copied."""
        if not self.as_json:
            self.console.print(Text(text, style), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print what is no result, on standard error."""
        if not self.as_json:
            self.error.print(Text(text, "dim"), soft_wrap=True)

    def data(self, value: JSONObject) -> None:
        """Print the result for programs; nothing without ``--json``."""
        if self.as_json:
            print(json.dumps(value, indent=2, ensure_ascii=True))

    def fail(self, failure: Failure) -> NoReturn:
        """Tell why it did not work, and end with its exit code."""
        self.data(failure.to_json())
        if not self.as_json:
            self._tell(failure)
        sys.exit(failure.exit_code)

    def _tell(self, failure: Failure) -> None:
        told = Text.assemble(("Error: ", "bold red"), failure.message)
        if failure.code is not None:
            told.append(f" ({failure.code})", "dim")
        self.error.print(told, soft_wrap=True)
        for text in (failure.hint, _later(failure), _quote(failure)):
            if text:
                self.error.print(Text(f"  {text}", "dim"), soft_wrap=True)


def _later(failure: Failure) -> str:
    seconds = failure.retry_after_s
    return "" if seconds is None else f"The gateway asks to wait {seconds} s."


def _quote(failure: Failure) -> str:
    return f"Correlation id: {failure.correlation_id}" if failure.correlation_id else ""
