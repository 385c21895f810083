"""What every command that speaks to a gateway shares: options, settings, connection, endings."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Self

import click

from latensgate.cli.evidence import UnreadableError
from latensgate.cli.failures import failure_of
from latensgate.cli.output import Output
from latensgate.config import Found, Wanted, find_settings
from latensgate.gateway.client import GatewayClient
from latensgate.gateway.connection import TIMEOUT_S
from latensgate.verify.errors import ConfigurationError
from latensgate_shared.errors import LatensgateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate.cli.exit_codes import ExitCode
    from latensgate.verify.policy import AppraisalPolicy

P = ParamSpec("P")


@dataclass(slots=True)
class Session:
    """One run of a command.

    Attributes:
        wanted: What the command line says.
        out: Where it prints.
    """

    wanted: Wanted = field(repr=False)
    out: Output
    _found: Found | None = field(default=None, repr=False)
    _clients: list[GatewayClient] = field(default_factory=list[GatewayClient], repr=False)

    @property
    def found(self) -> Found:
        """Settings of arguments, environment and files, complete or not."""
        if self._found is None:
            self._found = find_settings(self.wanted)
        return self._found

    @property
    def base_url(self) -> str:
        """Address of the gateway.

        Raises:
            ConfigurationError: There is none.
        """
        if self.found.base_url is None:
            raise self._incomplete("tenant", "api_key")
        return self.found.base_url

    @property
    def policy(self) -> AppraisalPolicy:
        """What is accepted as an enclave.

        Raises:
            ConfigurationError: Nothing is, or it is stated wrongly.
        """
        if self.found.policy is None:
            raise self._incomplete("tenant", "api_key", "base_url")
        return self.found.policy

    def verify_command(self, receipt_id: str) -> str:
        """Return what a person types to verify a receipt under the same trust as now."""
        simulated = " --simulated" if self.wanted.simulated else ""
        return f"latensgate verify{simulated} {receipt_id}"

    def gateway(self, *, timeout_s: float = TIMEOUT_S) -> GatewayClient:
        """Connect for public routes: they get no key.

        Raises:
            ConfigurationError: No address.
        """
        return self._connect(None, timeout_s)

    def tenant_gateway(self, *, timeout_s: float = TIMEOUT_S) -> GatewayClient:
        """Connect with the API key.

        Raises:
            ConfigurationError: No address, or no key.
        """
        if self.found.api_key is None:
            raise self._incomplete("tenant")
        return self._connect(self.found.api_key, timeout_s)

    def _connect(self, api_key: str | None, timeout_s: float) -> GatewayClient:
        client = GatewayClient(
            self.base_url, api_key=api_key, timeout_s=timeout_s, ca_file=self.wanted.ca_file
        )
        self._clients.append(client)
        return client

    def _incomplete(self, *unneeded: str) -> ConfigurationError:
        """Name the faults that matter here."""
        about = tuple(f"{name}:" for name in unneeded)
        faults = [text for text in self.found.faults if not text.startswith(about)]
        return ConfigurationError("; ".join(faults or self.found.faults))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()


def gateway_command(
    function: Callable[Concatenate[Session, P], ExitCode],
) -> Callable[..., None]:
    """Give a command the common options; it gets a ``Session`` and returns its exit code."""

    @wraps(function)
    def run(wanted: Wanted, /, *args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.pop("as_json"))
        run_session(wanted, lambda session: function(session, *args, **kwargs), as_json=as_json)

    return gateway_options(run)


def gateway_options(function: Callable[Concatenate[Wanted, P], None]) -> Callable[..., None]:
    """Give a command the common options; it gets ``Wanted`` first, and ``as_json``."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        ca_file = _taken(kwargs, "ca")
        wanted = Wanted(
            ca_file=None if ca_file is None else Path(ca_file),
            base_url=_taken(kwargs, "base_url"),
            tenant=_taken(kwargs, "tenant"),
            api_key=_taken(kwargs, "api_key"),
            simulated=bool(kwargs.pop("simulated")),
        )
        function(wanted, *args, **kwargs)

    made: Callable[..., None] = run
    for option in reversed(_OPTIONS):
        made = option(made)
    return made


def run_session(wanted: Wanted, command: Callable[[Session], ExitCode], *, as_json: bool) -> None:
    """Run a command with a session, tell what went wrong, and end with its exit code."""
    out = Output(as_json=as_json)
    with Session(wanted, out) as session:
        try:
            code = command(session)
        except (LatensgateError, UnreadableError) as error:
            out.fail(failure_of(error))
    sys.exit(code)


def _taken(options: dict[str, object], name: str) -> str | None:
    value = options.pop(name)
    return value if isinstance(value, str) else None


_OPTIONS = (
    click.option("--base-url", metavar="URL", help="The gateway, or a tenant URL of it."),
    click.option("--tenant", metavar="ID", help="tnt_ and 8 hex digits."),
    click.option(
        "--key",
        "api_key",
        metavar="KEY",
        help="API key. Others on this machine may see it: LATENSGATE_KEY or config.toml is better.",
    ),
    click.option(
        "--simulated",
        is_flag=True,
        help="Accept the simulator's root that your configuration names. Nothing is 'verified'"
        " then.",
    ),
    click.option(
        "--ca",
        metavar="FILE",
        help="PEM file of the authorities to accept for TLS, in place of the system's.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON value, for programs."),
)
