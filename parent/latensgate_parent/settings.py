"""The settings of a parent: one frozen value, read once, its faults all reported at once.

A TOML file, and ``LATENSGATE_PARENT_<NAME>`` in the environment over it. Nothing here is secret:
credentials are named, never held. An unknown name is a fault, since a typo must not leave a
setting at its default in silence.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from latensgate_parent import settings_forms as forms
from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from latensgate.verify import Measurements
    from latensgate_parent.settings_forms import HostPort, Network

ENVIRONMENT_PREFIX: Final = "LATENSGATE_PARENT_"
CONFIG_VARIABLE: Final = "LATENSGATE_PARENT_CONFIG"


@dataclass(frozen=True, slots=True)
class Fault:
    """One setting that is wrong.

    Attributes:
        name: As in the file, ``verifier.release_list``.
        expected: In words.
        found: In words; the value itself only where it can hold no secret.
    """

    name: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.name}: {self.expected} expected, found {self.found}"


class SettingsError(LatensgateError):
    """The settings are wrong; nothing was started.

    Attributes:
        faults: All of them.
    """

    code = ErrorCode.ERR_CONFIGURATION

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("settings: " + "; ".join(str(fault) for fault in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class VerifierSettings:
    """What ``GET /api/attest`` accepts; clients have their own.

    Attributes:
        measurements: Images accepted by their registers.
        release_list: File of accepted releases.
        simulated_root_sha256: Root of a simulator in place of Amazon's.
    """

    measurements: tuple[Measurements, ...] = ()
    release_list: Path | None = None
    simulated_root_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that an operator decides.

    Attributes:
        listen: Where clients connect.
        operator_listen: Metrics and readiness; never public.
        database: URL, ``sqlite:///path``.
        public_url: Where clients find this gateway; in the reference.
        tenant_domain: Host names ``tnt_….<tenant_domain>`` name the tenant.
        enclaves: ``unix:/path`` or ``vsock:CID:PORT`` each.
        egress_listen: ``unix:/path`` or ``vsock:PORT``: where enclaves ask for the byte tunnel.
        egress_routes: ``host:port`` of AWS to ``127.0.0.1:port`` of a simulator.
        kms_key_arn: The key of this release.
        credentials: ``file:/path`` or ``boto3``.
        deployment: The measured ``deployment.toml``.
        verifier: What ``GET /api/attest`` judges by.
        requests_per_minute: Of a new tenant.
        trusted_proxies: Peers whose ``X-Forwarded-For`` is believed.
    """

    listen: HostPort
    operator_listen: HostPort
    database: str
    public_url: str
    tenant_domain: str | None
    enclaves: tuple[str, ...]
    egress_listen: str
    egress_routes: Mapping[str, str]
    kms_key_arn: str
    credentials: str
    deployment: Path
    verifier: VerifierSettings
    requests_per_minute: int
    trusted_proxies: tuple[Network, ...]


class _Missing:
    """No default: the operator has to say."""


_MISSING: Final = _Missing()


@dataclass(frozen=True, slots=True)
class _Field:
    """How one setting is read. ``secret``: its value is never repeated."""

    read: Callable[[object], object]
    default: object = _MISSING
    secret: bool = False


_FIELDS: Final[Mapping[str, _Field]] = MappingProxyType(
    {
        "listen": _Field(forms.host_port, "127.0.0.1:8700"),
        "operator_listen": _Field(forms.host_port, "127.0.0.1:8701"),
        "database": _Field(forms.database, secret=True),
        "public_url": _Field(forms.url, "http://127.0.0.1:8700"),
        "tenant_domain": _Field(forms.optional_domain, None),
        "enclaves": _Field(forms.enclaves),
        "egress_listen": _Field(forms.egress_listen),
        "egress_routes": _Field(forms.routes, {}),
        "kms_key_arn": _Field(forms.key_arn),
        "credentials": _Field(forms.credentials, "boto3"),
        "deployment": _Field(forms.path),
        "requests_per_minute": _Field(forms.requests_per_minute, 60),
        "trusted_proxies": _Field(forms.networks, []),
    }
)
_VERIFIER: Final[Mapping[str, _Field]] = MappingProxyType(
    {
        "measurements": _Field(forms.measurements, []),
        "release_list": _Field(forms.optional_path, None),
        "simulated_root_sha256": _Field(forms.optional_sha256, None),
    }
)
_FILE_ONLY: Final = frozenset({"egress_routes", "verifier.measurements"})
"""Tables: the environment cannot say them."""


@dataclass(slots=True)
class _Reader:
    """Reads a table of settings and collects faults."""

    faults: list[Fault] = field(default_factory=list[Fault])

    def table(
        self, values: Mapping[str, object], known: Mapping[str, _Field], prefix: str = ""
    ) -> dict[str, object]:
        for name in values.keys() - known.keys():
            self.faults.append(Fault(prefix + name, f"one of {', '.join(known)}", "another name"))
        return {
            name: self._value(prefix + name, values.get(name, how.default), how)
            for name, how in known.items()
        }

    def _value(self, name: str, value: object, how: _Field) -> object:
        if value is _MISSING:
            self.faults.append(Fault(name, "a value", "none"))
            return None
        try:
            return how.read(value)
        except forms.FormError as error:
            found = "another form" if how.secret else forms.shown(value)
            self.faults.append(Fault(name, str(error), found))
            return None


def read_settings(values: Mapping[str, object], environment: Mapping[str, str]) -> Settings:
    """Read what a file held, and the environment over it.

    Args:
        values: The TOML table.
        environment: All variables; only those with the prefix matter.

    Raises:
        SettingsError: With every fault.
    """
    reader = _Reader()
    given = dict(values)
    verifier = given.pop("verifier", {})
    table = forms.as_table(verifier)
    if table is None:
        reader.faults.append(Fault("verifier", "a table", forms.shown(verifier)))
    judged = dict(table or {})
    _override(given, judged, environment, reader.faults)
    read = reader.table(given, _FIELDS)
    read_verifier = reader.table(judged, _VERIFIER, "verifier.")
    _check_together(read, read_verifier, reader.faults)
    if reader.faults:
        raise SettingsError(tuple(reader.faults))
    judge = VerifierSettings(**read_verifier)  # type: ignore[arg-type]  # each read by its form
    return Settings(**read, verifier=judge)  # type: ignore[arg-type]  # each read by its form


def _override(
    given: dict[str, object],
    verifier: dict[str, object],
    environment: Mapping[str, str],
    faults: list[Fault],
) -> None:
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        inner = name.removeprefix("verifier_")
        is_inner = inner != name
        full = f"verifier.{inner}" if is_inner else name
        if full in _FILE_ONLY or inner not in (_VERIFIER if is_inner else _FIELDS):
            faults.append(Fault(variable, "a setting that the environment can say", "another"))
        else:
            (verifier if is_inner else given)[inner] = forms.from_environment(inner, text)


def _check_together(
    read: Mapping[str, object], verifier: Mapping[str, object], faults: list[Fault]
) -> None:
    public, operator = read["listen"], read["operator_listen"]
    if isinstance(public, forms.HostPort) and public.port and public == operator:
        faults.append(Fault("operator_listen", "another address than listen", "the same"))
    if verifier["measurements"] == () and verifier["release_list"] is None:
        faults.append(
            Fault("verifier", "measurements or release_list, so that something is accepted", "none")
        )


def load_settings(config: Path | None, environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Args:
        config: The file; None: ``LATENSGATE_PARENT_CONFIG`` names it, or there is none.
        environment: ``os.environ``.

    Raises:
        SettingsError: With every fault.
    """
    return read_settings(read_file(config, environment), environment)


def read_file(config: Path | None, environment: Mapping[str, str]) -> Mapping[str, object]:
    """Return the table of the settings' file, empty if there is none.

    Raises:
        SettingsError: It cannot be read, or is no TOML.
    """
    named = environment.get(CONFIG_VARIABLE)
    path = config if config is not None else Path(named) if named else None
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        found = f"{path}: {error.strerror}"
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        found = f"{path}: {error}"
    raise SettingsError((Fault("config", "a readable TOML file", found),))
