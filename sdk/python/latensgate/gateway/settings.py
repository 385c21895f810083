"""Signed tenant settings as the gateway stores them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate.gateway import read
from latensgate_shared import formats
from latensgate_shared.jcs import canonicalize
from latensgate_shared.strict_json import JSONError

if TYPE_CHECKING:
    from datetime import datetime

    from latensgate_shared.strict_json import JSONObject

_STORED: Final = frozenset({"settings", "signature", "version", "stored_at"})


@dataclass(frozen=True, slots=True)
class UntrustedSettings:
    """What the gateway says is signed; nothing of it is checked.

    Attributes:
        document: Canonical JSON of settings and signature: what the enclave gets.
        stored_at: When the gateway stored it, it says.
    """

    document: bytes = field(repr=False)
    stored_at: datetime


def parse_stored(value: JSONObject) -> UntrustedSettings:
    """Read the answer of ``/api/policy``.

    Raises:
        JSONError: Another form.
    """
    members = formats.members(value, "policy", _STORED)
    if type(members["settings"]) is not dict:
        raise JSONError("policy.settings: an object expected")
    signed = {name: members[name] for name in ("settings", "signature")}
    return UntrustedSettings(
        canonicalize(signed), read.moment(members["stored_at"], "policy.stored_at")
    )
