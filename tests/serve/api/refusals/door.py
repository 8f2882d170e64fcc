"""The service whose door is knocked at, and what there is to see of it afterwards."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

import httpx2
import psutil
import redis.asyncio as redis
import structlog
import uvicorn
from fastapi import FastAPI
from sqlalchemy import text

from pipelines.embedded import MODEL_PATH
from serve.access import tickets
from serve.access.scopes import Scope
from serve.api.app import create_app
from serve.api.services import Services, open_services
from serve.jobs.limits import ServedModels
from serve.observability.logging import configure_logging
from serve.pictures.signed_urls import SignedUrls
from serve.settings import FurtherModelSettings, Settings
from tests.serve.api.conftest import ADAPTED, FLOW, MODEL
from tests.serve.api.drawing import Desk

PROMPT = {"prompt": "a red heart"}
UNCOUNTED = ("workers", "alembic_version")
"""Tables that change by themselves."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is stored: rows by table, and the files of the pictures."""

    rows: dict[str, int]
    files: dict[str, tuple[int, int]]


@dataclass(slots=True)
class Door:
    host: str
    port: int
    names: dict[str, str]
    """What cases may name: keys, tickets, ids."""
    services: Services
    folder: Path
    logged: io.StringIO
    before: tuple[Kept, int] | None = None
    """What was kept, and how much memory taken, after the case before."""
    _tables: tuple[str, ...] = ()

    async def kept(self) -> Kept:
        async with self.services.database.transaction() as session:
            if not self._tables:
                found = await session.execute(
                    text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
                )
                self._tables = tuple(sorted(set(found.scalars()) - set(UNCOUNTED)))
            counts = ", ".join(f"(SELECT count(*) FROM {table})" for table in self._tables)  # noqa: S608
            row = (await session.execute(text(f"SELECT {counts}"))).one()
        files = {
            str(path): (status.st_size, status.st_mtime_ns)
            for path in self.folder.rglob("*")
            if path.is_file() and (status := path.stat())
        }
        return Kept(dict(zip(self._tables, row, strict=True)), files)

    async def seen(self) -> tuple[Kept, int]:
        return await self.kept(), own_bytes()

    def log_lines(self) -> list[str]:
        """What was logged since the last time."""
        lines = self.logged.getvalue().splitlines()
        self.logged.seek(0)
        self.logged.truncate()
        return lines

    @property
    def secrets(self) -> list[str]:
        """What neither an answer nor a log line may hold."""
        told = [
            value
            for name, value in self.names.items()
            if name.endswith(("key", "ticket", "signature", "stranger", "revoked", "swapped"))
        ]
        assert self.services.settings.database_url is not None
        database_url = self.services.settings.database_url.get_secret_value()
        return [*told, str(self.folder.parent), database_url]


def own_bytes() -> int:
    """Memory that is this process's alone, once its garbage is collected."""
    gc.collect()
    return int(psutil.Process().memory_full_info().uss)


@asynccontextmanager
async def open_door(database_url: str, valkey_url: str, folder: Path) -> AsyncIterator[Door]:
    """A server with a picture, an idempotency key that is taken, keys and tickets of all kinds."""
    settings = Settings(
        database_url=database_url,
        redis_url=valkey_url,
        data_dir=folder,
        model=ADAPTED,
        models={"flow": FurtherModelSettings(path=str(MODEL_PATH), max_pixels=128 * 128)},
    )
    services = replace(
        open_services(settings),
        served=ServedModels(settings, {settings.model.name: MODEL, "flow": FLOW}),
    )
    app = create_app(services)
    with logging_into(io.StringIO()) as logged:
        async with app.router.lifespan_context(app), serving(app) as port:
            names = await _furnish(services, f"http://127.0.0.1:{port}", valkey_url)
            names["host"] = f"127.0.0.1:{port}"
            gc.collect()
            gc.freeze()  # what was there before is not gone through for each case
            yield Door("127.0.0.1", port, names, services, folder / "pictures", logged)
            gc.unfreeze()


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[int]:
    """uvicorn as it comes, on a loopback port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=3)
    )
    running = asyncio.create_task(server.serve(sockets=[listener]))
    yield int(listener.getsockname()[1])
    server.should_exit = True
    await running
    listener.close()


@contextmanager
def logging_into(stream: io.StringIO) -> Iterator[io.StringIO]:
    """The service's own JSON lines, in the stream."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configure_logging("json")
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    yield stream
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


async def _furnish(services: Services, url: str, valkey_url: str) -> dict[str, str]:
    key, kept_key = await services.keys.create("first", "test", [Scope.ADMIN])
    stranger, _ = await services.keys.create("second", "test", [Scope.ADMIN])
    revoked, dead_key = await services.keys.create("first", "revoked")
    async with httpx2.AsyncClient(base_url=url) as client:

        async def post(
            path: str, token: str, body: object = None, **headers: str
        ) -> dict[str, str]:
            answer = await client.post(
                path, json=body, headers={"Authorization": f"Bearer {token}", **headers}
            )
            assert answer.is_success, answer.text
            return dict(answer.json())

        async def ticket(token: str) -> str:
            return (await post("/v1/events/tickets", token))["ticket"]

        job = await post("/v1/jobs", key, PROMPT, **{"Idempotency-Key": "taken"})
        desk = Desk(services)
        for claim in await desk.claim():
            await desk.finish(claim)
        images = await client.get("/v1/images", headers={"X-API-Key": key})
        names = {
            "key": key,
            "stranger": stranger,
            "revoked": revoked,
            "truncated": key[:-1],
            "swapped": key[:4] + key[4:].swapcase(),
            "prefix": kept_key.prefix,
            "job": job["id"],
            "image": images.json()["data"][0]["id"],
            "ticket": await ticket(key),
            "used_ticket": await ticket(key),
            "expired_ticket": await ticket(key),
            "revoked_ticket": await ticket(revoked),
        }
    names["cut_ticket"] = names["ticket"][:-1]
    names |= await _signatures(services, UUID(names["image"]), kept_key.tenant_id)
    names["cut_signature"] = names["signature"][:-2]
    await services.tickets.redeem(names["used_ticket"])
    await services.keys.revoke(dead_key.id)
    # As if its half minute were over.
    async with redis.from_url(valkey_url) as valkey:
        await valkey.pexpire(tickets._name(names["expired_ticket"]), 1)
        await valkey.persist(tickets._name(names["revoked_ticket"]))
    await asyncio.sleep(0.01)
    return names


async def _signatures(services: Services, image_id: UUID, tenant_id: UUID) -> dict[str, str]:
    ended = services.settings.http.model_copy(update={"url_ttl_s": -1})
    old = SignedUrls(services.database, ended)
    return {
        "signature": await services.signed_urls.sign(tenant_id, image_id, "original"),
        "thumbnail_signature": await services.signed_urls.sign(tenant_id, image_id, "thumbnail"),
        "stranger_signature": await services.signed_urls.sign(uuid4(), uuid4(), "original"),
        "expired_signature": await old.sign(tenant_id, image_id, "original"),
    }


def parsed(line: str) -> dict[str, object]:
    """A log line, which must be JSON."""
    told = json.loads(line)
    assert isinstance(told, dict)
    return told
