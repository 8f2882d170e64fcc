"""PNG, without loss."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from pipelines.imaging.metadata.embed import png_chunks

# zlib's run-length strategy: PNG's own filters leave little else to find. On 1024×1024 it took
# 84 ms and 1.76 MB, the default strategy at level 1 113 ms and 2.01 MB, at level 6 245 ms and
# 1.76 MB.
_Z_RLE = 3


def encode(picture: Image.Image, quality: int | None, metadata: Mapping[str, Any] | None) -> bytes:
    """See `pipelines.imaging.encode.Encoder`."""
    file = io.BytesIO()
    picture.save(file, "png", compress_level=1, compress_type=_Z_RLE, **png_chunks(metadata))
    return file.getvalue()
