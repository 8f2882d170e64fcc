"""Finished pictures: listed, looked at, downloaded."""

from __future__ import annotations

import hashlib
import io

import httpx2
import pytest
from PIL import Image

from serve.api.services import Services
from tests.serve.api.drawing import Desk


@pytest.fixture
async def pictures(client: httpx2.AsyncClient, services: Services) -> list[str]:
    """Ids of three finished pictures, oldest first; a fourth is still waiting."""
    desk = Desk(services)
    job = (await client.post("/v1/jobs", json={"prompt": "a red heart", "n": 3, "seed": 7})).json()
    for claim in await desk.claim():
        await desk.finish(claim)
    await client.post("/v1/jobs", json={"prompt": "a blue star"})
    return [image["id"] for image in job["images"]]


async def test_listed_newest_first_page_by_page(
    client: httpx2.AsyncClient, pictures: list[str]
) -> None:
    first = (await client.get("/v1/images", params={"limit": 2})).json()
    second = (await client.get("/v1/images", params={"limit": 2, "after": first["next"]})).json()

    assert [image["id"] for image in first["data"] + second["data"]] == pictures[::-1]
    assert (first["has_more"], second["has_more"], second["next"]) == (True, False, None)


async def test_looked_at(client: httpx2.AsyncClient, pictures: list[str]) -> None:
    picture = (await client.get(f"/v1/images/{pictures[1]}")).json()

    assert (picture["state"], picture["seed"], picture["index"]) == ("succeeded", 8, 1)
    assert (picture["prompt"], picture["params"]["num_inference_steps"]) == ("a red heart", 20)
    assert [file["name"] for file in picture["variants"]] == ["original", "thumbnail"]


async def test_downloaded_as_it_is_told(client: httpx2.AsyncClient, pictures: list[str]) -> None:
    told = (await client.get(f"/v1/images/{pictures[0]}")).json()
    for file in told["variants"]:
        answer = await client.get(file["url"])

        assert answer.status_code == 200
        assert answer.headers["content-type"] == file["media_type"]
        assert hashlib.sha256(answer.content).hexdigest() == file["sha256"]
        assert len(answer.content) == file["bytes"]
        assert answer.headers["etag"] == f'"{file["sha256"]}"'
        assert "private" in answer.headers["cache-control"]
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert Image.open(io.BytesIO(answer.content)).size == (file["width"], file["height"])


async def test_not_downloaded_twice(client: httpx2.AsyncClient, pictures: list[str]) -> None:
    url = f"/v1/images/{pictures[0]}/original"
    tag = (await client.get(url)).headers["etag"]

    for header in (tag, f'"other", W/{tag}', "*"):
        answer = await client.get(url, headers={"If-None-Match": header})
        assert (answer.status_code, answer.content) == (304, b"")
    assert (await client.get(url, headers={"If-None-Match": '"other"'})).status_code == 200


async def test_no_such_file(client: httpx2.AsyncClient, pictures: list[str]) -> None:
    answer = await client.get(f"/v1/images/{pictures[0]}/poster")

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "variant_not_found"
    assert "original, thumbnail" in answer.json()["error"]["message"]


async def test_another_tenant_sees_none(stranger: httpx2.AsyncClient, pictures: list[str]) -> None:
    assert (await stranger.get("/v1/images")).json()["data"] == []
    for path in (f"/v1/images/{pictures[0]}", f"/v1/images/{pictures[0]}/original"):
        assert (await stranger.get(path)).status_code == 404
