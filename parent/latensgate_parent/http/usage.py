"""``GET /api/usage``: what the enclaves counted for the tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends

from latensgate_parent.clock import to_rfc3339
from latensgate_parent.http.access import TheServices, permitted
from latensgate_parent.http.auth import Caller, Scope
from latensgate_parent.http.schemas import Counts, EnclaveUsage, Usage

if TYPE_CHECKING:
    from latensgate_parent.http.usage_book import CountedUsage
    from latensgate_shared.usage import TenantUsage

router = APIRouter(tags=["audit"])


@router.get("/api/usage", summary="Usage of the tenant")
async def get_usage(
    caller: Annotated[Caller, Depends(permitted(Scope.AUDIT_READ))], services: TheServices
) -> Usage:
    """Return what the enclaves have counted for the tenant since they started.

    The figures are from the totals that each enclave signs hourly and when it drains. Totals hold
    all tenants, so their hash and signature are shown and they themselves are not: these pin the
    operator to one text. A tenant checks its figures by the `usage` of the receipts that it kept.
    Scope `audit:read`.
    """
    tenant_id = caller.tenant.tenant_id
    counted = await services.usage.of(tenant_id)
    return Usage(
        tenant_id=tenant_id,
        usage=Counts(
            requests=sum(each.used["requests"] for each in counted),
            prompt_tokens=sum(each.used["prompt_tokens"] for each in counted),
            completion_tokens=sum(each.used["completion_tokens"] for each in counted),
        ),
        enclaves=[_shown(each) for each in counted],
    )


def _shown(counted: CountedUsage) -> EnclaveUsage:
    return EnclaveUsage(
        receipt_key=counted.receipt_key,
        issued_at=to_rfc3339(counted.issued_at_s),
        usage=_counts(counted.used),
        totals_hash=counted.totals_hash,
        signature=counted.signature.hex(),
    )


def _counts(used: TenantUsage) -> Counts:
    return Counts(
        requests=used["requests"],
        prompt_tokens=used["prompt_tokens"],
        completion_tokens=used["completion_tokens"],
    )
