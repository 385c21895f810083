"""What an operator of upstreams does, done for the developer: a signing key, and one push."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from latensgate_sim.deployment import UPSTREAM_NAME
from latensgate_sim.gateway import GatewayNotStartedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from latensgate_sim.gateway import GatewayPlan

_COMMAND = (sys.executable, "-m", "latensgate.cli", "upstream-credential")


def make_operator_key(file: Path) -> str:
    """Make a signing key; return its public half in hex, for `deployment.toml`."""
    made = subprocess.run(  # noqa: S603 -- own interpreter and arguments, no shell
        [*_COMMAND, "keygen", str(file)], check=True, capture_output=True, text=True
    )
    return made.stdout.split('"')[1]


def push_credential(
    plan: GatewayPlan, signing_key: Path, secret: str, environment: Mapping[str, str]
) -> None:
    """Push the key of the simulated upstream with the installed command.

    Raises:
        GatewayNotStartedError: Not every enclave took it.
    """
    command = [*_COMMAND, "push", UPSTREAM_NAME, "--simulated", "--json"]
    command += ["--operator-url", plan.operator_url]
    command += ["--signing-key", str(signing_key), "--secret-file", "-"]
    done = subprocess.run(  # noqa: S603 -- own interpreter and arguments, no shell
        command, check=False, capture_output=True, text=True, input=secret, env=dict(environment)
    )
    if done.returncode:
        raise GatewayNotStartedError(f"upstream-credential push: {done.stdout}{done.stderr}")
