"""``python -m latensgate_parent --config parent.toml``: run a parent until SIGTERM.

It prints one line when it serves; its log is on standard error. Exit codes: docs/exit-codes.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from latensgate_parent.app import Parent, compose
from latensgate_parent.heap import settle_heap
from latensgate_parent.http.backlog import BACKGROUND_ID
from latensgate_parent.logs import JSONLog
from latensgate_parent.settings import Settings, SettingsError, load_settings
from latensgate_shared.errors import LatensgateError

if TYPE_CHECKING:
    from collections.abc import Sequence


class ExitCode(IntEnum):
    """How the process ended."""

    DRAINED = 0
    CANNOT_SERVE = 1
    SETTINGS = 3
    INTERNAL = 70


async def serve(settings: Settings, log: JSONLog) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the draining.

    Raises:
        LatensgateError: It cannot serve.
    """
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: _loop_fault(log, context))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop, hurry)
    parts = await compose(settings, log)
    await Parent(parts).serve(stop, _announce, hurry)


def _on_signal(stop: asyncio.Event, hurry: asyncio.Event) -> None:
    if stop.is_set():
        hurry.set()
    stop.set()


def _loop_fault(log: JSONLog, context: dict[str, Any]) -> None:
    """Stand in for asyncio's own handler, which would print the text of the exception."""
    error = context.get("exception")
    if isinstance(error, BaseException):
        log.failed_unexpectedly(BACKGROUND_ID, error)


def _announce(address: str) -> None:
    settle_heap()
    sys.stdout.write(f"listening on {address}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a parent; 0 after a drain."""
    parser = argparse.ArgumentParser(prog="latensgate_parent", allow_abbrev=False)
    parser.add_argument("--config", type=Path, help="settings; else LATENSGATE_PARENT_CONFIG")
    parsed = parser.parse_args(arguments)
    try:
        settings = load_settings(parsed.config, os.environ)
    except SettingsError as error:
        for fault in error.faults:
            sys.stderr.write(f"settings: {fault}\n")
        return ExitCode.SETTINGS
    return _run(settings, JSONLog(sys.stderr, time.time))


def _run(settings: Settings, log: JSONLog) -> ExitCode:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, log))
    except LatensgateError as error:
        sys.stderr.write(f"cannot serve: {error.code.name}: {error.detail}\n")
        return ExitCode.CANNOT_SERVE
    except Exception as error:  # noqa: BLE001  # Python would print its text, whoever wrote that
        log.failed_unexpectedly(BACKGROUND_ID, error)
        return ExitCode.INTERNAL
    return ExitCode.DRAINED


if __name__ == "__main__":
    sys.exit(main())
