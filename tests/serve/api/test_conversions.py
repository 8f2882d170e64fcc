"""Files in other formats, made when they are first opened."""

from __future__ import annotations

import asyncio
import io
from uuid import UUID

import httpx2
import pytest
from PIL import Image

from pipelines.imaging.format import PictureFormat
from serve.api.services import Services
from serve.tables import Variant
from tests.serve.api.drawing import Desk

OTHERS = [each for each in PictureFormat if each is not PictureFormat.PNG]


@pytest.fixture
async def picture(client: httpx2.AsyncClient, services: Services) -> str:
    """The path of a finished picture, a PNG."""
    desk = Desk(services)
    await client.post("/v1/jobs", json={"prompt": "a red heart"})
    (claim,) = await desk.claim()
    await desk.finish(claim)
    return f"/v1/images/{claim.image_id}"


async def names(client: httpx2.AsyncClient, picture: str) -> list[str]:
    return [file["name"] for file in (await client.get(picture)).json()["variants"]]


@pytest.mark.parametrize("wanted", OTHERS)
async def test_it_is_made_once_and_kept(
    client: httpx2.AsyncClient, picture: str, wanted: PictureFormat
) -> None:
    first = await client.get(f"{picture}/{wanted}")
    assert first.status_code == 200, first.text
    assert first.headers["content-type"] == f"image/{wanted}"
    assert first.headers["content-disposition"].endswith(f'.{wanted.extension}"')
    assert Image.open(io.BytesIO(first.content)).format == wanted.name
    assert await names(client, picture) == sorted(["original", "thumbnail", wanted.value])
    again = await client.get(f"{picture}/{wanted}", headers={"Range": "bytes=0-9"})
    assert (again.status_code, again.content) == (206, first.content[:10])


async def test_the_original_s_own_format_is_the_original(
    client: httpx2.AsyncClient, picture: str
) -> None:
    asked, original = [await client.get(f"{picture}/{name}") for name in ("png", "original")]
    assert asked.content == original.content
    assert await names(client, picture) == ["original", "thumbnail"]


async def test_requests_at_once_make_one_file(
    client: httpx2.AsyncClient, services: Services, picture: str
) -> None:
    answers = await asyncio.gather(*(client.get(f"{picture}/webp") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert await names(client, picture) == ["original", "thumbnail", "webp"]
    keys = [found.key async for page in services.storage.list("") for found in page]
    assert len(keys) == 3


async def test_a_picture_that_is_deleted_meanwhile_leaves_no_file(
    services: Services, key: str, picture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = services.pictures
    tenant_id = (await services.keys.authenticate(key)).tenant_id
    image_id = UUID(picture.rpartition("/")[2])
    image = await pictures.get(tenant_id, image_id)
    before = services.files.whole

    async def whole_and_delete(tenant_id: UUID, file: Variant) -> bytes:
        content = await before(tenant_id, file)
        await pictures.delete(tenant_id, image_id)
        return content

    monkeypatch.setattr(services.files, "whole", whole_and_delete)
    with pytest.raises(Exception, match="was deleted"):
        await services.conversions.get(image, PictureFormat.WEBP)
    assert [found.key async for page in services.storage.list("") for found in page] == []


async def test_a_deleted_picture_takes_it_along(
    client: httpx2.AsyncClient, services: Services, picture: str
) -> None:
    await client.get(f"{picture}/webp")
    assert (await client.delete(picture)).status_code == 204
    assert [found.key async for page in services.storage.list("") for found in page] == []
    assert (await client.get(f"{picture}/webp")).status_code == 410


async def test_a_picture_that_waits_has_none(client: httpx2.AsyncClient) -> None:
    job = (await client.post("/v1/jobs", json={"prompt": "a blue star"})).json()
    answer = await client.get(f"/v1/images/{job['images'][0]['id']}/webp")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "variant_not_found")


async def test_its_headers_can_be_asked_for(client: httpx2.AsyncClient, picture: str) -> None:
    head = await client.head(f"{picture}/webp")
    whole = await client.get(f"{picture}/webp")
    assert head.status_code == 200
    assert int(head.headers["content-length"]) == len(whole.content)
