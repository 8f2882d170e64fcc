"""An operator's room: which models are served."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from starlette.convertors import Convertor, register_url_convertor

from serve.access.auth import GuardedRoute, Operator, read_body
from serve.http.documented import problems
from serve.http.provided import Provided
from serve.jobs.errors import ModelNotFound
from serve.models.errors import (
    LoraConfigured,
    LoraNotFound,
    ModelBusy,
    ModelConfigured,
    ModelExists,
    PoolNotFound,
)
from serve.models.loras import Loras
from serve.models.models import Models
from serve.models.schemas import (
    LoraStatus,
    ModelChangeBody,
    ModelStatus,
    ModelStatusList,
    NewModel,
)
from serve.settings import Name
from serve.storage import StorageUnavailable


class _ModelConvertor(Convertor[str]):
    """A model's name, which may hold slashes as hub ids do, but not the path of a LoRA."""

    regex = r"(?:(?!/loras/[^/]+$)[\s\S])+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("model", _ModelConvertor())
router = APIRouter(prefix="/v1/operator/models", tags=["operator"], route_class=GuardedRoute)
Model = Annotated[str, Path(examples=["sdxl"])]
LoraName = Annotated[Name, Path(examples=["ink"])]
_FILE = {
    "requestBody": {
        "required": True,
        "description": "A *.safetensors file; `@ink.safetensors` stands for its bytes, as in curl.",
        "content": {
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary"},
                "example": "@ink.safetensors",
            }
        },
    }
}


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


@router.patch(
    "/{model:model}", summary="Pause or resume a model", responses=problems(ModelNotFound)
)
async def change_model(
    model: Model, body: ModelChangeBody, _caller: Operator, models: Provided[Models]
) -> ModelStatus:
    """A paused model finishes what is drawn and keeps its queue; new jobs get 409. It is drained
    once `running` is 0.
    """
    return await models.pause(model, paused=body.paused)


@router.put(
    "/{model:model}/loras/{name}",
    summary="Upload a LoRA",
    responses={
        201: {"model": LoraStatus, "description": "It is new."},
        **problems(ModelNotFound, LoraConfigured, StorageUnavailable),
    },
    openapi_extra=_FILE,
)
async def put_lora(
    model: Model,
    name: LoraName,
    request: Request,
    response: Response,
    _caller: Operator,
    loras: Provided[Loras],
) -> LoraStatus:
    """Requests may name it at once. Every replica of the model's pool loads it when a request first
    does.

    Another file under a name that is there is drawn with by the jobs that are accepted from then
    on; those accepted before keep theirs.
    """
    status, new = await loras.put(model, name, await read_body(request))
    response.status_code = 201 if new else 200
    return status


@router.delete(
    "/{model:model}/loras/{name}",
    status_code=204,
    summary="Remove a LoRA",
    responses=problems(ModelNotFound, LoraNotFound),
)
async def remove_lora(
    model: Model,
    name: Annotated[str, Path(examples=["ink"])],
    _caller: Operator,
    loras: Provided[Loras],
) -> None:
    """Jobs that were accepted with it are drawn with it still."""
    await loras.remove(model, name)


@router.delete(
    "/{model:model}",
    status_code=204,
    summary="Remove a model",
    responses=problems(ModelNotFound, ModelConfigured),
)
async def remove_model(model: Model, _caller: Operator, models: Provided[Models]) -> None:
    """What is drawn is finished; its queued jobs fail with `model_removed`."""
    await models.remove(model)
