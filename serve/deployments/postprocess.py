"""The post-process replica: pixels in, stored files out. And how another replica calls it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import cached_property
from typing import TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from pipelines.imaging.errors import ImagingError
from serve.deployments.ray_meter import RayMeter
from serve.deployments.replica import replica_name
from serve.deployments.replica_log import open_replica_log
from serve.errors import ServiceError
from serve.moderation.moderation import Moderation
from serve.observability.device import ProcessSample
from serve.observability.sampler import Sampler
from serve.observability.tracing import TraceContext, ids_of, start_tracing, stop_tracing
from serve.pictures.credentials import open_signer
from serve.settings import Settings
from serve.storage import Storage, StorageError, open_storage
from serve.worker.delivery import (
    PostprocessTask,
    StoredPicture,
    discard_picture,
    store_picture,
)
from serve.worker.errors import PostprocessLost

T = TypeVar("T")

ExpectedError = StorageError | ImagingError | ServiceError
EXPECTED = (StorageError, ImagingError, ServiceError)


class Postprocess:
    """Encodes and stores pictures on a CPU; keeps nothing between calls."""

    def __init__(self, settings: Settings) -> None:
        open_replica_log(settings, process="post-process")
        start_tracing(replica_name)
        self._meter = RayMeter()
        Sampler(ProcessSample(self._meter).sample).start()
        self._storage_url = settings.storage
        self._moderation = Moderation(settings.moderation)
        self._signer = open_signer(settings)

    @cached_property
    def _storage(self) -> Storage:
        """Opened by the first call: a replica starts without it, and its callers hear why.

        The ingress has made it; a folder that is missing now was deleted, or is not mounted.
        """
        return open_storage(self._storage_url, self._meter, make=False)

    async def store_with_critique(
        self, image: NDArray[np.uint8], task: PostprocessTask, trace: TraceContext | None
    ) -> StoredPicture | ExpectedError:
        """See `serve.worker.delivery.store_picture`; a picture that is refused is not stored.

        When the call or its answer changes, so does the name: a replica of another version then
        has no such method, and the call is repeated until one of this version gets it.

        Errors that the caller expects are returned: Serve would log each with its traceback.
        """
        with structlog.contextvars.bound_contextvars(**task.ids, **ids_of(trace)):
            try:
                return await store_picture(
                    self._storage,
                    image,
                    task,
                    trace,
                    self._moderation.judge_picture,
                    self._signer,
                )
            except EXPECTED as error:
                return error

    async def discard_picture(self, task: PostprocessTask) -> ExpectedError | None:
        """See `serve.worker.delivery.discard_picture`; errors as those of ``store_picture``."""
        with structlog.contextvars.bound_contextvars(**task.ids):
            try:
                await discard_picture(self._storage, task)
            except EXPECTED as error:
                return error
        return None

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

        return await _answer(self._handle.store_with_critique.remote(ray.put(image), task, trace))

    async def discard(self, task: PostprocessTask) -> None:
        await _answer(self._handle.discard_picture.remote(task))


async def _answer(call: Awaitable[T | ExpectedError]) -> T:
    """What the call returns, or raises: Ray wraps an error in its own, with a traceback as text.

    Raises:
        PostprocessLost: no replica answered.
    """
    try:
        answer = await call
    except RayTaskError as error:
        raise error.cause from None
    except (RayError, RayServeException) as error:
        raise PostprocessLost(
            f"The post-process replica was lost ({type(error).__name__}); try again later."
        ) from error
    return result_of(answer)


def result_of(answer: T | ExpectedError) -> T:
    """What a replica answered; raises the error that it returned."""
    if isinstance(answer, EXPECTED):
        raise answer
    return answer
