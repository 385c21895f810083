"""``/api/holds`` for callers whose requests wait, ``/api/approvals`` for those who decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from latensgate_parent.clock import to_rfc3339
from latensgate_parent.http.access import TheServices, permitted
from latensgate_parent.http.auth import Caller, Scope
from latensgate_parent.http.context import exchange_of
from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.json_body import body_of, read_body
from latensgate_parent.http.schemas_holds import (
    ApproverKey,
    HeldRequest,
    HeldRequests,
    PendingId,
    ShownRequest,
    SignedDecision,
)
from latensgate_parent.http.schemas_sealed import InferenceAnswer
from latensgate_shared.errors import ErrorCode
from latensgate_shared.formats import to_base64
from latensgate_shared.jcs import canonicalize

if TYPE_CHECKING:
    from latensgate_parent.store.held_forms import StoredHold

router = APIRouter(tags=["approvals"])

Asker = Annotated[Caller, Depends(permitted(Scope.INFERENCE_READ))]
Approver = Annotated[Caller, Depends(permitted(Scope.APPROVALS_WRITE))]


@router.get("/api/holds/{pending_id}", summary="Where a held request stands")
async def get_hold(pending_id: PendingId, caller: Asker, services: TheServices) -> HeldRequest:
    """Say where a held request of the tenant stands; another tenant's looks absent.

    A hint: what counts is sealed, and comes from `/api/holds/{pending_id}/answer`. Scope
    `inference:read`.
    """
    return _shown(await services.holds.one(caller.tenant.tenant_id, pending_id))


@router.get(
    "/api/holds/{pending_id}/answer",
    summary="The answer of a held request",
    response_model=InferenceAnswer,
)
async def get_answer(pending_id: PendingId, caller: Asker, services: TheServices) -> Response:
    """Return the answer, sealed to the original caller, as `POST /api/inference` would have.

    202 with `ERR_HELD` while nobody has decided, or while the model is asked: ask again after
    `Retry-After` seconds. A denial comes sealed, too. Scope `inference:read`.
    """
    answer = await services.holds.answer(caller.tenant.tenant_id, pending_id)
    return Response(answer.body, answer.status, media_type=answer.content_type)


@router.get("/api/approvals", summary="Held requests")
async def get_approvals(caller: Approver, services: TheServices) -> HeldRequests:
    """List the tenant's held requests, newest first, at most 100. Scope `approvals:write`."""
    found = await services.holds.newest(caller.tenant.tenant_id)
    return HeldRequests(approvals=[_shown(each) for each in found], count=len(found))


@router.get("/api/approvals/{pending_id}", summary="Show a held request")
async def get_approval(
    pending_id: PendingId,
    approver: Annotated[ApproverKey, Query()],
    caller: Approver,
    services: TheServices,
) -> ShownRequest:
    """Have the enclave show a held request to an approver of the tenant's settings.

    The view says what was found and how often, and names the plan; it is signed by the enclave, and
    sealed to the approver's X-Wing key if the settings name one. Scope `approvals:write`.
    """
    tenant_id = caller.tenant.tenant_id
    held, answer, view = await services.holds.view(tenant_id, pending_id, bytes.fromhex(approver))
    members = _shown(held).model_dump()
    return ShownRequest(**members, view=to_base64(view), sealed=answer.sealed)


@router.post(
    "/api/approvals/{pending_id}",
    summary="Approve or deny a held request",
    openapi_extra=body_of(SignedDecision),
)
async def post_approval(
    pending_id: PendingId, request: Request, caller: Approver, services: TheServices
) -> HeldRequest:
    """Hand an approver's signed decision to the enclave, which judges it.

    Answered as soon as the enclave has taken it; what was approved then runs, once. Scope
    `approvals:write`.
    """
    body = await read_body(request, SignedDecision)
    if body.pending_id != pending_id:
        raise GatewayError(
            ErrorCode.ERR_REQUEST_INVALID,
            "pending_id: that of the path expected.",
            param="pending_id",
        )
    tenant_id = caller.tenant.tenant_id
    decision = canonicalize(body.model_dump())
    correlation_id = exchange_of(request).correlation_id
    state = await services.holds.decide(tenant_id, pending_id, decision, correlation_id)
    shown = _shown(await services.holds.one(tenant_id, pending_id))
    return shown.model_copy(update={"state": state}) if shown.state == "pending" else shown


def _shown(held: StoredHold) -> HeldRequest:
    return HeldRequest(
        pending_id=held.pending_id,
        state=held.state,
        model=held.model,
        operation=held.operation,
        held_at=to_rfc3339(held.held_at_s),
        expires_at=to_rfc3339(held.expires_at_s),
        audit_receipt_id=held.receipt_id,
        attestation_hash=held.attestation_hash,
    )
