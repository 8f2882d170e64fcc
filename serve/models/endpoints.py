"""An operator's room: which models are served."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from serve.access.auth import GuardedRoute, Operator
from serve.http.documented import problems
from serve.http.provided import Provided
from serve.jobs.errors import ModelNotFound
from serve.models.errors import ModelBusy, ModelConfigured, ModelExists, PoolNotFound
from serve.models.models import Models
from serve.models.schemas import ModelChangeBody, ModelStatus, ModelStatusList, NewModel

router = APIRouter(prefix="/v1/operator/models", tags=["operator"], route_class=GuardedRoute)
Model = Annotated[str, Path(examples=["sdxl"])]


@router.get("", summary="List models with their state", responses=problems())
async def list_model_states(_caller: Operator, models: Provided[Models]) -> ModelStatusList:
    """Their queues, and how many replicas have taken them up."""
    return ModelStatusList(data=await models.list(), declaration_error=models.declaration_error)


@router.post(
    "",
    status_code=201,
    summary="Add a model",
    responses=problems(ModelExists, ModelBusy, PoolNotFound),
)
async def add_model(body: NewModel, _caller: Operator, models: Provided[Models]) -> ModelStatus:
    """Every ingress takes requests for it within seconds, and every replica of its pool draws
    with it once it has found its files. It stays added when the service is restarted.
    """
    return await models.add(body)


@router.patch("/{model:path}", summary="Pause or resume a model", responses=problems(ModelNotFound))
async def change_model(
    model: Model, body: ModelChangeBody, _caller: Operator, models: Provided[Models]
) -> ModelStatus:
    """A paused model finishes what is drawn and keeps its queue; new jobs get 409. It is drained
    once `running` is 0.
    """
    return await models.pause(model, paused=body.paused)


@router.delete(
    "/{model:path}",
    status_code=204,
    summary="Remove a model",
    responses=problems(ModelNotFound, ModelConfigured),
)
async def remove_model(model: Model, _caller: Operator, models: Provided[Models]) -> None:
    """What is drawn is finished; its queued jobs fail with `model_removed`."""
    await models.remove(model)
