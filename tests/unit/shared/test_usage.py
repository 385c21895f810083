"""Usage totals: one form, bounded, canonical."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from latensgate_shared import limits, usage
from latensgate_shared.errors import MalformedError, TooLargeError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.strict_json import JSONError
from latensgate_shared.usage import (
    TenantUsage,
    UsageTotals,
    encode_usage_totals,
    parse_usage_totals,
    usage_signing_input,
)

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject, JSONValue

TENANT = "tnt_a3f9c42b"
USED = TenantUsage(requests=2, prompt_tokens=13, completion_tokens=24)
TOTALS = UsageTotals(1_780_315_299, {TENANT: USED, "tnt_00000000": USED})
TEXT = (
    b'{"issued_at":1780315299,"tenants":{'
    b'"tnt_00000000":{"completion_tokens":24,"prompt_tokens":13,"requests":2},'
    b'"tnt_a3f9c42b":{"completion_tokens":24,"prompt_tokens":13,"requests":2}},"version":1}'
)


def test_the_form_and_what_is_signed() -> None:
    assert encode_usage_totals(TOTALS) == TEXT
    assert parse_usage_totals(TEXT) == TOTALS
    assert usage_signing_input(TEXT) == b"latensgate/1 usage" + b"\x00" + TEXT


def test_no_tenant_yet() -> None:
    empty = encode_usage_totals(UsageTotals(0, {}))
    assert parse_usage_totals(empty) == UsageTotals(0, {})


WHOLE: JSONObject = {"version": 1, "issued_at": 60, "tenants": {}}
COUNTS: JSONObject = {"requests": 1, "prompt_tokens": 2, "completion_tokens": 3}
BAD: list[tuple[str, JSONValue]] = [
    ("version", 2),
    ("version", True),
    ("issued_at", -1),
    ("issued_at", "60"),
    ("issued_at", 2**53),
    ("tenants", []),
    ("tenants", {"tnt_A3F9C42B": COUNTS}),
    ("tenants", {TENANT: None}),
    ("tenants", {TENANT: {"requests": 1}}),
    ("tenants", {TENANT: COUNTS | {"tokens": 5}}),
    ("tenants", {TENANT: COUNTS | {"requests": -1}}),
    ("tenants", {TENANT: COUNTS | {"requests": True}}),
    ("note", ""),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_every_member_is_held_to_its_form(name: str, value: JSONValue) -> None:
    assert parse_usage_totals(canonicalize(WHOLE)).issued_at == 60
    with pytest.raises(MalformedError):
        parse_usage_totals(dumps(WHOLE | {name: value}))


def dumps(value: JSONObject) -> bytes:
    """As JCS, but for integers that JCS refuses."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize("text", [TEXT + b"\n", TEXT.replace(b":2}", b": 2}"), b"", b"[]"])
def test_only_the_canonical_form_counts(text: bytes) -> None:
    with pytest.raises(JSONError):
        parse_usage_totals(text)


def test_an_instance_is_always_within_its_form() -> None:
    for tenants in ({"x": USED}, {TENANT: USED | {"requests": -1}}, {TENANT: {"requests": 1}}):
        with pytest.raises(JSONError):
            UsageTotals(0, tenants)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(JSONError):
        UsageTotals(-1, {})


def test_the_largest_totals_that_an_enclave_can_have_are_read_back() -> None:
    """As many tenants as a receipt book remembers, with the largest counts."""
    most = limits.JSON_MAX_SAFE_INTEGER
    used = TenantUsage(requests=most, prompt_tokens=most, completion_tokens=most)
    tenants = {f"tnt_{number:08x}": used for number in range(limits.RECEIPT_TENANTS_MAX_COUNT)}
    data = encode_usage_totals(UsageTotals(most, tenants))
    assert len(data) <= 120 * limits.RECEIPT_TENANTS_MAX_COUNT < limits.USAGE_TOTALS_MAX_BYTES
    assert len(parse_usage_totals(data).tenants) == limits.RECEIPT_TENANTS_MAX_COUNT
    with pytest.raises(TooLargeError, match=r"usage\.tenants"):
        UsageTotals(0, tenants | {"tnt_ffffffff": used})


def test_the_limit_of_bytes_holds_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "USAGE_TOTALS_MAX_BYTES", len(TEXT))
    assert parse_usage_totals(encode_usage_totals(TOTALS)) == TOTALS
    monkeypatch.setattr(usage, "USAGE_TOTALS_MAX_BYTES", len(TEXT) - 1)
    with pytest.raises(TooLargeError):
        encode_usage_totals(TOTALS)
    with pytest.raises(TooLargeError):
        parse_usage_totals(TEXT)
