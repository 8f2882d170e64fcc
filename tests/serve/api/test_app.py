"""The app's start."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from pydantic import SecretStr

from loadtests.chaos.proxy import FaultProxy, unix_socket
from serve.api.app import create_app
from serve.api.services import open_services
from serve.jobs.limits import ServedModels
from serve.settings import Settings
from tests.serve.api.conftest import MODEL

KEY = "the-operator's-own-key-of-some-length"


async def test_it_starts_without_postgres_and_takes_the_key_once_it_is_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.api.app._KEY_WITHIN_S", 0.2)
    assert settings.database_url is not None
    parts = urlsplit(settings.database_url.get_secret_value())
    folder = Path(parse_qs(parts.query)["host"][0])
    proxy = FaultProxy(unix_socket(folder / ".s.PGSQL.5432"))
    url = f"postgresql://sfumato@127.0.0.1:{await proxy.start()}{parts.path}?ssl=disable"
    away = settings.model_copy(update={"database_url": SecretStr(url), "api_key": SecretStr(KEY)})
    services = replace(
        open_services(away), served=ServedModels(settings, {settings.model.name: MODEL})
    )
    app = create_app(services)
    proxy.new_end_after = 0  # every connection ends before Postgres' first word
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app),
            base_url="http://sfumato",
            headers={"X-API-Key": KEY},
        ) as client,
    ):
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/v1/jobs")).status_code == 503
        proxy.new_end_after = None
        async with asyncio.timeout(10):
            while (await client.get("/v1/jobs")).status_code != 200:
                await asyncio.sleep(0.1)
    await proxy.close()
