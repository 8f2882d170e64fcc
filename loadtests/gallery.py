"""`python -m loadtests.gallery`: how fast the gallery is with many pictures.

It starts a Postgres and a Valkey of its own, and the API in this process; fills in pictures as if
they had been drawn, whose files are all the same; asks each query of the gallery many times; lets
Postgres explain it; and, where there is a Chromium, opens the page.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import httpx2
import numpy as np
import typer
import uvicorn
from sqlalchemy import event, text

from pipelines.imaging.postprocess import PostprocessSpec, process
from serve.access.scopes import Scope
from serve.answer_cache import Cached
from serve.api.app import create_app
from serve.api.services import Services, open_services
from serve.database import Database
from serve.local.postgres import LocalPostgres
from serve.local.valkey import LocalValkey
from serve.migrations.upgrade import upgrade
from serve.observability.logging import configure_logging
from serve.settings import Settings

QUERIES = {
    "first page": "",
    "first page, kept": "",
    "second page": "after",
    "a word": "q=heart",
    "a rare word": "q=zebra",
    "two words, one left out": "q=red+heart+-snow",
    "favourites": "favourite=true",
    "a model": "model=sfumato-embedded",
    "a seed": "seed=4242",
    "before a moment": "day",
    "an album of 10,000 pictures": "album=large",
    "an album of 20 old pictures": "album=small",
    "two albums": "albums",
    "trends": "trends",
}
_ALBUMS = {
    "large": "seed % 10 = 0 ORDER BY id DESC LIMIT 10000",
    "small": "true ORDER BY id LIMIT 20",
}
"""By name, which pictures are in it."""
_ALBUM = """
WITH made AS (INSERT INTO albums (tenant_id, name) VALUES (:tenant, :name) RETURNING id)
INSERT INTO album_pictures (album_id, image_id)
SELECT made.id, chosen.id FROM made, (SELECT id FROM images WHERE """
_FILL = """
WITH made AS (
    INSERT INTO jobs (id, tenant_id, state, model, params, n, last_seq, created_at, finished_at)
    SELECT uuidv7(make_interval(secs => -i)), :tenant, 'succeeded', CAST(:model AS text),
        jsonb_build_object('prompt', (ARRAY['a red', 'a blue', 'a golden'])[1 + i % 3] || ' '
            || (ARRAY['heart', 'fox', 'tree', 'house', 'cat'])[1 + i % 5]
            || (ARRAY[' in the snow', ' at dawn', ''])[1 + (i / 7) % 3]
            || CASE WHEN i % 5000 = 0 THEN ' and a zebra' ELSE '' END,
            'model', CAST(:model AS text), 'width', 64, 'height', 64, 'seed', i),
        1, 3, now() - make_interval(secs => i), now() - make_interval(secs => i)
    FROM generate_series(1, :count) AS i
    RETURNING id, tenant_id, model, params, created_at)
INSERT INTO images (id, job_id, tenant_id, index, state, model, width, height, seed, created_at,
    finished_at, favourite, blurhash)
SELECT uuidv7(created_at - now()), id, tenant_id, 0, 'succeeded', model, 64, 64,
    CAST(params ->> 'seed' AS bigint), created_at, created_at,
    CAST(params ->> 'seed' AS bigint) % 50 = 0, :blurhash
FROM made"""
_FILES = """
INSERT INTO variants (image_id, name, media_type, width, height, size, sha256, storage_key)
SELECT id, :name, :media_type, 64, 64, :size, :sha256, :key FROM images"""
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")


def main(
    pictures: Annotated[int, typer.Option(help="Pictures of the tenant.")] = 100_000,
    times: Annotated[int, typer.Option(help="How often each query is asked.")] = 200,
    plans: Annotated[bool, typer.Option(help="Print Postgres' plan of each.")] = False,
) -> None:
    """Milliseconds of each query, in Postgres and as a client sees it; of the page, its paint."""
    configure_logging("json")
    logging.getLogger("serve.http").setLevel(logging.WARNING)  # a line a request
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="sfumato-gallery-")))
        folder.chmod(0o755)
        postgres, valkey = LocalPostgres(folder), LocalValkey(folder)
        parts.enter_context(postgres)
        parts.enter_context(valkey)
        settings = Settings(database_url=postgres.url, redis_url=valkey.url, data_dir=folder)
        asyncio.run(_measure(settings, pictures, times, plans=plans))


async def _measure(settings: Settings, pictures: int, times: int, *, plans: bool) -> None:
    assert settings.database_url is not None  # noqa: S101 - `main` set it
    await upgrade(settings.database_url.get_secret_value(), settings=settings.database)
    services = open_services(settings)
    async with _serving(services) as address:
        key, row = await services.keys.create("gallery", "bench", [Scope.ADMIN])
        began = time.perf_counter()
        await _fill(services, row.tenant_id, pictures)
        typer.echo(f"{pictures} pictures filled in in {time.perf_counter() - began:.0f} s\n")
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(base_url=address, headers=headers, timeout=30) as client:
            typer.echo("| query | pictures found | p50, ms | p95, ms | Postgres alone, p95 |")
            typer.echo("|---|---|---|---|---|")
            for name, query in QUERIES.items():
                await _ask(services, client, row.tenant_id, name, query, times, plans=plans)
        if CHROMIUM:
            await _paint(address, key)


async def _fill(services: Services, tenant_id: UUID, pictures: int) -> None:
    assert services.settings.database_url is not None  # noqa: S101 - `main` set it
    light = np.linspace(40, 220, 64 * 64 * 3).reshape(64, 64, 3)
    processed = process(light.astype(np.uint8), PostprocessSpec())
    database = Database(
        services.settings.database_url.get_secret_value(), services.settings.database.unhurried
    )
    async with database.transaction() as session:
        await session.execute(
            text(_FILL),
            {
                "tenant": tenant_id,
                "model": services.settings.model.name,
                "count": pictures,
                "blurhash": processed.blurhash,
            },
        )
        for file in processed.files:
            key = f"gallery/{file.file_name}"
            await services.storage.put(key, file.data, file.media_type)
            await session.execute(
                text(_FILES),
                {
                    "name": file.name,
                    "media_type": file.media_type,
                    "size": file.size,
                    "sha256": file.sha256,
                    "key": key,
                },
            )
        for name, which in _ALBUMS.items():
            chosen = text(f"{_ALBUM}{which}) chosen")
            await session.execute(chosen, {"tenant": tenant_id, "name": name})
    async with database.transaction() as session:
        for table in ("jobs", "images", "variants", "albums", "album_pictures"):
            await session.execute(text(f"ANALYZE {table}"))
    await database.close()


async def _ask(
    services: Services,
    client: httpx2.AsyncClient,
    tenant_id: UUID,
    name: str,
    query: str,
    times: int,
    *,
    plans: bool,
) -> None:
    path = await _path(client, query)
    statements: list[tuple[str, Any]] = []
    in_postgres: list[float] = []
    seconds: list[float] = []
    engine = services.database.engine.sync_engine

    def begin(*arguments: object) -> None:
        statements.append((str(arguments[2]), arguments[3]))
        in_postgres.append(-time.perf_counter())

    def end(*_: object) -> None:
        in_postgres[-1] += time.perf_counter()

    event.listen(engine, "before_cursor_execute", begin)
    event.listen(engine, "after_cursor_execute", end)
    sums: list[float] = []
    for _ in range(times):
        in_postgres.clear()
        statements.clear()
        if name != "first page, kept":
            for cached in Cached:
                await services.answers.forget(cached, tenant_id)
        began = time.perf_counter()
        answer = await client.get(path)
        seconds.append(time.perf_counter() - began)
        sums.append(sum(in_postgres))
        answer.raise_for_status()
    event.remove(engine, "before_cursor_execute", begin)
    event.remove(engine, "after_cursor_execute", end)
    found = len(answer.json()["data"])
    p50, p95, alone = _percentile(seconds, 50), _percentile(seconds, 95), _percentile(sums, 95)
    typer.echo(f"| {name} | {found} | {p50:.1f} | {p95:.1f} | {alone:.1f} |")
    if plans and statements:
        await _explain(services, *max(statements, key=lambda each: len(each[0])))


async def _path(client: httpx2.AsyncClient, query: str) -> str:
    """What the query asks for; some begin at what was filled in."""
    if query == "trends":
        return "/v1/trends?window=7d"
    if query == "albums":
        return "/v1/albums?limit=24"
    if query == "day":
        middle = (await client.get("/v1/images?limit=1&q=zebra")).json()["data"][0]["created_at"]
        query = f"created_before={middle}"
    elif query == "after":
        query = f"after={(await client.get('/v1/images?limit=24')).json()['next']}"
    elif query.startswith("album="):
        listed = (await client.get("/v1/albums")).json()["data"]
        query = f"album={next(each['id'] for each in listed if query.endswith(each['name']))}"
    return f"/v1/images?limit=24&{query}"


def _percentile(seconds: Sequence[float], percent: int) -> float:
    """In milliseconds."""
    return statistics.quantiles(seconds, n=100)[percent - 1] * 1000


async def _explain(services: Services, statement: str, parameters: Any) -> None:
    async with services.database.engine.connect() as connection:
        plan = await connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, BUFFERS) {statement}", parameters
        )
        typer.echo("\n" + "\n".join(f"    {row[0]}" for row in plan) + "\n")


async def _paint(address: str, key: str) -> None:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        paints, shown = [], []
        for _ in range(5):
            context = await browser.new_context(viewport={"width": 1280, "height": 900})
            page = await context.new_page()
            began = time.perf_counter()
            await page.goto(f"{address}/#key={key}")
            await page.locator("#grid img.shown").nth(7).wait_for()
            shown.append(time.perf_counter() - began)
            paints.append(
                await page.evaluate(
                    "performance.getEntriesByName('first-contentful-paint')[0].startTime"
                )
            )
            await context.close()
        await browser.close()
    typer.echo(
        f"\nFirst contentful paint {statistics.median(paints):.0f} ms;"
        f" eight pictures shown after {statistics.median(shown) * 1000:.0f} ms."
    )


@asynccontextmanager
async def _serving(services: Services) -> AsyncIterator[str]:
    # asyncio sets TCP_NODELAY on what names TCP alone, and else an answer takes 40 ms longer.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(create_app(services), log_level="error"))
        running = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        await running


if __name__ == "__main__":
    typer.run(main)
