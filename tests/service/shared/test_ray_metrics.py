"""What Ray's own endpoint tells Prometheus of our replicas."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress

import httpx2
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from serve.observability.meter import Counter, Gauge, Histogram
from serve.observability.metrics import METRICS
from tests.service.conftest import PATIENCE_S, Service

EXPECTED = {
    "Ingress": {
        "sfumato_database_connections",
        "sfumato_http_request_duration_seconds",
        "sfumato_http_requests_total",
        "sfumato_jobs_submitted_total",
        "sfumato_process_resident_memory_bytes",
        "sfumato_redis_round_trip_seconds",
    },
    "Diffusion": {
        "sfumato_database_connection_wait_seconds",
        "sfumato_jobs_ended_total",
        "sfumato_picture_stage_seconds",
        "sfumato_process_cpu_seconds_total",
        "sfumato_step_batch_fill_ratio",
        "sfumato_step_seconds",
    },
    "Postprocess": {
        "sfumato_process_cpu_seconds_total",
        "sfumato_storage_operation_seconds",
        "sfumato_storage_operations_total",
    },
}
"""What each kind of replica has after a picture."""


def scrape(service: Service) -> dict[str, Metric]:
    """Our families of all nodes, by their names in the table."""
    families: dict[str, Metric] = {}
    for url in service.ray_endpoints():
        text = httpx2.get(url, timeout=30, trust_env=False).text
        for family in text_string_to_metric_families(text):
            if family.name.startswith("ray_sfumato_"):
                suffix = "_total" if family.type == "counter" else ""
                families[family.name.removeprefix("ray_") + suffix] = family
    return families


def samples_of(deployment: str, families: dict[str, Metric]) -> dict[str, list[Sample]]:
    return {
        name: found
        for name, family in families.items()
        if (found := [s for s in family.samples if s.labels.get("deployment") == deployment])
    }


def drawn_by_stage(samples: dict[str, list[Sample]]) -> Mapping[str, int]:
    """Pictures that each stage has seen, of all models and replicas."""
    drawn: defaultdict[str, int] = defaultdict(int)
    for sample in samples.get("sfumato_picture_stage_seconds", []):
        if sample.name.endswith("_count"):
            drawn[sample.labels["stage"]] += int(sample.value)
    return drawn


def test_each_replica_is_on_the_nodes_endpoint(service: Service) -> None:
    with service.client() as client:
        answer = client.post("/v1/images/generations", json={"prompt": "a red heart", "n": 2})
    assert answer.status_code == 200, answer.text

    until = time.monotonic() + PATIENCE_S  # replicas report from time to time
    while True:
        families = {}
        with suppress(httpx2.ConnectError):  # the node's agent starts beside the service
            families = scrape(service)
        found = {name: samples_of(name, families) for name in EXPECTED}
        missing = {name: EXPECTED[name] - found[name].keys() for name in EXPECTED}
        drawn = drawn_by_stage(found["Diffusion"])
        if not any(missing.values()) and min(drawn.values()) >= 2:
            break
        assert time.monotonic() < until, (missing, drawn)
        time.sleep(1)

    kinds = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}
    table = {metric.name: metric for metric in METRICS}
    assert families.keys() <= table.keys()
    for name, family in families.items():
        metric = table[name]
        assert family.type == kinds[type(metric)]
        assert family.documentation == metric.text
        for sample in family.samples:
            assert sample.labels["application"] == "sfumato"
            assert sample.labels["replica"]
            assert set(metric.labels) <= sample.labels.keys()
        if isinstance(metric, Histogram):
            bounds = {float(s.labels["le"]) for s in family.samples if "le" in s.labels}
            assert bounds == {*metric.buckets, float("inf")}
    assert len(drawn) == 8
