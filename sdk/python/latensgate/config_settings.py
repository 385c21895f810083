"""Where the root key of tenant settings is named: environment or file, never the gateway."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latensgate.config_files import Gateway

TENANT_ROOT_VARIABLE: Final = "LATENSGATE_TENANT_ROOT"
SETTINGS_VERSION_VARIABLE: Final = "LATENSGATE_MIN_SETTINGS_VERSION"
_ROOT_FORM: Final = re.compile(r"[0-9a-f]{64}")
_NUMBER_FORM: Final = re.compile(r"[0-9]{1,15}")


def settings_version(given: Mapping[str, str], entry: Gateway, faults: list[str]) -> int | None:
    """Return the oldest version that will do; the environment comes before the file."""
    text = given.get(SETTINGS_VERSION_VARIABLE)
    if not text:
        return entry.min_settings_version
    if not _NUMBER_FORM.fullmatch(text):
        faults.append(
            f"min_settings_version: a number from 0 expected ({SETTINGS_VERSION_VARIABLE})"
        )
        return None
    return int(text)


def checked_root(value: str | None, faults: list[str]) -> str | None:
    """Return a public key if it has its form."""
    if value is None or _ROOT_FORM.fullmatch(value):
        return value
    faults.append("tenant_root: 64 lower-case hex digits expected (an Ed25519 public key)")
    return None
