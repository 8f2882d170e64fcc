"""Deleted pictures are gone: from lists, from answers, from the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from serve.api.services import Services
from serve.storage import StorageUnavailable
from serve.worker.sweeper import Sweeper
from tests.serve.api.drawing import Desk


@pytest.fixture
def desk(services: Services) -> Desk:
    return Desk(services)


async def draw(client: httpx2.AsyncClient, desk: Desk, n: int) -> dict[str, Any]:
    """A job of ``n`` pictures, done."""
    job = (await client.post("/v1/jobs", json={"prompt": "a red heart", "n": n})).json()
    for claim in await desk.claim():
        await desk.finish(claim)
    done: dict[str, Any] = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert done["state"] == "succeeded"
    return done


def files(folder: Path, name: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and name in str(path)]


async def test_a_picture(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, desk: Desk, tmp_path: Path
) -> None:
    job = await draw(client, desk, 2)
    first, second = (image["id"] for image in job["images"])
    assert len(files(tmp_path, first)) == 2
    url = f"/v1/images/{first}"
    assert (await stranger.delete(url)).status_code == 404
    assert (await client.get(url)).status_code == 200

    for _ in range(2):
        answer = await client.delete(url)
        assert (answer.status_code, answer.content) == (204, b"")

    assert files(tmp_path, first) == []
    assert len(files(tmp_path, second)) == 2
    asked = [client.get(url), client.get(f"{url}/original"), client.head(f"{url}/thumbnail")]
    asked.append(client.patch(url, json={"favourite": True}))
    for each in asked:
        answer = await each
        assert answer.status_code == 410
        if answer.request.method != "HEAD":
            assert answer.json()["error"]["code"] == "image_deleted"
    assert (await stranger.get(url)).status_code == 404
    listed = (await client.get("/v1/images")).json()["data"]
    assert [image["id"] for image in listed] == [second]
    told = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert told["state"] == "succeeded"
    assert [bool(image["deleted_at"]) for image in told["images"]] == [True, False]
    assert [len(image["variants"]) for image in told["images"]] == [0, 2]


async def test_all_of_a_job(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, desk: Desk, tmp_path: Path
) -> None:
    job = await draw(client, desk, 3)
    other = await draw(client, desk, 1)
    url = f"/v1/jobs/{job['id']}/images"
    assert (await stranger.delete(url)).status_code == 404
    await client.delete(f"/v1/images/{job['images'][1]['id']}")

    for _ in range(2):
        assert (await client.delete(url)).status_code == 204

    assert files(tmp_path, job["id"]) == []
    assert len(files(tmp_path, other["id"])) == 2
    listed = (await client.get("/v1/images")).json()["data"]
    assert [image["job_id"] for image in listed] == [other["id"]]


async def test_the_same_request_again_is_told(client: httpx2.AsyncClient, desk: Desk) -> None:
    asked, headers = {"prompt": "a red heart", "n": 2}, {"Idempotency-Key": "once"}
    job = (await client.post("/v1/jobs", json=asked, headers=headers)).json()
    for claim in await desk.claim():
        await desk.finish(claim)
    again = await client.post("/v1/images/generations", json=asked, headers=headers)
    assert (again.status_code, len(again.json()["data"])) == (200, 2)

    await client.delete(f"/v1/images/{job['images'][1]['id']}")

    again = await client.post("/v1/images/generations", json=asked, headers=headers)
    assert again.status_code == 410
    assert again.json()["error"]["code"] == "image_deleted"


async def test_what_is_still_drawn_is_cancelled_instead(
    client: httpx2.AsyncClient, desk: Desk, tmp_path: Path
) -> None:
    job = (await client.post("/v1/jobs", json={"prompt": "a red heart", "n": 3})).json()
    done, running, queued = (image["id"] for image in job["images"])
    claims = await desk.claim(2)
    await desk.finish(claims[0])
    assert [str(claim.image_id) for claim in claims] == [done, running]

    for path in (f"images/{running}", f"images/{queued}", f"jobs/{job['id']}/images"):
        answer = await client.delete(f"/v1/{path}")
        assert answer.status_code == 409, path
        assert f"DELETE /v1/jobs/{job['id']}" in answer.text
    assert (await client.delete(f"/v1/images/{done}")).status_code == 204  # this one has ended

    assert (await client.delete(f"/v1/jobs/{job['id']}")).json()["state"] == "cancelled"
    assert (await client.delete(f"/v1/jobs/{job['id']}/images")).status_code == 204
    assert files(tmp_path, job["id"]) == []


async def test_files_that_storage_kept_are_swept(
    client: httpx2.AsyncClient,
    services: Services,
    desk: Desk,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = await draw(client, desk, 1)
    image_id = job["images"][0]["id"]

    async def away(keys: object) -> None:
        raise StorageUnavailable("gone for a while")

    with monkeypatch.context() as patch:
        patch.setattr(services.storage, "delete", away)
        assert (await client.delete(f"/v1/images/{image_id}")).status_code == 204
    assert (await client.get(f"/v1/images/{image_id}/original")).status_code == 410
    assert len(files(tmp_path, image_id)) == 2

    old = services.settings.jobs.model_copy(update={"orphan_age_s": -1})
    assert await Sweeper(services.database, services.storage, old).sweep() == 2
    assert files(tmp_path, image_id) == []
