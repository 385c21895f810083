"""The doctor's steps on this machine: configuration and who may read it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from latensgate.cli.config_show import masked, trust
from latensgate.cli.doctor_findings import FoundError, NotNeededError
from latensgate.cli.exit_codes import ExitCode
from latensgate.config import Surroundings

if TYPE_CHECKING:
    from pathlib import Path

    from latensgate.cli.session import Session
    from latensgate.config import Found

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def _faults(found: Found, about: tuple[str, ...], *, apart: bool = False) -> list[str]:
    """Return the faults that begin so; ``apart``: all others."""
    return [text for text in found.faults if text.startswith(about) is not apart]


def address_words(session: Session) -> str:
    """Say where the gateway is."""
    found = session.found
    if found.base_url is None:
        faults = _faults(found, ("tenant:", "api_key:", "trust:"), apart=True)
        raise FoundError(
            "; ".join(faults),
            "Set LATENSGATE_BASE_URL or write config.toml; make run or latensgate dev starts a"
            " gateway here.",
            ExitCode.USAGE,
        )
    return f"{found.base_url} ({found.origin})"


def identity_words(session: Session) -> str:
    """Say who asks."""
    found = session.found
    if found.tenant is None or found.api_key is None:
        raise FoundError(
            "; ".join(_faults(found, ("tenant:", "api_key:"))) or "; ".join(found.faults),
            "Your operator gives both; set LATENSGATE_TENANT and LATENSGATE_KEY.",
            ExitCode.UNAUTHENTICATED,
        )
    return f"{found.tenant}, key {masked(found.api_key)}"


def trust_words(session: Session) -> str:
    """Say what is accepted as an enclave."""
    if session.found.policy is None:
        faults = _faults(session.found, ("tenant:", "api_key:", "base_url:"), apart=True)
        raise FoundError(
            "; ".join(faults),
            "Put the measurements or the release list that you accept into config.toml; never take"
            " them from the gateway.",
            ExitCode.USAGE,
        )
    return "; ".join(trust(session.found.policy))


def modes_words() -> str:
    """Look who may read the configuration and the kept state."""
    if os.name != "posix":
        raise NotNeededError("this system has no such modes")
    around = Surroundings.of_process()
    files = [around.config_dir / name for name in ("config.toml", "dev.toml")]
    files += sorted(around.state_dir.rglob("*")) if around.state_dir.is_dir() else []
    there = [path for path in files if path.is_file()]
    if not there:
        raise NotNeededError("no files there")
    open_ones = [path for path in there if _mode(path) & _OTHERS]
    if open_ones:
        names = " ".join(map(str, open_ones[:4]))
        raise FoundError(f"others may read or change {names}", f"chmod 600 {names}", ExitCode.USAGE)
    return f"{len(there)} file{'s' if len(there) > 1 else ''}, yours alone"


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0
