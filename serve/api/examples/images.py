"""Pictures: OpenAI's calls, and the gallery's."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from serve.api.errors import InvalidValue, ModelNotFound, VariantNotFound, outcome_error
from serve.api.examples.errors import no_id
from serve.api.examples.event import as_stream
from serve.api.examples.example import Example
from serve.api.examples.jobs import FINISHED_IMAGE, IMAGE_ID, JOB_ID, PARAMS
from serve.jobs.errors import IdempotencyConflict, ImageNotFound
from serve.models import Job, JobState
from serve.security.signed_urls import InvalidSignature

_PICTURE: dict[str, Any] = {
    **FINISHED_IMAGE,
    "job_id": JOB_ID,
    "model": "sfumato-embedded",
    "prompt": "a red heart",
    "params": PARAMS,
}
_ONE_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGO4IW0DAAL+ATABIwWfAAAAAElFTkSuQmCC"
)
_GENERATED = {
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
_STREAMED = {
    "b64_json": _ONE_PIXEL,
    "background": "opaque",
    "created_at": 1_795_499_102,
    "output_format": "png",
    "quality": "medium",
    "size": "64x64",
    "image_index": 0,
}
PARTIAL = {**_STREAMED, "type": "image_generation.partial_image", "partial_image_index": 0}
COMPLETED = {**_STREAMED, "type": "image_generation.completed", "usage": _GENERATED["usage"]}
_NO_SUCH_IMAGE = ImageNotFound(f"There is no image {IMAGE_ID}.")
_NO_ID = no_id("image_id")


def _job(state: JobState, error: str | None = None) -> Job:
    return Job(id=UUID(JOB_ID), state=state, error=error)


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
        },
        responses={200: _GENERATED},
        streams={200: as_stream([PARTIAL, COMPLETED])},
        errors=(
            InvalidValue("num_inference_steps must be from 1 to 150.", param="num_inference_steps"),
            InvalidValue("size must be `auto` or like `512x512`.", param="size"),
            IdempotencyConflict(
                "This Idempotency-Key was used for another request; use a new key."
            ),
            ModelNotFound(
                "The model 'dall-e-3' is not served here; use 'sfumato-embedded'.", param="model"
            ),
            outcome_error(_job(JobState.CANCELLED)),
            outcome_error(_job(JobState.FAILED, "The storage is full.")),
            outcome_error(_job(JobState.RUNNING)),
            outcome_error(_job(JobState.EXPIRED)),
        ),
    ),
    "listImages": Example(
        parameters={"limit": 20},
        responses={200: {"data": [_PICTURE], "has_more": True, "next": IMAGE_ID}},
    ),
    "getImage": Example(
        parameters={"image_id": IMAGE_ID},
        responses={200: _PICTURE},
        errors=(_NO_SUCH_IMAGE, _NO_ID),
    ),
    "download": Example(
        parameters={
            "image_id": IMAGE_ID,
            "variant": "original",
            "if-none-match": f'"{FINISHED_IMAGE["variants"][0]["sha256"]}"',
        },
        headers={
            status: {
                "ETag": f'"{FINISHED_IMAGE["variants"][0]["sha256"]}"',
                "Cache-Control": "private, max-age=31536000, immutable",
            }
            for status in (200, 304)
        },
        errors=(
            InvalidSignature("This signature does not belong to this file."),
            InvalidSignature("This URL has expired; ask for the picture with an API key."),
            _NO_SUCH_IMAGE,
            VariantNotFound(
                f"Image {IMAGE_ID} has no file 'large'; it has: original, thumbnail.",
                param="variant",
            ),
            _NO_ID,
        ),
    ),
}
