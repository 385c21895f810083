"""``latensgate config show``: what counts, and where each value came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.session import gateway_command
from latensgate.cli.simple import facts_table, plain
from latensgate.config import (
    BASE_URL_VARIABLE,
    KEY_VARIABLE,
    TENANT_VARIABLE,
    Surroundings,
)

if TYPE_CHECKING:
    from latensgate.cli.session import Session
    from latensgate.config import Found
    from latensgate.verify import AppraisalPolicy
    from latensgate_shared.strict_json import JSONObject

_SHOWN_KEY_CHARS = 11
"""``lg_live_`` and three more: what lists of keys show, far from enough to use it."""


@click.group()
def config() -> None:
    """The configuration of clients on this machine."""


@config.command("show", epilog=epilog(DONE, ExitCode.USAGE))
@gateway_command
def show_command(session: Session) -> ExitCode:
    """Show the effective configuration and where each value came from; the key is masked."""
    found, around = session.found, Surroundings.of_process()
    origins = _origins(session, around)
    values = {
        "base_url": found.base_url,
        "tenant": found.tenant,
        "api_key": masked(found.api_key),
    }
    session.out.data(_json(found, values, origins, around))
    rows = [
        (name, plain(f"{value}  ({origins[name]})" if value else "none"))
        for name, value in values.items()
    ]
    rows += [("trust", plain(text)) for text in trust(found.policy)]
    rows.append(("files", plain(f"{around.config_dir}/config.toml, then dev.toml")))
    rows.append(("state", plain(str(found.state_dir))))
    session.out.show(facts_table(rows))
    for fault in found.faults:
        session.out.show(plain(f"✗ {fault}", "red"))
    return ExitCode.USAGE if found.faults else DONE


def masked(api_key: str | None) -> str | None:
    """Return the beginning of a key."""
    return None if api_key is None else f"{api_key[:_SHOWN_KEY_CHARS]}…"


def _origins(session: Session, around: Surroundings) -> dict[str, str]:
    wanted, file = session.wanted, session.found.origin
    told = (
        ("base_url", wanted.base_url, BASE_URL_VARIABLE),
        ("tenant", wanted.tenant, TENANT_VARIABLE),
        ("api_key", wanted.api_key, KEY_VARIABLE),
    )
    return {
        name: "command line" if value else variable if around.variables.get(variable) else file
        for name, value, variable in told
    }


def trust(policy: AppraisalPolicy | None) -> list[str]:
    """Say what is accepted as an enclave, one line for each thing."""
    if policy is None:
        return ["nothing: see below"]
    root = policy.unsafe_accept_simulated_root_sha256
    told = ["Amazon's root" if root is None else f"SIMULATED root {root[:16]}…"]
    told += [f"image with PCR0 {item.pcr0.hex()[:16]}…" for item in policy.measurements]
    told += [f"release {item.version} ({item.flavour})" for item in policy.releases]
    return told


def _json(
    found: Found, values: dict[str, str | None], origins: dict[str, str], around: Surroundings
) -> JSONObject:
    policy = found.policy
    return {
        "format": "latensgate-configuration/1",
        "values": {
            name: {"value": value, "origin": origins[name] if value else None}
            for name, value in values.items()
        },
        "simulated_root_sha256": policy.unsafe_accept_simulated_root_sha256 if policy else None,
        "measurements": [
            {f"PCR{index}": value.hex() for index, value in item.registers().items()}
            for item in (policy.measurements if policy else ())
        ],
        "releases": [item.version for item in (policy.releases if policy else ())],
        "config_dir": str(around.config_dir),
        "state_dir": str(found.state_dir),
        "faults": [*found.faults],
    }
