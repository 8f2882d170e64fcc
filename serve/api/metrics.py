"""What Prometheus scrapes: the metrics of this process, and those of the whole service."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request, Response

from serve.api.services import Services
from serve.database import DatabaseUnavailable
from serve.http.documented import problems
from serve.http.http_route import HttpRoute
from serve.http.provided import Provided
from serve.jobs.census import Census
from serve.jobs.repository import QueuedOfModel
from serve.observability.service_sample import QueueSample, ServiceSample, WorkerSample
from serve.settings import Settings
from serve.tables import LIVE

router = APIRouter(tags=["operation"], route_class=HttpRoute)

_PRIORITIES = {-1: "low", 0: "normal", 1: "high"}
_METRICS = """\
# HELP sfumato_workers Whole service: diffusion replicas with a fresh heartbeat.
# TYPE sfumato_workers gauge
sfumato_workers{pool="default"} 2.0
"""


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {
            "content": {
                "text/plain": {"example": _METRICS},
                "application/openmetrics-text": {"example": f"{_METRICS}# EOF\n"},
            },
            "description": "Prometheus' text form, or OpenMetrics', which has exemplars.",
        },
        **problems(DatabaseUnavailable),
    },
)
async def metrics(request: Request, services: Provided[Services]) -> Response:
    """The help of each metric says whether it is of this process or of the whole service."""
    jobs = services.jobs
    pool_of = jobs.admission.pool_of
    backlogs = {pool: (await queue.read()).backlog for pool, queue in jobs.admission.queues.items()}
    census = await jobs.census()
    deliveries = await services.webhooks.counts()
    sample = ServiceSample(
        jobs=_jobs(census, services.settings, pool_of),
        queues=_queues(census, list(backlogs), pool_of),
        backlog_seconds={pool: backlog.seconds for pool, backlog in backlogs.items()},
        wait_seconds={pool: backlog.wait_s for pool, backlog in backlogs.items()},
        workers=[
            WorkerSample(
                id=str(worker.id),
                pool=worker.pool,
                model=worker.model,
                device=worker.device,
                slots=worker.slots,
                stats=worker.counters,
            )
            for worker in await jobs.workers()
        ],
        deliveries={state.value: count for state, count in deliveries.items()},
    )
    services.sampler.sample()
    text, media_type = services.registry.render(request.headers.get("accept", ""), sample)
    return Response(text, media_type=media_type)


def _jobs(
    census: Census, settings: Settings, pool_of: Callable[[str], str]
) -> dict[tuple[str, str, str], int]:
    """By state, pool and model. A configured model without jobs has zeros, which alerts need."""
    live = {(state, model): 0 for state in LIVE for model in settings.served} | {**census.live}
    return {
        **{(state.value, pool_of(model), model): n for (state, model), n in live.items()},
        **{(state.value, "", ""): count for state, count in census.ended.items()},
    }


def _queues(
    census: Census, pools: Sequence[str], pool_of: Callable[[str], str]
) -> list[QueueSample]:
    """Of every pool and priority; those of a model that is not served any more have no pool."""
    found: dict[tuple[str, int], list[QueuedOfModel]] = {
        (pool, urgency): [] for pool in pools for urgency in _PRIORITIES
    }
    for queued in census.queued:
        found.setdefault((pool_of(queued.model), queued.urgency), []).append(queued)
    return [
        QueueSample(
            pool,
            _PRIORITIES[urgency],
            pictures=sum(each.pictures for each in models),
            seconds=sum(each.seconds for each in models),
            oldest_s=max((each.oldest_s for each in models), default=0.0),
        )
        for (pool, urgency), models in found.items()
    ]
