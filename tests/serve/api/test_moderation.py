"""What clients are told of prompts and pictures that the operator does not want."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from numpy.typing import NDArray

from serve.api.services import Services
from serve.deployments.postprocess import Postprocess, result_of
from serve.observability.tracing import TraceContext
from serve.settings import ModerationSettings, Settings, WorkerSettings
from serve.worker.delivery import Delivery, PostprocessTask, StoredPicture
from serve.worker.errors import PictureFailed
from tests.serve.api.conftest import count_rows
from tests.serve.api.drawing import Desk

CLASSIFIERS = "tests.serve.moderation.classifiers"


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """With a block-list and a classifier."""
    blocklist = tmp_path / "blocklist.txt"
    blocklist.write_text("grue\nred rum\n")
    moderation = ModerationSettings(blocklist=blocklist, classifier=f"{CLASSIFIERS}:Strict")
    return settings.model_copy(update={"moderation": moderation})


async def test_prompts_are_refused_at_the_door(
    client: httpx2.AsyncClient, services: Services
) -> None:
    for body, param in (
        ({"prompt": "a GRUE"}, "prompt"),
        ({"prompt": "a cave", "negative_prompt": "Red, rum"}, "negative_prompt"),
        ({"prompt": "a war"}, "prompt"),  # the classifier's
    ):
        answer = await client.post("/v1/jobs", json=body)
        problem = answer.json()
        assert (answer.status_code, answer.headers["content-type"]) == (
            400,
            "application/problem+json",
        )
        assert (problem["code"], problem["param"]) == ("content_policy_violation", param)
        for moderation in ("auto", "low"):
            answer = await client.post(
                "/v1/images/generations", json={**body, "moderation": moderation}
            )
            assert answer.status_code == 400
            error = answer.json()["error"]
            assert error["type"] == "invalid_request_error"
            assert (error["code"], error["param"]) == ("content_policy_violation", param)
        assert "grue" not in answer.text.lower()
    assert await count_rows(services.database, "jobs") == 0
    assert (await client.post("/v1/jobs", json={"prompt": "a gruesome rum"})).status_code == 202


class InThisProcess(Postprocess):
    """As its callers see it, without Ray."""

    async def store_picture(
        self, image: NDArray[np.uint8], task: PostprocessTask, trace: TraceContext | None
    ) -> StoredPicture:
        return result_of(await self.store_with_critique(image, task, trace))

    async def discard(self, task: PostprocessTask) -> None:
        result_of(await self.discard_picture(task))

    def __del__(self) -> None:  # type: ignore[override] # nobody awaits it here
        pass


async def deliver(services: Services, desk: Desk, grey: int) -> None:
    """Draw the one claimed picture as a worker does, as light as ``grey``."""
    [claim] = await desk.claim()
    pixels = np.full((claim.request.height, claim.request.width, 3), grey, dtype=np.uint8)
    delivery = Delivery(InThisProcess(services.settings), WorkerSettings(store_tries=1))
    try:
        stored = await delivery.store(pixels, claim)
    except PictureFailed as error:
        await desk.claims.fail(claim, str(error), error.code)
    else:
        await desk.claims.complete(claim, stored.files, blurhash=stored.blurhash)


async def test_a_refused_picture_fails_its_job_and_leaves_nothing(
    client: httpx2.AsyncClient, services: Services
) -> None:
    desk = Desk(services)
    ids: list[str] = []
    for grey in (200, 50):
        ids.append((await client.post("/v1/jobs", json={"prompt": "a cave"})).json()["id"])
        await deliver(services, desk, grey)
    light, dark = [(await client.get(f"/v1/jobs/{job_id}")).json() for job_id in ids]

    assert (light["state"], light["error_code"]) == ("succeeded", None)
    assert (dark["state"], dark["error_code"]) == ("failed", "content_policy_violation")
    assert "content policy" in dark["error"]
    stored = [found.key async for page in services.storage.list() for found in page]
    assert any(light["id"] in path for path in stored)
    assert not any(dark["id"] in path for path in stored)
    events = (await client.get(f"/v1/jobs/{dark['id']}/events")).text
    assert '"code":"content_policy_violation"' in events


async def test_openai_client_is_told_of_a_refused_picture(
    server: str, key: str, services: Services
) -> None:
    asking = openai.AsyncOpenAI(api_key=key, base_url=f"{server}/v1", max_retries=0)
    answer: asyncio.Task[Any] = asyncio.create_task(
        asking.images.generate(prompt="a cave", moderation="low")
    )
    while await count_rows(services.database, "jobs") == 0:
        await asyncio.sleep(0.05)
    await deliver(services, Desk(services), grey=50)

    with pytest.raises(openai.BadRequestError) as refused:
        await answer
    assert refused.value.code == "content_policy_violation"
    assert refused.value.type == "invalid_request_error"
    await asking.close()
