"""The app on a real Postgres and a real Valkey, and clients of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import text
from starlette.types import ASGIApp

from pipelines.diffusion.catalog import ModelDescription
from pipelines.embedded import MODEL_PATH
from serve.access.scopes import Scope
from serve.api.app import create_app
from serve.api.services import Services, open_services
from serve.database import Database
from serve.settings import FurtherModelSettings, ModelSettings, Settings
from tests.serve.api.browser import PREFIX, below

MODEL = ModelDescription(
    class_name="StableDiffusionPipeline",
    default_width=64,
    default_height=64,
    size_multiple=8,
    vae_scale_factor=4,
    scheduler={"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear"},
    max_clip_skip=3,
)
ADAPTED = ModelSettings(
    loras={"ink": Path("ink.safetensors"), "pastel": Path("pastel.safetensors")},
    controlnets={"edges": Path("edges")},
    aliases=("dall-e-3", "gpt-image-1"),
)
FLOW = ModelDescription(
    class_name="FluxPipeline",
    default_width=128,
    default_height=96,
    size_multiple=16,
    vae_scale_factor=8,
    scheduler={"_class_name": "FlowMatchEulerDiscreteScheduler"},
)


@pytest.fixture
def settings(database_url: str, valkey_url: str, tmp_path: Path) -> Settings:
    """Two models: the default one, which can be told to draw in ink or along edges, and `flow`."""
    flow = FurtherModelSettings(
        path=str(MODEL_PATH),
        default_steps=4,
        max_steps=8,
        default_guidance_scale=1.5,
        max_pixels=128 * 128,
    )
    return Settings(
        database_url=database_url,
        redis_url=valkey_url,
        data_dir=tmp_path,
        model=ADAPTED,
        models={"flow": flow},
    )


@pytest.fixture
def services(settings: Settings) -> Services:
    services = open_services(settings)
    services.served.descriptions = {settings.model.name: MODEL, "flow": FLOW}
    return services


@pytest.fixture
async def app(services: Services) -> AsyncIterator[FastAPI]:
    app = create_app(services)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def key(app: FastAPI, services: Services) -> str:
    """A key of the tenant `first` that may do all that a tenant may."""
    token, _ = await services.keys.create("first", "test", [Scope.ADMIN])
    return token


@pytest.fixture
async def anonymous(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client without a key; what the app raises comes back as 500, as it would from a server."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://sfumato") as client:
        yield client


@pytest.fixture
async def client(app: FastAPI, key: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with a key."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://sfumato", headers=headers
    ) as client:
        yield client


@pytest.fixture
async def stranger(app: FastAPI, services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of another tenant."""
    token, _ = await services.keys.create("second", "test", [Scope.ADMIN])
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://sfumato", headers={"X-API-Key": token}
    ) as client:
        yield client


def client_of(app: FastAPI, token: str) -> httpx2.AsyncClient:
    """A client with this key; close it, or use it as a context."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {token}"}
    return httpx2.AsyncClient(transport=transport, base_url="http://sfumato", headers=headers)


@pytest.fixture
async def operator(app: FastAPI, services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that may do everything, of the tenant `default`."""
    token, _ = await services.keys.create("default", "operator", [Scope.OPERATOR])
    async with client_of(app, token) as client:
        yield client


@pytest.fixture
async def server(app: FastAPI) -> AsyncIterator[str]:
    """The address of uvicorn on a loopback port; the app's lifespan is the fixture `app`'s."""
    async with serving(app) as address:
        yield address


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """WebSockets are not compressed, as in the service."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=3,
            ws_per_message_deflate=False,
        )
    )
    running = asyncio.create_task(server.serve(sockets=[listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await running
    listener.close()


async def count_rows(database: Database, table: str) -> int:
    async with database.transaction() as session:
        counted = await session.execute(text(f"SELECT count(*) FROM {table}"))  # noqa: S608
        return int(counted.scalar_one())


@pytest.fixture
def unpaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """All progress is told, as fast as it comes."""
    monkeypatch.setattr("serve.events.progress.EVERY_S", 0.0)
    monkeypatch.setattr("serve.events.progress.COST_S", 0.0)


@pytest.fixture
async def keys_without_postgres(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[], None]]:
    """Call it, and the keys' Postgres does not answer any more, nor is anything remembered."""
    nowhere = Database("postgresql://127.0.0.1:1/nowhere")

    def leave() -> None:
        monkeypatch.setattr(services.keys, "_database", nowhere)
        monkeypatch.setattr("serve.access.remembered.FRESH_S", 0.0)

    yield leave
    await nowhere.close()


@pytest.fixture
async def address(app: FastAPI) -> AsyncIterator[str]:
    async with serving(below(PREFIX, app)) as server:
        yield f"{server}{PREFIX}"
