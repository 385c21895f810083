"""``GET /api/models``: the operator's model names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends

from latensgate_parent.http.access import TheServices, permitted
from latensgate_parent.http.auth import Caller, Scope
from latensgate_parent.http.schemas import ModelList, ModelName

if TYPE_CHECKING:
    from latensgate_parent.deployment import DeployedModel

router = APIRouter(tags=["inference"])


@router.get("/api/models", summary="Model names")
async def get_models(
    _caller: Annotated[Caller, Depends(permitted(Scope.INFERENCE_READ))], services: TheServices
) -> ModelList:
    """List the names that a request may ask for, as OpenAI lists models.

    Names are the operator's. `created` is the date in the provider's name of the model, 0 if that
    has none; `shutdown_date` is the provider's, as far as the operator names it; `kind` says which
    operations a model is for: `chat` (chat completions and responses) or `embeddings`. Scope
    `inference:read`.
    """
    return ModelList(data=[_told(model) for model in services.models])


def _told(model: DeployedModel) -> ModelName:
    return ModelName(
        id=model.name,
        created=model.created_s,
        kind="embeddings" if model.embeds else "chat",
        shutdown_date=model.shutdown_date,
    )
