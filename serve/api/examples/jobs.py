"""Jobs and their events."""

from __future__ import annotations

from typing import Any

from serve.api.errors import InvalidValue, ModelNotFound
from serve.api.examples.errors import (
    BEYOND,
    BUSY,
    DATABASE_AWAY,
    INVALID_CURSOR,
    INVALID_JSON,
    REFUSED_PICTURE,
    REFUSED_PROMPT,
    UNJUDGED,
    no_id,
)
from serve.api.examples.event import as_stream, life_of_a_job
from serve.api.examples.example import Example
from serve.api.schemas.problem import Problem
from serve.jobs.errors import IdempotencyConflict, JobFinished, JobNotFound, JobUnended

JOB_ID = "019ab2f4-6c1e-7d30-9a52-3f8e1c7b4d60"
IMAGE_ID = "019ab2f4-6c1f-7b44-8e21-90d4a6f2c713"
PARAMS: dict[str, Any] = {
    "model": "sfumato-embedded",
    "prompt": "a red heart",
    "negative_prompt": "",
    "n": 1,
    "width": 64,
    "height": 64,
    "num_inference_steps": 20,
    "guidance_scale": 3.0,
    "seed": 7,
    "scheduler": "default",
    "output_format": "png",
    "output_compression": None,
    "priority": 0,
    "deadline_s": None,
    "partial_images": 0,
}
_IMAGE: dict[str, Any] = {
    "id": IMAGE_ID,
    "index": 0,
    "state": "queued",
    "seed": 7,
    "width": 64,
    "height": 64,
    "variants": [],
    "created_at": "2026-11-24T05:45:00.123456Z",
    "finished_at": None,
    "favourite": False,
    "deleted_at": None,
}
FINISHED_IMAGE: dict[str, Any] = {
    **_IMAGE,
    "state": "succeeded",
    "variants": [
        {
            "name": "original",
            "url": f"/v1/images/{IMAGE_ID}/original",
            "media_type": "image/png",
            "width": 64,
            "height": 64,
            "bytes": 6184,
            "sha256": "9c1185a5c5e9fc54612808977ee8f548b2258d31ad3a1e5d2f0f4f0f9e6b7a31",
        }
    ],
    "finished_at": "2026-11-24T05:45:02.480113Z",
}
QUEUED: dict[str, Any] = {
    "id": JOB_ID,
    "state": "queued",
    "model": "sfumato-embedded",
    "prompt": "a red heart",
    "n": 1,
    "params": PARAMS,
    "images": [_IMAGE],
    "error": None,
    "error_code": None,
    "last_seq": 1,
    "created_at": "2026-11-24T05:45:00.123456Z",
    "started_at": None,
    "finished_at": None,
    "deadline_at": None,
}
SUCCEEDED: dict[str, Any] = {
    **QUEUED,
    "state": "succeeded",
    "images": [FINISHED_IMAGE],
    "last_seq": 4,
    "started_at": "2026-11-24T05:45:00.301882Z",
    "finished_at": "2026-11-24T05:45:02.480113Z",
}
_CANCELLED: dict[str, Any] = {
    **QUEUED,
    "state": "cancelled",
    "images": [{**_IMAGE, "state": "cancelled", "finished_at": "2026-11-24T05:45:01.004510Z"}],
    "last_seq": 2,
    "finished_at": "2026-11-24T05:45:01.004510Z",
}
_OLDER_IMAGE: dict[str, Any] = {
    **_IMAGE,
    "created_at": "2026-11-24T05:41:02.774310Z",
    "finished_at": "2026-11-24T05:41:05.093648Z",
}
_OLDER: dict[str, Any] = {
    **SUCCEEDED,
    "created_at": "2026-11-24T05:41:02.774310Z",
    "started_at": "2026-11-24T05:41:02.950127Z",
    "finished_at": "2026-11-24T05:41:05.093648Z",
}
_CLEARED: dict[str, Any] = {
    **_OLDER,
    "id": "019ab2f0-cab6-7a02-90cd-57e1b86f3d24",
    "images": [
        {
            **_OLDER_IMAGE,
            "id": "019ab2f0-cab7-7e61-8b3f-12d9c4a7e580",
            "state": "succeeded",
            "deleted_at": "2026-11-24T05:44:30.288015Z",
        }
    ],
}
"""Its picture was deleted."""
_REFUSED: dict[str, Any] = {
    **_OLDER,
    "id": "019ab2f0-cab4-7c19-b3d4-6a0f5e92d817",
    "state": "failed",
    "images": [{**_OLDER_IMAGE, "id": "019ab2f0-cab5-7d8a-a17e-c05b39f2648d", "state": "failed"}],
    "error": REFUSED_PICTURE.message,
    "error_code": REFUSED_PICTURE.code,
    "last_seq": 3,
}
"""Its picture was against the content policy."""
_NO_SUCH_JOB = JobNotFound(f"There is no job {JOB_ID}.")
_NO_ID = no_id("job_id")

TAGS = {
    "jobs": "Ask for pictures now, look later: an accepted job outlives the connection, and any"
    " crash of the service.",
    "events": "What becomes of jobs, as it happens. The WebSocket and the messages are described"
    " by AsyncAPI at `/asyncapi.json`.",
}

EXAMPLES = {
    "submitJob": Example(
        parameters={"idempotency-key": "order-1042"},
        requests={
            "A prompt alone": {"prompt": "a red heart"},
            "Everything chosen": {
                "prompt": "a lighthouse at dusk, oil on canvas",
                "negative_prompt": "text, frame",
                "model": "sfumato-embedded",
                "n": 4,
                "width": 64,
                "height": 64,
                "num_inference_steps": 30,
                "guidance_scale": 5.0,
                "seed": 7,
                "scheduler": "dpmpp_2m",
                "output_format": "webp",
                "output_compression": 90,
                "priority": 5,
                "deadline_s": 60,
            },
        },
        responses={202: QUEUED},
        headers={202: {"Location": f"/v1/jobs/{JOB_ID}"}},
        errors=(
            ModelNotFound(
                "The model 'sdxl' is not served here; use 'sfumato-embedded'.", param="model"
            ),
            InvalidValue("num_inference_steps must be from 1 to 150.", param="num_inference_steps"),
            Problem(
                title="Invalid request",
                status=422,
                detail="Unknown field `promt`. Known fields: prompt, negative_prompt, model, n,"
                " size, num_inference_steps, guidance_scale, seed, scheduler, output_format,"
                " output_compression, priority, deadline_s, width, height.",
                code="unknown_field",
                param="promt",
            ),
            IdempotencyConflict(
                "This Idempotency-Key was used for another request; use a new key."
            ),
            INVALID_JSON,
            REFUSED_PROMPT,
            *BUSY,
            DATABASE_AWAY,
            UNJUDGED,
        ),
    ),
    "listJobs": Example(
        parameters={"limit": 20, "model": "sfumato-embedded"},
        responses={
            200: {
                "data": [SUCCEEDED, _CLEARED, _REFUSED],
                "has_more": True,
                "next": "AZqy8Mq0fBmz1GoPXpLYFyhPzi-t4VVZ",
            }
        },
        errors=(BEYOND, INVALID_CURSOR),
    ),
    "getJob": Example(
        parameters={"job_id": JOB_ID}, responses={200: SUCCEEDED}, errors=(_NO_SUCH_JOB, _NO_ID)
    ),
    "cancelJob": Example(
        parameters={"job_id": JOB_ID},
        responses={200: _CANCELLED},
        errors=(
            _NO_SUCH_JOB,
            _NO_ID,
            JobFinished("The job has succeeded; there is nothing left to cancel."),
        ),
    ),
    "deletePictures": Example(
        parameters={"job_id": JOB_ID},
        errors=(
            _NO_SUCH_JOB,
            _NO_ID,
            JobUnended(f"The job is running; cancel it with DELETE /v1/jobs/{JOB_ID}, or wait."),
        ),
    ),
    "followJob": Example(
        parameters={"job_id": JOB_ID, "after": 0, "previews": False, "last-event-id": 1},
        streams={200: as_stream(life_of_a_job())},
        errors=(_NO_SUCH_JOB, _NO_ID),
    ),
    "issueTicket": Example(
        responses={
            201: {"ticket": "wLr0H6u0bq1mD7yT9oJcXfZk2sV5nEpA", "expires_in": 30},
        },
    ),
}
