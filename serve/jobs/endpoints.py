"""Jobs: ask for pictures now, look later."""

from __future__ import annotations

import re
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response

from serve.access.auth import Drawer, GuardedRoute, Reader
from serve.access.ledger import InsufficientQuota
from serve.access.rate_limit import RateLimitExceeded
from serve.answer_cache import AnswerCache, Cached
from serve.database import DatabaseUnavailable
from serve.events.feed import JobNotFound
from serve.http.address import path_to
from serve.http.documented import Errors, form_body, problems, success
from serve.http.errors import InvalidForm, InvalidValue, MissingField
from serve.http.form import read_form
from serve.http.provided import Provided
from serve.jobs.autonomous import Author, as_autonomous, check_mode
from serve.jobs.errors import (
    IdempotencyConflict,
    JobFinished,
    JobUnended,
    ModelNotFound,
    NothingNew,
    Overloaded,
    SourceGone,
)
from serve.jobs.lifecycle import Jobs
from serve.jobs.limits import ServedModels, seed_name
from serve.jobs.schemas import (
    JobBody,
    JobEditBody,
    JobList,
    JobOut,
    JobPage,
    edit_strength,
)
from serve.jobs.sourcing import Sourcing
from serve.moderation.errors import ModerationUnavailable, refused_prompt
from serve.pictures.errors import (
    AnimatedPicture,
    InvalidMask,
    InvalidPictureFile,
    PictureTooLarge,
    UnsupportedPicture,
)
from serve.storage import StorageUnavailable

router = APIRouter(tags=["jobs"], route_class=GuardedRoute)

_SANE_KEY = re.compile(r"[\x21-\x7e]{1,255}")

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="1 to 255 visible ASCII characters. The same key and body is the same job,"
        " however often it is sent; another body is refused.",
        examples=["order-1042"],
    ),
]


DRAWING_ERRORS: Errors = (
    ModelNotFound("The model 'sdxl' is not served here; use 'sfumato-embedded'.", param="model"),
    InvalidValue("num_inference_steps must be from 1 to 150.", param="num_inference_steps"),
    InvalidValue("loras: There is no LoRA 'inc'; this model has 'ink', 'pastel'.", param="loras"),
    IdempotencyConflict,
    refused_prompt("prompt"),
    Overloaded,
    RateLimitExceeded,
    InsufficientQuota,
    SourceGone,
    ModerationUnavailable,
    DatabaseUnavailable,
    StorageUnavailable,
)
"""Why pictures are not accepted."""
FILE_ERRORS: Errors = (
    InvalidForm("Send the picture as Content-Type: multipart/form-data."),
    MissingField("image: send a file of this name.", param="image"),
    UnsupportedPicture,
    InvalidPictureFile,
    PictureTooLarge,
    AnimatedPicture,
)
"""Why the files of a form are not taken."""
_QUEUED = {
    "state": "queued",
    "images": [{"state": "queued", "variants": [], "finished_at": None}],
    "last_seq": 1,
    "started_at": None,
    "finished_at": None,
}
_CANCELLED = {
    **_QUEUED,
    "state": "cancelled",
    "images": [{"state": "cancelled", "variants": []}],
    "last_seq": 2,
    "finished_at": "2026-11-24T05:45:02.480113Z",
}


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
    responses={
        **success(202, ("Location",), _QUEUED),
        **problems(*DRAWING_ERRORS, NothingNew),
    },
)
async def submit_job(
    body: JobBody,
    request: Request,
    response: Response,
    caller: Drawer,
    models: Provided[ServedModels],
    sourcing: Provided[Sourcing],
    jobs: Provided[Jobs],
    author: Provided[Author],
    idempotency_key: IdempotencyKey = None,
) -> JobOut:
    """Accepts a job and answers at once; once it is accepted it survives any crash."""
    key = checked_key(idempotency_key)
    limits = await models.limits_for(body)
    limits.check_source(image=False)
    check_mode(body)
    job_request = limits.accept(
        body,
        size=limits.size(body.size, body.width, body.height),
        seed_for=seed_name(caller.tenant_id, key),
        without_prompt=body.mode is not None,
    )
    if body.mode == "autonomous":
        job_request = as_autonomous(job_request, body.theme)
    job_request = await sourcing.keep(caller.tenant_id, job_request, key, control=body.control)
    if job_request.autonomous:
        job = await author.submit(caller.tenant_id, job_request, idempotency_key=key)
    else:
        job = await jobs.submit(
            caller.tenant_id, job_request, idempotency_key=key, reuse=body.cache == "allow"
        )
    response.headers["Location"] = path_to(f"/v1/jobs/{job.id}", request)
    return JobOut.of(job)


@router.post(
    "/v1/edits",
    status_code=202,
    summary="Submit a job that draws from a picture",
    responses={
        **success(202, ("Location",), _QUEUED),
        **problems(*DRAWING_ERRORS, *FILE_ERRORS, InvalidMask),
    },
    openapi_extra=form_body(JobEditBody, "image", "mask", "control_image"),
)
async def submit_edit(
    request: Request,
    response: Response,
    caller: Drawer,
    models: Provided[ServedModels],
    sourcing: Provided[Sourcing],
    jobs: Provided[Jobs],
    idempotency_key: IdempotencyKey = None,
) -> JobOut:
    """As `POST /v1/jobs`, in a multipart form with the picture. All of it is drawn anew, or where
    `mask`, a PNG of the same size, is wholly transparent; what a mask keeps comes back pixel for
    pixel. Files are as in `POST /v1/images/edits`."""
    key = checked_key(idempotency_key)
    optional = ["mask", "control_image"]
    async with read_form(request, JobEditBody, required="image", optional=optional) as form:
        body, mask = form.body, "mask" in form.files
        limits = await models.limits_for(body)
        limits.check_source(image=True, mask=mask)
        size = limits.size(body.size, body.width, body.height)
        job_request = limits.accept(body, size=size, seed_for=seed_name(caller.tenant_id, key))
        job_request = await sourcing.fit(
            limits,
            job_request,
            form.files["image"],
            size=f"{size[0]}x{size[1]}" if body.width else body.size,
            strength=body.strength,
            default_strength=edit_strength(mask=mask),
        )
        job_request = await sourcing.keep(
            caller.tenant_id, job_request, key, control=body.control, uploads=form.files
        )
    job = await jobs.submit(
        caller.tenant_id, job_request, idempotency_key=key, reuse=body.cache == "allow"
    )
    response.headers["Location"] = path_to(f"/v1/jobs/{job.id}", request)
    return JobOut.of(job)


@router.get("/v1/jobs", summary="List jobs", responses=problems())
async def list_jobs(
    page: Annotated[JobPage, Query()],
    caller: Reader,
    jobs: Provided[Jobs],
    models: Provided[ServedModels],
) -> JobList:
    """The newest first."""
    of = ("jobs", caller.tenant_id)
    found = await jobs.list(
        caller.tenant_id,
        limit=page.limit_and_one,
        after=page.last_seen(*of),
        state=page.state,
        model=page.model and models.settings.served_name(page.model),
    )
    return JobList(**page.answer(found, JobOut.of, *of))


@router.get("/v1/jobs/{job_id}", summary="Look at a job", responses=problems(JobNotFound))
async def get_job(job_id: UUID, caller: Reader, jobs: Provided[Jobs]) -> JobOut:
    return JobOut.of(await jobs.get(caller.tenant_id, job_id))


@router.delete(
    "/v1/jobs/{job_id}",
    summary="Cancel a job",
    responses={
        **success(200, example=_CANCELLED),
        **problems(JobNotFound, JobFinished),
    },
)
async def cancel_job(job_id: UUID, caller: Drawer, jobs: Provided[Jobs]) -> JobOut:
    """Once this has answered, no further picture of the job appears. Repeating it is harmless."""
    return JobOut.of(await jobs.cancel(caller.tenant_id, job_id))


@router.delete(
    "/v1/jobs/{job_id}/images",
    status_code=204,
    summary="Delete a job's pictures",
    responses=problems(JobNotFound, JobUnended),
)
async def delete_pictures(
    job_id: UUID, caller: Drawer, jobs: Provided[Jobs], answers: Provided[AnswerCache]
) -> None:
    """With their files, for good; the job itself stays. Repeating it is harmless; a job that has
    not ended is refused: cancel it first."""
    async with answers.changing(Cached.PAGES, caller.tenant_id):
        await jobs.delete_pictures(caller.tenant_id, job_id)
