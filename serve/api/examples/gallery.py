"""The gallery: finished pictures and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serve.api.examples.errors import (
    BEYOND,
    DATABASE_AWAY,
    INVALID_CURSOR,
    INVALID_JSON,
    STORAGE_AWAY,
    invalid,
)
from serve.api.examples.example import Example
from serve.api.examples.job import DAMAGED, FINISHED_IMAGE, IMAGE_ID, JOB_ID, PARAMS
from serve.errors import ServiceError
from serve.http.problem import Problem
from serve.pictures.errors import (
    ImageDeleted,
    ImageNotFound,
    ImageUnfinished,
    RangeNotSatisfiable,
    VariantNotFound,
)
from serve.pictures.signed_urls import InvalidSignature

_PICTURE: dict[str, Any] = {
    **FINISHED_IMAGE,
    "job_id": JOB_ID,
    "model": "sfumato-embedded",
    "prompt": "a red heart",
    "params": PARAMS,
}
_NO_SUCH_IMAGE = ImageNotFound(f"There is no image {IMAGE_ID}.")
_DELETED = ImageDeleted(f"Image {IMAGE_ID} was deleted.")

_FILE = FINISHED_IMAGE["variants"][0]
_ETAG = f'"{_FILE["sha256"]}"'
_SIZE = _FILE["bytes"]
_UNCHANGED = {
    "ETag": _ETAG,
    "Cache-Control": "private, max-age=31536000, immutable",
    "Accept-Ranges": "bytes",
}
_WHOLE = {
    **_UNCHANGED,
    "Content-Disposition": 'inline; filename="a-red-heart-7.png"',
    "Content-Length": str(_SIZE),
}
_PART = {**_WHOLE, "Content-Range": f"bytes 0-1023/{_SIZE}", "Content-Length": "1024"}
_ASKED: Mapping[str, Any] = {
    "image_id": IMAGE_ID,
    "variant": "original",
    "download": False,
    "if-none-match": _ETAG,
}
_FILE_ERRORS: Sequence[ServiceError | Problem] = (
    InvalidSignature("This signature does not belong to this file."),
    InvalidSignature("This URL has expired; ask for the picture with an API key."),
    _NO_SUCH_IMAGE,
    VariantNotFound(
        f"Image {IMAGE_ID} has no file 'large'; it has: original, thumbnail.", param="variant"
    ),
    _DELETED,
    DAMAGED,
    invalid("download", "Input should be a valid boolean, unable to interpret input"),
)

TAGS: dict[str, str] = {}

EXAMPLES = {
    "listImages": Example(
        parameters={
            "limit": 20,
            "q": "red heart -panda",
            "model": "sfumato-embedded",
            "created_after": "2026-11-24T00:00:00Z",
            "created_before": "2026-11-25T00:00:00Z",
            "favourite": True,
        },
        responses={
            200: {
                "data": [{**_PICTURE, "favourite": True}],
                "has_more": True,
                "next": "AZqy9Gwfe0SOIZDUpvLHExAZTvLJuRQ2",
            }
        },
        errors=(BEYOND, INVALID_CURSOR),
    ),
    "getImage": Example(
        parameters={"image_id": IMAGE_ID},
        responses={200: _PICTURE},
        errors=(_NO_SUCH_IMAGE, _DELETED),
    ),
    "changeImage": Example(
        parameters={"image_id": IMAGE_ID},
        requests={"A favourite": {"favourite": True}, "No longer": {"favourite": False}},
        responses={200: {**_PICTURE, "favourite": True}},
        errors=(
            _NO_SUCH_IMAGE,
            _DELETED,
            INVALID_JSON,
            invalid("favourite", "Input should be a valid boolean"),
        ),
    ),
    "deleteImage": Example(
        parameters={"image_id": IMAGE_ID},
        errors=(
            _NO_SUCH_IMAGE,
            ImageUnfinished(
                f"The picture is running; cancel its job with DELETE /v1/jobs/{JOB_ID}, or wait."
            ),
        ),
    ),
    "download": Example(
        parameters={**_ASKED, "Range": "bytes=0-1023", "if-range": _ETAG},
        headers={200: _WHOLE, 206: _PART, 304: _UNCHANGED},
        errors=(
            *_FILE_ERRORS,
            RangeNotSatisfiable(
                f"The file has {_SIZE} bytes, and none of those asked for; ask within"
                f" 0-{_SIZE - 1}.",
                size=_SIZE,
            ),
            DATABASE_AWAY,
            STORAGE_AWAY,
        ),
    ),
    "lookAtFile": Example(
        parameters=_ASKED, headers={200: _WHOLE, 304: _UNCHANGED}, errors=_FILE_ERRORS
    ),
}
