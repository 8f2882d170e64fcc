"""OpenAI's edits and variations. `@heart.png` stands for that file's bytes, as curl has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serve.api.examples.errors import body_beyond
from serve.api.examples.event import as_stream
from serve.api.examples.example import Example
from serve.api.examples.images import ADAPTER_ERRORS, COMPLETED, DRAWING_ERRORS, GENERATED, PARTIAL
from serve.errors import ServiceError
from serve.http.errors import InvalidForm, InvalidValue, MissingField
from serve.http.problem import Problem
from serve.pictures.errors import (
    AnimatedPicture,
    InvalidMask,
    InvalidPictureFile,
    PictureTooLarge,
    UnsupportedPicture,
)

_EDIT_USAGE: dict[str, Any] = {
    "input_tokens": 20,
    "input_tokens_details": {"image_tokens": 16, "text_tokens": 4},
    "output_tokens": 16,
    "output_tokens_details": {"image_tokens": 16, "text_tokens": 0},
    "total_tokens": 36,
}
_VARIATION_USAGE: dict[str, Any] = {
    **_EDIT_USAGE,
    "input_tokens": 16,
    "input_tokens_details": {"image_tokens": 16, "text_tokens": 0},
    "total_tokens": 32,
}
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQ"
    "AAAABJRU5ErkJggg=="
)
_PARTIAL = {**PARTIAL, "type": "image_edit.partial_image"}
_COMPLETED = {**COMPLETED, "type": "image_edit.completed", "usage": _EDIT_USAGE}
_FILE_ERRORS: Sequence[ServiceError | Problem] = (
    InvalidForm("Send the picture as Content-Type: multipart/form-data."),
    MissingField("image: send a file of this name.", param="image"),
    UnsupportedPicture(
        "image: The file is not a PNG, JPEG or WebP picture; convert it to one of them.",
        param="image",
    ),
    InvalidPictureFile(
        "image: The PNG file is cut short or damaged; send all of it.", param="image"
    ),
    PictureTooLarge(
        "image: The picture is 12000x9000, which is 108.0 megapixels, and jpeg files of at most 64"
        " are taken: make it smaller.",
        param="image",
    ),
    AnimatedPicture("image: The WebP file is animated; send a single picture.", param="image"),
    InvalidValue("strength must be above 0 and at most 1.", param="strength"),
    body_beyond(64 * 1024 * 1024),
    *ADAPTER_ERRORS,
    *DRAWING_ERRORS,
)

TAGS: dict[str, str] = {}

EXAMPLES = {
    "edit": Example(
        parameters={"idempotency-key": "order-1043"},
        requests={
            "All of it anew": {"image": "@heart.png", "prompt": "the heart in gold"},
            "Where the mask is transparent": {
                "image": "@heart.png",
                "mask": "@mask.png",
                "prompt": "the heart in gold",
                "strength": 0.9,
                "seed": 7,
            },
            "Along the shapes of another picture": {
                "image": "@heart.png",
                "control_image": "@edges.png",
                "prompt": "the heart in gold",
                "loras": '[{"name": "ink", "scale": 0.7}]',
                "control": '{"name": "edges"}',
            },
            "Streamed, with two pictures on the way": {
                "image": "@heart.png",
                "prompt": "the heart in gold",
                "stream": True,
                "partial_images": 2,
            },
        },
        json_requests={
            "All of it anew": {
                "images": [{"image_url": _PIXEL}],
                "prompt": "the heart in gold",
            },
            "Where the mask is transparent": {
                "images": [{"image_url": _PIXEL}],
                "mask": {"image_url": _PIXEL},
                "prompt": "the heart in gold",
                "strength": 0.9,
                "seed": 7,
            },
        },
        responses={200: {**GENERATED, "usage": _EDIT_USAGE}},
        streams={200: as_stream([_PARTIAL, _COMPLETED])},
        errors=(
            InvalidMask(
                "mask: The mask has 32x32 pixels; make it as large as its image, 64x64.",
                param="mask",
            ),
            *_FILE_ERRORS,
        ),
    ),
    "vary": Example(
        parameters={"idempotency-key": "order-1044"},
        requests={
            "The picture alone": {"image": "@heart.png"},
            "Three that stay close": {"image": "@heart.png", "n": 3, "strength": 0.3},
        },
        responses={200: {**GENERATED, "usage": _VARIATION_USAGE}},
        errors=_FILE_ERRORS,
    ),
}
