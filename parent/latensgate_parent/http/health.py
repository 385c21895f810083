"""``GET /api/health``: enclave, KMS and Bedrock, from what the parent already knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from latensgate_parent.clock import to_rfc3339
from latensgate_parent.http.access import PUBLIC, TheServices
from latensgate_parent.http.context import exchange_of
from latensgate_parent.http.errors import GatewayError, error_response
from latensgate_parent.http.schemas import BedrockHealth, EnclaveHealth, Health, KMSHealth
from latensgate_parent.limits import HEALTH_STALE_MS
from latensgate_shared.calls import BedrockState, EnclaveState, HealthAnswer, KMSState
from latensgate_shared.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_parent.http.context import Services
    from latensgate_parent.link.interfaces import EnclaveStatus

router = APIRouter(tags=["health"])

_BEST_FIRST = (
    EnclaveState.READY,
    EnclaveState.DRAINING,
    EnclaveState.LOCKED,
    EnclaveState.STARTING,
    EnclaveState.STOPPED,
)


@router.get("/api/health", dependencies=PUBLIC, summary="Health", response_model=Health)
async def get_health(request: Request, services: TheServices) -> Response:
    """Say whether requests can be served: 200, or 503 where they cannot.

    The parent asks its enclaves every few seconds; this route only tells what it heard, so it is
    cheap enough for load balancers and deployment checks. With 503 the body is the error envelope
    and, beside its members, these.
    """
    health = assess(services)
    if health.status != "unavailable":
        return Response(health.model_dump_json(), media_type="application/json")
    exchange = exchange_of(request)
    error = GatewayError(ErrorCode.ERR_ENCLAVE_UNAVAILABLE, _reason(health, services))
    exchange.code = error.code
    told = error_response(error, exchange.correlation_id)
    body = json.loads(told.body) | health.model_dump(mode="json")
    retry = {name.decode(): value.decode() for name, value in told.headers}["retry-after"]
    return Response(
        json.dumps(body), told.status, {"retry-after": retry}, media_type="application/json"
    )


def _reason(health: Health, services: Services) -> str:
    if services.is_draining():
        return "This gateway is about to stop."
    if services.is_store_failing():
        return "Receipts cannot be stored at this moment."
    return (
        f"No enclave serves: enclave {health.enclave.status}, KMS {health.kms.status}, "
        f"Bedrock {health.bedrock.status}."
    )


def assess(services: Services) -> Health:
    """Return what is known of the enclaves at this moment."""
    statuses = services.fleet.statuses()
    heard = [status for status in statuses if _is_current(status, services.clock())]
    heard.sort(key=lambda status: _rank(status, services))
    best = heard[0] if heard else None
    serving = [status for status in heard if _serves(status.health, services)]
    all_well = len(serving) == len(statuses) and all(_is_well(each.health) for each in serving)
    if not serving or services.is_draining() or services.is_store_failing():
        overall = "unavailable"
    else:
        overall = "ok" if all_well else "degraded"
    return _shown(overall, best, heard, len(statuses))


def _is_current(status: EnclaveStatus, now_s: float) -> bool:
    checked = status.checked_at_ms
    if not status.connected or status.health is None or checked is None:
        return False
    return now_s * 1000 - checked <= HEALTH_STALE_MS


def _rank(status: EnclaveStatus, services: Services) -> tuple[bool, int]:
    health = status.health
    state = EnclaveState.STOPPED if health is None else health.enclave
    return not _serves(health, services), _BEST_FIRST.index(state)


def _serves(health: HealthAnswer | None, services: Services) -> bool:
    """Whether a request would be answered; KMS may be silent for its grace."""
    if health is None or health.enclave is not EnclaveState.READY:
        return False
    if health.bedrock is BedrockState.LOGGING_ON:
        return not services.refuses_logging
    return health.bedrock is BedrockState.READY


def _is_well(health: HealthAnswer | None) -> bool:
    return (
        health is not None
        and health.kms is KMSState.RELEASED
        and health.bedrock is BedrockState.READY
    )


def _shown(
    overall: str, best: EnclaveStatus | None, heard: Sequence[EnclaveStatus], total: int
) -> Health:
    health = None if best is None else best.health
    checked = None if best is None else best.checked_at_ms
    ready = [each for each in heard if each.health and each.health.enclave is EnclaveState.READY]
    return Health(
        status=overall,  # type: ignore[arg-type]  # one of the three that assess names
        enclave=EnclaveHealth(
            status="unreachable" if health is None else health.enclave,
            ready=len(ready),
            total=total,
        ),
        kms=KMSHealth(status="unknown" if health is None else health.kms),
        bedrock=BedrockHealth(status="unknown" if health is None else health.bedrock),
        checked_at=None if checked is None else to_rfc3339(checked // 1000),
    )
