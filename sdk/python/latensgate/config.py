"""Where the gateway is, who asks, and what is trusted: one frozen value for SDK and command line.

Precedence: arguments, environment (``LATENSGATE_KEY``, ``LATENSGATE_TENANT``,
``LATENSGATE_BASE_URL``), ``config.toml``, ``dev.toml``. The files name gateways; what is trusted
comes from arguments or from these files and never from the gateway, and no environment variable
can make a simulated root acceptable. All faults are told at once.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

import platformdirs

from latensgate.config_files import Gateway, OpenFileError, read_gateways, read_measurements
from latensgate.config_settings import TENANT_ROOT_VARIABLE, checked_root, settings_version
from latensgate.verify import (
    AppraisalPolicy,
    ConfigurationError,
    Measurements,
    Release,
    parse_release_list,
)
from latensgate_shared import limits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

APPLICATION: Final = "latensgate"
KEY_VARIABLE: Final = "LATENSGATE_KEY"
TENANT_VARIABLE: Final = "LATENSGATE_TENANT"
BASE_URL_VARIABLE: Final = "LATENSGATE_BASE_URL"
CONFIG_DIR_VARIABLE: Final = "LATENSGATE_CONFIG_DIR"
STATE_DIR_VARIABLE: Final = "LATENSGATE_STATE_DIR"

API_KEY_FORM: Final = re.compile(r"lg_(?:live|test)_[0-9A-Za-z_-]{43}")
_TENANT_FORM: Final = re.compile(r"tnt_[0-9a-f]{8}")
_TENANT_PATH: Final = re.compile(r"/t/(tnt_[0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a process has around it, as an argument so that tests have their own.

    Attributes:
        variables: Environment variables.
        config_dir: Folder of ``config.toml`` and ``dev.toml``.
        state_dir: Folder of verified attestations and the installation secret.
    """

    variables: Mapping[str, str] = field(repr=False)
    config_dir: Path
    state_dir: Path

    @classmethod
    def of_process(cls) -> Surroundings:
        """Take them from this process and its user's folders."""
        given = os.environ
        config = given.get(CONFIG_DIR_VARIABLE) or platformdirs.user_config_dir(APPLICATION)
        state = given.get(STATE_DIR_VARIABLE) or platformdirs.user_state_dir(APPLICATION)
        return cls(dict(given), Path(config), Path(state))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the caller says itself; None leaves it to environment and files.

    Attributes:
        api_key: ``lg_live_…`` or ``lg_test_…``.
        tenant: ``tnt_`` and 8 hex digits.
        base_url: The gateway's root or a tenant URL.
        measurements: Accepted images: ``Measurements``, or mappings with ``PCR0``, ``PCR1`` and
            ``PCR2`` in hex. With ``release_list`` they take the place of the files' trust.
        release_list: File of accepted releases (docs/spec/releases.md).
        simulated: Accept a simulator's root instead of Amazon's; statuses then say so.
        simulated_root_sha256: Its fingerprint, where no file names it; only with ``simulated``.
        ca_file: Authorities in PEM form in the place of the usual ones, for the command line; the
            SDK takes an ``http_client`` instead.
    """

    api_key: str | None = field(default=None, repr=False)
    tenant: str | None = None
    base_url: str | None = None
    measurements: Sequence[Measurements | Mapping[str, str]] | None = None
    release_list: str | os.PathLike[str] | None = None
    simulated: bool = False
    simulated_root_sha256: str | None = None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a client needs to know before it opens a connection.

    Attributes:
        base_url: Root of the gateway, without a slash at its end.
        tenant: ``tnt_`` and 8 hex digits.
        api_key: Never printed.
        policy: What an attestation must be to be trusted.
        state_dir: Where verified state is kept.
        origin: Where the gateway was named, for people.
        tenant_root: Public key that signs the tenant's settings, 64 hex digits; or None.
        min_settings_version: Oldest settings that will do; or None.
    """

    base_url: str
    tenant: str
    api_key: str = field(repr=False)
    policy: AppraisalPolicy
    state_dir: Path
    origin: str
    tenant_root: str | None = None
    min_settings_version: int | None = None

    @property
    def simulated(self) -> bool:
        """Whether a simulator's root is accepted in place of Amazon's."""
        return self.policy.unsafe_accept_simulated_root_sha256 is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is known, complete or not: for tools that need only a part of it.

    Attributes:
        base_url: Root of the gateway, or None.
        tenant: Or None.
        api_key: Or None; never printed.
        policy: Or None.
        state_dir: Where verified state is kept.
        origin: Where the gateway was named, for people.
        faults: What is wrong or missing, one sentence each; values of keys are never in them.
        tenant_root: Public key that signs the tenant's settings, or None.
        min_settings_version: Oldest settings that will do, or None.
    """

    base_url: str | None
    tenant: str | None
    api_key: str | None = field(repr=False)
    policy: AppraisalPolicy | None
    state_dir: Path
    origin: str
    faults: tuple[str, ...]
    tenant_root: str | None = None
    min_settings_version: int | None = None


def load_settings(
    wanted: Wanted, around: Surroundings | None = None, *, besides: Sequence[str] = ()
) -> Settings:
    """Put the settings together.

    Args:
        wanted: What the caller says itself.
        around: Environment and folders; None for those of the process.
        besides: Faults that the caller found already, to be told with the others.

    Raises:
        ConfigurationError: Something is missing or of another form; it names every fault.
    """
    found = find_settings(wanted, around)
    faults = (*found.faults, *besides)
    if faults or not (found.base_url and found.tenant and found.api_key and found.policy):
        raise ConfigurationError("; ".join(faults))
    return Settings(
        base_url=found.base_url,
        tenant=found.tenant,
        api_key=found.api_key,
        policy=found.policy,
        state_dir=found.state_dir,
        origin=found.origin,
        tenant_root=found.tenant_root,
        min_settings_version=found.min_settings_version,
    )


def find_settings(wanted: Wanted, around: Surroundings | None = None) -> Found:
    """Put together what is known and name what is not; raises nothing for bad input."""
    around = around or Surroundings.of_process()
    faults: list[str] = []
    gateway = _choose(wanted, around, faults)
    base_url = _base_url(gateway.base_url, faults)
    tenant_root = checked_root(gateway.tenant_root, faults)
    version = gateway.min_settings_version
    if version is not None and gateway.tenant_root is None:
        faults.append("min_settings_version: only with tenant_root")
    return Found(
        base_url=base_url,
        tenant=_tenant(gateway.tenant, base_url, faults),
        api_key=_api_key(gateway.api_key, faults),
        policy=_policy(wanted, gateway, faults),
        state_dir=around.state_dir,
        origin=gateway.origin,
        tenant_root=tenant_root,
        min_settings_version=version,
        faults=tuple(faults),
    )


def _choose(wanted: Wanted, around: Surroundings, faults: list[str]) -> Gateway:
    """Find the entry of the files, and lay environment and arguments over it."""
    given = around.variables
    asked = wanted.base_url or given.get(BASE_URL_VARIABLE) or None
    entry = _entry(asked, around.config_dir, faults)
    return Gateway(
        base_url=asked or entry.base_url,
        tenant=wanted.tenant or given.get(TENANT_VARIABLE) or entry.tenant,
        api_key=wanted.api_key or given.get(KEY_VARIABLE) or entry.api_key,
        simulated_root_sha256=wanted.simulated_root_sha256 or entry.simulated_root_sha256,
        release_list=entry.release_list,
        measurements=entry.measurements,
        tenant_root=given.get(TENANT_ROOT_VARIABLE) or entry.tenant_root,
        min_settings_version=settings_version(given, entry, faults),
        origin=entry.origin if entry.base_url else "arguments or environment",
    )


def _entry(asked: str | None, folder: Path, faults: list[str]) -> Gateway:
    for name in ("config.toml", "dev.toml"):
        try:
            gateways = read_gateways(folder / name)
        except OpenFileError as error:
            faults.extend(error.faults)
            continue
        for gateway in gateways:
            if asked is None or _same(gateway.base_url, asked):
                return gateway
    return Gateway()


def _same(left: str | None, right: str) -> bool:
    return left is not None and _plain(left) == _plain(right)


def _plain(url: str) -> str:
    """Scheme and host in lower case, no slash at the end."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return urlunsplit(
        (parts.scheme.lower(), parts.netloc.lower(), parts.path.rstrip("/"), parts.query, "")
    )


def _base_url(value: str | None, faults: list[str]) -> str | None:
    if value is None:
        faults.append(
            f"base_url: the gateway's address expected (argument, {BASE_URL_VARIABLE},"
            " or a [[gateways]] entry of config.toml), found none"
        )
        return None
    fault = _url_fault(value)
    if fault is not None:
        faults.append(f"base_url: {fault}")
        return None
    return _plain(value)


def checked_base_url(value: str) -> str:
    """Return an address of a gateway in the form in which it is used.

    Raises:
        ConfigurationError: Not http or https, or http to another machine.
    """
    fault = _url_fault(value)
    if fault is not None:
        raise ConfigurationError(f"base_url: {fault}")
    return _plain(value)


def _url_fault(value: str) -> str | None:
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "an http or https address expected, found something else"
    if parts.scheme.lower() not in {"http", "https"} or not host:
        return "an http or https address with a host expected, found something else"
    if parts.query or parts.fragment or parts.username is not None:
        return "an address without query, fragment and user name expected"
    if parts.scheme.lower() == "http" and not is_loopback(host):
        return f"https expected for a host that is not this machine, found http for {host}"
    return None


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _tenant(value: str | None, base_url: str | None, faults: list[str]) -> str | None:
    in_url = _TENANT_PATH.search(base_url or "")
    named = value or (in_url[1] if in_url else None)
    if named is None:
        faults.append(f"tenant: tnt_ and 8 hex digits expected (argument or {TENANT_VARIABLE})")
        return None
    if not _TENANT_FORM.fullmatch(named):
        faults.append("tenant: tnt_ and 8 lower-case hex digits expected, found another form")
        return None
    if in_url and in_url[1] != named:
        faults.append(f"tenant: {in_url[1]} stands in base_url, but {named} is asked for")
        return None
    return named


def _api_key(value: object, faults: list[str]) -> str | None:
    if value is None:
        faults.append(f"api_key: lg_live_… or lg_test_… expected (argument or {KEY_VARIABLE})")
        return None
    if not isinstance(value, str) or not API_KEY_FORM.fullmatch(value):
        faults.append(
            "api_key: lg_live_ or lg_test_ and 43 characters expected, found another form"
        )
        return None
    return value


def _policy(wanted: Wanted, gateway: Gateway, faults: list[str]) -> AppraisalPolicy | None:
    before = len(faults)
    root = _simulated_root(wanted, gateway, faults)
    measurements, releases = _accepted(wanted, gateway, faults)
    if len(faults) > before:
        return None
    if not measurements and not releases:
        faults.append(
            "trust: measurements or a release_list expected (argument, or in the gateway's entry"
            " of config.toml), found none; what may see your prompts is yours to say"
        )
        return None
    try:
        return AppraisalPolicy(
            measurements=measurements,
            releases=releases,
            unsafe_accept_simulated_root_sha256=root,
        )
    except ConfigurationError as error:
        faults.append(error.detail)
        return None


def _simulated_root(wanted: Wanted, gateway: Gateway, faults: list[str]) -> str | None:
    if not wanted.simulated:
        return None
    if gateway.simulated_root_sha256 is None:
        faults.append(
            "simulated_root_sha256: the fingerprint of the simulator's root expected with"
            " simulated=True (argument, or in the gateway's entry), found none"
        )
    return gateway.simulated_root_sha256


def _accepted(
    wanted: Wanted, gateway: Gateway, faults: list[str]
) -> tuple[tuple[Measurements, ...], tuple[Release, ...]]:
    """Arguments take the place of the files' trust as a whole: a mixture would only widen it."""
    if wanted.measurements is not None or wanted.release_list is not None:
        given = wanted.measurements or ()
        measurements = tuple(
            entry
            if isinstance(entry, Measurements)
            else read_measurements(entry, f"measurements, entry {number}", faults)
            for number, entry in enumerate(given)
        )
        path = wanted.release_list
        releases = _releases(None if path is None else Path(path), faults)
        return tuple(filter(None, measurements)), releases
    return gateway.measurements, _releases(gateway.release_list, faults)


def _releases(path: Path | None, faults: list[str]) -> tuple[Release, ...]:
    if path is None:
        return ()
    try:
        with path.open("rb") as file:
            return parse_release_list(file.read(limits.RELEASE_LIST_MAX_BYTES + 1))
    except OSError as error:
        faults.append(f"release_list: {path}: {error.strerror or 'cannot be read'}")
    except ConfigurationError as error:
        faults.append(f"release_list: {path}: {error.detail}")
    return ()
