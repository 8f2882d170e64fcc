"""The post-process replicas on a real, small Ray: what happens to errors on the way."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from pipelines.imaging.errors import InvalidPicture
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.postprocess import PostprocessSpec
from serve.deployments.postprocess import ExpectedError, Postprocess, PostprocessReplicas
from serve.observability.tracing import TraceContext
from serve.settings import Settings
from serve.storage import StorageUnavailable, open_storage
from serve.worker.delivery import PostprocessTask, StoredPicture
from serve.worker.errors import PostprocessLost

pytestmark = pytest.mark.service

PICTURE = np.random.default_rng(7).integers(0, 256, (64, 64, 3), dtype=np.uint8)


class Mortal(Postprocess):
    """Dies, where a file says so."""

    def __init__(self, settings: Settings, order: Path) -> None:
        super().__init__(settings)
        self._order = order

    async def store_with_critique(
        self, image: np.ndarray, task: PostprocessTask, trace: TraceContext | None
    ) -> StoredPicture | ExpectedError:
        if self._order.exists():
            self._order.unlink()
            os._exit(1)
        return await super().store_with_critique(image, task, trace)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("postprocess")


@pytest.fixture(scope="module")
def replicas(folder: Path) -> Iterator[PostprocessReplicas]:
    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR)
    try:
        serve.start(proxy_location="Disabled")
        settings = Settings(storage_url=(folder / "pictures").as_uri())
        deployment = serve.deployment(ray_actor_options={"num_cpus": 0.1})(Mortal)
        serve.run(deployment.bind(settings, folder / "die"), route_prefix=None)
        handle: DeploymentHandle[Postprocess] = serve.get_app_handle("default")
        yield PostprocessReplicas(handle)
        serve.shutdown()  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()


def new_task() -> PostprocessTask:
    spec = PostprocessSpec(format=PictureFormat.PNG, quality=None, metadata={})
    return PostprocessTask(uuid4(), uuid4(), uuid4(), 1, spec)


async def test_errors_of_ours_arrive_as_they_were_raised(
    replicas: PostprocessReplicas, folder: Path
) -> None:
    task = new_task()
    with pytest.raises(StorageUnavailable, match="is gone"):
        await replicas.store_picture(PICTURE, task, None)
    storage = open_storage((folder / "pictures").as_uri())
    files = (await replicas.store_picture(PICTURE, task, None)).files
    assert await storage.get(files[0].storage_key)
    (folder / "pictures").rename(folder / "elsewhere")
    with pytest.raises(StorageUnavailable) as raised:
        await replicas.store_picture(PICTURE, task, None)
    assert type(raised.value) is StorageUnavailable
    assert str(raised.value).endswith(
        "is gone: mount it or make it again, or set SFUMATO_STORAGE_URL to another folder."
    )
    (folder / "elsewhere").rename(folder / "pictures")
    with pytest.raises(InvalidPicture):
        await replicas.store_picture(PICTURE[..., 0], task, None)
    assert (await replicas.store_picture(PICTURE, task, None)).files == files
    await replicas.discard(task)
    assert [page async for page in storage.list()] in ([], [[]])


async def test_a_dead_replica_is_lost_and_another_takes_over(
    replicas: PostprocessReplicas, folder: Path
) -> None:
    (folder / "die").touch()
    with pytest.raises(PostprocessLost, match="replica was lost"):
        await replicas.store_picture(PICTURE, new_task(), None)
    assert await replicas.store_picture(PICTURE, new_task(), None)
