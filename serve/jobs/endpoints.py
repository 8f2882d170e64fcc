"""Jobs: ask for pictures now, look later."""

from __future__ import annotations

import re
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response

from serve.access.auth import Drawer, Reader
from serve.access.guarded_route import GuardedRoute
from serve.http.address import path_to
from serve.http.documented import problems
from serve.http.errors import InvalidValue
from serve.http.provided import Provided
from serve.jobs.lifecycle import Jobs
from serve.jobs.limits import ServedModels, seed_name
from serve.jobs.schemas import JobBody, JobList, JobOut, JobPage
from serve.jobs.sourcing import Sourcing
from serve.settings import Settings

router = APIRouter(tags=["jobs"], route_class=GuardedRoute)

_SANE_KEY = re.compile(r"[\x21-\x7e]{1,255}")

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="1 to 255 visible ASCII characters. The same key and body is the same job,"
        " however often it is sent; another body is refused."
    ),
]


def checked_key(key: str | None) -> str | None:
    """The Idempotency-Key, if it is one.

    Raises:
        InvalidValue: it is empty, too long, or not visible ASCII.
    """
    if key is not None and not _SANE_KEY.fullmatch(key):
        raise InvalidValue(
            "Idempotency-Key must be 1 to 255 visible ASCII characters.", param="Idempotency-Key"
        )
    return key


@router.post(
    "/v1/jobs",
    status_code=202,
    summary="Submit a job",
    responses=problems(400, 401, 404, 413, 422, 429),
)
async def submit_job(
    body: JobBody,
    request: Request,
    response: Response,
    caller: Drawer,
    models: Provided[ServedModels],
    sourcing: Provided[Sourcing],
    jobs: Provided[Jobs],
    idempotency_key: IdempotencyKey = None,
) -> JobOut:
    """Accepts a job and answers at once; once it is accepted it survives any crash."""
    key = checked_key(idempotency_key)
    limits = models.limits(body.model)
    limits.check_source(image=False)
    asked = limits.accept(
        body,
        size=limits.width_and_height(body.size, body.width, body.height),
        seed_for=seed_name(caller.tenant_id, key),
    )
    asked = await sourcing.keep(caller.tenant_id, asked, key, control=body.control)
    job = await jobs.submit(caller.tenant_id, asked, idempotency_key=key)
    response.headers["Location"] = path_to(f"/v1/jobs/{job.id}", request)
    return JobOut.of(job)


@router.get("/v1/jobs", summary="List jobs", responses=problems(401, 422))
async def list_jobs(
    page: Annotated[JobPage, Query()],
    caller: Reader,
    jobs: Provided[Jobs],
    settings: Provided[Settings],
) -> JobList:
    """The newest first."""
    of = ("jobs", caller.tenant_id)
    found = await jobs.list(
        caller.tenant_id,
        limit=page.limit_and_one,
        after=page.last_seen(*of),
        state=page.state,
        model=page.model and settings.served_name(page.model),
    )
    shown, following = page.cut(found, *of)
    return JobList(data=[JobOut.of(job) for job in shown], has_more=bool(following), next=following)


@router.get("/v1/jobs/{job_id}", summary="Look at a job", responses=problems(401, 404, 422))
async def get_job(job_id: UUID, caller: Reader, jobs: Provided[Jobs]) -> JobOut:
    return JobOut.of(await jobs.get(caller.tenant_id, job_id))


@router.delete("/v1/jobs/{job_id}", summary="Cancel a job", responses=problems(401, 404, 409, 422))
async def cancel_job(job_id: UUID, caller: Drawer, jobs: Provided[Jobs]) -> JobOut:
    """Once this has answered, no further picture of the job appears. Repeating it is harmless."""
    return JobOut.of(await jobs.cancel(caller.tenant_id, job_id))


@router.delete(
    "/v1/jobs/{job_id}/images",
    status_code=204,
    summary="Delete a job's pictures",
    responses=problems(401, 404, 409, 422),
)
async def delete_pictures(job_id: UUID, caller: Drawer, jobs: Provided[Jobs]) -> None:
    """With their files, for good; the job itself stays. Repeating it is harmless; a job that has
    not ended is refused: cancel it first."""
    await jobs.delete_pictures(caller.tenant_id, job_id)
