"""The models served, as OpenAI lists them."""

from __future__ import annotations

from fastapi import APIRouter

from serve.api.auth import Reader, ServicesDep
from serve.api.documented import problems
from serve.api.guarded_route import GuardedRoute
from serve.api.limits import Limits
from serve.api.schemas.model import ModelList, ModelOut

router = APIRouter(tags=["models"], route_class=GuardedRoute)

OWNER = "sfumato"
CREATED = 1_767_225_600
"""OpenAI's clients want a time; a served folder has none to tell, so all name this one: 2026."""


def _model(name: str) -> ModelOut:
    return ModelOut(id=name, created=CREATED, owned_by=OWNER)


@router.get("/v1/models", summary="List models", responses=problems(401))
async def list_models(_caller: Reader, services: ServicesDep) -> ModelList:
    """The default one first."""
    return ModelList(data=[_model(name) for name in services.models])


@router.get("/v1/models/{model_id:path}", summary="Look at a model", responses=problems(401, 404))
async def get_model(model_id: str, _caller: Reader, services: ServicesDep) -> ModelOut:
    """A name may hold slashes, as hub ids do."""
    return _model(Limits(services.settings, services.models, model_id).model)
