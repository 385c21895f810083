"""``latensgate-admin check``: would the parent start with these settings?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latensgate_parent.admin.exit_codes import CheckFailed, CommandError
from latensgate_parent.admin.place import Place, grid, pass_place
from latensgate_parent.appraisal import appraisal_policy
from latensgate_parent.deployment import load_deployment
from latensgate_parent.settings import Settings, SettingsError, load_settings
from latensgate_parent.store.interfaces import StoreError
from latensgate_shared.errors import LatensgateError

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE: str = "file:"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check said.

    Attributes:
        what: Of the settings.
        fault: None: nothing is wrong.
    """

    what: str
    fault: str | None


@click.command()
@pass_place
def check(place: Place) -> None:
    """Check the settings, what they name, and the database. Enclaves and AWS are not asked."""
    findings = _settings(place)
    faults = [each for each in findings if each.fault is not None]
    told = {
        "ok": not faults,
        "checks": [{"what": each.what, "fault": each.fault} for each in findings],
    }
    rows = [(each.what, "ok" if each.fault is None else each.fault) for each in findings]
    place.tell(told, lambda console: console.print(grid("Checks", ("what", "found"), rows)))
    if faults:
        raise CheckFailed(f"{len(faults)} of {len(findings)} checks failed")


def _settings(place: Place) -> list[Finding]:
    try:
        settings = load_settings(place.config, os.environ)
    except SettingsError as error:
        return [
            Finding(fault.name, f"{fault.expected} expected, found {fault.found}")
            for fault in error.faults
        ]
    return [
        Finding("settings", None),
        _found("deployment", lambda: load_deployment(settings.deployment)),
        _found("verifier", lambda: appraisal_policy(settings.verifier)),
        _credentials(settings),
        _database(place),
    ]


def _found(what: str, look: Callable[[], object]) -> Finding:
    try:
        look()
    except LatensgateError as error:
        return Finding(what, error.detail)
    return Finding(what, None)


def _credentials(settings: Settings) -> Finding:
    if not settings.credentials.startswith(_FILE):
        return Finding("credentials", None)
    path = Path(settings.credentials.removeprefix(_FILE))
    readable = path.is_file() and os.access(path, os.R_OK)
    return Finding("credentials", None if readable else f"{path} cannot be read")


def _database(place: Place) -> Finding:
    async def work() -> None:
        async with place.store() as store:
            await store.check()

    try:
        place.run(work())
    except (CommandError, StoreError) as error:
        return Finding("database", str(error))
    return Finding("database", None)
