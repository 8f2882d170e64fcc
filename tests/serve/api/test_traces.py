"""A job's trace: the app, a worker with an engine, and a courier; spans go to a real endpoint."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from websockets.asyncio.client import connect

from loadtests.collector import Collected, Collector, collecting
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.runner import EngineRunner
from serve.api.services import Services, open_services
from serve.deployments.pool import open_pool
from serve.observability.registry import Registry
from serve.observability.tracing import current, start_tracing, stop_tracing
from serve.settings import ModelSettings, Settings, WorkerSettings
from serve.webhooks.courier import Courier
from serve.worker.claims import Claims
from serve.worker.source import SourceLoader
from serve.worker.worker import Worker
from tests.serve.conftest import model_folder
from tests.serve.webhooks.conftest import hasty
from tests.serve.webhooks.receiver import Receiver, receiving
from tests.serve.worker.test_worker import Shelf

__all__ = ["model_folder"]

WORKER = WorkerSettings(max_batch=4, poll_s=0.2, heartbeat_s=0.6, drain_s=5)
PROMPT = "a heron that nobody may read of"
BODY = {"prompt": PROMPT, "num_inference_steps": 3, "size": "64x64", "seed": 5}
TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "tracestate": "vendor=opaque"}
STAGES = ["queue", "load", "queue", "encode", "denoise", "decode", "postprocess", "store", "commit"]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Before the app: whether FastAPI records is decided as it is created."""
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        start_tracing(lambda: "one-process")
        yield collector
        stop_tracing()


@pytest.fixture
def services(settings: Settings, model_folder: Path) -> Services:
    tiny = ModelSettings(path=str(model_folder))
    changes = {"model": tiny, "models": {}, "worker": WORKER, "webhooks": hasty()}
    return open_services(settings.model_copy(update=changes))


@pytest.fixture
def metered() -> Registry:
    """What the worker's meter records."""
    return Registry()


@pytest.fixture
async def worker(services: Services, metered: Registry, tmp_path: Path) -> AsyncIterator[Worker]:
    engine = DiffusionEngine(open_pool(services.settings), WORKER.max_batch, threads=1)
    served = list(services.settings.served)
    claims = Claims(services.database, services.bus, served, meter=metered)
    load = SourceLoader(services.storage, WORKER, tmp_path / "loras").load
    worker = Worker(claims, services.bus, load, Shelf(services.storage), WORKER, meter=metered)
    runner = EngineRunner(engine, worker.take)
    runner.start()
    task = asyncio.create_task(worker.run(runner, "cpu"))
    yield worker
    await worker.drain()
    await task


@pytest.fixture
async def receiver(services: Services) -> AsyncIterator[Receiver]:
    """With a courier that sends it what is due."""
    async with receiving(Receiver()) as receiver:
        courier = asyncio.create_task(Courier(services.database, hasty()).run())
        yield receiver
        courier.cancel()
        await asyncio.wait({courier})


async def ended(client: httpx2.AsyncClient, job_id: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            job: dict[str, Any] = (await client.get(f"/v1/jobs/{job_id}")).json()
            if job["state"] not in ("queued", "running"):
                return job
            await asyncio.sleep(0.05)


def children(spans: list[Collected], parent: Collected) -> list[Collected]:
    return [each for each in spans if each.parent_id == parent.id]


@pytest.mark.usefixtures("worker")
async def test_the_tree_of_a_job(
    collector: Collector,
    server: str,
    key: str,
    client: httpx2.AsyncClient,
    receiver: Receiver,
    services: Services,
) -> None:
    hook = {"url": f"{receiver.address}/hook?token=t0ken", "events": ["job.succeeded"]}
    assert (await client.post("/v1/webhooks", json=hook)).status_code == 201
    socket_url = f"{server.replace('http', 'ws')}/v1/events"
    headers = {"Authorization": f"Bearer {key}"}
    async with connect(socket_url, additional_headers=headers) as socket:
        await socket.send(json.dumps({"type": "watch_all"}))
        job = (await client.post("/v1/jobs", json=BODY, headers=CLIENT)).json()
        async with asyncio.timeout(30):
            while "job.succeeded" not in str(await socket.recv()):
                pass
    await receiver.hears(1)
    await ended(client, job["id"])

    await asyncio.to_thread(collector.wait_for, lambda: len(collector.of(TRACE)) >= 13)
    spans = collector.of(TRACE)
    assert {each.resource["service.name"] for each in spans} == {"sfumato"}
    assert {each.resource["service.instance.id"] for each in spans} == {"one-process"}

    [request] = [each for each in spans if each.parent_id == "b7ad6b7169203331"]
    assert request.name == "POST /v1/jobs"
    below = {each.name: each for each in children(spans, request)}
    assert sorted(below) == ["deliver", "picture", "webhook"]
    assert {each.tracestate for each in spans} - {"vendor=opaque"} <= {""}
    assert below["picture"].tracestate == below["webhook"].tracestate == "vendor=opaque"

    picture = below["picture"]
    assert picture.attributes["sfumato.job.id"] == job["id"]
    assert picture.attributes["sfumato.attempt"] == 1
    assert picture.attributes["sfumato.outcome"] == "succeeded"
    assert not picture.failed
    stages = children(spans, picture)
    assert [each.name for each in stages] == STAGES
    assert stages[4].attributes == {"sfumato.steps": 3, "sfumato.batch.mean": 1.0}
    slack = 2_000_000  # ns, between two readings of the clocks
    for before, after in itertools.pairwise(stages):
        assert before.began <= before.ended <= after.began + slack
    assert picture.began <= stages[0].began + slack
    assert stages[-1].ended <= picture.ended + slack
    assert picture.began > request.began, "it was queued while the request was answered"

    assert below["deliver"].attributes["sfumato.transport"] == "websocket"
    assert below["deliver"].attributes["sfumato.event"] == "job.succeeded"
    assert below["deliver"].began >= stages[-1].began

    webhook = below["webhook"]
    assert webhook.attributes["http.response.status_code"] == 204
    [heard] = receiver.heard
    assert heard["traceparent"] == f"00-{TRACE}-{webhook.id}-01"
    assert heard["tracestate"] == "vendor=opaque"


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_waits(
    collector: Collector, client: httpx2.AsyncClient, stream: bool
) -> None:
    answer = await client.post("/v1/images/generations", json={**BODY, "stream": stream})
    assert answer.status_code == 200, answer.text

    def whole() -> bool:
        return {"deliver", "commit", "picture"} <= {each.name for each in collector.spans}

    await asyncio.to_thread(collector.wait_for, whole)
    [deliver] = [each for each in collector.spans if each.name == "deliver"]
    spans = collector.of(deliver.trace_id)
    [request] = [each for each in spans if not each.parent_id]
    assert request.name == "POST /v1/images/generations"
    assert deliver.parent_id == request.id
    assert deliver.attributes["sfumato.transport"] == ("sse" if stream else "call")
    assert [each.name for each in children(spans, request)].count("picture") == 1


@pytest.mark.usefixtures("worker")
async def test_events_of_one_job_by_sse(collector: Collector, client: httpx2.AsyncClient) -> None:
    job = (await client.post("/v1/jobs", json=BODY, headers=CLIENT)).json()
    stream = await client.get(f"/v1/jobs/{job['id']}/events")
    assert "job.succeeded" in stream.text
    await asyncio.to_thread(collector.wait_for, lambda: bool(collector.of(TRACE, "deliver")))
    [deliver] = collector.of(TRACE, "deliver")
    assert deliver.attributes["sfumato.transport"] == "sse"


@pytest.mark.usefixtures("worker")
async def test_no_span_tells_a_prompt_a_key_or_a_query(
    collector: Collector, client: httpx2.AsyncClient, key: str
) -> None:
    job = (await client.post("/v1/jobs", json=BODY)).json()
    await ended(client, job["id"])
    assert (await client.get("/v1/images", params={"q": "heron"})).status_code == 200
    refused = await client.post("/v1/jobs", json={**BODY, "size": PROMPT})
    assert refused.status_code == 422
    await asyncio.to_thread(
        collector.wait_for,
        lambda: (
            len([each for each in collector.spans if each.name == "POST /v1/jobs"]) == 2
            and any(each.name == "GET /v1/images" for each in collector.spans)
        ),
    )
    [search] = [each for each in collector.spans if each.name == "GET /v1/images"]
    assert search.attributes["url.query"] == "REDACTED"
    told = str(collector.spans)
    assert "heron" not in told
    assert key not in told


async def test_a_client_that_is_not_sampled(
    collector: Collector, client: httpx2.AsyncClient, services: Services
) -> None:
    unsampled = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-00"}
    assert (await client.post("/v1/jobs", json=BODY, headers=unsampled)).status_code == 202
    async with services.database.transaction() as session:
        stored = str(await session.scalar(text("SELECT traceparent FROM jobs")))
    assert stored.startswith(f"00-{TRACE}-")
    assert stored.endswith("-00"), "the worker samples it neither"
    await client.get("/v1/models")
    await asyncio.to_thread(collector.wait_for, lambda: bool(collector.spans))
    assert [each.name for each in collector.spans] == ["GET /v1/models"]


async def test_probes_and_sockets_have_no_spans(
    collector: Collector, server: str, key: str, client: httpx2.AsyncClient
) -> None:
    for path in ("/health", "/ready", "/metrics"):
        await client.get(path)
    headers = {"Authorization": f"Bearer {key}"}
    with suppress(OSError):
        async with connect(f"{server.replace('http', 'ws')}/v1/events", additional_headers=headers):
            pass
    await client.get("/v1/models", headers=CLIENT)
    await asyncio.to_thread(collector.wait_for, lambda: bool(collector.spans))
    assert [each.name for each in collector.spans] == ["GET /v1/models"]


@pytest.mark.usefixtures("worker")
async def test_the_histograms_have_the_same_instants(
    collector: Collector, client: httpx2.AsyncClient, metered: Registry
) -> None:
    job = (await client.post("/v1/jobs", json=BODY, headers=CLIENT)).json()
    await ended(client, job["id"])
    await asyncio.to_thread(collector.wait_for, lambda: bool(collector.of(TRACE, "picture")))
    names = {
        "waiting": "queue",
        "loading": "load",
        "encoding": "encode",
        "denoising": "denoise",
        "decoding": "decode",
        "postprocessing": "postprocess",
        "storing": "store",
        "committing": "commit",
    }
    sums = _sums(metered, "sfumato_picture_stage_seconds")
    for stage, name in names.items():
        spans = collector.of(TRACE, name)
        seconds = sum(each.ended - each.began for each in spans) / 1e9
        assert sums[stage] == pytest.approx(seconds, abs=1e-3), stage
    assert sums["denoising"] > 0


def _sums(registry: Registry, name: str) -> dict[str, float]:
    body, _ = registry.render("")
    return {
        sample.labels["stage"]: sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name == f"{name}_sum"
    }


async def test_without_an_endpoint_nothing_is_kept(
    client: httpx2.AsyncClient, services: Services
) -> None:
    start_tracing(lambda: pytest.fail("a name was asked for"))
    assert (await client.post("/v1/jobs", json=BODY, headers=CLIENT)).status_code == 202
    assert current() is None
    async with services.database.transaction() as session:
        row = await session.execute(text("SELECT traceparent, tracestate FROM jobs"))
        assert row.one() == (None, None)


async def test_exemplars_lead_to_traces(collector: Collector, client: httpx2.AsyncClient) -> None:
    await client.get("/v1/models", headers=CLIENT)
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    page = (await client.get("/metrics", headers=accept)).text
    shown = [line for line in page.splitlines() if TRACE in line]
    assert any(line.startswith("sfumato_http_request_duration_seconds_bucket") for line in shown)
