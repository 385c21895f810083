"""``GET /api/models``: the operator's model names."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from latensgate_parent.http.access import TheServices, permitted
from latensgate_parent.http.auth import Caller, Scope
from latensgate_parent.http.schemas import ModelList, ModelName

router = APIRouter(tags=["inference"])


@router.get("/api/models", summary="Model names")
async def get_models(
    _caller: Annotated[Caller, Depends(permitted(Scope.INFERENCE_READ))], services: TheServices
) -> ModelList:
    """List the names that a request may ask for, as OpenAI lists models.

    Names are the operator's; `created` is always 0, for names have no date. Scope `inference:read`.
    """
    return ModelList(data=[ModelName(id=name) for name in services.models])
