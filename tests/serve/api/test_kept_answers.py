"""Lists that are kept in Valkey, asked of two ingress processes: what is shown is never old."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from serve.access.scopes import Scope
from serve.api.app import create_app
from serve.api.services import Services, open_services
from serve.database import Database
from serve.settings import Settings
from serve.trends.counting import TermCounter
from tests.serve.access.test_remembered import lookups
from tests.serve.api.conftest import client_of
from tests.serve.api.drawing import Desk
from tests.serve.api.test_deletion import draw

Shown = list[dict[str, Any]]
Client = httpx2.AsyncClient
Change = Callable[[Client, Desk, dict[str, Any]], Awaitable[None]]
_NOWHERE = SecretStr("redis://127.0.0.1:1")


@pytest.fixture
async def elsewhere(settings: Settings, services: Services, key: str) -> AsyncIterator[Client]:
    """A client of a second ingress, with the same key."""
    others = open_services(settings)
    others.served.descriptions = services.served.descriptions
    app = create_app(others)
    async with app.router.lifespan_context(app), client_of(app, key) as client:
        yield client


@pytest.fixture
def desk(services: Services) -> Desk:
    return Desk(services)


async def listed(client: Client, **query: str | int | bool) -> Shown:
    answer = await client.get("/v1/images", params=query)
    assert answer.status_code == 200, answer.text
    shown: Shown = answer.json()["data"]
    return shown


async def _mark(client: Client, _desk: Desk, picture: dict[str, Any]) -> None:
    url = f"/v1/images/{picture['id']}"
    assert (await client.patch(url, json={"favourite": True})).status_code == 200


async def _delete(client: Client, _desk: Desk, picture: dict[str, Any]) -> None:
    assert (await client.delete(f"/v1/images/{picture['id']}")).status_code == 204


async def _delete_all(client: Client, _desk: Desk, picture: dict[str, Any]) -> None:
    assert (await client.delete(f"/v1/jobs/{picture['job_id']}/images")).status_code == 204


async def _convert(client: Client, _desk: Desk, picture: dict[str, Any]) -> None:
    assert (await client.get(f"/v1/images/{picture['id']}/webp")).status_code == 200


async def _draw(client: Client, desk: Desk, _picture: dict[str, Any]) -> None:
    await draw(client, desk, 1)


CHANGES: dict[Change, Callable[[Shown], bool]] = {
    # Each kind of write, and whether a list shows that it was done.
    _draw: lambda shown: len(shown) == 3,
    _mark: lambda shown: [each["favourite"] for each in shown] == [True, False],
    _delete: lambda shown: len(shown) == 1,
    _delete_all: lambda shown: shown == [],
    _convert: lambda shown: "webp" in [file["name"] for file in shown[0]["variants"]],
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
async def test_a_change_shows_at_once_on_both(
    client: Client, elsewhere: Client, services: Services, desk: Desk, change: Change
) -> None:
    await draw(client, desk, 2)
    before = await listed(client)
    assert await listed(elsewhere) == before
    assert lookups(services.registry, "pages") == {"miss": 1}
    assert CHANGES[change](before) is False

    await change(client, desk, before[0])

    shown = await listed(elsewhere)
    assert CHANGES[change](shown) is True
    assert await listed(client) == shown


async def test_a_list_is_read_once_for_all_who_ask_and_is_told_by_its_filters(
    client: Client, elsewhere: Client, services: Services, desk: Desk
) -> None:
    await draw(client, desk, 3)
    transactions = 0
    real = Database.transaction

    def counted(self: Database) -> Any:
        nonlocal transactions
        transactions += 1
        return real(self)

    await client.get("/v1/jobs")  # the key and its limits are known from here on
    await elsewhere.get("/v1/jobs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "transaction", counted)
        for each in (client, elsewhere, client):
            assert len(await listed(each)) == 3
        assert transactions == 1
        first = (await client.get("/v1/images", params={"limit": 1})).json()
        after = await listed(elsewhere, limit=1, after=first["next"])
        assert after[0]["id"] != first["data"][0]["id"]
        assert await listed(client, favourite=True) == []
        assert await listed(client, q="tree") == []
        assert transactions == 5
    assert lookups(services.registry, "pages") == {"miss": 4, "hit": 1}


async def test_no_tenant_is_shown_another_ones(
    client: Client, stranger: Client, services: Services, desk: Desk
) -> None:
    await draw(client, desk, 1)
    assert len(await listed(client)) == 1
    answer = await client.get("/v1/images")
    assert await listed(stranger) == []
    theirs = await stranger.get("/v1/images", headers={"If-None-Match": answer.headers["ETag"]})
    assert theirs.status_code == 200


async def test_an_album_shows_its_pictures_at_once_on_both(
    client: Client, elsewhere: Client, desk: Desk
) -> None:
    await draw(client, desk, 2)
    image_id = (await listed(client))[0]["id"]
    album = (await client.post("/v1/albums", json={"name": "Hearts"})).json()["id"]
    assert await listed(elsewhere, album=album) == []
    await client.put(f"/v1/albums/{album}/images/{image_id}")
    assert [each["id"] for each in await listed(elsewhere, album=album)] == [image_id]
    await client.delete(f"/v1/albums/{album}/images/{image_id}")
    assert await listed(elsewhere, album=album) == []


@pytest.mark.parametrize("path", ["/v1/images", "/v1/trends"])
async def test_what_the_client_has_is_not_sent_again(
    client: Client, services: Services, settings: Settings, desk: Desk, path: str
) -> None:
    counter = TermCounter(services.database, settings.trends, services.answers)
    first = await client.get(path)
    assert first.headers["Cache-Control"] == "no-store"
    known = {"If-None-Match": f'"other", W/{first.headers["ETag"]}'}
    again = await client.get(path, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]

    await draw(client, desk, 1)
    await counter.count()
    changed = await client.get(path, headers=known)
    assert changed.status_code == 200
    assert changed.headers["ETag"] != first.headers["ETag"]
    assert changed.json()["data"]


async def test_trends_are_kept_until_more_is_counted(
    client: Client, elsewhere: Client, services: Services, settings: Settings
) -> None:
    counter = TermCounter(services.database, settings.trends, services.answers)
    for round_ in range(1, 4):
        await client.post("/v1/jobs", json={"prompt": "a red heart"})
        await counter.count()
        for each in (client, elsewhere, client):
            told = (await each.get("/v1/trends")).json()["data"]
            assert [term["asked"] for term in told] == [round_, round_]
        assert (await each.get("/v1/trends", params={"scope": "all"})).json()["data"] == []
    assert lookups(services.registry, "trends") == {"miss": 6, "hit": 3}


async def test_without_valkey_the_lists_are_the_same(
    settings: Settings, services: Services, client: Client, desk: Desk
) -> None:
    await draw(client, desk, 2)
    before = await listed(client)
    lonely = open_services(settings.model_copy(update={"redis_url": _NOWHERE}))
    lonely.served.descriptions = services.served.descriptions
    token, _ = await services.keys.create("first", "lonely", [Scope.ADMIN])
    app = create_app(lonely)
    async with app.router.lifespan_context(app), client_of(app, token) as apart:
        for _ in range(3):
            assert await listed(apart) == before
        await _mark(apart, desk, before[0])
        assert (await listed(apart))[0]["favourite"]
        assert (await apart.get("/v1/trends")).status_code == 200
    assert lookups(lonely.registry, "pages") == {"miss": 4}
