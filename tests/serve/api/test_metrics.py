"""A known workload, and every value that `/metrics` and the worker's registry tell of it."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import psutil
import pytest
from fastapi import FastAPI
from prometheus_client import metrics_core
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from sqlalchemy import text
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.request import EngineStats
from pipelines.diffusion.runner import EngineRunner
from serve.api.services import Services, open_services
from serve.database import Database
from serve.deployments.pool import open_pool
from serve.observability.device import ProcessSample
from serve.observability.metrics import METRICS, STAGES
from serve.observability.registry import Registry
from serve.observability.sampler import Sampler
from serve.observability.service_sample import SERVICE_METRICS
from serve.settings import DEFAULT_POOL, ModelSettings, Settings, WebhookSettings, WorkerSettings
from serve.storage import open_storage
from serve.webhooks.courier import Courier
from serve.worker.claims import Claims
from serve.worker.reaper import Reaper
from serve.worker.source import SourceLoader
from serve.worker.worker import Worker
from tests.serve.api.conftest import client_of
from tests.serve.api.test_webhooks import lead_to
from tests.serve.conftest import watching
from tests.serve.webhooks.receiver import Receiver, receiving
from tests.serve.worker.test_worker import Shelf

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
JSON = {"Content-Type": "application/json"}
MODEL = "sfumato-embedded"
OURS = {"pool": DEFAULT_POOL, "model": MODEL}
ROUTES = {path: re.compile(path) for path in ("/metrics", "/v1/jobs", "/v1/webhooks")} | {
    "/v1/jobs/{job_id}": re.compile("/v1/jobs/[^/]+"),
    "/v1/jobs/{job_id}/events": re.compile("/v1/jobs/[^/]+/events"),
    "/v1/images/{image_id}/{variant}": re.compile("/v1/images/[^/]+/original"),
}
STEPS = 4
WORKER = WorkerSettings(
    max_batch=4, preview_every=0, lease_s=4, heartbeat_s=0.2, poll_s=0.1, drain_s=5
)
NOT_HERE = {metric.name for metric in METRICS if metric.name.startswith("sfumato_device_")}
"""There is no GPU."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.pipelines.diffusion.tiny.stable_diffusion import build_pipeline

    folder = tmp_path_factory.mktemp("tiny")
    build_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def services(settings: Settings, folder: Path) -> Services:
    tiny = ModelSettings(path=str(folder), max_steps=900)
    changes = {"model": tiny, "models": {}, "worker": WORKER}
    return open_services(settings.model_copy(update=changes))


@pytest.fixture
async def client(app: FastAPI, key: str) -> AsyncIterator[httpx2.AsyncClient]:
    """One whose answers a test may count."""
    async with client_of(app, key) as client:
        yield client


class Told:
    """A scrape."""

    def __init__(self, families: list[metrics_core.Metric]) -> None:
        self.names = {
            family.name + ("_total" if family.type == "counter" else "") for family in families
        }
        self._samples = [sample for family in families for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels; NaN if there is none."""
        values = [
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(values) if values else math.nan


def read(openmetrics: str) -> Told:
    return Told(list(text_string_to_metric_families(openmetrics)))  # type: ignore[no-untyped-call]


async def scrape(client: httpx2.AsyncClient, services: Services) -> Told:
    services.bus.tally.tell()  # it does so twice a second
    answer = await client.get("/metrics", headers=OPENMETRICS)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    return read(answer.text)


async def scrape_backlog(client: httpx2.AsyncClient, services: Services) -> Told:
    """Once the backlog, which is that of the last look, has all that is queued."""
    async with asyncio.timeout(30):
        while True:
            told = await scrape(client, services)
            if told("sfumato_backlog_seconds") == pytest.approx(told("sfumato_queue_seconds")):
                return told
            await asyncio.sleep(0.3)


class Replica:
    """A diffusion replica, all but Ray."""

    def __init__(self, services: Services, folder: Path) -> None:
        url = services.settings.database_url
        assert url is not None
        self.registry = Registry()
        self._database = Database(url.get_secret_value(), meter=self.registry)
        storage = open_storage(services.settings.storage, self.registry)
        claims = Claims(self._database, services.bus, [MODEL], meter=self.registry)
        load = SourceLoader(storage, WORKER, folder).load
        self.worker = Worker(
            claims, services.bus, load, Shelf(storage), WORKER, meter=self.registry
        )
        engine = DiffusionEngine(open_pool(services.settings), WORKER.max_batch, threads=1)
        self.runner = EngineRunner(engine, self.worker.take)
        self.sampler = Sampler(
            self.worker.sample, self._database.sample, ProcessSample(self.registry).sample
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.runner.start()
        await asyncio.to_thread(self.runner.wait_until_warm)
        task = asyncio.create_task(self.worker.run(self.runner, "cpu"))
        try:
            yield
        finally:
            await self.worker.drain()
            await task
            await self._database.close()

    def told(self) -> Told:
        self.sampler.sample()
        return read(self.registry.render(OPENMETRICS["Accept"])[0].decode())


@pytest.fixture
async def replica(services: Services, tmp_path: Path) -> Replica:
    return Replica(services, tmp_path / "loras")


async def submit(client: httpx2.AsyncClient, **changes: object) -> dict[str, Any]:
    asked = {"prompt": "a red heart", "size": "64x64", "num_inference_steps": STEPS, **changes}
    answer = await client.post("/v1/jobs", json=asked)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.05)


async def heartbeat(services: Services) -> None:
    """Until the one worker has told its counters."""
    async with asyncio.timeout(30):
        while not any(worker.stats for worker in await services.jobs.workers()):
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)  # what was sent arrives


async def ended(client: httpx2.AsyncClient, job: dict[str, Any]) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while job["state"] in ("queued", "running"):
            await asyncio.sleep(0.1)
            job = (await client.get(f"/v1/jobs/{job['id']}")).json()
    return job


@asynccontextmanager
async def listening(server: str, key: str) -> AsyncIterator[Counter[str]]:
    """How many events of each type a WebSocket has brought."""
    heard: Counter[str] = Counter()
    address = server.replace("http:", "ws:") + "/v1/events"
    async with connect(address, additional_headers={"X-API-Key": key}) as socket:
        await socket.send(json.dumps({"type": "watch_all"}))

        async def listen() -> None:
            with suppress(ConnectionClosed):
                async for message in socket:
                    heard[json.loads(message)["type"]] += 1

        listener = asyncio.create_task(listen())
        await asyncio.sleep(0.2)
        yield heard
        listener.cancel()


async def test_every_value_of_a_known_workload(
    server: str,
    key: str,
    client: httpx2.AsyncClient,
    services: Services,
    replica: Replica,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: Counter[tuple[str, str, str]] = Counter()

    async def count(answer: httpx2.Response) -> None:
        path = answer.request.url.path
        route = next((known for known in ROUTES if ROUTES[known].fullmatch(path)), "unmatched")
        answers[answer.request.method, route, str(answer.status_code)] += 1

    client.event_hooks["response"].append(count)
    monkeypatch.setattr("serve.events.sse.PROGRESS_BYTES", 0)
    reaper = watching(
        Reaper(
            services.database,
            services.bus,
            services.settings,
            services.meter,
            services.jobs.meter,
        )
    )
    hasty = WebhookSettings(allow_private=True, attempts=2, first_delay_s=0.01, poll_s=0.05)
    courier = asyncio.create_task(Courier(services.database, hasty, meter=services.meter).run())
    async with receiving(Receiver(answers=[500, 204])) as receiver, listening(server, key) as heard:
        hook = {"url": "https://example.com/hook", "events": ["job.succeeded"]}
        assert (await client.post("/v1/webhooks", json=hook)).status_code == 201
        await lead_to(services, receiver.address)

        # Nobody draws yet: one expires, one is lost with a worker that was never there, two wait.
        hurried = await submit(client, deadline_s=0.5)
        claims = Claims(services.database, services.bus, [MODEL])
        ghost = await claims.register("cpu", 1)
        assert len(await claims.claim(ghost, 1)) == 1
        async with services.database.transaction() as session:
            await session.execute(text("UPDATE workers SET heartbeat_at = 'epoch'"))
        await asyncio.sleep(0.6)
        await reaper.reap()
        assert (await ended(client, hurried))["state"] == "expired"
        first = await submit(client, n=3)
        urgent = await submit(client, priority=7)
        waiting = await scrape_backlog(client, services)

        async with replica.running():
            followed = asyncio.create_task(client.get(f"/v1/jobs/{first['id']}/events"))
            jobs = [await ended(client, job) for job in (first, urgent)]
            assert [job["state"] for job in jobs] == ["succeeded"] * 2
            assert "image.progress" not in (await followed).text
            await receiver.hears(3)
            long = await submit(client, num_inference_steps=900)
            await until(lambda: replica.runner.stats().active == 1)
            await asyncio.sleep(0.5)
            assert (await client.delete(f"/v1/jobs/{long['id']}")).status_code == 200
            await until(lambda: replica.runner.stats().active == 0)

            images = [image["id"] for job in jobs for image in job["images"]]
            for image in images:
                assert (await client.get(f"/v1/images/{image}/original")).status_code == 200
            await remove_file(services, images[0])
            assert (await client.get(f"/v1/images/{images[0]}/original")).status_code == 500
            assert (await client.get("/v1/jobs/00000000-0000-7000-8000-000000000000")).is_error
            assert (await client.post("/v1/jobs", content=b"{", headers=JSON)).status_code == 400
            assert (await client.get("/nowhere")).status_code == 404

            async with services.database.transaction() as session:
                await session.execute(text("DELETE FROM workers"))  # its lease is lost
            await until(lambda: replica.told()("sfumato_leases_lost_total") == 1)
            await heartbeat(services)
            told = await scrape(client, services)
            drew, stats = replica.told(), replica.runner.stats()
        courier.cancel()
        await asyncio.wait([courier])

    del answers["GET", "/metrics", "200"]
    assert len(receiver.heard) == 3
    check_requests(told, answers)
    check_ingress(told, len(images), heard)
    check_worker(drew, stats, len(images))
    check_queue(waiting)
    check_service(told, stats, len(images))
    assert {metric.name for metric in (*METRICS, *SERVICE_METRICS)} == told.names


def check_requests(told: Told, answers: Counter[tuple[str, str, str]]) -> None:
    """A scrape counts those before it."""
    scrapes = told("sfumato_http_requests_total", route="/metrics")
    for (method, route, status), number in answers.items():
        labels = {"method": method, "route": route, "status": status}
        assert told("sfumato_http_requests_total", **labels) == number, labels
    assert told("sfumato_http_requests_total") == answers.total() + scrapes
    counted = told("sfumato_http_request_duration_seconds_count")
    assert counted == answers.total() + scrapes
    assert 0 < told("sfumato_http_request_duration_seconds_sum") < 200
    refusals = {"file_damaged": 1, "job_not_found": 1, "invalid_json": 1, "not_found": 1}
    for code, number in refusals.items():
        assert told("sfumato_http_refusals_total", code=code) == number
    assert told("sfumato_http_refusals_total") == sum(refusals.values())


def check_ingress(told: Told, pictures: int, heard: Counter[str]) -> None:
    assert told("sfumato_jobs_submitted_total", **OURS) == 4
    assert told("sfumato_jobs_submitted_total") == 4
    for state in ("expired", "cancelled"):
        assert told("sfumato_jobs_ended_total", state=state, **OURS) == 1
        assert told("sfumato_job_duration_seconds_count", state=state, **OURS) == 1
        assert 0.4 < told("sfumato_job_duration_seconds_sum", state=state, **OURS) < 60
    assert told("sfumato_workers_reaped_total") == 1
    assert told("sfumato_picture_crashes_total") == 1
    assert told("sfumato_damaged_files_total", fault="missing") == 1
    assert told("sfumato_webhook_attempts_total", result="retried") == 1
    assert told("sfumato_webhook_attempts_total", result="delivered") == 2
    assert told("sfumato_webhook_attempts_total") == 3
    assert told("sfumato_storage_operations_total", operation="get", result="ok") == pictures
    assert told("sfumato_storage_operations_total", operation="get", result="missing") == 1
    assert told("sfumato_storage_operation_seconds_count", operation="get") == pictures + 1
    assert told("sfumato_event_sockets") == 1
    streamed = dict.fromkeys(("job.queued", "job.running", "job.succeeded"), 1)
    streamed["image.succeeded"] = 3
    for type_ in ("job.queued", "job.succeeded", "job.cancelled", "job.expired"):
        expected = heard[type_] + streamed.get(type_, 0)
        assert told("sfumato_events_sent_total", type=type_) == expected, type_
    assert heard["job.queued"] == 4
    assert told("sfumato_events_sent_total", type="image.progress") == heard["image.progress"] > 0
    assert told("sfumato_events_dropped_total", type="image.progress") > 0
    assert 0 < told("sfumato_event_delay_seconds_count") <= told("sfumato_events_sent_total")
    assert told("sfumato_event_delay_seconds_bucket", le="5.0") > 0
    for cache in ("keys", "limits"):
        assert told("sfumato_cache_lookups_total", cache=cache, result="miss") >= 1
        assert told("sfumato_cache_lookups_total", cache=cache, result="hit") >= 1
    assert told("sfumato_redis_round_trip_seconds_bucket", le="1.0") > 0
    assert told("sfumato_database_connection_wait_seconds_count") > 10
    assert told("sfumato_database_connections", state="idle") >= 1
    assert 0 <= told("sfumato_database_connections", state="used") <= 8
    assert told("sfumato_process_cpu_seconds_total") > 1
    rss = psutil.Process().memory_info().rss
    assert told("sfumato_process_resident_memory_bytes") == pytest.approx(rss, rel=0.3)


def check_worker(drew: Told, stats: EngineStats, pictures: int) -> None:
    drawn = pictures * STEPS
    passes = drew("sfumato_step_seconds_count", model=MODEL, size="64x64")
    lost = drew("sfumato_steps_discarded_total", reason="cancelled")
    assert lost > 1
    assert drew("sfumato_steps_discarded_total") == lost
    assert drew("sfumato_step_batch_size_count", model=MODEL) == passes
    assert drew("sfumato_step_batch_fill_ratio_count", model=MODEL) == passes
    rows = drew("sfumato_step_batch_size_sum", model=MODEL)
    assert drawn + lost <= rows <= drawn + lost + 2, "the last step may have been one too late"
    assert drew("sfumato_step_batch_fill_ratio_sum") == pytest.approx(rows / WORKER.max_batch)
    assert (stats.steps, stats.request_steps) == (passes, rows)
    assert drew("sfumato_step_seconds_sum") == pytest.approx(stats.denoise_seconds)
    assert drew("sfumato_leases_lost_total") == 1
    assert drew("sfumato_jobs_ended_total") == 2
    assert drew("sfumato_jobs_ended_total", state="succeeded", **OURS) == 2
    assert drew("sfumato_job_duration_seconds_count", state="succeeded", **OURS) == 2
    for stage in STAGES:
        assert drew("sfumato_picture_stage_seconds_count", stage=stage, **OURS) == pictures, stage
    assert drew("sfumato_picture_stage_seconds_sum", stage="waiting") > 1
    puts = 2 * pictures
    assert drew("sfumato_storage_operations_total", operation="put", result="ok") == puts
    assert drew("sfumato_storage_operation_seconds_count", operation="put") == puts
    assert drew("sfumato_database_connection_wait_seconds_count") > 10


def check_queue(waiting: Told) -> None:
    """A job of three pictures and an urgent one wait; one has expired."""
    assert waiting("sfumato_jobs", state="queued", **OURS) == 2
    assert waiting("sfumato_jobs", state="expired", pool="", model="") == 1
    assert waiting("sfumato_queue_pictures", pool=DEFAULT_POOL, priority="normal") == 3
    assert waiting("sfumato_queue_pictures", pool=DEFAULT_POOL, priority="high") == 1
    assert waiting("sfumato_queue_pictures", pool=DEFAULT_POOL, priority="low") == 0
    assert 0 < waiting("sfumato_queue_oldest_seconds", priority="normal") < 60
    assert waiting("sfumato_queue_oldest_seconds", priority="low") == 0
    queued_s = waiting("sfumato_queue_seconds", pool=DEFAULT_POOL)
    assert queued_s == pytest.approx(4 * waiting("sfumato_queue_seconds", priority="high"))
    assert waiting("sfumato_backlog_seconds", pool=DEFAULT_POOL) == pytest.approx(queued_s)
    assert waiting("sfumato_wait_seconds", pool=DEFAULT_POOL) == pytest.approx(queued_s)
    assert waiting("sfumato_workers", pool=DEFAULT_POOL) == 0


def check_service(told: Told, stats: EngineStats, pictures: int) -> None:
    assert told("sfumato_workers", pool=DEFAULT_POOL) == 1
    for state, number in {"succeeded": 2, "expired": 1, "cancelled": 1, "failed": 0}.items():
        assert told("sfumato_jobs", state=state) == number
    assert told("sfumato_jobs", state="queued", **OURS) == 0
    assert told("sfumato_queue_pictures") == 0
    assert told("sfumato_webhook_deliveries") == 0
    assert told("sfumato_engine_steps_total", **OURS) == stats.steps
    assert told("sfumato_engine_rows_total", **OURS) == stats.request_steps
    assert told("sfumato_engine_finished_total", **OURS) == pictures
    assert told("sfumato_engine_aborted_total", **OURS) == 1
    assert told("sfumato_engine_failed_total", **OURS) == 0
    assert told("sfumato_engine_denoise_seconds_total", **OURS) > 0
    assert told("sfumato_batch_fill", **OURS) == pytest.approx(stats.request_steps / stats.steps)
    assert told("sfumato_worker_slots", **OURS) == WORKER.max_batch


def test_every_metric_has_a_value_checked_here() -> None:
    checked = Path(__file__).read_text()
    for metric in (*METRICS, *SERVICE_METRICS):
        assert metric.name in NOT_HERE or f'("{metric.name}' in checked, metric.name


async def remove_file(services: Services, image_id: str) -> None:
    async with services.database.transaction() as session:
        found = await session.execute(
            text("SELECT storage_key FROM variants WHERE image_id = :id AND name = 'original'"),
            {"id": UUID(image_id)},
        )
        key = found.scalar_one()
    await services.storage.delete([key])


async def test_prometheus_own_form_is_the_default(client: httpx2.AsyncClient) -> None:
    await client.get("/v1/jobs")
    for accept in (None, "*/*", "text/plain;version=0.0.4"):
        answer = await client.get("/metrics", headers={"Accept": accept} if accept else {})
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "# EOF" not in answer.text
        helps = [line for line in answer.text.splitlines() if line.startswith("# HELP")]
        starts = ("This process: ", "Whole service: ")
        assert len(helps) > 40
        assert all(line.split(" ", 3)[3].startswith(starts) for line in helps)
