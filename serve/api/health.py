"""Whether the service lives, and whether it can work."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from serve.api.services import Services
from serve.database import DatabaseUnavailable
from serve.errors import ServiceError
from serve.http.documented import problems
from serve.http.http_route import HttpRoute
from serve.http.provided import Provided
from serve.supervise import LoopStuck, check

router = APIRouter(tags=["operation"], route_class=HttpRoute)


class NotReady(ServiceError):
    status = 503
    code = "not_ready"
    title = "Not ready"
    example = "No replica has made its first picture with 'sfumato-embedded' yet."


class Health(BaseModel):
    status: Literal["ok"] = "ok"
    loops: dict[str, float] = Field(
        description="Seconds since each background loop's last completed round.",
        examples=[{"event-bus": 0.4, "reaper": 1.6, "courier": 0.2}],
    )


class Ready(BaseModel):
    status: Literal["ready"] = "ready"
    model: str = Field(examples=["sfumato-embedded"])
    workers: int


@router.get("/health", summary="Is it alive?", responses=problems(LoopStuck))
async def health(services: Provided[Services]) -> Health:
    """Says that this process answers and its loops turn, and nothing of what it leans on.

    503 where a loop is stuck. One whose rounds fail, as while the database is away, is not.
    """
    check(services.running)
    return Health(loops={loop.name: round(loop.age_s, 1) for loop in services.running})


@router.get("/ready", summary="Can it work?", responses=problems(NotReady))
async def ready(services: Provided[Services]) -> Ready:
    """200 once the database answers and a replica of the default model's pool has drawn its first
    picture.

    Where replicas may go down to none, that holds for good: the next job brings one back.
    """
    model = services.settings.model.name
    pool = services.settings.served_pools[services.settings.pool_of[model]]
    try:
        alive = await services.jobs.workers()
        prices = (await services.jobs.admission.queues[pool.name].read()).prices
    except DatabaseUnavailable as error:
        raise NotReady("The database does not answer.") from error
    workers = [worker for worker in alive if worker.pool == pool.name and not worker.draining]
    may_rest = pool.min == 0 and pool.models[0] in prices
    if not workers and not may_rest:
        raise NotReady(f"No replica has made its first picture with {pool.models[0]!r} yet.")
    return Ready(model=model, workers=len(workers))
