"""Alive, ready, counted."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from dataclasses import asdict

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.diffusion.batching.cost import CostModel
from pipelines.diffusion.request import EngineStats
from serve.access.keys import Keys
from serve.api.app import create_app
from serve.api.services import Services
from serve.database import Database
from serve.jobs.lifecycle import Jobs
from serve.settings import DEFAULT_POOL
from serve.storage import open_storage
from serve.supervise import Loop, RoundDone
from serve.tables import Worker
from serve.worker.claims import Claims


async def add_worker(services: Services, **changes: object) -> None:
    fields = {
        "model": services.settings.model.name,
        "device": "cpu",
        "slots": 8,
        "stats": asdict(EngineStats(steps=10, request_steps=25, finished=3, denoise_seconds=1.5)),
    }
    async with services.database.transaction() as session:
        session.add(Worker(**{**fields, **changes}))


async def samples(client: httpx2.AsyncClient) -> Counter[tuple[str, str]]:
    """The sum of the samples by name and by the label that tells them from their siblings."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found: Counter[tuple[str, str]] = Counter()
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            label = sample.labels.get("state") or sample.labels.get("route") or ""
            found[sample.name, label] += sample.value  # type: ignore[assignment] # numbers
    return found


async def test_alive(anonymous: httpx2.AsyncClient) -> None:
    answer = await anonymous.get("/health")

    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert list(answer.json()["loops"]) == ["event-bus"]
    assert answer.json()["loops"]["event-bus"] < 60


async def test_a_stuck_loop_is_no_health(anonymous: httpx2.AsyncClient, services: Services) -> None:
    async def hang(_: RoundDone) -> None:
        await asyncio.Event().wait()

    services.loops.append(Loop("courier", hang, stuck_after_s=0.05))
    await asyncio.sleep(0.1)
    answer = await anonymous.get("/health")
    await services.loops[0].stop()

    assert (answer.status_code, answer.json()["code"]) == (503, "loop_stuck")
    assert "courier" in answer.json()["detail"]
    assert (await anonymous.get("/health")).status_code == 200, "it has ended"


async def test_not_ready_without_a_replica(anonymous: httpx2.AsyncClient) -> None:
    answer = await anonymous.get("/ready")

    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "not_ready"
    assert "first picture" in answer.json()["detail"]


async def test_ready_without_a_replica_where_the_last_may_go(services: Services) -> None:
    scaling = services.settings.scaling.model_copy(update={"diffusion_min": 0})
    resting = dataclasses.replace(
        services, settings=services.settings.model_copy(update={"scaling": scaling})
    )
    app = create_app(resting)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://sfumato") as client:
            assert (await client.get("/ready")).status_code == 503, "it has never drawn"
            claims = Claims(services.database, services.bus, list(services.settings.served))
            name = services.settings.model.name
            await claims.report_costs({name: CostModel().profile()}, 8)
            services.jobs.admission.queues[DEFAULT_POOL]._snapshot = None  # as half a second later
            assert (await client.get("/ready")).json()["workers"] == 0


@pytest.mark.parametrize("changes", [{"pool": "another"}, {"draining": True}])
async def test_not_ready_with_the_wrong_replica(
    anonymous: httpx2.AsyncClient, services: Services, changes: dict[str, object]
) -> None:
    await add_worker(services, **changes)

    assert (await anonymous.get("/ready")).status_code == 503


async def test_ready(anonymous: httpx2.AsyncClient, services: Services) -> None:
    await add_worker(services)

    answer = await anonymous.get("/ready")

    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "model": "sfumato-embedded", "workers": 1}


async def test_database_away(services: Services) -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
    jobs = Jobs(nowhere, services.bus, open_storage(services.settings.storage), services.settings)
    app = create_app(dataclasses.replace(services, database=nowhere, jobs=jobs, keys=Keys(nowhere)))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://sfumato") as client:
        assert (await client.get("/health")).status_code == 200
        ready = await client.get("/ready")
        jobs_answer = await client.get("/v1/jobs", headers={"X-API-Key": "x" * 30})
        images = await client.get("/v1/images", headers={"X-API-Key": "x" * 30})

    assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
    assert (jobs_answer.status_code, jobs_answer.json()["code"]) == (503, "database_unavailable")
    assert images.json()["error"]["code"] == "database_unavailable"
    assert jobs_answer.headers["retry-after"]
    assert "127.0.0.1" not in jobs_answer.text + images.text + ready.text


async def test_metrics_tell_jobs_workers_and_requests(
    anonymous: httpx2.AsyncClient, client: httpx2.AsyncClient, services: Services
) -> None:
    await add_worker(services)
    await client.post("/v1/jobs", json={"prompt": "a red heart"})
    await client.get("/v1/jobs/00000000-0000-7000-8000-000000000000")
    await anonymous.get("/nowhere")

    told = await samples(anonymous)

    assert told["sfumato_jobs", "queued"] == 1
    assert told["sfumato_jobs", "failed"] == 0
    assert told["sfumato_workers", ""] == 1
    assert told["sfumato_batch_fill", ""] == 2.5
    assert told["sfumato_engine_steps_total", ""] == 10
    assert told["sfumato_engine_rows_total", ""] == 25
    assert told["sfumato_http_requests_total", "/v1/jobs"] == 1
    assert told["sfumato_http_requests_total", "/v1/jobs/{job_id}"] == 1
    assert told["sfumato_http_requests_total", "unmatched"] == 1
    assert told["sfumato_http_request_duration_seconds_count", "/v1/jobs"] == 1


async def test_request_id_is_kept_where_sane(anonymous: httpx2.AsyncClient) -> None:
    kept = await anonymous.get("/health", headers={"X-Request-ID": "abc-1.2_3"})
    made = await anonymous.get("/health", headers={"X-Request-ID": "a b\\c" * 40})

    assert kept.headers["x-request-id"] == "abc-1.2_3"
    assert len(made.headers["x-request-id"]) == 32
