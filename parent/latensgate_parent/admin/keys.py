"""``latensgate-admin key``."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

import click
from rich.text import Text

from latensgate_parent import api_keys
from latensgate_parent.admin.exit_codes import NothingFound
from latensgate_parent.admin.place import Place, grid, pass_place
from latensgate_parent.admin.tenants import Name, TenantId, known_tenant
from latensgate_parent.clock import optional_rfc3339, to_rfc3339
from latensgate_parent.http.auth import Scope
from latensgate_parent.settings_forms import as_list

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from latensgate_parent.api_keys import NewKey
    from latensgate_parent.store.interfaces import APIKey

_COLUMNS: Final = ("id", "name", "scopes", "status", "expires_at")
"""What people are shown of a key; `--json` has all of it."""
_KEY_ID: Final = re.compile(r"key_[0-9a-f]{16}")
_NEVER: Final = "never"


class Expiry(click.ParamType[int, str]):
    """``90d``, ``12h`` or ``never``."""

    name = "expiry"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return seconds; 0 stands for never, since None is a value that click gives itself."""
        if value == _NEVER:
            return 0
        try:
            return api_keys.parse_duration(value)
        except ValueError as error:
            self.fail(f"{error}; or never", param, ctx)


class KeyId(click.ParamType[str, str]):
    """``key_`` and 16 hex digits."""

    name = "key"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read an id."""
        if _KEY_ID.fullmatch(value) is None:
            self.fail("key_ and 16 lower-case hex digits expected", param, ctx)
        return value


_TENANT: Final = click.option(
    "--tenant", "tenant_id", type=TenantId(), required=True, help="Whose key it is."
)


@click.group()
def key() -> None:
    """Make, list and revoke API keys."""


@key.command("create")
@_TENANT
@click.option("--name", type=Name(), required=True, help="For people.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    required=True,
    help="What the key permits; may be repeated.",
)
@click.option(
    "--expiry", type=Expiry(), default="90d", show_default=True, help="Hours or days, or never."
)
@click.option("--test", is_flag=True, help="lg_test_… in place of lg_live_….")
@pass_place
def create(  # noqa: PLR0913 -- a command's options
    place: Place, *, tenant_id: str, name: str, scopes: tuple[str, ...], expiry: int, test: bool
) -> None:
    """Make a key. It is shown this once; only its digest is stored."""

    async def work() -> NewKey:
        async with place.store() as store:
            await known_tenant(store, tenant_id)
            made = api_keys.make_key(
                tenant_id,
                name,
                scopes,
                now_s=int(time.time()),
                life_s=expiry or None,
                test=test,
            )
            await store.insert_key(made.stored)
            return made

    made = place.run(work())
    told = shown(made.stored)

    def show(console: Console) -> None:
        console.print(_table("Made key", [told]))
        console.print(Text("\nThe key, shown this once:\n"))
        console.print(Text(made.full, "bold"))

    place.tell(told | {"key": made.full}, show)


@key.command("list")
@_TENANT
@pass_place
def list_keys(place: Place, tenant_id: str) -> None:
    """List the keys of a tenant, newest first, with revoked and expired ones."""

    async def work() -> list[APIKey]:
        async with place.store() as store:
            await known_tenant(store, tenant_id)
            return list(await store.keys(tenant_id))

    found = [shown(each) for each in place.run(work())]
    place.tell({"keys": found}, lambda console: console.print(_table("Keys", found)))


@key.command("revoke")
@_TENANT
@click.argument("key_id", type=KeyId())
@pass_place
def revoke(place: Place, tenant_id: str, key_id: str) -> None:
    """Revoke a key: it is refused after at most two seconds everywhere."""

    async def work() -> APIKey:
        async with place.store() as store:
            revoked = await store.revoke_key(tenant_id, key_id, int(time.time()))
        if revoked is None:
            raise NothingFound(f"{tenant_id} has no key {key_id}")
        return revoked

    told = shown(place.run(work()))
    place.tell(told, lambda console: console.print(_table("Revoked key", [told])))


def shown(each: APIKey) -> dict[str, object]:
    """Return a key as it is told, without its secret."""
    return {
        "id": each.key_id,
        "name": each.name,
        "hint": each.hint,
        "scopes": list(each.scopes),
        "status": api_keys.status_of(each, time.time()),
        "created_at": to_rfc3339(each.created_at_s),
        "expires_at": optional_rfc3339(each.expires_at_s),
        "revoked_at": optional_rfc3339(each.revoked_at_s),
    }


def _table(title: str, keys: list[dict[str, object]]) -> Table:
    rows = [
        [", ".join(map(str, as_list(each[name]) or [each[name] or ""])) for name in _COLUMNS]
        for each in keys
    ]
    return grid(title, ("key", "name", "scopes", "status", "ends"), rows)
