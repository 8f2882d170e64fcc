"""OpenAI's generations, and what every call that draws pictures may answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from serve.api.examples.errors import (
    BUSY,
    DATABASE_AWAY,
    REFUSED_PICTURE,
    REFUSED_PROMPT,
    STORAGE_AWAY,
    UNJUDGED,
)
from serve.api.examples.event import as_stream
from serve.api.examples.example import Example
from serve.api.examples.job import DAMAGED, IMAGE_ID, JOB_ID, PROMPT_CUT
from serve.errors import ServiceError
from serve.http.errors import InvalidValue
from serve.http.problem import Problem
from serve.jobs.errors import IdempotencyConflict, ModelNotFound, SourceGone
from serve.openai.outcome import outcome_error
from serve.pictures.errors import ImageDeleted, InvalidPictureFile
from serve.tables import Job, JobState

_ONE_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGO4IW0DAAL+ATABIwWfAAAAAElFTkSuQmCC"
)
GENERATED: dict[str, Any] = {
    "created": 1_795_499_102,
    "data": [{"b64_json": _ONE_PIXEL}],
    "background": "opaque",
    "output_format": "png",
    "quality": "medium",
    "size": "64x64",
    "usage": {
        "input_tokens": 3,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 3},
        "output_tokens": 16,
        "output_tokens_details": {"image_tokens": 16, "text_tokens": 0},
        "total_tokens": 19,
    },
}
_STREAMED: dict[str, Any] = {
    "b64_json": _ONE_PIXEL,
    "background": "opaque",
    "created_at": 1_795_499_102,
    "output_format": "png",
    "quality": "medium",
    "size": "64x64",
    "image_index": 0,
}
PARTIAL = {**_STREAMED, "type": "image_generation.partial_image", "partial_image_index": 0}
COMPLETED = {
    **_STREAMED,
    "type": "image_generation.completed",
    "usage": {
        "input_tokens": 14,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 14},
        "output_tokens": 16,
        "output_tokens_details": {"image_tokens": 16, "text_tokens": 0},
        "total_tokens": 30,
    },
    "warnings": [PROMPT_CUT],
}


def _job(state: JobState, error: str | None = None, error_code: str | None = None) -> Job:
    return Job(id=UUID(JOB_ID), state=state, error=error, error_code=error_code)


DRAWING_ERRORS: Sequence[ServiceError | Problem] = (
    IdempotencyConflict("This Idempotency-Key was used for another request; use a new key."),
    ModelNotFound(
        "The model 'dall-e-3' is not served here; use 'sfumato-embedded'.", param="model"
    ),
    REFUSED_PROMPT,
    outcome_error(
        _job(
            JobState.FAILED,
            REFUSED_PICTURE.message,
            REFUSED_PICTURE.code,
        )
    ),
    outcome_error(_job(JobState.CANCELLED)),
    outcome_error(_job(JobState.FAILED, "The storage is full.")),
    outcome_error(_job(JobState.RUNNING)),
    outcome_error(_job(JobState.EXPIRED)),
    ImageDeleted(f"Image {IMAGE_ID} of job {JOB_ID} was deleted."),
    DAMAGED,
    *BUSY,
    DATABASE_AWAY,
    STORAGE_AWAY,
    UNJUDGED,
)

ADAPTER_ERRORS: Sequence[ServiceError] = (
    InvalidValue("loras: There is no LoRA 'inc'; this model has 'ink', 'pastel'.", param="loras"),
    InvalidValue(
        "control.name: There is no ControlNet 'edge'; this model has 'edges'.", param="control.name"
    ),
    InvalidValue(
        f"control.image: there is no finished picture {IMAGE_ID}; it may have been deleted.",
        param="control.image",
    ),
    InvalidPictureFile(
        "control.image: The PNG file is cut short or damaged; send all of it.",
        param="control.image",
    ),
    SourceGone("The picture was swept before its job came; send it again."),
)

TAGS = {
    "images": "Pictures. Requests and errors under `/v1/images` take OpenAI's shape, so that its"
    " clients work unchanged.",
}

EXAMPLES = {
    "generate": Example(
        parameters={"idempotency-key": "order-1042"},
        requests={
            "A prompt alone": {"prompt": "a red heart"},
            "As OpenAI's clients send it": {
                "model": "sfumato-embedded",
                "prompt": "a red heart",
                "n": 1,
                "size": "auto",
                "quality": "high",
                "output_format": "webp",
                "output_compression": 90,
                "user": "user-1234",
            },
            "Streamed, with two pictures on the way": {
                "prompt": "a red heart",
                "stream": True,
                "partial_images": 2,
            },
            "With this service's own fields": {
                "prompt": "a red heart",
                "negative_prompt": "text",
                "num_inference_steps": 30,
                "guidance_scale": 5.0,
                "seed": 7,
                "scheduler": "dpmpp_2m",
                "priority": 5,
                "deadline_s": 60,
            },
            "With a LoRA, along the shapes of a picture": {
                "prompt": "a red heart",
                "clip_skip": 1,
                "loras": [{"name": "ink", "scale": 0.7}],
                "control": {"name": "edges", "image": f"data:image/png;base64,{_ONE_PIXEL}"},
            },
        },
        responses={200: GENERATED},
        streams={200: as_stream([PARTIAL, COMPLETED])},
        errors=(
            InvalidValue("num_inference_steps must be from 1 to 150.", param="num_inference_steps"),
            InvalidValue("size must be `auto` or like `512x512`.", param="size"),
            *ADAPTER_ERRORS,
            *DRAWING_ERRORS,
        ),
    ),
}
