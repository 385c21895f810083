"""``config.toml`` and ``dev.toml``: gateways by address, and what is trusted of them.

```toml
[[gateways]]
base_url = "https://gateway.example"
tenant = "tnt_a3f9c42b"
api_key = "lg_live_…"            # optional; refused if others may read the file
simulated_root_sha256 = "…"      # used only with simulated=True
release_list = "/path"           # optional
tenant_root = "64 hex digits"    # optional: the key that signs the tenant's settings
min_settings_version = 3         # optional, with tenant_root: oldest settings that will do
[[gateways.measurements]]
PCR0 = "…"
PCR1 = "…"
PCR2 = "…"
```
"""

from __future__ import annotations

import os
import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from latensgate.verify import ConfigurationError, Measurements

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE_MAX_BYTES: Final = 1 << 20
"""A few gateways of 1 KB each; more is not a configuration that a person wrote."""
_TEXTS: Final = ("base_url", "tenant", "api_key", "simulated_root_sha256", "release_list")
_TEXTS_OF_SETTINGS: Final = ("tenant_root",)
_NUMBER: Final = "min_settings_version"
_REGISTERS: Final = ("PCR0", "PCR1", "PCR2")


class OpenFileError(Exception):
    """A file that is there and cannot be used.

    Attributes:
        faults: One sentence each.
    """

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """One entry of a file; every member may be missing.

    Attributes:
        base_url: As written.
        tenant: As written.
        api_key: As written; never printed.
        simulated_root_sha256: As written.
        release_list: Relative paths start at the file's folder.
        measurements: Accepted images.
        tenant_root: As written.
        min_settings_version: As written.
        origin: The file, for people.
    """

    base_url: str | None = None
    tenant: str | None = None
    api_key: str | None = field(default=None, repr=False)
    simulated_root_sha256: str | None = None
    release_list: Path | None = None
    measurements: tuple[Measurements, ...] = ()
    tenant_root: str | None = None
    min_settings_version: int | None = None
    origin: str = ""


def read_gateways(path: Path) -> tuple[Gateway, ...]:
    """Read the entries of a file, in its order; a file that is not there has none.

    Raises:
        OpenFileError: It cannot be read, is not of the form above, or holds a key that others
            could read.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(FILE_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise OpenFileError([f"{path}: {error.strerror or 'cannot be read'}"]) from None
    faults: list[str] = []
    gateways = tuple(
        _gateway(entry, path, f"{path}, gateway {number}", faults)
        for number, entry in enumerate(_entries(data, path, faults), 1)
    )
    if any(each.api_key for each in gateways) and _others_may_read(mode):
        faults.append(f"{path}: holds an API key but others may read it; chmod 600 expected")
    if faults:
        raise OpenFileError(faults)
    return gateways


def _others_may_read(mode: int) -> bool:
    """Windows has no such bits; there the user's own folder is all the protection."""
    return os.name == "posix" and bool(mode & (stat.S_IRWXG | stat.S_IRWXO))


def _entries(data: bytes, path: Path, faults: list[str]) -> list[Mapping[str, object]]:
    if len(data) > FILE_MAX_BYTES:
        faults.append(f"{path}: at most {FILE_MAX_BYTES} bytes expected")
        return []
    try:
        top = cast("dict[str, object]", tomllib.loads(data.decode("utf-8")))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError):
        faults.append(f"{path}: TOML in UTF-8 expected")  # its own text would quote the file
        return []
    unknown = sorted(top.keys() - {"gateways"})
    if unknown:
        faults.append(f"{path}: [[gateways]] expected, found {', '.join(unknown)}")
    return _tables(top.get("gateways", []), f"{path}: gateways", faults)


def _tables(value: object, what: str, faults: list[str]) -> list[Mapping[str, object]]:
    entries = cast("list[object]", value) if isinstance(value, list) else None
    if entries is None or not all(isinstance(entry, dict) for entry in entries):
        faults.append(f"{what}: an array of tables expected")
        return []
    return cast("list[Mapping[str, object]]", entries)


def _gateway(entry: Mapping[str, object], path: Path, what: str, faults: list[str]) -> Gateway:
    unknown = sorted(entry.keys() - {*_TEXTS, *_TEXTS_OF_SETTINGS, _NUMBER, "measurements"})
    if unknown:
        faults.append(f"{what}: unknown {', '.join(unknown)}")
    texts: dict[str, str | None] = {
        name: _text(entry, name, what, faults) for name in (*_TEXTS, *_TEXTS_OF_SETTINGS)
    }
    if texts["base_url"] is None:
        faults.append(f"{what}: base_url expected")
    tables = _tables(entry.get("measurements", []), f"{what}: measurements", faults)
    measurements = [
        read_measurements(table, f"{what}, measurements {number}", faults)
        for number, table in enumerate(tables, 1)
    ]
    releases = texts["release_list"]
    return Gateway(
        base_url=texts["base_url"],
        tenant=texts["tenant"],
        api_key=texts["api_key"],
        simulated_root_sha256=texts["simulated_root_sha256"],
        release_list=None if releases is None else path.parent / Path(releases).expanduser(),
        measurements=tuple(filter(None, measurements)),
        tenant_root=texts["tenant_root"],
        min_settings_version=_version(entry, what, faults),
        origin=str(path),
    )


def _version(entry: Mapping[str, object], what: str, faults: list[str]) -> int | None:
    value = entry.get(_NUMBER)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    faults.append(f"{what}: {_NUMBER}: a number from 0 expected")
    return None


def _text(entry: Mapping[str, object], name: str, what: str, faults: list[str]) -> str | None:
    value = entry.get(name)
    if value is None or (isinstance(value, str) and value):
        return value
    faults.append(f"{what}: {name}: text expected")
    return None


def read_measurements(
    entry: Mapping[str, object] | Mapping[str, str], what: str, faults: list[str]
) -> Measurements | None:
    """Read ``PCR0``, ``PCR1``, ``PCR2`` in hex; a fault is added to the list and gives None."""
    if set(entry) != set(_REGISTERS):
        faults.append(f"{what}: exactly {', '.join(_REGISTERS)} expected")
        return None
    values = [entry[name] for name in _REGISTERS]
    pcr0, pcr1, pcr2 = (value if isinstance(value, str) else "" for value in values)
    try:
        return Measurements.from_hex(pcr0, pcr1, pcr2)
    except ConfigurationError as error:
        faults.append(f"{what}: {error.detail}")
        return None
