"""The post-process replica: pixels in, stored files out. And how another replica calls it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serve.deployments.ray_meter import RayMeter
from serve.deployments.replica import replica_name
from serve.moderation.moderation import Moderation
from serve.observability.device import ProcessSample
from serve.observability.logging import configure_logging
from serve.observability.sampler import Sampler
from serve.observability.tracing import TraceContext, start_tracing, stop_tracing
from serve.settings import Settings
from serve.storage import Storage, open_storage
from serve.worker.delivery import (
    PostprocessTask,
    StoredPicture,
    discard_picture,
    store_picture,
)
from serve.worker.errors import PostprocessLost

T = TypeVar("T")


class Postprocess:
    """Encodes and stores pictures on a CPU; keeps nothing between calls."""

    def __init__(self, settings: Settings) -> None:
        configure_logging(settings.log_format, log_prompts=settings.log_prompts)
        start_tracing(replica_name)
        self._meter = RayMeter()
        Sampler(ProcessSample(self._meter).sample).start()
        self._storage_url = settings.storage
        self._moderation = Moderation(settings.moderation)

    @cached_property
    def _storage(self) -> Storage:
        """Opened by the first call: a replica starts without it, and its callers hear why.

        The ingress has made it; a folder that is missing now was deleted, or is not mounted.
        """
        return open_storage(self._storage_url, self._meter, make=False)

    async def store_picture(
        self, image: NDArray[np.uint8], task: PostprocessTask, trace: TraceContext | None
    ) -> StoredPicture:
        """See `serve.worker.delivery.store_picture`; a picture that is refused is not stored.

        When the call or its answer changes, so does the name: a replica of another version then
        has no such method, and the call is repeated until one of this version gets it.
        """
        return await store_picture(
            self._storage, image, task, trace, self._moderation.judge_picture
        )

    async def discard(self, task: PostprocessTask) -> None:
        """See `serve.worker.delivery.discard_picture`."""
        await discard_picture(self._storage, task)

    async def __del__(self) -> None:
        """Awaited by Serve at shutdown."""
        await asyncio.to_thread(stop_tracing)


class PostprocessReplicas:
    """Calls whichever replica Serve picks; its errors arrive as it raised them."""

    def __init__(self, handle: DeploymentHandle[Postprocess]) -> None:
        self._handle = handle

    async def store_picture(
        self, image: NDArray[np.uint8], task: PostprocessTask, trace: TraceContext | None
    ) -> StoredPicture:
        import ray

        return await _answer(self._handle.store_picture.remote(ray.put(image), task, trace))

    async def discard(self, task: PostprocessTask) -> None:
        await _answer(self._handle.discard.remote(task))


async def _answer(call: Awaitable[T]) -> T:
    """What the call returns, or raises: Ray wraps an error in its own, with a traceback as text.

    Raises:
        PostprocessLost: no replica answered.
    """
    try:
        return await call
    except RayTaskError as error:
        raise error.cause from None
    except (RayError, RayServeException) as error:
        raise PostprocessLost(
            f"The post-process replica was lost ({type(error).__name__}); try again later."
        ) from error
