"""Lossy WebP."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from pipelines.imaging.format import PictureFormat
from pipelines.imaging.metadata.embed import exif_and_xmp

_METHOD = 2
"""50 ms at 1024×1024; method 4, the default, takes 105 ms for 4 % fewer bytes."""


def encode(picture: Image.Image, quality: int | None, metadata: Mapping[str, Any] | None) -> bytes:
    """See `pipelines.imaging.encode.Encoder`."""
    file = io.BytesIO()
    blocks = exif_and_xmp(metadata, PictureFormat.WEBP)
    picture.save(file, "webp", quality=quality, method=_METHOD, **blocks)
    return file.getvalue()
