"""Jobs and their pictures as they stand."""

from __future__ import annotations

from typing import Any

from serve.api.examples.errors import REFUSED_PICTURE
from serve.pictures.errors import FileDamaged

JOB_ID = "019ab2f4-6c1e-7d30-9a52-3f8e1c7b4d60"
IMAGE_ID = "019ab2f4-6c1f-7b44-8e21-90d4a6f2c713"
DAMAGED = FileDamaged(
    f"The file 'original' of image {IMAGE_ID} was altered in storage, and is not served: bring it"
    " back from a backup, or draw the picture again with its seed."
)
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
    "warnings": [],
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
PROMPT_CUT = {
    "code": "prompt_truncated",
    "param": "prompt",
    "message": "prompt: the model's text encoder read the first 14 of 23 tokens; the rest had no"
    " effect. Shorten it, or say first what matters most.",
}
CANCELLED: dict[str, Any] = {
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
CLEARED: dict[str, Any] = {
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
REFUSED: dict[str, Any] = {
    **_OLDER,
    "id": "019ab2f0-cab4-7c19-b3d4-6a0f5e92d817",
    "state": "failed",
    "images": [{**_OLDER_IMAGE, "id": "019ab2f0-cab5-7d8a-a17e-c05b39f2648d", "state": "failed"}],
    "error": REFUSED_PICTURE.message,
    "error_code": REFUSED_PICTURE.code,
    "last_seq": 3,
}
"""Its picture was against the content policy."""
