"""A job's trace through the processes of a whole service, and past one that is killed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from loadtests.collector import Collected, Collector, collecting
from serve.local.port import free_port
from tests.service.conftest import Service, short_folder, start, wait_for

PROMPT = "a heron that nobody may read of"
BODY: dict[str, Any] = {"prompt": PROMPT, "seed": 3}
PARENT = "b7ad6b7169203331"
STAGES = ["queue", "load", "queue", "encode", "denoise", "decode", "postprocess", "store", "commit"]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(collector: Collector) -> Iterator[Service]:
    for folder in short_folder():
        service = start(
            folder,
            free_port(),
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.address,
            OTEL_BSP_SCHEDULE_DELAY="200",
            SFUMATO_WEBHOOKS__ALLOW_PRIVATE="true",
            SFUMATO_WORKER__THREADS="1",
        )
        yield service
        assert service.stop() == 0, service.output


def submit(client: httpx2.Client, trace: str, **changes: Any) -> str:
    headers = {"traceparent": f"00-{trace}-{PARENT}-01", "tracestate": "vendor=opaque"}
    answer = client.post("/v1/jobs", json={**BODY, **changes}, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def state(client: httpx2.Client, job_id: str) -> str:
    return str(client.get(f"/v1/jobs/{job_id}").json()["state"])


def deployment(span: Collected) -> str:
    """Whose replica recorded it."""
    return str(span.resource["service.instance.id"]).split("#")[1]


def test_the_tree_goes_through_every_process(traced: Service, collector: Collector) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    with traced.client() as client:
        hook = {"url": f"{collector.address}/hook", "events": ["job.succeeded"]}
        assert client.post("/v1/webhooks", json=hook).status_code == 201
        job_id = submit(client, trace)
        stream = client.get(f"/v1/jobs/{job_id}/events").text
        assert "job.succeeded" in stream
        whole = len(["request", "picture", *STAGES, "deliver", "webhook"])
        collector.wait_for(lambda: len(collector.of(trace)) >= whole, 60)

    spans = collector.of(trace)
    [request] = [each for each in spans if each.parent_id == PARENT]
    assert (request.name, deployment(request)) == ("POST /v1/jobs", "Ingress")
    below = {each.name: each for each in spans if each.parent_id == request.id}
    assert {name: deployment(each) for name, each in below.items()} == {
        "deliver": "Ingress",
        "picture": "Diffusion",
        "webhook": "Ingress",
    }
    stages = [each for each in spans if each.parent_id == below["picture"].id]
    assert [each.name for each in stages] == STAGES
    assert {each.name: deployment(each) for each in stages} == {
        **dict.fromkeys(STAGES, "Diffusion"),
        "postprocess": "Postprocess",
        "store": "Postprocess",
    }
    assert len(spans) == whole, "and no other"
    [heard] = collector.heard
    assert heard["traceparent"] == f"00-{trace}-{below['webhook'].id}-01"
    assert heard["tracestate"] == "vendor=opaque"


def test_a_killed_replica_leaves_its_attempt_in_the_trace(
    traced: Service, collector: Collector
) -> None:
    trace = "1af7651916cd43dd8448eb211c80319c"
    with traced.client() as client:
        job_id = submit(client, trace, num_inference_steps=100)
        wait_for("it is drawn", lambda: state(client, job_id) == "running")
        [replica] = traced.replicas("Diffusion")
        replica.kill()
        wait_for("another has drawn it", lambda: state(client, job_id) == "succeeded")
        whole = len(["request", "picture", "picture", *STAGES])
        collector.wait_for(lambda: len(collector.of(trace)) >= whole, 60)

    [request] = [each for each in collector.of(trace) if each.parent_id == PARENT]
    lost, drawn = collector.of(trace, "picture")
    assert lost.parent_id == drawn.parent_id == request.id
    assert [each.attributes["sfumato.attempt"] for each in (lost, drawn)] == [1, 2]
    assert [each.attributes["sfumato.outcome"] for each in (lost, drawn)] == ["lost", "succeeded"]
    assert (lost.failed, lost.attributes["error.type"]) == (True, "worker_lost")
    assert (deployment(lost), deployment(drawn)) == ("Ingress", "Diffusion")
    assert lost.attributes["sfumato.worker.id"] != drawn.attributes["sfumato.worker.id"], (
        "another replica's worker"
    )
    assert lost.ended <= drawn.began + 1_000_000_000, "it was queued as the other was given up"
    stages = [each.name for each in collector.of(trace) if each.parent_id == drawn.id]
    assert stages == STAGES
    assert PROMPT not in str(collector.spans)
