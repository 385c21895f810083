"""``latensgate-admin drain``: let the enclaves of a running parent end their work."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Final

import click

from latensgate_parent.admin.exit_codes import ParentFault, SettingsFault
from latensgate_parent.admin.place import Place, grid, pass_place
from latensgate_parent.operator_app import DRAIN_HEADER, DRAIN_PATH
from latensgate_parent.settings_forms import FormError, HostPort, as_table, host_port

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULT_OPERATOR: Final = "127.0.0.1:8701"
_TIMEOUT_S: Final = 60.0
_OK: Final = 200


@click.command()
@pass_place
def drain(place: Place) -> None:
    """Drain the enclaves of the running parent: they take no further requests, for good.

    Their usage totals are collected. Stop the parent and the enclaves when no calls are open any
    more; new enclaves take the work.
    """
    answer = _ask(_operator(place))
    enclaves = as_table(answer.get("enclaves")) or {}
    rows = [(name, "not reached" if n is None else n) for name, n in enclaves.items()]
    table = grid("Draining", ("enclave", "open calls"), rows)
    place.tell({"enclaves": enclaves}, lambda console: console.print(table))
    if any(count is None for count in enclaves.values()):
        raise ParentFault("not every enclave could be told to drain")


def _operator(place: Place) -> HostPort:
    try:
        return host_port(place.setting("operator_listen") or _DEFAULT_OPERATOR)
    except FormError as error:
        raise SettingsFault(f"operator_listen: {error} expected") from None


def _ask(operator: HostPort) -> Mapping[str, object]:
    connection = http.client.HTTPConnection(operator.host, operator.port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", DRAIN_PATH, headers={DRAIN_HEADER: "drain"})
        answer = connection.getresponse()
        body = as_table(json.loads(answer.read()))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ParentFault(
            f"the parent does not answer on {operator} ({type(error).__name__})"
        ) from None
    finally:
        connection.close()
    if answer.status != _OK or body is None:
        raise ParentFault(f"the parent answered with status {answer.status}")
    return body
