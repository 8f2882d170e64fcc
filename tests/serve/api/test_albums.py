"""Albums: made, filled, renamed and deleted; what deleting a picture means; nobody else's."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from serve.albums import albums as limits
from serve.api.services import Services
from tests.serve.api.browser import finish, submit

NOBODY = "00000000-0000-7000-8000-000000000000"


async def make(client: httpx2.AsyncClient, name: str = "Hearts") -> dict[str, Any]:
    answer = await client.post("/v1/albums", json={"name": name})
    assert answer.status_code == 201, answer.text
    album: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/albums/{album['id']}"
    return album


async def drawn(client: httpx2.AsyncClient, services: Services, n: int) -> list[str]:
    """The ids of new pictures, newest first."""
    job = await submit(client, n=n)
    await finish(services)
    return sorted((image["id"] for image in job["images"]), reverse=True)


async def put(client: httpx2.AsyncClient, album: dict[str, Any], *images: str) -> None:
    for image in images:
        answer = await client.put(f"/v1/albums/{album['id']}/images/{image}")
        assert answer.status_code == 204, answer.text


async def pictures_of(client: httpx2.AsyncClient, album: dict[str, Any], **query: Any) -> list[str]:
    answer = await client.get("/v1/images", params={"album": album["id"], **query})
    assert answer.status_code == 200, answer.text
    return [picture["id"] for picture in answer.json()["data"]]


async def test_an_album_from_its_making_to_its_end(
    client: httpx2.AsyncClient, services: Services
) -> None:
    newest, middle, oldest = await drawn(client, services, 3)
    album = await make(client, "  Red \t hearts ")
    assert (album["name"], album["pictures"], album["cover_id"]) == ("Red hearts", 0, None)
    assert await pictures_of(client, album) == []

    await put(client, album, oldest, newest, oldest)
    path = f"/v1/albums/{album['id']}"
    assert await pictures_of(client, album) == [newest, oldest]
    assert await pictures_of(client, album, favourite=True) == []
    told = (await client.get(path)).json()
    assert (told["pictures"], told["cover_id"]) == (2, newest)

    refused = await client.patch(path, json={"cover_id": middle})
    assert (refused.status_code, refused.json()["param"]) == (422, "cover_id")
    changed = (await client.patch(path, json={"name": "Old hearts", "cover_id": oldest})).json()
    assert (changed["name"], changed["cover_id"]) == ("Old hearts", oldest)

    for _ in range(2):
        assert (await client.delete(f"{path}/images/{oldest}")).status_code == 204
    told = (await client.get(path)).json()
    assert (told["pictures"], told["cover_id"]) == (1, newest)

    assert (await client.delete(path)).status_code == 204
    assert (await client.delete(path)).status_code == 404
    assert len((await client.get("/v1/images")).json()["data"]) == 3


async def test_a_deleted_picture_leaves_its_albums(
    client: httpx2.AsyncClient, services: Services
) -> None:
    newest, oldest = await drawn(client, services, 2)
    first, second = await make(client, "one"), await make(client, "two")
    await put(client, first, newest, oldest)
    await put(client, second, newest)
    await client.patch(f"/v1/albums/{first['id']}", json={"cover_id": newest})
    assert (await client.delete(f"/v1/images/{newest}")).status_code == 204

    told = {each["name"]: each for each in (await client.get("/v1/albums")).json()["data"]}
    assert (told["one"]["pictures"], told["one"]["cover_id"]) == (1, oldest)
    assert (told["two"]["pictures"], told["two"]["cover_id"]) == (0, None)
    gone = await client.put(f"/v1/albums/{second['id']}/images/{newest}")
    assert (gone.status_code, gone.json()["code"]) == (410, "image_deleted")
    async with services.database.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM album_pictures")) == 1


async def test_what_cannot_be_put_in(client: httpx2.AsyncClient) -> None:
    job, album = await submit(client), await make(client)
    path = f"/v1/albums/{album['id']}/images"
    for image, status, code in (
        (job["images"][0]["id"], 409, "image_not_finished"),
        (NOBODY, 404, "image_not_found"),
    ):
        answer = await client.put(f"{path}/{image}")
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_name_is_one_albums(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    album, other = await make(client), await make(client, "Stars")
    for refused in (
        await client.post("/v1/albums", json={"name": " Hearts"}),
        await client.patch(f"/v1/albums/{other['id']}", json={"name": "Hearts"}),
    ):
        told = refused.json()
        assert (refused.status_code, told["code"], told["param"]) == (409, "album_exists", "name")
        assert album["id"] in told["detail"]
    same = await client.patch(f"/v1/albums/{album['id']}", json={"name": "Hearts"})
    assert same.status_code == 200
    await make(stranger)


async def test_of_many_at_once_one_has_the_name(
    client: httpx2.AsyncClient, services: Services
) -> None:
    asked = [client.post("/v1/albums", json={"name": "Hearts"}) for _ in range(6)]
    answers = await asyncio.gather(*asked)
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 5]
    albums = [await make(client, name) for name in ("a", "b")]
    renamed = await asyncio.gather(
        *(client.patch(f"/v1/albums/{each['id']}", json={"name": "c"}) for each in albums)
    )
    assert sorted(answer.status_code for answer in renamed) == [200, 409]


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\x00b", 7])
async def test_a_name_that_is_none(client: httpx2.AsyncClient, name: object) -> None:
    answer = await client.post("/v1/albums", json={"name": name})
    assert (answer.status_code, answer.json()["param"]) == (422, "name")


async def test_pages_and_the_albums_of_a_picture(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, services: Services
) -> None:
    [image] = await drawn(client, services, 1)
    albums = [await make(client, f"album {number}") for number in range(5)]
    for album in (albums[0], albums[3]):
        await put(client, album, image)
    first = (await client.get("/v1/albums", params={"limit": 3})).json()
    rest = await client.get("/v1/albums", params={"limit": 3, "after": first["next"]})
    names = [each["name"] for each in (*first["data"], *rest.json()["data"])]
    assert names == [f"album {number}" for number in (4, 3, 2, 1, 0)]
    assert rest.json()["has_more"] is False

    having = (await client.get("/v1/albums", params={"image": image})).json()["data"]
    assert [each["name"] for each in having] == ["album 3", "album 0"]
    assert (await stranger.get("/v1/albums", params={"image": image})).json()["data"] == []
    assert await pictures_of(stranger, albums[0]) == []


async def test_there_are_bounds(
    client: httpx2.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_ALBUMS", 1)
    monkeypatch.setattr(limits, "MOST_PICTURES", 2)
    images = await drawn(client, services, 6)
    album = await make(client)
    more = await client.post("/v1/albums", json={"name": "Stars"})
    assert (more.status_code, more.json()["code"]) == (409, "too_many_albums")

    path = f"/v1/albums/{album['id']}/images"
    answers = await asyncio.gather(*(client.put(f"{path}/{image}") for image in images))
    assert sorted(answer.status_code for answer in answers) == [204] * 2 + [409] * 4
    assert len(await pictures_of(client, album)) == 2


async def test_pictures_that_are_put_in_while_they_are_deleted_are_in_none(
    client: httpx2.AsyncClient, services: Services
) -> None:
    images = await drawn(client, services, 8)
    album = await make(client)
    asked = [
        ask
        for image in images
        for ask in (
            client.put(f"/v1/albums/{album['id']}/images/{image}"),
            client.delete(f"/v1/images/{image}"),
        )
    ]
    answers = await asyncio.gather(*asked)
    assert {answer.status_code for answer in answers} <= {204, 410}
    assert (await client.get(f"/v1/albums/{album['id']}")).json()["pictures"] == 0
