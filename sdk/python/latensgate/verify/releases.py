"""Reading an accepted-release list: docs/spec/releases.md.

Unknown members are refused: one of them may be a restriction that this version would not apply.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from latensgate.verify.errors import ConfigurationError
from latensgate.verify.policy import Measurements, Release
from latensgate_shared import limits
from latensgate_shared.errors import MalformedError
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject, JSONValue

_REQUIRED: Final = {"version", "flavour", "deployment_digest", "pcr0", "pcr1", "pcr2"}
_OPTIONAL: Final = {"not_after", "revoked"}
_DIGEST: Final = re.compile(r"sha384:[0-9a-f]{96}")
_NAME: Final = re.compile(r"[0-9A-Za-z.+-]{1,64}")


def parse_release_list(data: bytes) -> tuple[Release, ...]:
    """Read a list of releases.

    Args:
        data: JSON, at most ``limits.RELEASE_LIST_MAX_BYTES``. Where it came from, and whether it
            was signed, is the caller's matter; never take it from the gateway.

    Raises:
        ConfigurationError: Not this form, or no release in it.
    """
    try:
        top = parse_json_object(data, max_bytes=limits.RELEASE_LIST_MAX_BYTES)
    except MalformedError as error:
        raise ConfigurationError(f"release list: {error.detail}") from None
    entries = top.get("releases")
    if top.keys() != {"releases"} or not isinstance(entries, list):
        raise ConfigurationError("release list: one member 'releases', an array, expected")
    if not entries:
        raise ConfigurationError("release list: no release in it")
    return tuple(_release(entry, number) for number, entry in enumerate(entries))


def _release(entry: JSONValue, number: int) -> Release:
    where = f"release list, entry {number}"
    if not isinstance(entry, dict):
        raise ConfigurationError(f"{where}: not an object")
    if not entry.keys() >= _REQUIRED or not entry.keys() <= _REQUIRED | _OPTIONAL:
        raise ConfigurationError(
            f"{where}: members {sorted(_REQUIRED)} and optionally {sorted(_OPTIONAL)} expected"
        )
    revoked = entry.get("revoked", False)
    if not isinstance(revoked, bool):
        raise ConfigurationError(f"{where}: 'revoked' is neither true nor false")
    return Release(
        version=_text(entry, "version", _NAME, where),
        flavour=_text(entry, "flavour", _NAME, where),
        deployment_digest=_text(entry, "deployment_digest", _DIGEST, where),
        measurements=_measurements(entry, where),
        not_after=_not_after(entry, where),
        revoked=revoked,
    )


def _measurements(entry: JSONObject, where: str) -> Measurements:
    pcr0, pcr1, pcr2 = (entry[name] for name in ("pcr0", "pcr1", "pcr2"))
    if not (isinstance(pcr0, str) and isinstance(pcr1, str) and isinstance(pcr2, str)):
        raise ConfigurationError(f"{where}: a PCR is not text")
    try:
        return Measurements.from_hex(pcr0, pcr1, pcr2)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error.detail}") from None


def _text(entry: JSONObject, name: str, form: re.Pattern[str], where: str) -> str:
    value = entry[name]
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ConfigurationError(f"{where}: '{name}' is not text of the form {form.pattern}")
    return value


def _not_after(entry: JSONObject, where: str) -> int | None:
    if "not_after" not in entry:
        return None
    value = entry["not_after"]
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ConfigurationError(f"{where}: 'not_after' is not a positive whole second since 1970")
    return value
