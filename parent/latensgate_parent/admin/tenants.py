"""``latensgate-admin tenant``."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

from latensgate_parent.admin.exit_codes import NothingFound, SettingsFault
from latensgate_parent.admin.place import Place, grid, pass_place
from latensgate_parent.api_keys import check_name
from latensgate_parent.clock import optional_rfc3339, to_rfc3339
from latensgate_parent.settings_forms import FormError, requests_per_minute
from latensgate_parent.store.interfaces import Tenant
from latensgate_shared.formats import tenant_id as tenant_id_form
from latensgate_shared.limits import JSON_MAX_SAFE_INTEGER
from latensgate_shared.strict_json import JSONError

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate_parent.store.interfaces import Store

_DEFAULT_PER_MINUTE: Final = 60
_COLUMNS: Final = ("tenant", "name", "requests/min", "created", "disabled")


class TenantId(click.ParamType[str, str]):
    """``tnt_`` and 8 hex digits."""

    name = "tenant"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read an id."""
        try:
            return tenant_id_form(value)
        except JSONError as error:
            self.fail(error.detail, param, ctx)


class Name(click.ParamType[str, str]):
    """A name for people."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read a name."""
        try:
            return check_name(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


PER_MINUTE: Final = click.IntRange(0, JSON_MAX_SAFE_INTEGER)


@click.group()
def tenant() -> None:
    """Make, list and change tenants."""


@tenant.command("create")
@click.option("--name", type=Name(), required=True, help="For people.")
@click.option(
    "--requests-per-minute",
    "per_minute",
    type=PER_MINUTE,
    help="Over all routes.  [default: as the settings say, else 60]",
)
@pass_place
def create(place: Place, name: str, per_minute: int | None) -> None:
    """Make a tenant. It has no keys yet: `key create` makes them."""
    limit = _default_limit(place) if per_minute is None else per_minute

    async def work() -> Tenant:
        made = Tenant(f"tnt_{secrets.token_hex(4)}", name, limit, int(time.time()))
        async with place.store() as store:
            await store.insert_tenant(made)
        return made

    _tell(place, place.run(work()), "Made tenant")


def _default_limit(place: Place) -> int:
    said = place.setting("requests_per_minute") if place.database is None else None
    if said is None:
        return _DEFAULT_PER_MINUTE
    try:
        return requests_per_minute(said)
    except FormError as error:
        raise SettingsFault(f"requests_per_minute: {error} expected") from None


@tenant.command("list")
@pass_place
def list_tenants(place: Place) -> None:
    """List all tenants, oldest first."""

    async def work() -> list[Tenant]:
        async with place.store() as store:
            return list(await store.tenants())

    found = [shown(each) for each in place.run(work())]
    table = grid("Tenants", _COLUMNS, [tuple(each.values()) for each in found])
    place.tell({"tenants": found}, lambda console: console.print(table))


@tenant.command("limit")
@click.argument("tenant_id", type=TenantId())
@click.argument("per_minute", type=PER_MINUTE)
@pass_place
def limit(place: Place, tenant_id: str, per_minute: int) -> None:
    """Set how many requests a minute a tenant may make, over all routes."""
    _change(place, tenant_id, lambda each: replace(each, requests_per_minute=per_minute))


@tenant.command("disable")
@click.argument("tenant_id", type=TenantId())
@pass_place
def disable(place: Place, tenant_id: str) -> None:
    """Refuse all keys of a tenant, after at most two seconds everywhere."""
    now = int(time.time())
    _change(place, tenant_id, lambda each: replace(each, disabled_at_s=each.disabled_at_s or now))


@tenant.command("enable")
@click.argument("tenant_id", type=TenantId())
@pass_place
def enable(place: Place, tenant_id: str) -> None:
    """Take the keys of a disabled tenant again."""
    _change(place, tenant_id, lambda each: replace(each, disabled_at_s=None))


@tenant.command("forget-settings")
@click.argument("tenant_id", type=TenantId())
@click.confirmation_option(
    prompt="Requests of a tenant that demand its settings will fail. Forget?"
)
@pass_place
def forget_settings(place: Place, tenant_id: str) -> None:
    """Forget the signed settings of a tenant, which has lost its root key or changed it.

    Clients that know the old root are refused until they know the new one. A gateway that runs
    notices within two seconds.
    """

    async def work() -> int:
        async with place.store() as store:
            await known_tenant(store, tenant_id)
            return await store.forget_settings(tenant_id)

    count = place.run(work())
    told = {"tenant_id": tenant_id, "versions_forgotten": count}
    table = grid("Forgotten settings", ("tenant", "versions"), [(tenant_id, count)])
    place.tell(told, lambda console: console.print(table))


def _change(place: Place, tenant_id: str, change: Callable[[Tenant], Tenant]) -> None:
    async def work() -> Tenant:
        async with place.store() as store:
            while True:  # until no other command has changed it meanwhile
                was = await known_tenant(store, tenant_id)
                changed = change(was)
                if await store.replace_tenant(changed, was):
                    return changed

    _tell(place, place.run(work()), "Changed tenant")


async def known_tenant(store: Store, tenant_id: str) -> Tenant:
    """Return a tenant.

    Raises:
        CommandError: There is none.
    """
    found = await store.tenant(tenant_id)
    if found is None:
        raise NothingFound(f"there is no tenant {tenant_id}")
    return found


def shown(each: Tenant) -> dict[str, object]:
    """Return a tenant as it is told."""
    return {
        "tenant_id": each.tenant_id,
        "name": each.name,
        "requests_per_minute": each.requests_per_minute,
        "created_at": to_rfc3339(each.created_at_s),
        "disabled_at": optional_rfc3339(each.disabled_at_s),
    }


def _tell(place: Place, each: Tenant, title: str) -> None:
    told = shown(each)
    table = grid(title, _COLUMNS, [tuple(told.values())])
    place.tell(told, lambda console: console.print(table))
