"""Every route there is: who may use it, and that no tenant sees another's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIWebSocketRoute
from starlette.routing import Route
from websockets.asyncio.client import connect

from pipelines.embedded import MODEL_PATH
from serve.access.scopes import Scope
from serve.api.services import Services
from tests.serve.api.conftest import client_of
from tests.serve.api.drawing import Desk
from tests.serve.api.test_events import address, ending, say, told

__all__ = ["address"]

NOBODY = "00000000-0000-7000-8000-000000000000"
PROMPT = {"prompt": "a red heart"}
NO_MODEL = {**PROMPT, "model": "none"}  # lets nobody wait for pictures
IDS = ("job_id", "image_id", "album_id", "webhook_id", "delivery_id", "key_id", "tenant_id")
NAMES = {"variant": "x", "model_id": "x", "model": "x", "name": "x"}
HOOK = {"url": "https://example.com/hook"}


@dataclass(frozen=True)
class Door:
    """Who may use a route, and a request that is right but for what it names."""

    scope: Scope | None
    body: dict[str, Any] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    shared: bool = False
    """A list that is the same for all, or has no ids."""
    foreign: int = 404
    """What a path with another tenant's ids is answered."""


OPEN = Door(None)
READ, GENERATE = Door(Scope.READ), Door(Scope.GENERATE)
ADMIN, OPERATOR = Door(Scope.ADMIN), Door(Scope.OPERATOR, foreign=403)
DOORS = {
    "GET /": OPEN,
    "GET /operator": OPEN,
    "GET /exhibition": OPEN,
    "GET /web/{name}": OPEN,
    "GET /openapi.json": OPEN,
    "GET /asyncapi.json": OPEN,
    "GET /docs": OPEN,
    "GET /docs/{name}": OPEN,
    "GET /health": OPEN,
    "GET /ready": OPEN,
    "GET /metrics": OPEN,
    "POST /v1/images/generations": Door(Scope.GENERATE, NO_MODEL),
    "POST /v1/images/edits": Door(Scope.GENERATE),
    "POST /v1/images/variations": Door(Scope.GENERATE),
    "POST /v1/images/inspect": READ,
    "POST /v1/images/verify": READ,
    "GET /v1/images": READ,
    "GET /v1/images/{image_id}": READ,
    "GET /v1/images/{image_id}/{variant}": READ,
    "POST /v1/jobs": Door(Scope.GENERATE, NO_MODEL),
    "POST /v1/edits": Door(Scope.GENERATE),
    "GET /v1/jobs": READ,
    "GET /v1/jobs/{job_id}": READ,
    "DELETE /v1/jobs/{job_id}": GENERATE,
    "GET /v1/jobs/{job_id}/events": READ,
    "WEBSOCKET /v1/events": READ,
    "POST /v1/events/tickets": READ,
    "GET /v1/models": Door(Scope.READ, shared=True),
    "GET /v1/models/{model_id}": Door(Scope.READ, foreign=200),
    "POST /v1/webhooks": Door(Scope.ADMIN, HOOK),
    "GET /v1/webhooks": READ,
    "GET /v1/webhooks/{webhook_id}": READ,
    "DELETE /v1/webhooks/{webhook_id}": ADMIN,
    "POST /v1/webhooks/{webhook_id}/rotate": ADMIN,
    "GET /v1/webhooks/{webhook_id}/deliveries": READ,
    "POST /v1/webhooks/deliveries/{delivery_id}/retry": ADMIN,
    "POST /v1/albums": Door(Scope.GENERATE, {"name": "Hearts"}),
    "GET /v1/albums": READ,
    "GET /v1/albums/{album_id}": READ,
    "PATCH /v1/albums/{album_id}": Door(Scope.GENERATE, {}),
    "PUT /v1/albums/{album_id}/images/{image_id}": GENERATE,
    "DELETE /v1/albums/{album_id}/images/{image_id}": GENERATE,
    "DELETE /v1/albums/{album_id}": GENERATE,
    "GET /v1/operator/overview": Door(Scope.OPERATOR, shared=True),
    "GET /v1/operator/models": Door(Scope.OPERATOR, shared=True),
    "POST /v1/operator/models": Door(Scope.OPERATOR, {"name": "other", "path": str(MODEL_PATH)}),
    "PATCH /v1/operator/models/{model}": Door(Scope.OPERATOR, {"paused": False}, foreign=403),
    "DELETE /v1/operator/models/{model}": OPERATOR,
    "POST /v1/tenants": Door(Scope.OPERATOR, {"name": "third"}),
    "GET /v1/tenants": Door(Scope.OPERATOR, shared=True),
    "GET /v1/tenants/{tenant_id}": OPERATOR,
    "PATCH /v1/tenants/{tenant_id}": Door(Scope.OPERATOR, {}, foreign=403),
    "PUT /v1/operator/models/{model}/loras/{name}": OPERATOR,
    "DELETE /v1/operator/models/{model}/loras/{name}": OPERATOR,
    "POST /v1/keys": Door(Scope.ADMIN, {"name": "another"}),
    "GET /v1/keys": ADMIN,
    "DELETE /v1/keys/{key_id}": ADMIN,
    "GET /v1/trends": Door(Scope.READ, shared=True),
    "GET /v1/exhibition": Door(Scope.READ, shared=True),
    "GET /v1/usage": READ,
    "PATCH /v1/images/{image_id}": Door(Scope.GENERATE, {"favourite": True}),
    "DELETE /v1/images/{image_id}": GENERATE,
    "DELETE /v1/jobs/{job_id}/images": GENERATE,
}
GUARDED = {route: door for route, door in DOORS.items() if door.scope is not None}
OVER_HTTP = {route: door for route, door in GUARDED.items() if not route.startswith("WEB")}
LACKING = {
    Scope.READ: [Scope.GENERATE],
    Scope.GENERATE: [Scope.READ],
    Scope.ADMIN: [Scope.GENERATE, Scope.READ],
    Scope.OPERATOR: [Scope.ADMIN],
}


def each_route(router: Any) -> Iterator[Any]:
    """Those of included routers too."""
    for route in router.routes:
        if (included := getattr(route, "original_router", None)) is not None:
            yield from each_route(included)
        else:
            yield route


def routes_of(router: Any) -> Iterator[str]:
    """`METHOD /path` of each."""
    for route in each_route(router):
        if isinstance(route, APIWebSocketRoute):
            yield f"WEBSOCKET {route.path_format}"
        elif isinstance(route, Route):
            yield from (f"{method} {route.path_format}" for method in (route.methods or ()))
        else:
            yield f"{type(route).__name__} {route!r}"


def ids_in(answer: Any) -> set[str]:
    """Every id that a list tells, whatever the fields are called."""
    if isinstance(answer, list):
        return set().union(*map(ids_in, answer))
    if isinstance(answer, dict):
        own = {
            value
            for name, value in answer.items()
            if isinstance(value, str) and (name == "id" or name.endswith("_id"))
        }
        return own.union(*map(ids_in, answer.values()))
    return set()


async def ask(
    client: httpx2.AsyncClient, route: str, door: Door, ids: dict[str, str]
) -> httpx2.Response:
    method, _, path = route.partition(" ")
    path = path.format(**ids)
    return await client.request(method, path, json=door.body, params=door.params)


async def things_of(client: httpx2.AsyncClient, services: Services) -> dict[str, str]:
    """One of everything that a tenant may have, by the names that paths give them."""
    webhook = (await client.post("/v1/webhooks", json=HOOK)).json()
    job = (await client.post("/v1/jobs", json=PROMPT)).json()
    desk = Desk(services)
    for claim in await desk.claim():
        await desk.finish(claim)
    [image] = (await client.get("/v1/images")).json()["data"]
    deliveries = await client.get(f"/v1/webhooks/{webhook['id']}/deliveries")
    key = (await client.post("/v1/keys", json={"name": "spare"})).json()
    album = (await client.post("/v1/albums", json={"name": "Spare"})).json()
    assert image["job_id"] == job["id"]
    return {
        "job_id": job["id"],
        "image_id": image["id"],
        "variant": "original",
        "album_id": album["id"],
        "webhook_id": webhook["id"],
        "delivery_id": deliveries.json()["data"][0]["id"],
        "key_id": key["id"],
        "tenant_id": key["tenant_id"],
        "model_id": "flow",
        "model": "flow",
        "name": "ink",
    }


@pytest.fixture
async def things(client: httpx2.AsyncClient, services: Services) -> dict[str, str]:
    """The first tenant's."""
    return await things_of(client, services)


def test_every_route_is_listed_here(app: FastAPI) -> None:
    found = {route for route in routes_of(app) if not route.startswith("HEAD ")}
    assert found == set(DOORS)


async def test_open_to_all(anonymous: httpx2.AsyncClient, subtests: pytest.Subtests) -> None:
    for route in DOORS.keys() - GUARDED.keys():
        with subtests.test(route):
            file = "reference.js" if route.startswith("GET /docs") else "gallery.js"
            answer = await ask(anonymous, route, DOORS[route], {"name": file})
            assert answer.status_code in (200, 503)  # no replica has drawn: not ready


async def test_without_a_key(anonymous: httpx2.AsyncClient, subtests: pytest.Subtests) -> None:
    ids = dict.fromkeys(IDS, NOBODY)
    for route, door in OVER_HTTP.items():
        with subtests.test(route):
            answer = await ask(anonymous, route, door, {**ids, **NAMES})
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_nobody_is_told_about_their_body(
    app: FastAPI, services: Services, anonymous: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    ids = dict.fromkeys(IDS, NOBODY)
    broken = {"content": b"{", "headers": {"Content-Type": "application/json"}}
    async with AsyncExitStack() as clients:
        for route, door in OVER_HTTP.items():
            assert door.scope is not None
            token, _ = await services.keys.create("first", "scoped", LACKING[door.scope])
            unfit = await clients.enter_async_context(client_of(app, token))
            method, _, path = route.partition(" ")
            path = path.format(**ids, **NAMES)
            with subtests.test(route):
                assert (await anonymous.request(method, path, **broken)).status_code == 401  # type: ignore[arg-type]
                assert (await unfit.request(method, path, **broken)).status_code == 403  # type: ignore[arg-type]


async def test_a_key_without_the_scope_and_one_with_it_alone(
    app: FastAPI,
    services: Services,
    things: dict[str, str],
    subtests: pytest.Subtests,
) -> None:
    async with AsyncExitStack() as clients:

        async def holder(scopes: list[Scope]) -> httpx2.AsyncClient:
            token, _ = await services.keys.create("first", "scoped", scopes)
            return await clients.enter_async_context(client_of(app, token))

        with_it = {scope: await holder([scope]) for scope in Scope}
        without = {scope: await holder(others) for scope, others in LACKING.items()}
        for route, door in OVER_HTTP.items():
            assert door.scope is not None
            with subtests.test(route):
                refused = await ask(without[door.scope], route, door, things)
                assert refused.status_code == 403
                told = refused.json().get("error") or refused.json()
                assert told["code"] == "insufficient_scope"
                assert f"`{door.scope}`" in (told.get("message") or told["detail"])
                assert f'scope="{door.scope}"' in refused.headers["www-authenticate"]
                taken = await ask(with_it[door.scope], route, door, things)
                assert taken.status_code not in (401, 403)


def test_the_contract_tells_the_scope(app: FastAPI) -> None:
    told = {
        f"{method.upper()} {path}": operation.get("security", [])
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    }
    for route, door in DOORS.items():
        security = told.get(route, [])
        scopes = {scope for alternative in security for of in alternative.values() for scope in of}
        if route in told:
            assert scopes == ({door.scope} if door.scope else set()), route
        assert (door.scope is not None) <= (bool(scopes) or route not in told), route


async def test_another_tenants_ids_lead_nowhere(
    client: httpx2.AsyncClient,
    stranger: httpx2.AsyncClient,
    services: Services,
    things: dict[str, str],
    subtests: pytest.Subtests,
) -> None:
    await things_of(stranger, services)
    nobodys = {name: NOBODY if name.endswith("_id") else own for name, own in things.items()}
    for route, door in OVER_HTTP.items():
        if "{" not in route:
            continue
        with subtests.test(route):
            foreign = await ask(stranger, route, door, things)
            assert foreign.status_code == door.foreign
            if door.foreign == 404:
                nobody = await ask(stranger, route, door, nobodys)
                assert nobody.status_code == 404
                assert _code(nobody) == _code(foreign)
    for route in sorted(OVER_HTTP, key=lambda route: route.startswith("DELETE ")):
        door = OVER_HTTP[route]
        if "{" in route and door.scope is not Scope.OPERATOR:
            with subtests.test(f"{route}, by its owner"):  # it is there
                assert (await ask(client, route, door, things)).status_code != 404


async def test_lists_are_disjoint(
    client: httpx2.AsyncClient,
    stranger: httpx2.AsyncClient,
    services: Services,
    things: dict[str, str],
    subtests: pytest.Subtests,
) -> None:
    await things_of(stranger, services)
    for route, door in OVER_HTTP.items():
        if "{" in route or not route.startswith("GET ") or door.shared:
            continue
        with subtests.test(route):
            ours, theirs = [
                ids_in((await ask(each, route, door, things)).json()) for each in (client, stranger)
            ]
            assert ours, "nothing to tell apart"
            assert theirs
            assert ours.isdisjoint(theirs)


async def test_naming_another_tenant_is_an_operators(
    client: httpx2.AsyncClient, operator: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    own = (await client.get("/v1/usage")).json()["tenant_id"]
    theirs = (await stranger.get("/v1/usage")).json()["tenant_id"]
    for tenant_id, status in ((own, 200), (theirs, 403), (NOBODY, 403)):
        for path in ("/v1/usage", "/v1/keys"):
            answer = await client.get(path, params={"tenant_id": tenant_id})
            assert answer.status_code == status, path
        made = await client.post("/v1/keys", json={"name": "x", "tenant_id": tenant_id})
        assert made.status_code == (201 if status == 200 else 403)
    for tenant_id, status in ((theirs, 200), (NOBODY, 404)):
        answer = await operator.get("/v1/usage", params={"tenant_id": tenant_id})
        assert answer.status_code == status
        made = await operator.post("/v1/keys", json={"name": "x", "tenant_id": tenant_id})
        assert made.status_code == (201 if status == 200 else 404)


async def test_the_socket_needs_read(address: str, services: Services) -> None:
    token, _ = await services.keys.create("first", "draws", [Scope.GENERATE])
    async with connect(address) as events:
        await say(events, type="authenticate", key=token)
        assert (await told(events))["type"] == "authenticated"
        assert (await told(events))["problem"]["code"] == "insufficient_scope"
        assert (await ending(events))[0] == 4403


async def test_the_socket_tells_nobody_of_anothers_job(
    address: str, services: Services, things: dict[str, str], stranger: httpx2.AsyncClient
) -> None:
    ticket = (await stranger.post("/v1/events/tickets")).json()["ticket"]
    async with connect(f"{address}?ticket={ticket}") as events:
        await say(events, type="watch", job_id=things["job_id"])
        assert (await told(events))["problem"]["code"] == "job_not_found"


def _code(answer: httpx2.Response) -> str:
    told = answer.json()
    code: str = (told.get("error") or told)["code"]
    return code
