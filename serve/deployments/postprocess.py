"""The post-process replica: pixels in, stored files out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serve.jobs.postprocess import PostprocessTask, store_picture
from serve.jobs.stored_file import StoredFile
from serve.observability.logging import configure_logging
from serve.settings import Settings
from serve.storage import open_storage


class Postprocess:
    """Encodes and stores pictures on a CPU; keeps nothing between calls."""

    def __init__(self, settings: Settings) -> None:
        configure_logging(settings.log_format)
        self._storage = open_storage(settings.storage)

    async def store(self, image: NDArray[np.uint8], task: PostprocessTask) -> list[StoredFile]:
        """See `serve.jobs.postprocess.store_picture`."""
        return await store_picture(self._storage, image, task)
