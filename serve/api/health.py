"""Whether the service lives, whether it can work, and what it counts."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from serve.api.services import Services
from serve.database import DatabaseUnavailable
from serve.errors import ServiceError
from serve.http.documented import problems
from serve.http.http_route import HttpRoute
from serve.http.provided import Provided
from serve.observability.service_sample import ServiceSample, WorkerSample
from serve.supervise import LoopStuck, check
from serve.tables import JobState

router = APIRouter(tags=["operation"], route_class=HttpRoute)


_METRICS = """\
# HELP sfumato_jobs Jobs by state.
# TYPE sfumato_jobs gauge
sfumato_jobs{state="queued"} 2.0
sfumato_jobs{state="succeeded"} 1841.0
"""


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


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {
            "content": {"text/plain": {"example": _METRICS}},
            "description": "Prometheus' text form.",
        },
        **problems(DatabaseUnavailable),
    },
)
async def metrics(request: Request, services: Provided[Services]) -> Response:
    """The help of each metric says whether it is of this process or of the whole service."""
    counts = await services.jobs.counts()
    backlogs = {
        pool: (await queue.read()).backlog for pool, queue in services.jobs.admission.queues.items()
    }
    deliveries = await services.webhooks.counts()
    sample = ServiceSample(
        backlog_seconds={pool: backlog.seconds for pool, backlog in backlogs.items()},
        wait_seconds={pool: backlog.wait_s for pool, backlog in backlogs.items()},
        jobs={state.value: counts.get(state, 0) for state in JobState},
        workers=[
            WorkerSample(
                id=str(worker.id),
                pool=worker.pool,
                model=worker.model,
                device=worker.device,
                slots=worker.slots,
                stats=worker.counters,
            )
            for worker in await services.jobs.workers()
        ],
        deliveries={state.value: count for state, count in deliveries.items()},
    )
    text, media_type = services.registry.render(request.headers.get("accept", ""), sample)
    return Response(text, media_type=media_type)
