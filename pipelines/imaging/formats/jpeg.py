"""JPEG, progressive: a browser shows the whole picture early, and the file is smaller as well."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from pipelines.imaging.format import PictureFormat
from pipelines.imaging.metadata.embed import exif_and_xmp


def encode(picture: Image.Image, quality: int | None, metadata: Mapping[str, Any] | None) -> bytes:
    """See `pipelines.imaging.encode.Encoder`."""
    file = io.BytesIO()
    blocks = exif_and_xmp(metadata, PictureFormat.JPEG)
    picture.save(file, "jpeg", quality=quality, progressive=True, **blocks)
    return file.getvalue()
