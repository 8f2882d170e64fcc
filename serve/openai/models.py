"""The models served, as OpenAI lists them."""

from __future__ import annotations

from fastapi import APIRouter

from serve.access.auth import Reader
from serve.access.guarded_route import GuardedRoute
from serve.http.documented import problems
from serve.http.provided import Provided
from serve.jobs.limits import ServedModels
from serve.openai.model import ModelList, ModelOut
from serve.settings import Settings

router = APIRouter(tags=["models"], route_class=GuardedRoute)


@router.get("/v1/models", summary="List models", responses=problems(401))
async def list_models(
    _caller: Reader, models: Provided[ServedModels], settings: Provided[Settings]
) -> ModelList:
    """The default one first, each with its aliases and what a request may ask of it."""
    return ModelList(
        data=[
            ModelOut.of(name, told, settings.served[name])
            for name, told in models.descriptions.items()
        ]
    )


@router.get("/v1/models/{model_id:path}", summary="Look at a model", responses=problems(401, 404))
async def get_model(
    model_id: str, _caller: Reader, settings: Provided[Settings], models: Provided[ServedModels]
) -> ModelOut:
    """By its name or an alias. A name may hold slashes, as hub ids do."""
    name = models.limits(model_id).model
    return ModelOut.of(name, models.descriptions[name], settings.served[name])
