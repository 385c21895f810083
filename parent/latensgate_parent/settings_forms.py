"""The form of each setting: a function that reads a TOML value or says what it expected."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, cast

from latensgate.verify import ConfigurationError, Measurements
from latensgate_shared.limits import ARN_MAX_CHARS, JSON_MAX_SAFE_INTEGER

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST_PORT: Final = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9A-Za-z.-]+)):([0-9]{1,5})")
_DATABASE: Final = re.compile(r"sqlite:///[^\x00-\x20]+|postgresql(?:\+[a-z0-9]+)?://[^\x00-\x20]+")
_URL: Final = re.compile(r"https?://[0-9A-Za-z.\[\]:-]+")
_DOMAIN: Final = re.compile(r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*")
_ENCLAVE: Final = re.compile(r"unix:/[^\x00]+|vsock:[0-9]{1,10}:[0-9]{1,10}")
_EGRESS: Final = re.compile(r"unix:/[^\x00]+|vsock:[0-9]{1,10}")
_KEY_ARN: Final = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_ROUTE_TARGET: Final = re.compile(r"127\.0\.0\.1:[0-9]{1,5}")
_REGISTERS: Final = ("PCR0", "PCR1", "PCR2")
_PORT_MAX: Final = 65_535
_SHOWN_MAX_CHARS: Final = 120
_LISTS: Final = frozenset({"enclaves", "trusted_proxies"})
_NUMBERS: Final = frozenset({"requests_per_minute"})


class FormError(Exception):
    """A value of another form; the text says what was expected."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """Where to listen.

    Attributes:
        host: Name or address, IPv6 without brackets.
        port: 0: any that is free.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def as_table(value: object) -> dict[str, object] | None:
    """Return a table of TOML or JSON, None for anything else."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def as_list(value: object) -> list[object] | None:
    """Return a list of TOML or JSON, None for anything else."""
    return cast("list[object]", value) if isinstance(value, list) else None


def shown(value: object) -> str:
    """Return a value for a person: short, without control characters."""
    text = "".join(mark if mark.isprintable() else "?" for mark in repr(value))
    return text if len(text) <= _SHOWN_MAX_CHARS else text[:_SHOWN_MAX_CHARS] + "…"


def from_environment(name: str, text: str) -> object:
    """Return the TOML value that a variable stands for: lists by commas, numbers by digits."""
    if name in _LISTS:
        return [item.strip() for item in text.split(",") if item.strip()]
    if name in _NUMBERS and text.isascii() and text.isdigit():
        return int(text)
    return text


def _matching(value: object, form: re.Pattern[str], expected: str) -> str:
    if not isinstance(value, str) or form.fullmatch(value) is None:
        raise FormError(expected)
    return value


def host_port(value: object) -> HostPort:
    """``host:port``."""
    found = _HOST_PORT.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[3]) > _PORT_MAX:
        raise FormError("host:port with a port up to 65535")
    return HostPort(found[1] or found[2], int(found[3]))


def database(value: object) -> str:
    """A database URL."""
    return _matching(value, _DATABASE, "sqlite:///path or postgresql://…")


def url(value: object) -> str:
    """Root of a web address, without path and without slash at its end."""
    text = value.rstrip("/") if isinstance(value, str) else value
    return _matching(text, _URL, "http:// or https://, a host and no path,")


def optional_domain(value: object) -> str | None:
    """A domain, or nothing."""
    return None if value is None else _matching(value, _DOMAIN, "a domain name").lower()


def _texts(value: object, expected: str) -> list[str]:
    found = as_list(value)
    items = [None] if found is None else found
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) != len(items):
        raise FormError(expected)
    return texts


def enclaves(value: object) -> tuple[str, ...]:
    """At least one place of an enclave, none twice."""
    expected = "a list of different unix:/path or vsock:CID:PORT, at least one,"
    found = tuple(_matching(item, _ENCLAVE, expected) for item in _texts(value, expected))
    if not found or len(set(found)) != len(found):
        raise FormError(expected)
    return found


def egress_listen(value: object) -> str:
    """Where the byte tunnel listens."""
    return _matching(value, _EGRESS, "unix:/path or vsock:PORT")


def routes(value: object) -> dict[str, str]:
    """``host:port`` to a port of this machine."""
    expected = 'a table of "host:port" = "127.0.0.1:port"'
    pairs = as_table(value)
    if pairs is None:
        raise FormError(expected)
    return {
        _matching(name, _HOST_PORT, expected): _matching(target, _ROUTE_TARGET, expected)
        for name, target in pairs.items()
    }


def key_arn(value: object) -> str:
    """Full ARN of a KMS key."""
    arn = _matching(value, _KEY_ARN, "arn:aws:kms:REGION:ACCOUNT:key/ID")
    if len(arn) > ARN_MAX_CHARS:
        raise FormError(f"at most {ARN_MAX_CHARS} characters")
    return arn


def credentials(value: object) -> str:
    """Where AWS credentials come from."""
    if value != "boto3":
        return _matching(value, re.compile(r"file:/[^\x00]+"), "file:/path or boto3")
    return "boto3"


def path(value: object) -> Path:
    """A path."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise FormError("a path")
    return Path(value)


def optional_path(value: object) -> Path | None:
    """A path, or nothing."""
    return None if value is None else path(value)


def optional_sha256(value: object) -> str | None:
    """A fingerprint, or nothing."""
    return None if value is None else _matching(value, _SHA256, "64 lower-case hex digits")


def requests_per_minute(value: object) -> int:
    """How many requests a minute."""
    if type(value) is not int or not 0 <= value <= JSON_MAX_SAFE_INTEGER:
        raise FormError("a whole number of at least 0")
    return value


def networks(value: object) -> tuple[Network, ...]:
    """Addresses and networks."""
    expected = "a list of addresses or networks such as 10.0.0.0/8"
    try:
        return tuple(ipaddress.ip_network(item) for item in _texts(value, expected))
    except ValueError:
        raise FormError(expected) from None


def measurements(value: object) -> tuple[Measurements, ...]:
    """Tables of PCR0, PCR1 and PCR2."""
    expected = "tables of PCR0, PCR1 and PCR2, each 96 lower-case hex digits and not all zeros,"
    items = as_list(value)
    if items is None:
        raise FormError(expected)
    found: list[Measurements] = []
    for item in items:
        registers = as_table(item) or {}
        texts = [registers.get(name) for name in _REGISTERS]
        pcr0, pcr1, pcr2 = (text if isinstance(text, str) else "" for text in texts)
        if registers.keys() != set(_REGISTERS):
            raise FormError(expected)
        try:
            found.append(Measurements.from_hex(pcr0, pcr1, pcr2))
        except ConfigurationError:
            raise FormError(expected) from None
    return tuple(found)
