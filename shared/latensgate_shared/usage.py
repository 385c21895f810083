"""Usage totals: what an enclave says each tenant has used (docs/spec/receipts.md).

Billing rests on them, so they are signed: the parent carries them and cannot raise them. They count
from the enclave's start, so of two statements under one receipt key the later one replaces the
earlier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict

from latensgate_shared import formats
from latensgate_shared.errors import TooLargeError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import RECEIPT_TENANTS_MAX_COUNT, USAGE_TOTALS_MAX_BYTES
from latensgate_shared.receipt_key import USAGE_LABEL
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latensgate_shared.strict_json import JSONObject, JSONValue

USAGE_VERSION: Final = 1


class TenantUsage(TypedDict):
    """What one tenant has used since the enclave started."""

    requests: int
    prompt_tokens: int
    completion_tokens: int


_COUNTS: Final = frozenset(TenantUsage.__annotations__)
_MEMBERS: Final = frozenset({"version", "issued_at", "tenants"})


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """Totals of one enclave; an instance is always within its specification.

    Attributes:
        issued_at: Enclave time, seconds since 1970.
        tenants: Tenant id → counts, at most ``RECEIPT_TENANTS_MAX_COUNT``.

    Raises:
        JSONError: A member that is not of the form above.
        TooLargeError: Too many tenants.
    """

    issued_at: int
    tenants: Mapping[str, TenantUsage]

    def __post_init__(self) -> None:
        formats.integer(self.issued_at, "usage.issued_at")
        if len(self.tenants) > RECEIPT_TENANTS_MAX_COUNT:
            raise TooLargeError(f"usage.tenants: at most {RECEIPT_TENANTS_MAX_COUNT} expected")
        for tenant_id, used in self.tenants.items():
            formats.tenant_id(tenant_id, "usage.tenants")
            formats.check_names(used.keys(), "usage.tenants", _COUNTS)
            for count in used.values():
                formats.integer(count, "usage.tenants: a count")

    def to_json(self) -> JSONObject:
        """Return the object that is canonicalised and signed."""
        tenants: JSONObject = {
            tenant_id: {
                "requests": used["requests"],
                "prompt_tokens": used["prompt_tokens"],
                "completion_tokens": used["completion_tokens"],
            }
            for tenant_id, used in self.tenants.items()
        }
        return {"version": USAGE_VERSION, "issued_at": self.issued_at, "tenants": tenants}


def encode_usage_totals(totals: UsageTotals) -> bytes:
    """Return the JCS: the body of the answer to ``usage``.

    Raises:
        TooLargeError: More than ``USAGE_TOTALS_MAX_BYTES``.
    """
    data = canonicalize(totals.to_json())
    if len(data) > USAGE_TOTALS_MAX_BYTES:
        raise TooLargeError(f"usage: at most {USAGE_TOTALS_MAX_BYTES} bytes, found {len(data)}")
    return data


def parse_usage_totals(data: bytes) -> UsageTotals:
    """Read totals; only their canonical form is one.

    Raises:
        TooLargeError: More than ``USAGE_TOTALS_MAX_BYTES`` or ``RECEIPT_TENANTS_MAX_COUNT``.
        JSONError: Anything else that is not docs/spec/receipts.md.
    """
    value = parse_json_object(data, max_bytes=USAGE_TOTALS_MAX_BYTES)
    formats.members(value, "usage", _MEMBERS)
    formats.integer(value["version"], "usage.version", USAGE_VERSION, USAGE_VERSION)
    issued_at = formats.integer(value["issued_at"], "usage.issued_at")
    totals = UsageTotals(issued_at, _tenants(value["tenants"]))
    if encode_usage_totals(totals) != data:
        raise JSONError("usage: the canonical form expected (RFC 8785)")
    return totals


def _tenants(value: JSONValue) -> dict[str, TenantUsage]:
    if type(value) is not dict:
        raise JSONError("usage.tenants: an object expected")
    return {tenant_id: _counts(used) for tenant_id, used in value.items()}


def _counts(value: JSONValue) -> TenantUsage:
    members = formats.members(value, "usage.tenants", _COUNTS)
    return TenantUsage(
        requests=formats.integer(members["requests"], "usage.requests"),
        prompt_tokens=formats.integer(members["prompt_tokens"], "usage.prompt_tokens"),
        completion_tokens=formats.integer(members["completion_tokens"], "usage.completion_tokens"),
    )


def usage_signing_input(data: bytes) -> bytes:
    """Return what Ed25519 signs: the label of usage totals, a zero byte, the JCS of the totals."""
    return USAGE_LABEL + data
