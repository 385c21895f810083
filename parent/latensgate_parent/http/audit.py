"""``GET /api/audit``: the tenant's receipts as they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Query

from latensgate_parent.clock import from_rfc3339
from latensgate_parent.http.access import TheServices, permitted
from latensgate_parent.http.auth import Caller, Scope
from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.schemas import AuditEntry, AuditPage, AuditQuery, PublicPart, ReceiptId
from latensgate_parent.store.interfaces import ReceiptQuery
from latensgate_shared.errors import ErrorCode
from latensgate_shared.formats import to_base64
from latensgate_shared.limits import RECEIPT_PUBLIC_MAX_BYTES
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from latensgate_parent.store.interfaces import StoredReceipt

router = APIRouter(tags=["audit"])

Reader = Annotated[Caller, Depends(permitted(Scope.AUDIT_READ))]


@router.get("/api/audit", summary="Receipts of the tenant")
async def get_audit(
    query: Annotated[AuditQuery, Query()], caller: Reader, services: TheServices
) -> AuditPage:
    """Return a page of the tenant's receipts, newest first.

    The order within one minute is that in which the receipts were stored. Scope `audit:read`.
    """
    page = await services.store.receipts(
        caller.tenant.tenant_id,
        ReceiptQuery(
            page=query.page,
            limit=query.limit,
            outcome=query.outcome,
            key_id=query.key_id,
            attestation_hash=query.attestation_hash,
            since_s=moment("since", query.since),
            until_s=moment("until", query.until),
        ),
    )
    entries = [_entry(receipt) for receipt in page.entries]
    return AuditPage(entries=entries, page=query.page, limit=query.limit, total=page.total)


@router.get("/api/audit/{receipt_id}", summary="One receipt")
async def get_receipt(receipt_id: ReceiptId, caller: Reader, services: TheServices) -> AuditEntry:
    """Return one receipt of the tenant; another tenant's looks absent. Scope `audit:read`."""
    receipt = await services.store.receipt(caller.tenant.tenant_id, receipt_id)
    if receipt is None:
        raise GatewayError(
            ErrorCode.ERR_NOT_FOUND, "This tenant has no such receipt.", param="receipt_id"
        )
    return _entry(receipt)


def moment(name: str, text: str | None) -> int | None:
    """Return a query's time as seconds since 1970; None where nothing is said.

    Raises:
        GatewayError: It is none.
    """
    if text is None:
        return None
    try:
        return from_rfc3339(text)
    except ValueError as error:
        raise GatewayError(ErrorCode.ERR_REQUEST_INVALID, f"{name}: {error}.", param=name) from None


def _entry(receipt: StoredReceipt) -> AuditEntry:
    public = parse_json_object(receipt.public, max_bytes=RECEIPT_PUBLIC_MAX_BYTES)
    sealed = receipt.private_sealed
    return AuditEntry(
        public=PublicPart.model_validate(public),
        signature=receipt.signature.hex(),
        private_sealed=None if sealed is None else to_base64(sealed),
    )
