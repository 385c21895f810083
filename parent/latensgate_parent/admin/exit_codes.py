"""Exit codes of ``latensgate-admin`` (docs/exit-codes.md): stable, one meaning each."""

# ruff: noqa: N818 -- the classes are named for what a person is told

from __future__ import annotations

from enum import IntEnum

import click


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    USAGE = 2
    SETTINGS = 3
    DATABASE = 4
    NOT_FOUND = 5
    PARENT = 6
    CHECK = 7
    INTERNAL = 70

    @property
    def meaning(self) -> str:
        """One sentence, as docs/exit-codes.md says it."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.DONE: "Done.",
    ExitCode.USAGE: "The command line is wrong; nothing was done.",
    ExitCode.SETTINGS: "The settings are wrong or cannot be read; every fault is named.",
    ExitCode.DATABASE: "The database cannot be opened, or did not confirm.",
    ExitCode.NOT_FOUND: "There is no such tenant or key.",
    ExitCode.PARENT: "The running parent could not be reached, or did not drain.",
    ExitCode.CHECK: "`check` found something that would keep the parent from starting.",
    ExitCode.INTERNAL: "A fault of this program; please report it.",
}


class CommandError(click.ClickException):
    """A command that could not do what it was asked; told in one sentence."""


class SettingsFault(CommandError):
    """See ``ExitCode.SETTINGS``."""

    exit_code = ExitCode.SETTINGS


class DatabaseFault(CommandError):
    """See ``ExitCode.DATABASE``."""

    exit_code = ExitCode.DATABASE


class NothingFound(CommandError):
    """See ``ExitCode.NOT_FOUND``."""

    exit_code = ExitCode.NOT_FOUND


class ParentFault(CommandError):
    """See ``ExitCode.PARENT``."""

    exit_code = ExitCode.PARENT


class CheckFailed(CommandError):
    """See ``ExitCode.CHECK``."""

    exit_code = ExitCode.CHECK
