"""``latensgate keys``: the tenant's API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.panel import Panel
from rich.text import Text

from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.session import gateway_command
from latensgate.cli.simple import facts_table, list_table, plain, state
from latensgate.cli.text import printable, utc
from latensgate.gateway.client import UNSAID

if TYPE_CHECKING:
    from datetime import datetime

    from latensgate.cli.session import Session
    from latensgate.gateway import APIKeyInfo, NewAPIKey
    from latensgate_shared.strict_json import JSONObject

_EPILOG = epilog(DONE, ExitCode.UNREACHABLE, ExitCode.REFUSED, ExitCode.UNAUTHENTICATED)
_NEVER = "never"
_NONE = "none"


@click.group()
def keys() -> None:
    """List, create, revoke and rotate API keys of the tenant."""


@keys.command("list", epilog=_EPILOG)
@gateway_command
def list_command(session: Session) -> ExitCode:
    """List all keys, revoked and expired ones too. Secrets are stored nowhere."""
    found = session.tenant_gateway().keys()
    session.out.data({"format": "latensgate-keys/1", "keys": [_json(item) for item in found]})
    table = list_table(
        "id", "name", "key", "scopes", "status", "ends", whole=("id", "key", "status", "ends")
    )
    for item in found:
        table.add_row(
            item.key_id,
            plain(item.name),
            plain(item.hint),
            plain("\n".join(item.scopes)),
            state(item.status),
            _day(item.expires_at),
        )
    session.out.show(table)
    return DONE


@keys.command("create", epilog=_EPILOG)
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    default=("inference:read",),
    show_default=True,
    help="What it permits; may stand more than once.",
)
@click.option(
    "--expiry", metavar="90d|12h|never", help="When it ends.  [default: the gateway's, 90d]"
)
@gateway_command
def create_command(
    session: Session, name: str, scopes: tuple[str, ...], expiry: str | None
) -> ExitCode:
    """Make a key. It is shown this once."""
    made = session.tenant_gateway().create_key(name, scopes, expiry=_duration(expiry, _NEVER))
    _show_new(session, made)
    return DONE


@keys.command("revoke", epilog=_EPILOG)
@click.argument("key_id")
@gateway_command
def revoke_command(session: Session, key_id: str) -> ExitCode:
    """Revoke a key, at once and for ever."""
    revoked = session.tenant_gateway().revoke_key(key_id)
    session.out.data({"format": "latensgate-key/1", "key": _json(revoked)})
    session.out.line(f"{revoked.key_id} ({printable(revoked.name)}) is revoked.")
    return DONE


@keys.command("rotate", epilog=_EPILOG)
@click.argument("key_id")
@click.option(
    "--grace",
    metavar="24h|none",
    help="How long the old key goes on working.  [default: the gateway's, 24h]",
)
@click.option("--expiry", metavar="90d|12h|never", help="When the new one ends.")
@gateway_command
def rotate_command(
    session: Session, key_id: str, grace: str | None, expiry: str | None
) -> ExitCode:
    """Replace a key by a new one of the same name and scopes. It is shown this once."""
    made = session.tenant_gateway().rotate_key(
        key_id, grace=_duration(grace, _NONE), expiry=_duration(expiry, _NEVER)
    )
    _show_new(session, made)
    return DONE


def _duration(text: str | None, endless: str) -> str | None:
    """Return what the gateway is told: nothing, null, or a duration, which it judges itself."""
    if text is None:
        return UNSAID
    return None if text == endless else text


def _show_new(session: Session, made: NewAPIKey) -> None:
    """The one place that prints a key: the gateway has forgotten it already."""
    told = _json(made.info) | {"secret": made.secret, "replaces": made.replaces}
    session.out.data({"format": "latensgate-key/1", "key": told})
    session.out.show(
        Panel(
            Text("This key is shown once. Store it now; nobody can show it again.", "bold"),
            border_style="yellow",
            expand=False,
        )
    )
    session.out.line(made.secret)
    session.out.line()
    rows = [
        ("id", plain(made.info.key_id)),
        ("name", plain(made.info.name)),
        ("scopes", plain(", ".join(made.info.scopes))),
        ("ends", plain(_moment(made.info.expires_at))),
    ]
    if made.replaces is not None:
        rows.append(("replaces", plain(made.replaces)))
    session.out.show(facts_table(rows))


def _json(key: APIKeyInfo) -> JSONObject:
    return {
        "id": key.key_id,
        "name": key.name,
        "hint": key.hint,
        "scopes": [*key.scopes],
        "status": key.status,
        "created_at": utc(key.created_at),
        "expires_at": None if key.expires_at is None else utc(key.expires_at),
        "revoked_at": None if key.revoked_at is None else utc(key.revoked_at),
    }


def _day(at: datetime | None) -> str:
    return "never" if at is None else utc(at)[:10]


def _moment(at: datetime | None) -> str:
    return "never" if at is None else utc(at)
