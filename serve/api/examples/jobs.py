"""Jobs and their events."""

from __future__ import annotations

from serve.api.examples.errors import (
    BEYOND,
    BUSY,
    DATABASE_AWAY,
    INVALID_CURSOR,
    INVALID_JSON,
    REFUSED_PROMPT,
    STORAGE_AWAY,
    UNJUDGED,
    no_id,
)
from serve.api.examples.event import as_stream, life_of_a_job
from serve.api.examples.example import Example
from serve.api.examples.job import CANCELLED, CLEARED, IMAGE_ID, JOB_ID, QUEUED, REFUSED, SUCCEEDED
from serve.events.feed import JobNotFound
from serve.http.errors import InvalidValue
from serve.http.problem import Problem
from serve.jobs.errors import (
    IdempotencyConflict,
    JobFinished,
    JobUnended,
    ModelNotFound,
    SourceGone,
)

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
                "clip_skip": 1,
                "loras": [{"name": "ink", "scale": 0.7}],
                "control": {
                    "name": "edges",
                    "image": IMAGE_ID,
                    "scale": 0.8,
                    "start": 0.0,
                    "end": 0.6,
                },
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
                " size, num_inference_steps, guidance_scale, seed, scheduler, clip_skip, loras,"
                " control, output_format, output_compression, priority, deadline_s, width, height.",
                code="unknown_field",
                param="promt",
            ),
            InvalidValue(
                "loras: There is no LoRA 'inc'; this model has 'ink', 'pastel'.", param="loras"
            ),
            InvalidValue(
                f"control.image: there is no finished picture {IMAGE_ID}; it may have been"
                " deleted.",
                param="control.image",
            ),
            SourceGone("The picture was swept before its job came; send it again."),
            STORAGE_AWAY,
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
                "data": [SUCCEEDED, CLEARED, REFUSED],
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
        responses={200: CANCELLED},
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
