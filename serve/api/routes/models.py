"""The models served, as OpenAI lists them."""

from __future__ import annotations

from fastapi import APIRouter

from serve.api.auth import Reader, ServicesDep
from serve.api.documented import problems
from serve.api.guarded_route import GuardedRoute
from serve.api.limits import Limits
from serve.api.schemas.model import ModelList, ModelOut
from serve.api.services import Services

router = APIRouter(tags=["models"], route_class=GuardedRoute)


@router.get("/v1/models", summary="List models", responses=problems(401))
async def list_models(_caller: Reader, services: ServicesDep) -> ModelList:
    """The default one first, each with its aliases and what a request may ask of it."""
    return ModelList(data=[_model(services, name) for name in services.models])


@router.get("/v1/models/{model_id:path}", summary="Look at a model", responses=problems(401, 404))
async def get_model(model_id: str, _caller: Reader, services: ServicesDep) -> ModelOut:
    """By its name or an alias. A name may hold slashes, as hub ids do."""
    return _model(services, Limits(services.settings, services.models, model_id).model)


def _model(services: Services, name: str) -> ModelOut:
    return ModelOut.of(name, services.models[name], services.settings.served[name])
