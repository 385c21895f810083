"""schemathesis drives the OpenAPI document against the gateway in this process.

All of its checks: no 5xx, statuses, content types, headers and schemas as documented, bad input
refused, good input taken, keys demanded, methods refused with ``Allow``.
"""

# schemathesis leaves type arguments of its own out, and decorates without types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

from typing import Any, TypeAlias

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import CheckFunction
from schemathesis.specs.openapi.checks import positive_data_acceptance

from latensgate_parent.link.interfaces import EnclaveStatus
from surface_bench import GOOD, NOW_S, SurfaceBench

EXAMPLES_OF_EACH = 8
INFERENCE = "/api/inference"
"""Served by another callable, which has tests of its own."""


EXCLUDED: dict[tuple[str, str], list[CheckFunction]] = {
    # "printable" and no pattern say what a name is
    ("POST", "/api/keys"): [positive_data_acceptance],
    # nor which days the calendar has
    ("GET", "/api/audit"): [positive_data_acceptance],
    # what the tenant's key signed nobody else can make up: test_surface_policy.py has good ones
    ("PUT", "/api/policy"): [positive_data_acceptance],
    # a decision repeats the id of its path, under an approver's signature
    ("POST", "/api/approvals/{pending_id}"): [positive_data_acceptance],
}


Case: TypeAlias = schemathesis.Case[Any]


class DrivenBench(SurfaceBench):
    """A bench with something behind each route, whose clock goes on with each request."""

    def __init__(self) -> None:
        super().__init__()
        self.admin = self.key()
        self.archive()
        for number in range(3):
            self.receipt(number)

    def clock(self) -> float:
        self.now += 1  # or limits would be met
        status = EnclaveStatus(
            "unix:/e", connected=True, health=GOOD, checked_at_ms=int(self.now * 1000)
        )
        self.fleet.found = [status]
        return self.now


bench = DrivenBench()
schema = schemathesis.openapi.from_asgi("/openapi.json", bench.gateway).exclude(path=INFERENCE)


def drop_credentials(case: Case) -> None:
    """Leave out made-up keys: both headers at once are refused, as the document says in words."""
    for name in list(case.headers or ()):
        if name.lower() in {"authorization", "x-api-key"}:
            del case.headers[name]


@schema.parametrize()
@settings(
    max_examples=EXAMPLES_OF_EACH,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    database=None,
    derandomize=True,
)
def test_with_a_key(case: Case) -> None:
    assert bench.now >= NOW_S
    drop_credentials(case)
    case.call_and_validate(
        headers={"Authorization": f"Bearer {bench.admin}"},
        excluded_checks=EXCLUDED.get((case.method.upper(), case.path), []),
    )


@schema.parametrize()
@settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    database=None,
    derandomize=True,
)
def test_without_a_key(case: Case) -> None:
    drop_credentials(case)
    case.call_and_validate()
